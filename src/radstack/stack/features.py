"""What a tree sees of one class: every member's opinion of the slice, its neighbors in the series, its place in it.

The features of the 11th place of RSNA 2019 (its third place used twenty neighbors). All are array operations over rows
that lie series by series in slice order; one class at a time, float32, so that 750k rows fit in memory.
"""

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.scoring.metrics import sigmoid
from radstack.stack.rows import Rows


def neighbor(values: np.ndarray, series: np.ndarray, offset: int) -> np.ndarray:
    """``values`` ([rows] or [rows, targets]) of the slice ``offset`` places further on, NaN beyond the series' ends.

    NaN, not the repeated edge: that a slice is the last one is itself worth knowing, and trees split on it.
    """
    out = np.full_like(values, np.nan)
    if offset == 0:
        return values.copy()
    near, far = (slice(None, -offset), slice(offset, None)) if offset > 0 else (slice(-offset, None), slice(None, offset))
    inside = series[near] == series[far]
    out[near][inside] = values[far][inside]
    return out


def series_counts(series: np.ndarray) -> np.ndarray:
    """Number of slices of each row's series, int [rows]."""
    return np.bincount(series)[series] if len(series) else series


def relative_position(series: np.ndarray) -> np.ndarray:
    """Rank in the series over its length less one, float32 [rows] in 0..1; 0.5 in a series of one."""
    count = series_counts(series)
    start = np.flatnonzero(np.diff(series, prepend=-1))
    rank = np.arange(len(series)) - np.repeat(start, count[start])
    return np.where(count > 1, rank / np.maximum(count - 1, 1), 0.5).astype(np.float32)


def series_mean(values: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Mean of ``values`` ([rows]) over each row's series, float32 [rows]."""
    sums = np.bincount(series, weights=values)
    return (sums[series] / series_counts(series)).astype(np.float32)


def class_features(rows: Rows, target: int, reach: int, columns: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Features of the class in column ``target``, float32 [rows, features] in Fortran order, and their names.

    They are those of :func:`shared_features`, then those of :func:`own_features`.
    """
    return _matrix(rows, _shared(rows, columns) | _own(rows, target, reach))


def shared_features(rows: Rows, columns: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Features that all classes see, float32 [rows, features] in Fortran order, and their names.

    They are every member's opinion of the slice, its place in the series, and further ``columns`` of the index.
    """
    return _matrix(rows, _shared(rows, columns))


def own_features(rows: Rows, target: int, reach: int) -> tuple[np.ndarray, list[str]]:
    """Features of the class in column ``target`` alone, likewise: the blend's opinion of the series and of ``reach``
    neighbors to either side.
    """
    return _matrix(rows, _own(rows, target, reach))


def _shared(rows: Rows, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    made = {f"m{member}_{name}": rows.predicted[member, :, place]
            for member in range(len(rows.predicted)) for place, name in enumerate(rows.task.targets)}
    made |= {"slices": series_counts(rows.series), "relative_position": relative_position(rows.series)}
    return made | {name: index_column(rows, name).to_numpy(np.float32) for name in columns}


def _own(rows: Rows, target: int, reach: int) -> dict[str, np.ndarray]:
    blend = sigmoid(rows.blend[:, target])
    offsets = [offset for offset in range(-reach, reach + 1) if offset]
    return {"blend_series_mean": series_mean(blend, rows.series)} | {
        f"blend{offset:+d}": neighbor(blend, rows.series, offset) for offset in offsets}


def _matrix(rows: Rows, made: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    matrix = np.empty((len(rows), len(made)), np.float32, order="F")
    for place, values in enumerate(made.values()):
        matrix[:, place] = values
    return matrix, list(made)


def index_column(rows: Rows, name: str) -> pd.Series:
    """Column ``name`` of the index, one value a row; UserError with those there are when it is missing."""
    if name not in rows.table:
        raise UserError(f"the index has no column '{name}'; it has {', '.join(rows.table.columns)}")
    return rows.table[name]
