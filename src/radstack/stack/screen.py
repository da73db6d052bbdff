"""Which members a fitted stack takes, and how their log odds shrink; :mod:`radstack.stack.guard` finds it."""

from dataclasses import dataclass

import numpy as np

from radstack.scoring.metrics import sigmoid
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class Screen:
    """What a fit takes of its members."""

    kept: np.ndarray
    """bool [members]"""
    lines: np.ndarray
    """Scale and bias of the log odds, float64 [members, targets, 2]; NaN where predictions stay as they are."""

    def __call__(self, rows: Rows) -> Rows:
        """The rows with the members that are kept, their log odds moved by the lines."""
        predicted = rows.predicted
        moved = np.argwhere(np.isfinite(self.lines[..., 0]) & self.kept[:, None])
        if len(moved):
            predicted = predicted.copy()
        for member, target in moved:
            scale, bias = self.lines[member, target]
            z = rows.task.metric.link(predicted[member, :, target])
            predicted[member, :, target] = sigmoid(scale * z + bias)
        return rows if predicted is rows.predicted and self.kept.all() else Rows(
            rows.task, rows.table, rows.fold, predicted[self.kept])
