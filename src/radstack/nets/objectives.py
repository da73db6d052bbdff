"""The objective of each loss recipe: absolute error of numbers, overlap of masks, squared error of points; all in fp32.

Cross-entropy, and what they share, is in :mod:`radstack.nets.losses`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from radstack.errors import UserError
from radstack.experiment import Expectation, Loss, MaskOverlap, PointMaps, Points, Value
from radstack.loss import Dice
from radstack.nets.losses import Objective, WeightedBce


class AbsoluteError(Objective):
    """One output a target, ``(value - center) / scale``, by absolute error (Iglovikov 2018)."""

    def __init__(self, recipe: Value, targets: tuple[str, ...]) -> None:
        """Read center and scale; a scale of 0 or less is a UserError."""
        super().__init__()
        self.outputs, self.center, self.scale = len(targets), recipe.center, _above_zero("scale", recipe.scale)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' absolute error in units of ``scale``; both tensors are [batch, targets]."""
        _check_shape(out, labels.shape)
        rows = (out.float() - (labels.float() - self.center) / self.scale).abs().mean(1)
        return rows.mean(), rows.detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Outputs to values in the target's unit, float32 [batch, targets]."""
        return out.float() * self.scale + self.center


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
        self.scale, self.divergence = _above_zero("scale", recipe.scale), recipe.divergence
        self.spread = _above_zero("spread", recipe.spread)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss of logits [batch, targets * classes] against labels [batch, targets] in their unit."""
        _check_shape(out, (len(labels), self.outputs))
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
        self.smooth = _above_zero("smooth", recipe.smooth)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss of logits [batch, 1, height, width] against masks [batch, height, width] in 0..1."""
        _check_shape(out, (len(labels), 1, *labels.shape[1:]))
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
        self.smooth, self.beta = _above_zero("smooth", recipe.smooth), _above_zero("beta", recipe.beta)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's loss, and each picture's own, of logits [batch, 1, height, width] and masks in 0..1."""
        _check_shape(out, (len(labels), 1, *labels.shape[1:]))
        y, p = labels.float(), self.answer(out)
        both, true, found = (area.sum((1, 2)) for area in (y * p, y, p))
        return self._loss(both.sum(), true.sum(), found.sum()), self._loss(both, true, found).detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 1, height, width] to probabilities, float32 [batch, height, width]."""
        return out[:, 0].float().sigmoid()

    def _loss(self, both: torch.Tensor, true: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        weight = self.beta**2
        return 1 - ((1 + weight) * both + self.smooth) / (weight * true + found + self.smooth)


class SquaredError(Objective):
    """Coordinates, x then y of each point, by mean squared error; every label must be there."""

    def __init__(self, recipe: Points, targets: tuple[str, ...]) -> None:
        """Take one output a coordinate; an odd number of them is a UserError."""
        super().__init__()
        if len(targets) % 2:
            raise UserError(f"{len(targets)} targets are no list of points; name x and y of each, in this order")
        self.outputs = len(targets)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' squared error; both tensors are [batch, coordinates]."""
        _check_shape(out, labels.shape)
        rows = (out.float() - labels.float()).square().mean(1)
        return rows.mean(), rows.detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """The coordinates as they are, float32 [batch, coordinates]."""
        return out.float()


class PointsOnMaps(Objective):
    """Coordinates as the mean of a softmax over each point's map (Sun 2018), -1 to 1 between the outermost pixels.

    Beside the squared error each softmax is drawn to a Gaussian around the label, without which the maps learn slowly and
    stay wide (the regularization of Nibali 2018, here as cross-entropy).
    """

    def __init__(self, recipe: PointMaps, targets: tuple[str, ...]) -> None:
        """Take one map a point; an odd number of coordinates is a UserError."""
        super().__init__()
        if len(targets) % 2:
            raise UserError(f"{len(targets)} targets are no list of points; name x and y of each, in this order")
        self.outputs = len(targets) // 2
        self.width, self.divergence = _above_zero("width", recipe.width), recipe.divergence

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss of maps [batch, points, height, width] against coordinates [batch, 2 * points]."""
        _check_shape(out[..., 0, 0], (len(labels), labels.shape[1] // 2))
        log_share = out.float().flatten(2).log_softmax(-1)
        grid = self._grid(out)
        rows = (self._mean(log_share, grid) - labels.float()).square().mean(1)
        if self.divergence:
            rows = rows - self.divergence * (self._gaussian(out, grid, labels) * log_share).sum(-1).mean(1)
        return rows.mean(), rows.detach()

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


OBJECTIVES: dict[type, Callable[[Any, tuple[str, ...]], Objective]] = {
    Loss: WeightedBce,
    Value: AbsoluteError,
    Expectation: ExpectedValue,
    MaskOverlap: Overlap,
    Dice: DiceLoss,
    Points: SquaredError,
    PointMaps: PointsOnMaps,
}


Recipe = Loss | Value | Expectation | MaskOverlap | Dice | Points | PointMaps


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


def _above_zero(name: str, value: float) -> float:
    if not value > 0:
        raise UserError(f"loss.{name} is {value}; give a number above 0")
    return value


def _check_shape(out: torch.Tensor, expected: tuple[int, ...]) -> None:
    if out.shape != expected:
        raise UserError(f"the network gives {tuple(out.shape)}, the labels need {tuple(expected)}: a mask is learned by a "
                        "network of maps (radstack/unet) at the size of its pictures, numbers by any other")
