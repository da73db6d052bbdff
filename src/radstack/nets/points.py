"""Objectives of points: coordinates, or a map a point; all in fp32."""

import torch

from radstack.core.errors import UserError
from radstack.nets.losses import Objective, above_zero, check_shape
from radstack.recipes.losses import PointMaps, Points


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
        check_shape(out, labels.shape)
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
        self.width, self.divergence = above_zero("width", recipe.width), recipe.divergence

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss of maps [batch, points, height, width] against coordinates [batch, 2 * points]."""
        check_shape(out[..., 0, 0], (len(labels), labels.shape[1] // 2))
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
