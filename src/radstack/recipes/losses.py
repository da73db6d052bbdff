"""Loss recipes: what a network's outputs mean, and what is minimized.

Each is computed by a class of the same name with ``Objective`` behind it, in the module that ``objective_in`` names. The
code of that class is part of the key of all that is learned by the loss.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from radstack.core.recipe import QUIET


class _Loss:
    objective_in: ClassVar[str] = "radstack.nets.objectives"
    """Module of the class that computes it; a loss of a competition names a module of the competition."""

    @property
    def code_at(self) -> str:
        """Where its code stands, for :func:`radstack.core.code.code_of`."""
        return f"{self.objective_in}:{type(self).__name__}Objective"


class _Numbers(_Loss):
    moves_with_picture: ClassVar[str] = ""
    """What augmentation moves along with the picture: a ``mask``, ``points``, or nothing where labels are numbers."""


class _Mask(_Loss):
    objective_in: ClassVar[str] = "radstack.nets.place_objectives"
    moves_with_picture: ClassVar[str] = "mask"


class _Points(_Loss):
    objective_in: ClassVar[str] = "radstack.nets.place_objectives"
    moves_with_picture: ClassVar[str] = "points"


@dataclass(frozen=True)
class BinaryCrossEntropy(_Numbers):
    """Binary cross-entropy per label, computed in fp32 from logits."""

    class_weights: tuple[float, ...] = ()
    """One a target, normalized to sum 1; empty means equal. The metric of RSNA 2019 is (1, 1, 1, 1, 1, 2)."""
    rare_class: str = ""
    """Target whose positive rows weigh more; empty for none."""
    rare_weight: float = 1.0
    """Factor on the loss of the rare class's positives."""
    label_smoothing: float = 0.0
    """Targets move this far toward one half (Szegedy 2016, two-class form)."""


@dataclass(frozen=True)
class SoftmaxCrossEntropy(_Numbers):
    """Classes of which one holds: softmax cross-entropy within each group of 0/1 targets, and the mean over groups."""

    groups: tuple[int, ...] = ()
    """Number of classes of each group, in the order of the targets; empty for one group of all."""
    merged: tuple[int, ...] = ()
    """Number of neighboring classes that each output stands for, over all groups, e.g. (2, 1, 2, 2) for seven grades in four
    phases; what an output says is shared equally among its classes. Empty for one output a class."""
    label_smoothing: float = 0.0
    """Targets move this far toward equal shares within the group (Szegedy 2016)."""


@dataclass(frozen=True)
class Ordinal(_Numbers):
    """Ordered classes by one score a group and thresholds on it, and the mean over groups."""

    groups: tuple[int, ...] = ()
    """As for :class:`SoftmaxCrossEntropy`; two classes or more in each."""
    link: str = "coral"
    """``coral`` is binary cross-entropy of every threshold (Cao 2020), ``cumulative`` the likelihood of the class between
    two ordered thresholds (proportional odds, McCullagh 1980)."""
    spacing: float = 6.0
    """How far apart in log odds the thresholds start; the last layer's biases move them. Adam moves a bias by no more than
    the learning rate a step, so that thresholds that start together stay together."""


@dataclass(frozen=True)
class Regression(_Numbers):
    """One number a target; the network gives ``(value - center) / scale``."""

    center: float = 120.0
    """Subtracted from the target, in its unit."""
    scale: float = 120.0
    """Divides the target, in its unit; 120 months bring bone ages of 0 to 240 into -1..1 (Iglovikov 2018)."""
    squared: bool = False
    """Minimize the squared error (Pietz 2018) instead of the absolute one."""
    line: bool = field(default=False, metadata=QUIET)
    """After the last step, correct a network's answers by a line that is fitted to its training rows, not augmented, see
    :mod:`radstack.training.align`."""


@dataclass(frozen=True)
class Expectation(_Numbers):
    """One number as the mean of a softmax over classes ``first`` .. ``last``, by absolute error (Iglovikov 2018).

    With ``divergence`` the softmax is also drawn to a Gaussian around the label (label-distribution learning, Gao 2017).
    """

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


AREAS = ("picture", "pixel", "nothing")
"""What the Jaccard index of a loss is counted over."""


@dataclass(frozen=True)
class Jaccard(_Mask):
    """Pixel cross-entropy of a mask less the log of the soft Jaccard index: H - log J (Iglovikov 2017)."""

    smooth: float = 1e-7
    """Added to both areas of the Jaccard index."""
    over: str = field(default="picture", metadata=QUIET)
    """One of ``AREAS``: the whole ``picture``; each ``pixel``, and averaged, as Iglovikov 2017 writes it; ``nothing`` for H
    alone."""


@dataclass(frozen=True)
class Dice(_Mask):
    """1 - F of a mask over the whole batch, the soft Dice index where ``beta`` is 1 (Pietz 2018)."""

    smooth: float = 1.0
    """Added above and below the fraction, in pixels."""
    beta: float = 1.0
    """Recall weighs ``beta`` times as much as precision (van Rijsbergen 1979); 2 for a small object that is missed."""


@dataclass(frozen=True)
class Points(_Points):
    """Mean squared error of coordinates, x then y of each point, from -1 to 1 across the picture."""


@dataclass(frozen=True)
class HeatMaps(_Points):
    """Coordinates as the mean of a softmax over a map a point, by mean squared error (Sun 2018, integral regression)."""

    width: float = 2.0
    """Standard deviation of the Gaussian to which each map's softmax is drawn, in pixels (Nibali 2018)."""
    divergence: float = 1.0
    """Weight of the cross-entropy from that Gaussian to the softmax; 0 for none."""


LossRecipe = (BinaryCrossEntropy | SoftmaxCrossEntropy | Ordinal | Regression | Expectation | Jaccard | Dice | Points
              | HeatMaps)
