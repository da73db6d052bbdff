"""An Experiment is a level-one recipe: one network, one view of the pixels, one way to train it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.recipe import QUIET, REMARK
from radstack.core.registry import check_name
from radstack.recipes.losses import BinaryCrossEntropy, LossRecipe, Regression

Reader = Callable[[int], np.ndarray]
"""Row number of the index -> its picture, uint8 [height, width, channels]."""


class View(Protocol):
    """What a network sees of a row: a frozen dataclass that a competition builds from ``radstack.images.views``."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-channel mean of the uint8 picture, on the 0-255 scale."""

    @property
    def std(self) -> tuple[float, ...]:
        """Per-channel standard deviation of the uint8 picture, on the 0-255 scale."""

    def reader(self, cache: Any, index: pd.DataFrame) -> Reader:
        """Bind the view to a pixel cache and the index table."""


Painter = Callable[[int, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Row, its picture, its label float32 [targets] and a seed -> picture and label, of the same shapes and dtypes."""


class Drawn(Protocol):
    """Findings drawn on training pictures that have none: a frozen dataclass of a competition."""

    def painter(self, reader: Any, targets: tuple[str, ...]) -> Painter:
        """Bind it to what the view reads and to the targets of the network; a UserError where they do not fit."""


@dataclass(frozen=True)
class Op:
    """One albumentations transform by its class name, e.g. ``Op("Rotate", {"limit": 30, "p": 0.7})``."""

    name: str
    """Class name in albumentations."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments; an unknown one is an error (albumentations itself only warns)."""


@dataclass(frozen=True)
class Backbone:
    """A network by ``source/name``."""

    name: str = "timm/resnet18"
    """``timm/…``, ``torchvision/…``, ``pretrainedmodels/…``, ``efficientnet_pytorch/…`` or, untrained, ``radstack/…``."""
    pretrained: bool = True
    """Start from ImageNet weights. Where they cannot be had this is an error, never a silent random start."""
    weights: str = ""
    """A file name below the ``--weights`` folder instead of the source's own download."""
    weights_sha256: str = ""
    """Checked when given."""
    start: str = ""
    """Name of a localizer or experiment whose network of the same fold, trained before, is the start instead."""
    frozen: tuple[str, ...] = ()
    """Modules of the trunk, by their names there (``conv_stem``, ``blocks.0``), that keep the weights and the batch
    statistics of their start: first layers are the costly ones and the ones that carry over best (Yosinski 2014)."""
    dropout: float = 0.0
    """Before the last linear layer."""
    args: dict[str, Any] = field(default_factory=dict)
    """Passed to the source's constructor, e.g. ``{"drop_path_rate": 0.1}``."""

    @property
    def code_at(self) -> str:
        """Where the code of a ``radstack/`` network stands, for :func:`radstack.core.code.code_of`; "" for the others."""
        source, _, name = self.name.partition("/")
        return f"radstack.nets.own:{name}" if source == "radstack" else ""


LITE0_FIRST = ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")
"""First layers of ``pypi/efficientnet_lite0``, for ``Backbone.frozen``: a step takes half as long on a processor, and real
hands were judged as well."""


@dataclass(frozen=True)
class Head:
    """Between the pooled features and the last linear layer."""

    columns: tuple[str, ...] = ()
    """Columns of the row table that join the features, e.g. ``male`` (16 Bit, RSNA 2017 first place)."""
    columns_width: int = 32
    """Units of the layer that the columns pass first."""
    hidden: tuple[int, ...] = ()
    """Units of further layers with ReLU."""


@dataclass(frozen=True)
class Optim:
    """Optimizer and gradient clipping."""

    name: str = "adam"
    """``adam``, ``adamw``, ``sgd``, ``rmsprop``, or ``fused_adam`` (NVIDIA Apex)."""
    lr: float = 1e-4
    """Peak learning rate."""
    weight_decay: float = 0.0
    """L2 for adam, fused_adam, sgd and rmsprop, decoupled for adamw; not applied to biases and norms."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam family only."""
    momentum: float = 0.9
    """sgd and rmsprop only."""
    clip_norm: float = 0.0
    """Global gradient norm limit; 0 for none."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate over training, in epochs (fractions allowed), evaluated at every optimizer step."""

    name: str = "constant"
    """``constant``, ``exponential`` (x gamma each epoch), ``steps`` (x gamma at milestones), ``cosine``, ``cyclic``."""
    warmup: float = 0.0
    """Epochs of linear warm-up from zero."""
    gamma: float = 1.0
    """Factor of ``exponential`` and ``steps``."""
    milestones: tuple[float, ...] = ()
    """Epochs at which ``steps`` multiplies by gamma."""
    floor: float = 0.0
    """Lowest learning rate of ``cosine`` and ``cyclic``, as a fraction of the peak."""
    cycle: float = 1.0
    """Epochs in one period of ``cyclic`` (falls linearly from peak to floor, restarts)."""


@dataclass(frozen=True)
class Sampling:
    """Which rows an epoch visits."""

    rare_class: str = ""
    """Target whose positive rows are repeated (each copy is augmented differently); empty for none."""
    rare_copies: int = 0
    """Extra copies of each rare positive an epoch."""
    balance: tuple[tuple[str, ...], ...] = ()
    """Classes, each a tuple of targets of which one is positive: the rows of each are repeated until it has as many as the
    largest. Rows of the last, partial round are drawn anew each epoch; rows of no class are left out."""
    copies: int = 1
    """How often an epoch visits each row, balanced or not; each visit is augmented differently."""
    per_series: int = 0
    """0 visits every row; n visits n random slices of each series an epoch (SeuTao, RSNA 2019 first place)."""
    weight: str = ""
    """Column of the row table: how often an epoch visits a row, relative to the others (a fraction at random); "" for
    once.
    """
    keep: str = ""
    """A pandas query on the index for rows to train on, e.g. ``brain_range > 60``; the rest are still predicted."""


@dataclass(frozen=True)
class Train:
    """How long, and in which steps."""

    epochs: int = 5
    """Fixed; the last epoch is the result (no choice on the scored fold)."""
    batch_size: int = 32
    """Per optimizer step over all GPUs, split by ``accumulate``."""
    accumulate: int = 1
    """Micro-batches per optimizer step."""
    precision: str = "bf16"
    """``fp32``, ``bf16``, ``fp16`` (with gradient scaler), ``apex_o1``, ``apex_o2``."""
    channels_last: bool = True
    """Memory format; pays for most convolutional networks."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights, which is then what is saved; 0 for none."""
    restarts: int = 0
    """How often training starts over, with another seed, where it did not converge: where the loss of the training rows
    is not below ``converged`` of what the best constant has. The scored fold has no say."""
    converged: float = 0.95
    """Share of the best constant's loss."""
    bad_steps: int = 10
    """Skipped steps in a row (loss or gradient not finite) before the run rolls back to its last checkpoint."""
    seed: int = 0
    """Seed of initialization, order and augmentation, with the fold."""
    seeds: int = field(default=1, metadata=QUIET)
    """Networks a fold, of the seeds ``seed``, ``seed + 1`` ...; their predictions are averaged."""
    snapshots: int = field(default=1, metadata=QUIET)
    """Networks that one run leaves, whose predictions are averaged: the last, and those at the ends of the periods of
    ``cyclic`` before it (Huang 2017), or of the epochs before it where the schedule is another one."""
    averages: tuple[float, ...] = field(default=(), metadata=QUIET)
    """Decays of further averages of the weights beside ``ema``: each is one more network that a run leaves."""

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing is trained."""
        for name in ("epochs", "batch_size", "accumulate", "seeds", "snapshots"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}; take 1 or more")
        for decay in self.averages:
            if not 0 < decay < 1 or decay == self.ema or self.averages.count(decay) > 1:
                raise UserError(f"train.averages has {decay}; take decays above 0 and below 1, each once, not that of ema")

    @property
    def several(self) -> bool:
        """Whether more than one network a fold is trained or kept."""
        return self.seeds > 1 or self.snapshots > 1 or bool(self.averages)


@dataclass(frozen=True)
class Pseudo:
    """Rows without a label that join the training rows with what a finished model says of them.

    The network of fold k learns what the model's part of fold k says: networks and fits that were trained on the other
    folds. So no row that it is scored on had a say in its labels.
    """

    model: str = ""
    """Name of the model: a stacker, a network or a sequence model; "" for no such rows."""
    rows: str = "test"
    """``test``, or the name of a source without labels (``add_source.py``)."""
    above: float = 0.0
    """0: all rows, with the probabilities or numbers as they are. Else only rows of which each target (of classes, each
    group) is as predicted with at least this probability, and what is predicted is the label; from 0.5 to below 1."""

    def __post_init__(self) -> None:
        """Refuse a confidence that no prediction, or each, has."""
        if self.above and not 0.5 <= self.above < 1:
            raise UserError(f"pseudo.above is {self.above}; take 0 for all rows, or from 0.5 to below 1")


@dataclass(frozen=True)
class Experiment:
    """A level-one recipe. Changing anything here trains anew; workers and device are settings of a run and do not."""

    name: str
    """Folder below ``weights/`` and ``oof/``."""
    view: View
    """What the network sees."""
    backbone: Backbone = Backbone()
    augment: tuple[Op, ...] = ()
    """Training only, in this order, seeded by the sample."""
    head: Head = Head()
    loss: LossRecipe = field(default_factory=BinaryCrossEntropy)
    """What the outputs mean, and what is minimized."""
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    sampling: Sampling = Sampling()
    train: Train = Train()
    tta: tuple[str, ...] = ("plain",)
    """Named test-time views, averaged as logits; the same for out-of-fold and test."""
    drawn: Drawn | None = field(default=None, metadata=QUIET)
    """What is drawn on training pictures, before they are augmented; ``ich`` has ``DrawnHemorrhages``."""
    targets: tuple[str, ...] = ()
    """Columns that this network predicts; empty for all. The others are NaN in its tables, which cannot be scored without
    groups of classes: there :meth:`radstack.recipes.competition.Competition.targets_of` refuses some targets alone."""
    folds: tuple[int, ...] = ()
    """Folds to train; empty for all."""
    note: str = field(default="", metadata=REMARK)
    """Where the numbers come from."""
    sources: tuple[str, ...] = field(default=(), metadata=QUIET)
    """Names of sources (``add_source.py``) whose labeled pictures train in every fold, too; they are never scored."""
    pseudo: Pseudo = field(default=Pseudo(), metadata=QUIET)
    """Rows without a label that train, too."""
    probe: tuple[float, ...] = field(default=(), metadata=QUIET)
    """Penalties of a linear probe, of which patients held out in training choose one: the last layer alone is fitted, to the
    plain picture's features, and the trunk stays as its start left it. Then nothing reads ``augment``, ``drawn``, ``optim``,
    ``schedule``, ``sampling`` but its ``keep`` and ``weight``, and ``train`` but its ``precision`` and ``channels_last``.
    Empty trains all."""

    def __post_init__(self) -> None:
        """Refuse snapshots that the epochs do not hold, penalties below 0, and a line for a probe."""
        self.snapshot_epochs  # noqa: B018 - raises
        if min(self.probe, default=0) < 0:
            raise UserError(f"{self.name}: probe has {min(self.probe)}; take penalties of 0 or more, such as 1.0, 0.3, 0.1")
        if self.probe and isinstance(self.loss, Regression) and self.loss.line:
            raise UserError(f"{self.name}: a probe is fitted to pictures that are not augmented; set loss.line to false")

    @property
    def snapshot_epochs(self) -> tuple[int, ...]:
        """After how many epochs a run keeps a network beside its last, in order; a UserError where that cannot be."""
        train, cycle = self.train, self.schedule.cycle if self.schedule.name == "cyclic" else 1.0
        if train.snapshots == 1:
            return ()
        if cycle < 1 or cycle != int(cycle) or train.epochs % cycle:
            raise UserError(f"{self.name}: snapshots are taken where a period ends with an epoch, and train.epochs="
                            f"{train.epochs} does not hold whole periods of schedule.cycle={cycle:g}; change one of them")
        first = train.epochs - int(cycle) * (train.snapshots - 1)
        if first < 1:
            raise UserError(f"{self.name}: {train.epochs} epochs have no {train.snapshots} periods to take snapshots of; "
                            f"set train.snapshots to {int(train.epochs // cycle)} or less")
        return tuple(range(first, train.epochs, int(cycle)))

    @property
    def kept(self) -> tuple[str, ...]:
        """The networks that one run leaves beside its last, as their files' names end."""
        return (*(f"epoch{epoch}" for epoch in self.snapshot_epochs), *(f"average{decay}" for decay in self.train.averages))

    @property
    def seed_ends(self) -> tuple[str, ...]:
        """How the names of the files of each seed's run end, behind the fold: "" for the first."""
        train = self.train
        return tuple(f"_seed{train.seed + number}" if number else "" for number in range(train.seeds))

    @property
    def networks(self) -> int:
        """How many networks answer for a fold together."""
        return self.train.seeds * (1 + len(self.kept))

    def targets_of(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the competition's ``targets`` that this network predicts, in order; an unknown one is a UserError."""
        for name in self.targets:
            check_name(targets, name, f"target for {self.name}.targets,")
        return tuple(name for name in targets if name in self.targets) if self.targets else targets
