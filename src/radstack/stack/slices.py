"""One number a volume from the numbers of its slices: means, weights, inner slices, trees (Pietz 2018).

Every volume brings the same number of slices. Each of its slices gets the volume's one answer, so that a mean over rows is
the mean over volumes. Inside, ``values`` are [members, volumes, slices, targets].
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np

from radstack.core.errors import UserError, reason
from radstack.scoring.task import NUMBERS
from radstack.stack.features import series_counts
from radstack.stack.forests import CHECKED, Trees, as_arrays
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class SeriesMean(Method):
    """Mean over slices, and over members before; nothing is learned. Base of the other methods here."""

    learns: ClassVar[bool] = False
    handles: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def fit(self, rows: Rows) -> Fitted:
        """The state is the number of slices, and what :meth:`learn` finds."""
        values = by_volume(rows)
        learned, notes = self.learn(rows, values)
        return Fitted(self, (values.shape[2], learned), notes)

    def predict(self, rows: Rows, state: tuple[int, Any]) -> np.ndarray:
        """Each slice gets its volume's :meth:`answer`; a UserError unless volumes have as many slices as in the fit."""
        values, (slices, learned) = by_volume(rows), state
        if not len(rows):
            return rows.blend
        if values.shape[2] != slices:
            raise UserError(f"volume {rows.table['series'].iloc[0]} has {values.shape[2]} slices, those of the fit have "
                            f"{slices}; predict as many of each volume")
        return np.repeat(self.answer(values, learned), slices, axis=0)

    def plain(self, rows: Rows) -> np.ndarray:
        """The mean over members and slices."""
        return SeriesMean().predict(rows, (by_volume(rows).shape[2], None))

    def learn(self, rows: Rows, values: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """What the answers depend on, and notes of it."""
        return None, {}

    def answer(self, values: np.ndarray, learned: Any) -> np.ndarray:
        """One number a volume and target, [volumes, targets], from ``values``."""
        return values.mean(axis=(0, 2))


@dataclass(frozen=True)
class SeriesWeights(SeriesMean):
    """Mean over slices with weights inverse to the mean absolute error of each slice number."""

    learns: ClassVar[bool] = True

    def learn(self, rows: Rows, values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Weights [slices, targets] by each slice number's error; ``notes``: target -> weights of sum 1, front to back."""
        errors = np.abs(values.mean(axis=0) - volume_truth(rows)[:, None]).mean(axis=0, dtype=np.float64)
        weights = 1 / np.maximum(errors, np.finfo(np.float32).tiny)  # a slice number without error takes all
        weights /= weights.sum(axis=0)
        return weights, {name: np.round(column, 4).tolist() for name, column in zip(rows.task.targets, weights.T)}

    def answer(self, values: np.ndarray, learned: np.ndarray) -> np.ndarray:
        """The weighted mean."""
        return np.einsum("vst,st->vt", values.mean(axis=0), learned)


@dataclass(frozen=True)
class SeriesInner(SeriesMean):
    """Mean over the inner slices; the training rows say how many outer ones are dropped on either side."""

    learns: ClassVar[bool] = True
    keep: tuple[int, int] = (3, 15)
    """First slice that is always kept and first one after them, counted from 0; the default is that of Pietz 2018, of 18."""
    search: bool = True
    """Choose the best of all ranges that hold ``keep``; else take ``keep`` itself."""

    def learn(self, rows: Rows, values: np.ndarray) -> tuple[tuple[int, int], dict[str, Any]]:
        """Choose by the metric on the training rows; ``notes``: first slice, first one after, slices, score before, after.

        A UserError where ``keep`` is empty or does not lie in the volumes.
        """
        truth, score, slices = volume_truth(rows), rows.task.metric.score, values.shape[2]
        ranges, merged = self._ranges(slices), values.mean(axis=0, keepdims=True)
        scores = [score(truth, self.answer(merged, one)) for one in ranges]
        start, stop = ranges[best := int(np.argmin(scores))]
        whole = score(truth, self.answer(merged, (0, slices)))
        return (start, stop), {"start": start, "stop": stop, "slices": slices, "before": whole, "after": scores[best]}

    def answer(self, values: np.ndarray, learned: tuple[int, int]) -> np.ndarray:
        """The mean from the first slice to before the second."""
        return values.mean(axis=0)[:, slice(*learned)].mean(axis=1)

    def _ranges(self, slices: int) -> list[tuple[int, int]]:
        """The ranges to choose from, the widest first, which wins a draw."""
        start, stop = self.keep
        if not 0 <= start < stop <= slices:
            raise UserError(f"keep={self.keep} are no slices of volumes that have {slices}; set keep=(first, last + 1) in "
                            "the stacker's args")
        return list(product(range(start + 1), range(slices, stop - 1, -1))) if self.search else [(start, stop)]


@dataclass(frozen=True)
class SeriesForest(SeriesMean):
    """Random forest (Breiman 2001) on the slices' numbers of all members, one row a volume, as in the text of Pietz 2018."""

    learns: ClassVar[bool] = True
    model: ClassVar[str] = "RandomForestRegressor"
    """Of scikit-learn."""
    trees: int = 300
    depth: int | None = None
    """Most splits from root to leaf; None for as many as ``leaf_volumes`` allows."""
    leaf_volumes: int = 1
    """Fewest volumes in a leaf."""
    criterion: str = "squared_error"
    """As scikit-learn names it; ``absolute_error`` takes a square of the volumes' time."""
    seed: int = 0

    def learn(self, rows: Rows, values: np.ndarray) -> tuple[list[Trees], dict[str, Any]]:
        """Grow the trees of each target; ``notes``: target -> importance of each slice by member, sum 1.

        A UserError where scikit-learn refuses a setting.
        """
        truth = volume_truth(rows)
        models = [self._grow(_columns(values, place), truth[:, place]) for place in range(truth.shape[1])]
        trees = [as_arrays(model, _columns(values, place)[:CHECKED]) for place, model in enumerate(models)]
        return trees, {name: np.round(model.feature_importances_.reshape(len(values), -1), 4).tolist()
                        for name, model in zip(rows.task.targets, models)}

    def answer(self, values: np.ndarray, learned: list[Trees]) -> np.ndarray:
        """What each target's trees say."""
        return np.stack([model(_columns(values, place)) for place, model in enumerate(learned)], axis=1)

    def _grow(self, x: np.ndarray, y: np.ndarray) -> Any:
        from sklearn import ensemble  # slow to import

        # One thread: a hundred volumes are learned before a second one has started.
        trees = getattr(ensemble, self.model)(self.trees, max_depth=self.depth, min_samples_leaf=self.leaf_volumes,
                                              criterion=self.criterion, random_state=self.seed)
        try:
            return trees.fit(x, y)
        except ValueError as error:
            raise UserError(f"the trees cannot be grown ({reason(error)}); correct the stacker's args") from error


@dataclass(frozen=True)
class SeriesExtraTrees(SeriesForest):
    """Extremely randomized trees (Geurts 2006) likewise; their number and depth are those of the code of Pietz 2018."""

    model: ClassVar[str] = "ExtraTreesRegressor"
    trees: int = 10
    depth: int | None = 3


def by_volume(rows: Rows) -> np.ndarray:
    """The members' numbers, float32 [members, volumes, slices, targets], front to back.

    A UserError where volumes have different numbers of slices.
    """
    counts = series_counts(rows.series)
    if len(counts) and counts.min() < counts.max():
        few, many = (rows.table["series"].iloc[int(place)] for place in (counts.argmin(), counts.argmax()))
        raise UserError(f"volume {few} has {counts.min()} slices and {many} has {counts.max()}: combining slices needs the "
                        "same number of every volume; predict as many of each")
    slices = int(counts[0]) if len(counts) else 1
    return rows.predicted.reshape(len(rows.predicted), -1, slices, rows.predicted.shape[2])


def volume_truth(rows: Rows) -> np.ndarray:
    """Labels of the volumes, float32 [volumes, targets], in the order of :func:`by_volume`; one a volume, or a UserError."""
    first = np.flatnonzero(np.diff(rows.series, prepend=-1))
    unlike = (rows.truth != rows.truth[first][rows.series]).any(axis=1)
    if unlike.any():
        raise UserError(f"slices of volume {rows.table['series'].iloc[int(unlike.argmax())]} have different labels, and get "
                        "one answer here; use a method that answers slice by slice, e.g. linear")
    return rows.truth[first]


def _columns(values: np.ndarray, target: int) -> np.ndarray:
    """What the trees of ``target`` see, [volumes, members * slices]."""
    return values[..., target].transpose(1, 0, 2).reshape(values.shape[1], -1)
