"""What every objective has in common; binary cross-entropy, in fp32, with the weights of the metric and a rare class."""

import torch
from torch import nn
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.core.registry import check_name
from radstack.recipes.experiment import Loss


class Objective(nn.Module):
    """What a network's outputs mean: the loss they are trained by, and the predictions they are turned into.

    Calling it with outputs and labels gives the loss's mean over the batch, a scalar to train on, and the rows' own
    losses [batch], detached, to name the bad ones; both float32 whatever the outputs are.
    """

    outputs: int
    """Numbers that the network gives a row (a pixel, for a mask)."""
    shares: tuple[int, ...] = ()
    """Sizes of consecutive groups of outputs that share one weight vector in the last layer; empty where none do."""

    def constant(self, labels: torch.Tensor) -> float:
        """The least mean loss that the same outputs for all of ``labels`` [rows, targets] can have; where it is not known,
        a UserError.
        """
        raise UserError("train.restarts needs a loss of values, which alone know how far a constant is off; set it to 0")

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Turn outputs into predictions, float32."""
        raise NotImplementedError


class WeightedBce(Objective):
    """Weighted binary cross-entropy from logits; the answers are probabilities."""

    class_weights: torch.Tensor
    positive_factor: torch.Tensor

    def __init__(self, recipe: Loss, targets: tuple[str, ...]) -> None:
        """Read ``recipe`` for the labels ``targets``, in column order.

        Raises:
            UserError: another number of class weights than targets, an impossible value, or an unknown rare class.
        """
        super().__init__()
        self.outputs = len(targets)
        self.smoothing = recipe.label_smoothing
        self.register_buffer("class_weights", class_weights(recipe, len(targets)), persistent=False)
        self.register_buffer("positive_factor", positive_factor(recipe, targets), persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare logits [batch, targets] with labels of that shape in 0..1 (soft ones allowed).

        Returns:
            The mean over the batch, a scalar, and the rows' losses [batch], both float32 whatever the logits are.
        """
        labels = labels.float()
        factor = 1 + (self.positive_factor - 1) * labels
        smooth = labels * (1 - self.smoothing) + self.smoothing / 2
        # Under autocast the logits are half precision, in which log(1 - p) loses a confident prediction.
        each = functional.binary_cross_entropy_with_logits(logits.float(), smooth, reduction="none")
        rows = (each * factor * self.class_weights).sum(1)
        return rows.mean(), rows.detach()

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits to probabilities, float32 of the same shape."""
        return out.float().sigmoid()


def class_weights(recipe: Loss, targets: int) -> torch.Tensor:
    """Weights of the classes, float32 [targets], sum 1; (1, 1, 1, 1, 1, 2) is (6 x mean + any) / 7, RSNA 2019."""
    given = recipe.class_weights or (1.0,) * targets
    if len(given) != targets or min(given) < 0 or sum(given) <= 0:
        raise UserError(f"loss.class_weights {given} must be {targets} numbers, none negative and not all 0")
    weights = torch.tensor(given, dtype=torch.float32)
    return weights / weights.sum()


def positive_factor(recipe: Loss, targets: tuple[str, ...]) -> torch.Tensor:
    """Factor on the loss of each class's positives, float32 [targets]; 1 for all but the rare class."""
    if not 0 <= recipe.label_smoothing < 1:
        raise UserError(f"loss.label_smoothing is {recipe.label_smoothing}; give a number from 0 to below 1, e.g. 0.1")
    if recipe.rare_weight <= 0:
        raise UserError(f"loss.rare_weight is {recipe.rare_weight}; give a number above 0, 1 for no change")
    factor = torch.ones(len(targets))
    if recipe.rare_class:
        check_name(targets, recipe.rare_class, "target for loss.rare_class,")
        factor[targets.index(recipe.rare_class)] = recipe.rare_weight
    return factor


def above_zero(name: str, value: float) -> float:
    """``value``; a UserError naming the recipe's field unless it is above 0."""
    if not value > 0:
        raise UserError(f"loss.{name} is {value}; give a number above 0")
    return value


def check_shape(out: torch.Tensor, expected: tuple[int, ...]) -> None:
    """Raise a UserError unless the network's outputs have the shape that the labels need."""
    if out.shape != expected:
        raise UserError(f"the network gives {tuple(out.shape)}, the labels need {tuple(expected)}: a mask is learned by a "
                        "network of maps (radstack/unet) at the size of its pictures, numbers by any other")
