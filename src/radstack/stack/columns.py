"""A model that sees no pixels, and the mean over the pictures of a series: two plain neighbors of the learned stacks."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from radstack.scoring.metrics import by_group, group_sizes, sigmoid
from radstack.scoring.task import CLASSES, NUMBERS, PROBABILITIES
from radstack.stack.features import index_column, relative_position, series_counts
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class Columns(Method):
    """Linear model of columns of the index, and of a picture's place in its series, by ridge or logistic regression.

    Its member says which rows there are, and nothing else. What this reaches, a network may reach without looking.
    """

    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES, NUMBERS, CLASSES)
    guarded: ClassVar[bool] = False
    screened: ClassVar[bool] = False
    columns: tuple[str, ...] = ()
    """Of the index; a missing value counts as the mean."""
    strength: float = 1.0
    """Of the penalty, on standardized columns."""

    def fit(self, rows: Rows) -> Fitted:
        """The state: mean and deviation of each feature, weights [features + 1, targets]."""
        seen = self._features(rows)
        mean = np.nan_to_num(np.nanmean(seen, axis=0)) if len(seen) else np.zeros(seen.shape[1])
        spread = np.nan_to_num(np.nanstd(seen, axis=0))
        # What is the same everywhere says nothing.
        spread = np.where(spread > 1e-9 * np.maximum(1, abs(mean)), spread, np.inf)
        x = np.nan_to_num((seen - mean) / spread)
        weights = self._weights(x, rows)
        return Fitted(self, (mean, 1 / spread, weights), {"features": int(np.isfinite(spread).sum())})

    def predict(self, rows: Rows, state: tuple[np.ndarray, ...]) -> np.ndarray:
        """Numbers, probabilities or shares by the weights."""
        mean, scale, weights = state
        linear = np.nan_to_num((self._features(rows) - mean) * scale) @ weights[:-1] + weights[-1]
        kind = rows.task.metric.kind.predicts
        if kind == NUMBERS:
            return linear
        return sigmoid(linear) if kind == PROBABILITIES else rows.task.metric.unlink(linear)

    def _features(self, rows: Rows) -> np.ndarray:
        """Float64 [rows, features]."""
        own = [index_column(rows, name).to_numpy(float) for name in self.columns]
        place, count = relative_position(rows.series).astype(float), series_counts(rows.series).astype(float)
        return np.column_stack([*own, place, place**2, place**3, count])

    def _weights(self, x: np.ndarray, rows: Rows) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression, Ridge  # a second to import

        def logistic(y: np.ndarray, held: np.ndarray | slice = slice(None)) -> np.ndarray:
            known = np.unique(y)
            if len(known) < 2:
                return np.vstack([np.zeros((x.shape[1], 1)), [[13.0 if known[0] else -13.0]]])
            found = LogisticRegression(C=1 / self.strength, max_iter=1000).fit(x[held], y)
            return np.vstack([found.coef_.T, found.intercept_])

        kind, truth = rows.task.metric.kind.predicts, rows.truth.astype(float)
        if kind == NUMBERS:
            ridge = Ridge(alpha=self.strength).fit(x, truth)
            return np.vstack([ridge.coef_.reshape(truth.shape[1], -1).T, np.atleast_1d(ridge.intercept_)])
        if kind == PROBABILITIES:
            return np.hstack([logistic((column > 0.5).astype(int)) for column in truth.T])
        sizes = group_sizes(rows.task.metric.sizes, truth.shape[1])
        made = []
        for part in by_group(truth, sizes):
            held = np.isfinite(part).all(axis=1)
            weights = np.zeros((x.shape[1] + 1, part.shape[1]))
            made.append(_of_classes(weights, part[held].argmax(axis=1), lambda y, held=held: logistic(y, held)))
        return np.hstack(made)


def _of_classes(out: np.ndarray, y: np.ndarray, logistic: Any) -> np.ndarray:
    """Fill ``out``, zeros [features + 1, classes], with weights of classes of which one holds, and return it.

    A class that was not seen is all but impossible; where none was, all are equally likely.
    """
    known = np.unique(y)
    out[-1] = -13.0
    if len(known) < 2:
        out[-1, known] = 13.0
    elif len(known) == 2:
        out[:, known[1]], out[:, known[0]] = logistic(y)[:, 0], 0.0
    else:
        out[:, known] = logistic(y)
    return out


@dataclass(frozen=True)
class SeriesAverage(Method):
    """Every picture gets the mean of its series, over members before: one answer for all pictures of an id."""

    learns: ClassVar[bool] = False
    guarded: ClassVar[bool] = False
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES, NUMBERS, CLASSES)

    def predict(self, rows: Rows, state: None) -> np.ndarray:
        """The means, on the scale on which models are averaged."""
        count = np.bincount(rows.series) if len(rows) else np.ones(0)
        means = [np.bincount(rows.series, weights=column) / count for column in rows.blend.T]
        return rows.task.metric.unlink(np.stack(means, axis=1)[rows.series]) if len(rows) else rows.blend
