"""The objectives of numbers and classes, and :func:`objective`, which finds the one of each loss recipe.

``XObjective`` computes the recipe ``X`` of :mod:`radstack.recipes.losses`, in fp32 whatever precision the outputs have.
Those of masks and points stand in :mod:`radstack.nets.place_objectives`.
"""

from importlib import import_module
from itertools import accumulate, pairwise

import torch
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.core.registry import check_name, pick
from radstack.nets.links import LINKS
from radstack.nets.objective_base import Objective, check_shape
from radstack.recipes import losses
from radstack.scoring.metrics import group_sizes


class BinaryCrossEntropyObjective(Objective):
    """Weighted binary cross-entropy from logits; the answers are probabilities."""

    recipe: losses.BinaryCrossEntropy
    class_weights: torch.Tensor
    positive_factor: torch.Tensor
    above_zero = ("rare_weight",)

    def __init__(self, recipe: losses.BinaryCrossEntropy, targets: tuple[str, ...]) -> None:
        super().__init__(recipe, targets)
        given = recipe.class_weights or (1.0,) * len(targets)
        if len(given) != len(targets) or min(given) < 0 or sum(given) <= 0:
            raise UserError(f"loss.class_weights {given} must be {len(targets)} numbers, none negative and not all 0")
        weights, factor = torch.tensor(given, dtype=torch.float32), torch.ones(len(targets))
        if recipe.rare_class:
            check_name(targets, recipe.rare_class, "target for loss.rare_class,")
            factor[targets.index(recipe.rare_class)] = recipe.rare_weight
        self.register_buffer("class_weights", weights / weights.sum(), persistent=False)
        self.register_buffer("positive_factor", factor, persistent=False)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compare logits [batch, targets] with labels of that shape in 0..1 (soft ones allowed)."""
        labels, smoothing = labels.float(), self.recipe.label_smoothing
        factor = 1 + (self.positive_factor - 1) * labels
        smooth = labels * (1 - smoothing) + smoothing / 2
        # Under autocast the logits are half precision, in which log(1 - p) loses a confident prediction.
        each = functional.binary_cross_entropy_with_logits(out.float(), smooth, reduction="none")
        return (each * factor * self.class_weights).sum(1)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits to probabilities, float32 of the same shape."""
        return out.float().sigmoid()


class GroupsObjective(Objective):
    """Classes of which one holds, in groups of consecutive targets; the loss is the mean over groups.

    A row may lack the label of a group (NaN): its loss is the mean of the others.
    """

    groups: list[int]
    """Classes of each group that the outputs tell apart."""
    parts: list[int]
    """Outputs of each group."""
    merged: tuple[int, ...]
    """Targets that each of those classes stands for."""

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of outputs [batch, outputs] against labels [batch, targets] in 0..1."""
        targets = sum(self.merged)
        if out.shape != (len(labels), self.outputs) or labels.shape[1:] != (targets,):
            raise UserError(f"the network gives {tuple(out.shape)} and the labels are {tuple(labels.shape)}; {self.outputs} "
                            f"outputs a picture and {targets} targets were expected: classes are learned by no network of "
                            "maps")
        merged = torch.stack([part.sum(1) for part in labels.float().split(self.merged, 1)], 1)
        pairs = list(zip(out.float().split(self.parts, 1), merged.split(self.groups, 1)))
        held = torch.stack([~y.isnan().any(1) for _, y in pairs]).float()
        # A blank label is counted as the first class, at no weight: an impossible one could make gradients of NaN.
        each = torch.stack([self.loss(z, y.where(~y.isnan(), torch.eye(y.shape[1], device=y.device)[:1])) for z, y in pairs])
        return (each * held).sum(0) / held.sum(0).clamp(min=1)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Outputs [batch, outputs] to probabilities, float32 [batch, targets]; merged classes get equal shares."""
        shares = torch.cat([self.share(z) for z in out.float().split(self.parts, 1)], 1)
        return torch.cat([shares[:, [place]].expand(-1, count) / count for place, count in enumerate(self.merged)], 1)

    def loss(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss [batch] of one group's outputs against its labels [batch, classes]."""
        raise NotImplementedError

    def share(self, out: torch.Tensor) -> torch.Tensor:
        """Probabilities [batch, classes] of one group, of sum 1."""
        raise NotImplementedError


class SoftmaxCrossEntropyObjective(GroupsObjective):
    """Softmax cross-entropy within each group; one output a class, or one for neighbors that are merged."""

    recipe: losses.SoftmaxCrossEntropy

    def __init__(self, recipe: losses.SoftmaxCrossEntropy, targets: tuple[str, ...]) -> None:
        super().__init__(recipe, targets)
        sizes = group_sizes(recipe.groups, len(targets))
        self.merged = group_sizes(recipe.merged or (1,) * len(targets), len(targets))
        ends, edges = [0, *accumulate(self.merged)], [0, *accumulate(sizes)]
        if not set(edges) <= set(ends):
            raise UserError(f"loss.merged {self.merged} reaches across the groups {sizes}; let its sums end where theirs do")
        self.groups = self.parts = [ends.index(after) - ends.index(before) for before, after in pairwise(edges)]
        self.outputs = len(self.merged)

    def loss(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of logits, [batch]."""
        return functional.cross_entropy(out, labels, reduction="none", label_smoothing=self.recipe.label_smoothing)

    def share(self, out: torch.Tensor) -> torch.Tensor:
        """Softmax, [batch, classes]."""
        return out.softmax(1)


class OrdinalObjective(GroupsObjective):
    """Ordered classes by a link of :mod:`radstack.nets.links`, K - 1 outputs a group of K classes.

    The outputs of a group must share their weights and keep biases of their own, as those of
    :class:`radstack.nets.backbones.SharedLinear`: thus the thresholds are trained and saved with the network.
    """

    recipe: losses.Ordinal
    above_zero = ("spacing",)

    def __init__(self, recipe: losses.Ordinal, targets: tuple[str, ...]) -> None:
        super().__init__(recipe, targets)
        self.groups, self.merged = list(group_sizes(recipe.groups, len(targets))), (1,) * len(targets)
        if min(self.groups) < 2:
            raise UserError(f"loss.groups {tuple(self.groups)}: a group of one class has no order; leave it out of the "
                            "targets")
        self.link = pick(LINKS, recipe.link, "ordinal link")
        self.shares = tuple(size - 1 for size in self.groups)
        self.parts, self.outputs = list(self.shares), sum(self.shares)

    def loss(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """By the link, [batch]."""
        return self.link[0](out, labels, self.recipe.spacing)

    def share(self, out: torch.Tensor) -> torch.Tensor:
        """By the link, [batch, classes]."""
        return self.link[1](out, self.recipe.spacing)


class RegressionObjective(Objective):
    """One output a target, ``(value - center) / scale``, by absolute (Iglovikov 2018) or squared error (Pietz 2018)."""

    recipe: losses.Regression
    above_zero = ("scale",)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Error in units of ``scale`` (or of its square); both tensors are [batch, targets]."""
        check_shape(out, labels.shape)
        away = out.float() - self._scaled(labels)
        return (away.square() if self.recipe.squared else away.abs()).mean(1)

    def constant(self, labels: torch.Tensor) -> float:
        """The least mean loss that the same outputs for all of ``labels`` [rows, targets] can have."""
        scaled = self._scaled(labels)
        best = scaled.mean(0) if self.recipe.squared else scaled.median(0).values
        return float(self(best.expand_as(scaled), labels)[0])

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Outputs to values in the target's unit, float32 [batch, targets]."""
        return out.float() * self.recipe.scale + self.recipe.center

    def _scaled(self, labels: torch.Tensor) -> torch.Tensor:
        return (labels.float() - self.recipe.center) / self.recipe.scale


class ExpectationObjective(Objective):
    """A softmax over classes a target, of which the mean is the value, by absolute error (Iglovikov 2018).

    With ``divergence`` the Kullback-Leibler divergence from a Gaussian around the label is added (Gao 2017,
    doi:10.1109/TIP.2017.2689998, with the expectation trained beside it as in Gao 2018, DLDL-v2).
    """

    recipe: losses.Expectation
    values: torch.Tensor
    above_zero = ("scale", "spread")

    def __init__(self, recipe: losses.Expectation, targets: tuple[str, ...]) -> None:
        super().__init__(recipe, targets)
        if recipe.last <= recipe.first or recipe.divergence < 0:
            raise UserError(f"loss {recipe} needs first below last and a divergence of 0 or more; change them with --set")
        values = torch.arange(recipe.first, recipe.last + 1, dtype=torch.float32)
        self.register_buffer("values", values, persistent=False)
        self.outputs = len(values) * len(targets)

    def rows(self, out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of logits [batch, targets * classes] against labels [batch, targets] in their unit."""
        check_shape(out, (len(labels), self.outputs))
        labels, log_share = labels.float(), self._log_share(out)
        each = (self._mean(log_share) - labels).abs() / self.recipe.scale
        if self.recipe.divergence:
            each = each + self.recipe.divergence * functional.kl_div(
                log_share, self.log_gaussian(labels), reduction="none", log_target=True).sum(-1)
        return each.mean(1)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits to the softmax's mean in the target's unit, float32 [batch, targets]."""
        return self._mean(self._log_share(out))

    def log_gaussian(self, labels: torch.Tensor) -> torch.Tensor:
        """Log share of each class in a Gaussian around ``labels`` [batch, targets]: [batch, targets, classes].

        Its density at the classes, brought to sum 1; what lies beyond the first and last class is cut off.
        """
        return (-0.5 * ((self.values - labels.unsqueeze(-1)) / self.recipe.spread) ** 2).log_softmax(-1)

    def _log_share(self, out: torch.Tensor) -> torch.Tensor:
        return out.float().unflatten(1, (-1, len(self.values))).log_softmax(-1)

    def _mean(self, log_share: torch.Tensor) -> torch.Tensor:
        # Not a matrix product: under autocast that would round 129.5 to a whole number.
        return (log_share.exp() * self.values).sum(-1)


def objective(recipe: losses.LossRecipe, targets: tuple[str, ...]) -> Objective:
    """Make the objective of ``recipe`` for ``targets``, in column order; a mask has one target or none.

    It is the class of the recipe's name with ``Objective`` behind it, in the module that the recipe names. A UserError for a
    number of targets or a setting that the recipe cannot work with, and for a loss without objective.
    """
    mask = recipe.moves_with_picture == "mask"
    if (len(targets) > 1) if mask else not targets:
        raise UserError(f"loss {type(recipe).__name__} takes {'one mask' if mask else 'at least one target'}, not "
                        f"{len(targets)} targets {targets}; change the loss or the targets of the recipe")
    if recipe.moves_with_picture == "points" and len(targets) % 2:
        raise UserError(f"{len(targets)} targets are no list of points; name x and y of each, in this order")
    name = f"{type(recipe).__name__}Objective"
    found: type[Objective] | None = getattr(import_module(recipe.objective_in), name, None)
    if found is None:
        raise UserError(f"loss {type(recipe).__name__} has no objective; write the class {name} in {recipe.objective_in}")
    return found(recipe, targets)
