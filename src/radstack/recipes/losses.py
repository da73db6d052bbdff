"""Loss recipes: what a network's outputs mean, and what is minimized. ``radstack.nets.objectives`` computes them."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Loss:
    """Binary cross-entropy per label, computed in fp32 from logits."""

    label: ClassVar[str] = "numbers"
    """What augmentation does to a label: ``numbers`` stay, a ``mask`` and ``points`` move with the picture."""

    class_weights: tuple[float, ...] = ()
    """One a target, normalized to sum 1; empty means equal. The metric of RSNA 2019 is (1, 1, 1, 1, 1, 2)."""
    rare_class: str = ""
    """Target whose positive rows weigh more; empty for none."""
    rare_weight: float = 1.0
    """Factor on the loss of the rare class's positives."""
    label_smoothing: float = 0.0
    """Targets move this far toward one half (Szegedy 2016, two-class form)."""


CROSS_ENTROPY = Loss()
"""Cross-entropy with equal weights."""


@dataclass(frozen=True)
class Value:
    """One number a target; the network gives ``(value - center) / scale``."""

    label: ClassVar[str] = "numbers"

    center: float = 120.0
    """Subtracted from the target, in its unit."""
    scale: float = 120.0
    """Divides the target, in its unit; 120 months bring bone ages of 0 to 240 into -1..1 (Iglovikov 2018)."""
    squared: bool = False
    """Minimize the squared error (Pietz 2018) instead of the absolute one."""


@dataclass(frozen=True)
class Expectation:
    """One number as the mean of a softmax over classes ``first`` .. ``last``, by absolute error (Iglovikov 2018).

    With ``divergence`` the softmax is also drawn to a Gaussian around the label (label-distribution learning, Gao 2017).
    """

    label: ClassVar[str] = "numbers"

    first: int = 1
    """Value of the first class."""
    last: int = 240
    """Value of the last class."""
    scale: float = 120.0
    """Divides the error, in the target's unit."""
    divergence: float = 0.0
    """Weight of the Kullback-Leibler divergence from the Gaussian to the softmax; 0 for none."""
    spread: float = 4.0
    """Standard deviation of that Gaussian, in the target's unit."""


@dataclass(frozen=True)
class MaskOverlap:
    """Pixel cross-entropy less the log of the soft Jaccard index: H - log J (Iglovikov 2017)."""

    label: ClassVar[str] = "mask"

    smooth: float = 1e-7
    """Added to both areas of the Jaccard index."""


@dataclass(frozen=True)
class Dice:
    """1 - F of a mask over the whole batch, the soft Dice index where ``beta`` is 1 (Pietz 2018)."""

    label: ClassVar[str] = "mask"

    smooth: float = 1.0
    """Added above and below the fraction, in pixels."""
    beta: float = 1.0
    """Recall weighs ``beta`` times as much as precision (van Rijsbergen 1979); 2 for a small object that is missed."""


@dataclass(frozen=True)
class Points:
    """Mean squared error of coordinates, x then y of each point, from -1 to 1 across the picture."""

    label: ClassVar[str] = "points"


@dataclass(frozen=True)
class PointMaps:
    """Coordinates as the mean of a softmax over a map a point, by mean squared error (Sun 2018, integral regression)."""

    label: ClassVar[str] = "points"

    width: float = 2.0
    """Standard deviation of the Gaussian to which each map's softmax is drawn, in pixels (Nibali 2018)."""
    divergence: float = 1.0
    """Weight of the cross-entropy from that Gaussian to the softmax; 0 for none."""
