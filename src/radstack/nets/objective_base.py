"""What every objective is: the loss that a network is trained by, and the predictions its outputs are turned into."""

from typing import Any, ClassVar

import torch
from torch import nn

from radstack.core.errors import UserError

NO_CONSTANT = "train.restarts needs a loss of values, which alone know how far a constant is off; set it to 0"


class Objective(nn.Module):
    """What a network's outputs mean. A subclass gives the rows' losses and the predictions."""

    recipe: Any
    outputs: int = 0
    """Numbers that the network gives a row (a pixel, for a mask); 0 in a class stands for one a target."""
    shares: tuple[int, ...] = ()
    """Sizes of consecutive groups of outputs that share one weight vector in the last layer; empty where none do."""
    above_zero: ClassVar[tuple[str, ...]] = ()
    """Settings of the recipe that must be."""

    def __init__(self, recipe: Any, targets: tuple[str, ...]) -> None:
        """Read ``recipe`` for ``targets``, in column order; a UserError where a setting does not fit or is impossible."""
        super().__init__()
        self.recipe, self.outputs = recipe, self.outputs or len(targets)
        for name in self.above_zero:
            if not (value := getattr(recipe, name)) > 0:
                raise UserError(f"loss.{name} is {value}; give a number above 0, e.g. {getattr(type(recipe), name)}")
        smoothing = getattr(recipe, "label_smoothing", 0.0)
        if not 0 <= smoothing < 1:
            raise UserError(f"loss.label_smoothing is {smoothing}; give a number from 0 to below 1, e.g. 0.1")

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
        raise UserError(NO_CONSTANT)

    def check_constant(self) -> None:
        """Raise a UserError where :meth:`constant` is not known."""
        if type(self).constant is Objective.constant:
            raise UserError(NO_CONSTANT)


def check_shape(out: torch.Tensor, expected: tuple[int, ...]) -> None:
    """Raise a UserError unless the network's outputs have the shape that the labels need."""
    if out.shape != expected:
        raise UserError(f"the network gives {tuple(out.shape)}, the labels need {tuple(expected)}: a mask is learned by a "
                        "network of maps (radstack/unet) at the size of its pictures, numbers by any other")
