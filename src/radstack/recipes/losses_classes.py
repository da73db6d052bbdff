"""Loss recipes of classes of which one holds, as groups of 0/1 targets. ``radstack.nets.classes`` computes them."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Classes:
    """Softmax cross-entropy within each group of targets, and the mean over groups."""

    label: ClassVar[str] = "numbers"

    groups: tuple[int, ...] = ()
    """Number of classes of each group, in the order of the targets; empty for one group of all."""
    merged: tuple[int, ...] = ()
    """Number of neighboring classes that each output stands for, over all groups, e.g. (2, 1, 2, 2) for seven grades in four
    phases; what an output says is shared equally among its classes. Empty for one output a class."""
    label_smoothing: float = 0.0
    """Targets move this far toward equal shares within the group (Szegedy 2016)."""


@dataclass(frozen=True)
class Ordinal:
    """Ordered classes by one score a group and thresholds on it, and the mean over groups."""

    label: ClassVar[str] = "numbers"

    groups: tuple[int, ...] = ()
    """As for :class:`Classes`; two classes or more in each."""
    link: str = "coral"
    """``coral`` is binary cross-entropy of every threshold (Cao 2020), ``cumulative`` the likelihood of the class between
    two ordered thresholds (proportional odds, McCullagh 1980)."""
    spacing: float = 6.0
    """How far apart in log odds the thresholds start; the last layer's biases move them. Adam moves a bias by no more than
    the learning rate a step, so that thresholds that start together stay together."""
