"""The objective of each loss recipe: the loss a network is trained by, and the predictions its outputs are turned into.

``XObjective`` computes the recipe ``X`` of :mod:`radstack.recipes.losses`, in fp32 whatever precision the outputs have.
"""

import math
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.core.registry import check_name, pick
from radstack.recipes.losses import (
    BinaryCrossEntropy,
    Dice,
    Expectation,
    HeatMaps,
    Jaccard,
    LossRecipe,
    Ordinal,
    Points,
    Regression,
    SoftmaxCrossEntropy,
)
from radstack.scoring.metrics import group_sizes

LEAST_STEP = 1e-3
"""Thresholds of the cumulative link stay this far apart in log odds, so that no class has probability 0."""


class Objective(nn.Module):
    """What a network's outputs mean. A subclass gives the rows' losses and the predictions."""

    outputs: int
    """Numbers that the network gives a row (a pixel, for a mask)."""
    shares: tuple[int, ...] = ()
    """Sizes of consecutive groups of outputs that share one weight vector in the last layer; empty where none do."""

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean loss over the batch, a scalar to train on, and the rows' own [batch], detached, to name the bad ones."""
        rows = self.rows(out, labels)
        return rows.mean(), rows.detach()

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of each row, float32 [batch]; a UserError where the outputs' shape does not fit the labels."""
        raise NotImplementedError

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Turn outputs into predictions, float32."""
        raise NotImplementedError

    def constant(self, labels: torch.Tensor) -> float:
        """The least mean loss that the same outputs for all of ``labels`` [rows, targets] can have; where it is not known,
        a UserError.
        """
        raise UserError("train.restarts needs a loss of values, which alone know how far a constant is off; set it to 0")


class BinaryCrossEntropyObjective(Objective):
    """Weighted binary cross-entropy from logits; the answers are probabilities."""

    class_weights: torch.Tensor
    positive_factor: torch.Tensor

    def __init__(self, recipe: BinaryCrossEntropy, targets: tuple[str, ...]) -> None:
        """Read ``recipe`` for the labels ``targets``, in column order.

        Raises:
            UserError: another number of class weights than targets, an impossible value, or an unknown rare class.
        """
        super().__init__()
        self.outputs, self.smoothing = len(targets), _smoothing(recipe.label_smoothing)
        self.register_buffer("class_weights", class_weights(recipe, len(targets)), persistent=False)
        self.register_buffer("positive_factor", positive_factor(recipe, targets), persistent=False)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compare logits [batch, targets] with labels of that shape in 0..1 (soft ones allowed)."""
        labels = labels.float()
        factor = 1 + (self.positive_factor - 1) * labels
        smooth = labels * (1 - self.smoothing) + self.smoothing / 2
        # Under autocast the logits are half precision, in which log(1 - p) loses a confident prediction.
        each = functional.binary_cross_entropy_with_logits(out.float(), smooth, reduction="none")
        return (each * factor * self.class_weights).sum(1)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits to probabilities, float32 of the same shape."""
        return out.float().sigmoid()


def class_weights(recipe: BinaryCrossEntropy, targets: int) -> torch.Tensor:
    """Weights of the classes, float32 [targets], sum 1; (1, 1, 1, 1, 1, 2) is (6 x mean + any) / 7, RSNA 2019."""
    given = recipe.class_weights or (1.0,) * targets
    if len(given) != targets or min(given) < 0 or sum(given) <= 0:
        raise UserError(f"loss.class_weights {given} must be {targets} numbers, none negative and not all 0")
    weights = torch.tensor(given, dtype=torch.float32)
    return weights / weights.sum()


def positive_factor(recipe: BinaryCrossEntropy, targets: tuple[str, ...]) -> torch.Tensor:
    """Factor on the loss of each class's positives, float32 [targets]; 1 for all but the rare class."""
    if recipe.rare_weight <= 0:
        raise UserError(f"loss.rare_weight is {recipe.rare_weight}; give a number above 0, 1 for no change")
    factor = torch.ones(len(targets))
    if recipe.rare_class:
        check_name(targets, recipe.rare_class, "target for loss.rare_class,")
        factor[targets.index(recipe.rare_class)] = recipe.rare_weight
    return factor


class SoftmaxCrossEntropyObjective(Objective):
    """Softmax cross-entropy within each group; one output a class, or one for neighbors that are merged."""

    def __init__(self, recipe: SoftmaxCrossEntropy, targets: tuple[str, ...]) -> None:
        """Read ``recipe``; sizes that do not fit the targets or each other, or a smoothing beyond 0..1, are a UserError."""
        super().__init__()
        sizes = group_sizes(recipe.groups, len(targets))
        self.merged = group_sizes(recipe.merged or (1,) * len(targets), len(targets))
        self.groups, self.outputs = _outputs(sizes, self.merged), len(self.merged)
        self.smoothing = _smoothing(recipe.label_smoothing)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss, a mean over groups, of logits [batch, outputs] against labels [batch, targets] in 0..1."""
        _check_classes(out, labels, self.outputs, sum(self.merged))
        merged = torch.stack([part.sum(1) for part in labels.float().split(self.merged, 1)], 1)
        losses = [functional.cross_entropy(logits, y, reduction="none", label_smoothing=self.smoothing)
                  for logits, y in zip(out.float().split(self.groups, 1), merged.split(self.groups, 1))]
        return torch.stack(losses).mean(0)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, outputs] to probabilities, float32 [batch, targets]; merged classes get equal shares."""
        shares = torch.cat([logits.softmax(1) for logits in out.float().split(self.groups, 1)], 1)
        return torch.cat([shares[:, [place]].expand(-1, count) / count for place, count in enumerate(self.merged)], 1)


def _outputs(sizes: tuple[int, ...], merged: tuple[int, ...]) -> list[int]:
    """Outputs of each group of ``sizes`` classes when output i stands for ``merged[i]`` classes."""
    ends, edges = list(accumulate(merged)), list(accumulate(sizes))
    if not set(edges) <= set(ends):
        raise UserError(f"loss.merged {merged} reaches across the groups {sizes}; let its sums end where theirs do")
    places = [0, *(ends.index(edge) + 1 for edge in edges)]
    return [after - before for before, after in pairwise(places)]


class OrdinalObjective(Objective):
    """What both ordinal links share: K - 1 outputs a group of K classes, and thresholds that start ``spacing`` apart.

    The outputs of a group must share their weights and keep biases of their own, as those of
    :class:`radstack.nets.backbones.SharedLinear`: thus the thresholds are trained and saved with the network.
    """

    def __init__(self, recipe: Ordinal, targets: tuple[str, ...]) -> None:
        """Read ``recipe``; sizes that do not fit, a group of one class, or a spacing of 0 or less are a UserError."""
        super().__init__()
        self.groups = group_sizes(recipe.groups, len(targets))
        if min(self.groups) < 2:
            raise UserError(f"loss.groups {self.groups}: a group of one class has no order; leave it out of the targets")
        self.spacing, self.shares = _above_zero("spacing", recipe.spacing), tuple(size - 1 for size in self.groups)
        self.outputs = sum(self.shares)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss, a mean over groups, of outputs [batch, outputs] against labels [batch, targets] in 0..1."""
        _check_classes(out, labels, self.outputs, sum(self.groups))
        parts = labels.float().split(self.groups, 1)
        return torch.stack([self.loss(z, y) for z, y in zip(out.float().split(self.shares, 1), parts)]).mean(0)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Outputs [batch, outputs] to probabilities, float32 [batch, targets], of sum 1 in each group."""
        return torch.cat([self.share(z) for z in out.float().split(self.shares, 1)], 1)

    def loss(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of each row [batch] of one group's ``out`` [batch, classes - 1] against its labels [batch, classes]."""
        raise NotImplementedError

    def share(self, out: torch.Tensor) -> torch.Tensor:
        """Probabilities [batch, classes] of one group."""
        raise NotImplementedError

    def start(self, out: torch.Tensor) -> torch.Tensor:
        """Log odds of lying above each threshold before any is learned, falling and centered on 0, [classes - 1]."""
        count = out.shape[1]
        return self.spacing * ((count - 1) / 2 - torch.arange(count, device=out.device))


class Coral(OrdinalObjective):
    """Binary cross-entropy of every threshold, summed (Cao 2020, doi:10.1016/j.patrec.2020.11.008).

    The paper's theorem orders the biases at the optimum; until then a threshold counts as passed no more than those below.
    """

    def loss(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of lying above each threshold, summed over thresholds, [batch]."""
        above = labels.flip(1).cumsum(1).flip(1)[:, 1:]
        logits = out + self.start(out)
        return functional.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(1)

    def share(self, out: torch.Tensor) -> torch.Tensor:
        """Differences of the probabilities of lying above each threshold, [batch, classes]."""
        above = (out + self.start(out)).sigmoid().cummin(1).values
        return -functional.pad(functional.pad(above, (1, 0), value=1.0), (0, 1)).diff(dim=1)


class CumulativeLink(OrdinalObjective):
    """Likelihood of the class between two ordered thresholds on a logistic score (proportional odds, McCullagh 1980).

    The group's first output is the log odds of lying above the first threshold. The difference of each other output to it,
    which is one of biases where weights are shared, sets by softplus how far that threshold lies beyond the one before.
    """

    def loss(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood, [batch]."""
        return -(labels * self._log_share(out)).sum(1)

    def share(self, out: torch.Tensor) -> torch.Tensor:
        """Probabilities, [batch, classes]; brought to sum 1, from which rounding alone keeps them."""
        return self._log_share(out).softmax(1)

    def _log_share(self, out: torch.Tensor) -> torch.Tensor:
        # s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)) for the sigmoid s keeps its digits where both are near 0 or 1.
        begin = self.spacing + math.log(-math.expm1(-self.spacing))  # of which the softplus is the spacing
        steps = functional.softplus(out[:, 1:] - out[:, :1] + begin) + LEAST_STEP
        first = out[:, :1] + self.start(out)[0]
        above = torch.cat([first, first - steps.cumsum(1)], 1)
        between = functional.logsigmoid(above[:, :-1]) + functional.logsigmoid(-above[:, 1:]) + (-torch.expm1(-steps)).log()
        return torch.cat([functional.logsigmoid(-first), between, functional.logsigmoid(above[:, -1:])], 1)


LINKS: dict[str, type[OrdinalObjective]] = {"coral": Coral, "cumulative": CumulativeLink}


class RegressionObjective(Objective):
    """One output a target, ``(value - center) / scale``, by absolute (Iglovikov 2018) or squared error (Pietz 2018)."""

    def __init__(self, recipe: Regression, targets: tuple[str, ...]) -> None:
        """Read center and scale; a scale of 0 or less is a UserError."""
        super().__init__()
        self.outputs, self.center, self.scale = len(targets), recipe.center, _above_zero("scale", recipe.scale)
        self.squared = recipe.squared

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Error in units of ``scale`` (or of its square); both tensors are [batch, targets]."""
        check_shape(out, labels.shape)
        away = out.float() - self._scaled(labels)
        return (away.square() if self.squared else away.abs()).mean(1)

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


class ExpectationObjective(Objective):
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
        self.scale, self.divergence = _above_zero("scale", recipe.scale), recipe.divergence
        self.spread = _above_zero("spread", recipe.spread)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of logits [batch, targets * classes] against labels [batch, targets] in their unit."""
        check_shape(out, (len(labels), self.outputs))
        labels, log_share = labels.float(), self._log_share(out)
        each = (self._mean(log_share) - labels).abs() / self.scale
        if self.divergence:
            each = each + self.divergence * functional.kl_div(
                log_share, self.log_gaussian(labels), reduction="none", log_target=True).sum(-1)
        return each.mean(1)

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


class MaskObjective(Objective):
    """What the objectives of a mask share: one logit a pixel, whose sigmoid is the answer."""

    outputs = 1

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 1, height, width] to probabilities, float32 [batch, height, width]."""
        return out[:, 0].float().sigmoid()


class JaccardObjective(MaskObjective):
    """H - log J of each picture's logits: pixel cross-entropy less the log of the soft Jaccard index (Iglovikov 2017).

    J = (sum yp + e) / (sum y + sum p - sum yp + e) over the whole picture; the per-pixel form of the paper gives the
    background no say.
    """

    def __init__(self, recipe: Jaccard, targets: tuple[str, ...]) -> None:
        """Read e; 0 or less is a UserError, for a picture without the object has log 0 then."""
        super().__init__()
        self.smooth = _above_zero("smooth", recipe.smooth)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of logits [batch, 1, height, width] against masks [batch, height, width] in 0..1."""
        check_shape(out, (len(labels), 1, *labels.shape[1:]))
        y, p = labels.float(), self.answer(out)
        entropy = functional.binary_cross_entropy_with_logits(out[:, 0].float(), y, reduction="none").mean((1, 2))
        both = (y * p).sum((1, 2))
        either = y.sum((1, 2)) + p.sum((1, 2)) - both
        return entropy - (both + self.smooth).log() + (either + self.smooth).log()


class DiceObjective(MaskObjective):
    """1 - F_beta of the soft masks, counted over all pixels of the batch that the network sees at once (Pietz 2018).

    F_beta = ((1 + b^2) TP + s) / ((1 + b^2) TP + b^2 FN + FP + s) with TP = sum yp, FN = sum y - TP, FP = sum p - TP.
    """

    def __init__(self, recipe: Dice, targets: tuple[str, ...]) -> None:
        """Read s and beta; 0 or less is a UserError, for a batch without the object has F = 0 / 0 then."""
        super().__init__()
        self.smooth, self.beta = _above_zero("smooth", recipe.smooth), _above_zero("beta", recipe.beta)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's loss, and each picture's own, of logits [batch, 1, height, width] and masks in 0..1."""
        check_shape(out, (len(labels), 1, *labels.shape[1:]))
        y, p = labels.float(), self.answer(out)
        both, true, found = (area.sum((1, 2)) for area in (y * p, y, p))
        return self._loss(both.sum(), true.sum(), found.sum()), self._loss(both, true, found).detach()

    def _loss(self, both: torch.Tensor, true: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        weight = self.beta**2
        return 1 - ((1 + weight) * both + self.smooth) / (weight * true + found + self.smooth)


class PointsObjective(Objective):
    """Coordinates, x then y of each point, by mean squared error; every label must be there."""

    def __init__(self, recipe: Points, targets: tuple[str, ...]) -> None:
        """Take one output a coordinate; an odd number of them is a UserError."""
        super().__init__()
        self.outputs = 2 * _points(targets)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Squared error; both tensors are [batch, coordinates]."""
        check_shape(out, labels.shape)
        return (out.float() - labels.float()).square().mean(1)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """The coordinates as they are, float32 [batch, coordinates]."""
        return out.float()


class HeatMapsObjective(Objective):
    """Coordinates as the mean of a softmax over each point's map (Sun 2018), -1 to 1 between the outermost pixels.

    Beside the squared error each softmax is drawn to a Gaussian around the label, without which the maps learn slowly and
    stay wide (the regularization of Nibali 2018, here as cross-entropy).
    """

    def __init__(self, recipe: HeatMaps, targets: tuple[str, ...]) -> None:
        """Take one map a point; an odd number of coordinates is a UserError."""
        super().__init__()
        self.outputs = _points(targets)
        self.width, self.divergence = _above_zero("width", recipe.width), recipe.divergence

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of maps [batch, points, height, width] against coordinates [batch, 2 * points]."""
        check_shape(out[..., 0, 0], (len(labels), labels.shape[1] // 2))
        log_share, grid = out.float().flatten(2).log_softmax(-1), self._grid(out)
        rows = (self._mean(log_share, grid) - labels.float()).square().mean(1)
        if self.divergence:
            rows = rows - self.divergence * (self._gaussian(out, grid, labels) * log_share).sum(-1).mean(1)
        return rows

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Maps to coordinates, float32 [batch, 2 * points]."""
        return self._mean(out.float().flatten(2).log_softmax(-1), self._grid(out))

    def _grid(self, out: torch.Tensor) -> torch.Tensor:
        """Coordinates x, y of every pixel, float32 [pixels, 2]."""
        axes = (torch.linspace(-1, 1, length, device=out.device) for length in out.shape[2:])
        y, x = torch.meshgrid(*axes, indexing="ij")
        return torch.stack([x, y], -1).reshape(-1, 2)

    def _mean(self, log_share: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        # Not a matrix product: under autocast that would round the coordinates to a percent.
        return (log_share.exp().unsqueeze(-1) * grid).sum(2).flatten(1)

    def _gaussian(self, out: torch.Tensor, grid: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Share of each pixel in a Gaussian around each point, [batch, points, pixels]."""
        half = (grid.new_tensor(out.shape[:1:-1]) - 1) / 2
        apart = (grid - labels.float().unflatten(1, (-1, 2)).unsqueeze(2)) * half / self.width
        return (-0.5 * apart.square().sum(-1)).softmax(-1)


OBJECTIVES: dict[type, Any] = {
    BinaryCrossEntropy: BinaryCrossEntropyObjective,
    SoftmaxCrossEntropy: SoftmaxCrossEntropyObjective,
    Ordinal: lambda recipe, targets: pick(LINKS, recipe.link, "ordinal link")(recipe, targets),
    Regression: RegressionObjective,
    Expectation: ExpectationObjective,
    Jaccard: JaccardObjective,
    Dice: DiceObjective,
    Points: PointsObjective,
    HeatMaps: HeatMapsObjective,
}
"""Recipe -> its objective, made from the recipe and the names of the targets."""


def objective(recipe: LossRecipe, targets: tuple[str, ...]) -> Objective:
    """Make the objective of ``recipe`` for ``targets``, in column order; a mask has one target or none.

    Raises:
        UserError: a number of targets or a setting that the recipe cannot work with.
    """
    mask = recipe.moves_with_picture == "mask"
    if (len(targets) > 1) if mask else not targets:
        raise UserError(f"loss {type(recipe).__name__} takes {'one mask' if mask else 'at least one target'}, not "
                        f"{len(targets)} targets {targets}; change the loss or the targets of the recipe")
    return OBJECTIVES[type(recipe)](recipe, targets)


def check_shape(out: torch.Tensor, expected: tuple[int, ...]) -> None:
    """Raise a UserError unless the network's outputs have the shape that the labels need."""
    if out.shape != expected:
        raise UserError(f"the network gives {tuple(out.shape)}, the labels need {tuple(expected)}: a mask is learned by a "
                        "network of maps (radstack/unet) at the size of its pictures, numbers by any other")


def _check_classes(out: torch.Tensor, labels: torch.Tensor, outputs: int, targets: int) -> None:
    if out.shape != (len(labels), outputs) or labels.shape[1:] != (targets,):
        raise UserError(f"the network gives {tuple(out.shape)} and the labels are {tuple(labels.shape)}; {outputs} outputs "
                        f"a picture and {targets} targets were expected: classes are learned by no network of maps")


def _above_zero(name: str, value: float) -> float:
    if not value > 0:
        raise UserError(f"loss.{name} is {value}; give a number above 0")
    return value


def _smoothing(value: float) -> float:
    if not 0 <= value < 1:
        raise UserError(f"loss.label_smoothing is {value}; give a number from 0 to below 1, e.g. 0.1")
    return value


def _points(targets: tuple[str, ...]) -> int:
    """Number of points whose coordinates are ``targets``."""
    if len(targets) % 2:
        raise UserError(f"{len(targets)} targets are no list of points; name x and y of each, in this order")
    return len(targets) // 2
