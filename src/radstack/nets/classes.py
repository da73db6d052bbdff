"""Objectives of classes of which one holds: softmax cross-entropy, CORAL and the cumulative link; all in fp32.

Targets are 0/1 columns in consecutive groups; answers are probabilities that sum to 1 in each group. An ordinal group of K
classes takes K - 1 outputs, one a threshold, whose last layer must share its weights and keep biases of its own: that is
:class:`SharedLinear`, so that what an ordinal model learns of its thresholds is trained and saved with the network.
"""

import math
from itertools import accumulate, pairwise

import torch
from torch import nn
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.core.registry import pick
from radstack.nets.losses import Objective, above_zero
from radstack.recipes.losses_classes import Classes, Ordinal
from radstack.scoring.metrics_classes import group_sizes

LEAST_STEP = 1e-3
"""Thresholds of the cumulative link stay this far apart in log odds, so that no class has probability 0."""


class SharedLinear(nn.Linear):
    """Linear layer with one weight vector a group of outputs, and one bias an output (the last layer of CORAL, Cao 2020)."""

    def __init__(self, inputs: int, shares: tuple[int, ...]) -> None:
        """Take ``inputs`` features to ``sum(shares)`` outputs; ``shares`` counts the outputs of each group."""
        super().__init__(inputs, len(shares), bias=False)
        self.shares, self.out_features = shares, sum(shares)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs [batch, sum(shares)] of ``features`` [batch, inputs]; those of a group differ by their biases alone."""
        scores = functional.linear(features, self.weight)
        spread = [scores[:, [group]].expand(-1, count) for group, count in enumerate(self.shares)]
        return torch.cat(spread, 1) + self.bias


class CrossEntropy(Objective):
    """Softmax cross-entropy within each group; one output a class, or one for neighbors that are merged."""

    def __init__(self, recipe: Classes, targets: tuple[str, ...]) -> None:
        """Read ``recipe``; sizes that do not fit the targets or each other, or a smoothing beyond 0..1, are a UserError."""
        super().__init__()
        sizes = group_sizes(recipe.groups, len(targets))
        self.merged = group_sizes(recipe.merged or (1,) * len(targets), len(targets))
        self.groups, self.outputs = _outputs(sizes, self.merged), len(self.merged)
        if not 0 <= recipe.label_smoothing < 1:
            raise UserError(f"loss.label_smoothing is {recipe.label_smoothing}; give a number from 0 to below 1, e.g. 0.1")
        self.smoothing = recipe.label_smoothing

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss, a mean over groups, of logits [batch, outputs] against labels [batch, targets] in 0..1."""
        _check_shapes(out, labels, self.outputs, sum(self.merged))
        merged = torch.stack([part.sum(1) for part in labels.float().split(self.merged, 1)], 1)
        losses = [functional.cross_entropy(logits, y, reduction="none", label_smoothing=self.smoothing)
                  for logits, y in zip(out.float().split(self.groups, 1), merged.split(self.groups, 1))]
        return _mean(losses)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Logits [batch, outputs] to probabilities, float32 [batch, targets]; merged classes get equal shares."""
        shares = torch.cat([logits.softmax(1) for logits in out.float().split(self.groups, 1)], 1)
        return torch.cat([shares[:, [place]].expand(-1, count) / count for place, count in enumerate(self.merged)], 1)


class Thresholds(Objective):
    """What both ordinal links share: K - 1 outputs a group, and thresholds that start ``spacing`` apart."""

    def __init__(self, recipe: Ordinal, targets: tuple[str, ...]) -> None:
        """Read ``recipe``; sizes that do not fit, a group of one class, or a spacing of 0 or less are a UserError."""
        super().__init__()
        self.groups = group_sizes(recipe.groups, len(targets))
        if min(self.groups) < 2:
            raise UserError(f"loss.groups {self.groups}: a group of one class has no order; leave it out of the targets")
        self.spacing, self.shares = above_zero("spacing", recipe.spacing), tuple(size - 1 for size in self.groups)
        self.outputs = sum(self.shares)

    def forward(self, out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and rows' loss, a mean over groups, of outputs [batch, outputs] against labels [batch, targets] in 0..1."""
        _check_shapes(out, labels, self.outputs, sum(self.groups))
        parts = labels.float().split(self.groups, 1)
        return _mean([self.loss(z, y) for z, y in zip(out.float().split(self.shares, 1), parts, strict=True)])

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


class Coral(Thresholds):
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


class CumulativeLink(Thresholds):
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


LINKS: dict[str, type[Thresholds]] = {"coral": Coral, "cumulative": CumulativeLink}


def ordinal(recipe: Ordinal, targets: tuple[str, ...]) -> Objective:
    """The objective of ``recipe.link``; an unknown one is a UserError with the nearest known."""
    return pick(LINKS, recipe.link, "ordinal link")(recipe, targets)


def _outputs(sizes: tuple[int, ...], merged: tuple[int, ...]) -> list[int]:
    """Outputs of each group of ``sizes`` classes when output i stands for ``merged[i]`` classes."""
    ends = list(accumulate(merged))
    edges = list(accumulate(sizes))
    if not set(edges) <= set(ends):
        raise UserError(f"loss.merged {merged} reaches across the groups {sizes}; let its sums end where theirs do")
    places = [0, *(ends.index(edge) + 1 for edge in edges)]
    return [after - before for before, after in pairwise(places)]


def _mean(losses: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.stack(losses).mean(0)
    return rows.mean(), rows.detach()


def _check_shapes(out: torch.Tensor, labels: torch.Tensor, outputs: int, targets: int) -> None:
    if out.shape != (len(labels), outputs) or labels.shape[1:] != (targets,):
        raise UserError(f"the network gives {tuple(out.shape)} and the labels are {tuple(labels.shape)}; {outputs} outputs "
                        f"a picture and {targets} targets were expected: classes are learned by no network of maps")
