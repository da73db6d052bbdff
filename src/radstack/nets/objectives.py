"""The objective of each loss recipe; those of numbers and masks. All in fp32.

Cross-entropy, and what all share, is in :mod:`radstack.nets.losses`, points are in :mod:`radstack.nets.points`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.nets.classes import CrossEntropy, ordinal
from radstack.nets.losses import Objective, WeightedBce, above_zero, check_shape
from radstack.nets.points import PointsOnMaps, SquaredError
from radstack.recipes.experiment import Expectation, Loss, MaskOverlap, PointMaps, Points, Value
from radstack.recipes.losses import Dice
from radstack.recipes.losses_classes import Classes, Ordinal


class Deviation(Objective):
    """One output a target, ``(value - center) / scale``, by absolute (Iglovikov 2018) or squared error (Pietz 2018)."""

    def __init__(self, recipe: Value, targets: tuple[str, ...]) -> None:
        """Read center and scale; a scale of 0 or less is a UserError."""
        super().__init__()
        self.outputs, self.center, self.scale = len(targets), recipe.center, above_zero("scale", recipe.scale)
        self.squared = recipe.squared

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' error in units of ``scale`` (or of its square); both tensors are [batch, targets]."""
        check_shape(out, labels.shape)
        away = out.float() - self._scaled(labels)
        rows = (away.square() if self.squared else away.abs()).mean(1)
        return rows.mean(), rows.detach()

    def constant(self, labels: torch.Tensor) -> float:
        """The least mean loss that the same outputs for all of ``labels`` [rows, targets] can have."""
        scaled = self._scaled(labels)
        best = scaled.mean(0) if self.squared else scaled.median(0).values
        return float(self(best.expand_as(scaled), labels)[0])

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Outputs to values in the target's unit, float32 [batch, targets]."""
        return out.float() * self.scale + self.center

    def _scaled(self, labels: torch.Tensor) -> torch.Tensor:
        return (labels.float() - self.center) / self.scale


class ExpectedValue(Objective):
    """A softmax over classes a target, of which the mean is the value, by absolute error (Iglovikov 2018).

    With ``divergence`` the Kullback-Leibler divergence from a Gaussian around the label is added (Gao 2017,
    doi:10.1109/TIP.2017.2689998, with the expectation trained beside it as in Gao 2018, DLDL-v2).
    """

    values: torch.Tensor

    def __init__(self, recipe: Expectation, targets: tuple[str, ...]) -> None:
        """Lay out the classes ``first`` .. ``last``; impossible numbers are a UserError."""
        super().__init__()
        if recipe.last <= recipe.first or recipe.divergence < 0:
            raise UserError(f"loss {recipe} needs first below last and a divergence of 0 or more; change them with --set")
        values = torch.arange(recipe.first, recipe.last + 1, dtype=torch.float32)
        self.register_buffer("values", values, persistent=False)
        self.outputs = len(values) * len(targets)
        self.scale, self.divergence = above_zero("scale", recipe.scale), recipe.divergence
        self.spread = above_zero("spread", recipe.spread)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss of logits [batch, targets * classes] against labels [batch, targets] in their unit."""
        check_shape(out, (len(labels), self.outputs))
        labels, log_share = labels.float(), self._log_share(out)
        each = (self._mean(log_share) - labels).abs() / self.scale
        if self.divergence:
            each = each + self.divergence * functional.kl_div(
                log_share, self.log_gaussian(labels), reduction="none", log_target=True).sum(-1)
        rows = each.mean(1)
        return rows.mean(), rows.detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits to the softmax's mean in the target's unit, float32 [batch, targets]."""
        return self._mean(self._log_share(out))

    def log_gaussian(self, labels: torch.Tensor) -> torch.Tensor:
        """Log share of each class in a Gaussian around ``labels`` [batch, targets]: [batch, targets, classes].

        Its density at the classes, brought to sum 1; what lies beyond the first and last class is cut off.
        """
        return (-0.5 * ((self.values - labels.unsqueeze(-1)) / self.spread) ** 2).log_softmax(-1)

    def _log_share(self, out: torch.Tensor) -> torch.Tensor:
        return out.float().unflatten(1, (-1, len(self.values))).log_softmax(-1)

    def _mean(self, log_share: torch.Tensor) -> torch.Tensor:
        # Not a matrix product: under autocast that would round 129.5 to a whole number.
        return (log_share.exp() * self.values).sum(-1)


class Overlap(Objective):
    """H - log J of each picture's logits: pixel cross-entropy less the log of the soft Jaccard index (Iglovikov 2017).

    J = (sum yp + e) / (sum y + sum p - sum yp + e) over the whole picture; the per-pixel form of the paper gives the
    background no say.
    """

    outputs = 1

    def __init__(self, recipe: MaskOverlap, targets: tuple[str, ...]) -> None:
        """Read e; 0 or less is a UserError, for a picture without the object has log 0 then."""
        super().__init__()
        self.smooth = above_zero("smooth", recipe.smooth)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss of logits [batch, 1, height, width] against masks [batch, height, width] in 0..1."""
        check_shape(out, (len(labels), 1, *labels.shape[1:]))
        logits, y = out[:, 0].float(), labels.float()
        entropy = functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean((1, 2))
        p = logits.sigmoid()
        both = (y * p).sum((1, 2))
        either = y.sum((1, 2)) + p.sum((1, 2)) - both
        rows = entropy - (both + self.smooth).log() + (either + self.smooth).log()
        return rows.mean(), rows.detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 1, height, width] to probabilities, float32 [batch, height, width]."""
        return out[:, 0].float().sigmoid()


class DiceLoss(Objective):
    """1 - F_beta of the soft masks, counted over all pixels of the batch that the network sees at once (Pietz 2018).

    F_beta = ((1 + b^2) TP + s) / ((1 + b^2) TP + b^2 FN + FP + s) with TP = sum yp, FN = sum y - TP, FP = sum p - TP.
    """

    outputs = 1

    def __init__(self, recipe: Dice, targets: tuple[str, ...]) -> None:
        """Read s and beta; 0 or less is a UserError, for a batch without the object has F = 0 / 0 then."""
        super().__init__()
        self.smooth, self.beta = above_zero("smooth", recipe.smooth), above_zero("beta", recipe.beta)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's loss, and each picture's own, of logits [batch, 1, height, width] and masks in 0..1."""
        check_shape(out, (len(labels), 1, *labels.shape[1:]))
        y, p = labels.float(), self.answer(out)
        both, true, found = (area.sum((1, 2)) for area in (y * p, y, p))
        return self._loss(both.sum(), true.sum(), found.sum()), self._loss(both, true, found).detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 1, height, width] to probabilities, float32 [batch, height, width]."""
        return out[:, 0].float().sigmoid()

    def _loss(self, both: torch.Tensor, true: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        weight = self.beta**2
        return 1 - ((1 + weight) * both + self.smooth) / (weight * true + found + self.smooth)


OBJECTIVES: dict[type, Callable[[Any, tuple[str, ...]], Objective]] = {
    Loss: WeightedBce,
    Value: Deviation,
    Expectation: ExpectedValue,
    MaskOverlap: Overlap,
    Dice: DiceLoss,
    Points: SquaredError,
    PointMaps: PointsOnMaps,
    Classes: CrossEntropy,
    Ordinal: ordinal,
}


Recipe = Loss | Value | Expectation | MaskOverlap | Dice | Points | PointMaps | Classes | Ordinal


def objective(recipe: Recipe, targets: tuple[str, ...]) -> Objective:
    """Make the objective of ``recipe`` for ``targets``, in column order; a mask has one target or none.

    Raises:
        UserError: a number of targets or a setting that the recipe cannot work with.
    """
    mask = recipe.label == "mask"
    if (len(targets) > 1) if mask else not targets:
        raise UserError(f"loss {type(recipe).__name__} takes {'one mask' if mask else 'at least one target'}, not "
                        f"{len(targets)} targets {targets}; change the loss or the targets of the recipe")
    return OBJECTIVES[type(recipe)](recipe, targets)
