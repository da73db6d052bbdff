"""The best equal-weight mean of members under a budget of seconds, and its score with the choice inside the nesting."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from radstack.stack.rows import Rows


class Costs(NamedTuple):
    """What members cost: each needs the work of some models, and shared work is paid once."""

    seconds: Mapping[str, float]
    """Of each model's own work."""
    needs: Mapping[str, frozenset[str]]
    """Member -> all models whose work it needs, itself among them."""

    def of(self, names: Sequence[str]) -> float:
        """Seconds of a set of members."""
        return sum(self.seconds[one] for one in frozenset().union(*(self.needs[name] for name in names)))


def choose(rows: Rows, names: Sequence[str], costs: Costs, budget: float) -> list[str]:
    """Greedy choice on ``rows``: whichever member lowers the loss of the mean most, as long as the budget holds.

    Empty where no member is affordable.
    """
    chosen: list[str] = []
    total, best = np.zeros_like(rows.linked[0]), np.inf
    while True:
        tried = {}
        for place, name in enumerate(names):
            if name not in chosen and costs.of([*chosen, name]) <= budget:
                tried[name] = _loss(rows, (total + rows.linked[place]) / (len(chosen) + 1))
        winner = min(tried, key=lambda name: tried[name], default="")
        if not winner or tried[winner] >= best:
            return chosen
        chosen.append(winner)
        total, best = total + rows.linked[list(names).index(winner)], tried[winner]


def nested_losses(rows: Rows, names: Sequence[str], costs: Costs, budget: float) -> np.ndarray | None:
    """Loss of each row, float64 [rows], by the set chosen without its fold; None where some fold affords no member."""
    losses = np.empty(len(rows))
    for fold in np.unique(rows.fold):
        held = rows.fold == fold
        chosen = choose(rows.take(~held), names, costs, budget)
        if not chosen:
            return None
        losses[held] = _losses(rows.take(held), [list(names).index(name) for name in chosen])
    return losses


def _losses(rows: Rows, places: list[int]) -> np.ndarray:
    mean = rows.linked[places].mean(axis=0)
    return rows.task.metric.row_losses(rows.truth, rows.task.metric.unlink(mean))


def _loss(rows: Rows, linked: np.ndarray) -> float:
    return float(rows.task.metric.row_losses(rows.truth, rows.task.metric.unlink(linked)).mean())
