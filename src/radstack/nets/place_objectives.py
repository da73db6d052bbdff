"""The objectives of what has a place in the picture: masks and points.

``XObjective`` computes the recipe ``X`` of :mod:`radstack.recipes.losses`, in fp32 whatever precision the outputs have.
"""

from typing import ClassVar

import torch
from torch.nn import functional

from radstack.core.registry import check_name
from radstack.nets.objective_base import Objective, check_shape
from radstack.recipes import losses


class MaskObjective(Objective):
    """What the objectives of a mask share: one logit a pixel, whose sigmoid is the answer."""

    outputs = 1
    above_zero: ClassVar[tuple[str, ...]] = ("smooth",)  # a picture without the object has log 0, or F = 0 / 0, without it

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 1, height, width] to probabilities, float32 [batch, height, width]."""
        return out[:, 0].float().sigmoid()

    def areas(self, out: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Sums of yp, y and p over each picture, [batch] each, of logits and masks y [batch, height, width] in 0..1."""
        check_shape(out, (len(labels), 1, *labels.shape[1:]))
        y, p = labels.float(), self.answer(out)
        return [area.sum((1, 2)) for area in (y * p, y, p)]


class JaccardObjective(MaskObjective):
    """H - log J of each picture's logits: pixel cross-entropy less the log of the soft Jaccard index (Iglovikov 2017).

    J = (sum yp + e) / (sum y + sum p - sum yp + e) over the whole picture. Of a pixel of background the paper's J is 0,
    whatever is found there: the mean over pixels gives the background no say.
    """

    recipe: losses.Jaccard

    def __init__(self, recipe: losses.Jaccard, targets: tuple[str, ...]) -> None:
        super().__init__(recipe, targets)
        check_name(losses.AREAS, recipe.over, "area for loss.over,")

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of logits [batch, 1, height, width] against masks [batch, height, width] in 0..1."""
        both, true, found = self.areas(out, labels)
        cross = functional.binary_cross_entropy_with_logits(out[:, 0].float(), labels.float(), reduction="none").mean((1, 2))
        if self.recipe.over == "nothing":
            return cross
        union = true + found - both
        if self.recipe.over == "pixel":
            both, union = self._pixels(out, labels), torch.full_like(both, labels[0].numel())
        return cross - (both + self.recipe.smooth).log() + (union + self.recipe.smooth).log()

    def _pixels(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum of the index of each pixel, [batch]."""
        y, p = labels.float(), self.answer(out)
        return (y * p / (y + p - y * p + self.recipe.smooth)).sum((1, 2))


class DiceObjective(MaskObjective):
    """1 - F_beta of the soft masks, counted over all pixels of the batch that the network sees at once (Pietz 2018).

    F_beta = ((1 + b^2) TP + s) / ((1 + b^2) TP + b^2 FN + FP + s) with TP = sum yp, FN = sum y - TP, FP = sum p - TP.
    """

    recipe: losses.Dice
    above_zero = ("smooth", "beta")

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's loss, and each picture's own, of logits [batch, 1, height, width] and masks in 0..1."""
        each = self.areas(out, labels)
        return self._loss(*(area.sum() for area in each)), self._loss(*each).detach()

    def _loss(self, both: torch.Tensor, true: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        weight, smooth = self.recipe.beta**2, self.recipe.smooth
        return 1 - ((1 + weight) * both + smooth) / (weight * true + found + smooth)


class PointsObjective(Objective):
    """Coordinates, x then y of each point, by mean squared error; every label must be there."""

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

    recipe: losses.HeatMaps
    above_zero = ("width",)

    def __init__(self, recipe: losses.HeatMaps, targets: tuple[str, ...]) -> None:
        super().__init__(recipe, targets)
        self.outputs = len(targets) // 2

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of maps [batch, points, height, width] against coordinates [batch, 2 * points]."""
        check_shape(out[..., 0, 0], (len(labels), labels.shape[1] // 2))
        log_share, grid = out.float().flatten(2).log_softmax(-1), self._grid(out)
        rows = (self._mean(log_share, grid) - labels.float()).square().mean(1)
        if self.recipe.divergence:
            rows = rows - self.recipe.divergence * (self._gaussian(out, grid, labels) * log_share).sum(-1).mean(1)
        return rows

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Maps to coordinates, float32 [batch, 2 * points]."""
        return self._mean(out.float().flatten(2).log_softmax(-1), self._grid(out))

    def _grid(self, out: torch.Tensor) -> torch.Tensor:
        """Coordinates x, y of every pixel, float32 [pixels, 2]."""
        axes = (torch.linspace(-1, 1, length, device=out.device) for length in out.shape[2:])
        return torch.cartesian_prod(*axes).flip(1)

    def _mean(self, log_share: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        # Not a matrix product: under autocast that would round the coordinates to a percent.
        return (log_share.exp().unsqueeze(-1) * grid).sum(2).flatten(1)

    def _gaussian(self, out: torch.Tensor, grid: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Share of each pixel in a Gaussian around each point, [batch, points, pixels]."""
        half = (grid.new_tensor(out.shape[:1:-1]) - 1) / 2
        apart = (grid - labels.float().unflatten(1, (-1, 2)).unsqueeze(2)) * half / self.recipe.width
        return (-0.5 * apart.square().sum(-1)).softmax(-1)
