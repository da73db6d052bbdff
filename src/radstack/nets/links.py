"""Ordinal links: K - 1 outputs of a group of K ordered classes as log odds against thresholds, and as probabilities.

All take the outputs ``out`` [batch, classes - 1] and ``spacing``, how far apart the thresholds start in log odds. Where the
outputs share their weights and keep biases of their own, the biases move the thresholds.
"""

import math
from collections.abc import Callable

import torch
from torch.nn import functional

LEAST_STEP = 1e-3
"""Thresholds of the cumulative link stay this far apart in log odds, so that no class has probability 0."""
Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(out, labels [batch, classes], spacing) -> loss [batch]"""
Share = Callable[[torch.Tensor, float], torch.Tensor]
"""(out, spacing) -> probabilities [batch, classes]"""


def start(out: torch.Tensor, spacing: float) -> torch.Tensor:
    """Log odds of lying above each threshold before any is learned, falling and centered on 0, [classes - 1]."""
    count = out.shape[1]
    return spacing * ((count - 1) / 2 - torch.arange(count, device=out.device))


def coral_loss(out: torch.Tensor, labels: torch.Tensor, spacing: float) -> torch.Tensor:
    """Binary cross-entropy of lying above each threshold, summed (Cao 2020, doi:10.1016/j.patrec.2020.11.008)."""
    above = labels.flip(1).cumsum(1).flip(1)[:, 1:]
    logits = out + start(out, spacing)
    return functional.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(1)


def coral_share(out: torch.Tensor, spacing: float) -> torch.Tensor:
    """Differences of the probabilities of lying above each threshold.

    The paper's theorem orders the biases at the optimum; until then a threshold counts as passed no more than those below.
    """
    above = (out + start(out, spacing)).sigmoid().cummin(1).values
    return -functional.pad(functional.pad(above, (1, 0), value=1.0), (0, 1)).diff(dim=1)


def cumulative_loss(out: torch.Tensor, labels: torch.Tensor, spacing: float) -> torch.Tensor:
    """Negative log likelihood of lying between two thresholds on a logistic score (proportional odds, McCullagh 1980)."""
    return -(labels * _log_share(out, spacing)).sum(1)


def cumulative_share(out: torch.Tensor, spacing: float) -> torch.Tensor:
    """Probabilities between two thresholds; brought to sum 1, from which rounding alone keeps them."""
    return _log_share(out, spacing).softmax(1)


def _log_share(out: torch.Tensor, spacing: float) -> torch.Tensor:
    """Log probabilities [batch, classes] of the cumulative link.

    The first output is the log odds of lying above the first threshold. The difference of each other output to it, which is
    one of biases where weights are shared, sets by softplus how far that threshold lies beyond the one before.
    """
    # s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)) for the sigmoid s keeps its digits where both are near 0 or 1.
    begin = spacing + math.log(-math.expm1(-spacing))  # of which the softplus is the spacing
    steps = functional.softplus(out[:, 1:] - out[:, :1] + begin) + LEAST_STEP
    first = out[:, :1] + start(out, spacing)[0]
    above = torch.cat([first, first - steps.cumsum(1)], 1)
    between = functional.logsigmoid(above[:, :-1]) + functional.logsigmoid(-above[:, 1:]) + (-torch.expm1(-steps)).log()
    return torch.cat([functional.logsigmoid(-first), between, functional.logsigmoid(above[:, -1:])], 1)


LINKS: dict[str, tuple[Loss, Share]] = {
    "coral": (coral_loss, coral_share), "cumulative": (cumulative_loss, cumulative_share),
}
