"""The order of a series' slices, and which of them do not fit the others: each is flagged by itself, and kept."""

import numpy as np
import pandas as pd

POSITION = ["position_x", "position_y", "position_z"]  # ImagePositionPatient, mm; NaN where absent
ORIENTATION = ["row_x", "row_y", "row_z", "column_x", "column_y", "column_z"]
"""ImageOrientationPatient; NaN where absent."""
SPACING = ["spacing_row", "spacing_column"]  # PixelSpacing, mm; NaN where absent
AXIAL = np.array([0.0, 0.0, 1.0])  # Normal of an axial slice in patient coordinates: toward the head
ALIKE = float(np.cos(np.radians(1.0)))  # Directions within a degree are one
STACKED = float(np.cos(np.radians(45.0)))  # Of normals farther apart, the slices are not of one stack: one is a scout
TOUCHING = 0.01  # mm: slices nearer than this stand at one position
SHIFTED = 1.0  # mm in plane between the middle of a slice and the line through those of its series
STRETCHED = 0.01  # Share by which a PixelSpacing may differ from that of the series
GAP = 1.5  # Steps of the neighborhood above which a slice is missing: two make one


def order(table: pd.DataFrame) -> pd.DataFrame:
    """Rank the slices of each series along its normal.

    The normal of a slice is cross(row, column) of ImageOrientationPatient (PS3.3 C.7.6.2.1.1); a series has one
    normal, the mean of those that most of its slices share, so that ``z = dot(position, normal)`` is comparable within
    it. Under gantry tilt this is the distance between parallel slices. Equal z are ranked by ``id``.

    ``table`` has ``id``, ``series``, ``POSITION`` and ``ORIENTATION``, one row a slice; with ``rows``, ``columns`` and
    ``SPACING`` it is told by the middle of a slice, else by its first pixel, whether it is shifted. It comes back sorted
    by series and position with ``position`` (int32 rank 0..n-1), ``z`` (float64 mm) and ``order_flag``, comma-joined:

    - ``no-position``: ranked last, z is NaN; ``no-orientation``: taken as its series, or as axial
    - ``mixed-orientation``: more than a degree from its series; beyond 45 degrees, as a scout, ranked last, z is NaN
    - ``reversed-normal``: seen from the other side, so that it is mirrored; ``turned``: turned in its plane
    - ``shifted`` in its plane against the line of the others; ``other-spacing``: of its pixels
    - ``repeated-position``: another slice stands there; ``missing-slice``: beside a gap
    """
    normal, series = _normals(table), pd.factorize(table["series"])[0]
    axis = _common(normal, series)
    axis = np.where(np.isfinite(axis), axis, AXIAL)
    cosine = (normal * axis).sum(axis=1)
    stacked = ~(np.abs(cosine) < STACKED)  # also without an orientation
    z = np.where(stacked, (table[POSITION].to_numpy(float) * axis).sum(axis=1), np.nan)
    table = table.assign(z=z)
    upright = np.where((cosine >= ALIKE)[:, None], _unit(table[ORIENTATION[:3]].to_numpy(float)), np.nan)
    row = _common(upright, series)
    repeated, beside_gap = _steps(table)
    table["order_flag"] = joined({
        "no-position": np.isnan(table[POSITION].to_numpy(float)).any(axis=1),
        "no-orientation": np.isnan(cosine),
        "mixed-orientation": np.abs(cosine) < ALIKE,
        "reversed-normal": cosine <= -ALIKE,
        "turned": (upright * row).sum(axis=1) < ALIKE,
        "shifted": _shifted(table, series, axis, row),
        "other-spacing": _stretched(table),
        "repeated-position": repeated,
        "missing-slice": beside_gap,
    }, table.index)
    table = table.sort_values(["series", "z", "id"], ignore_index=True)
    return table.assign(position=table.groupby("series").cumcount().astype("int32"))


def joined(found: dict[str, np.ndarray], index: pd.Index) -> pd.Series:
    """For each row the names of what was ``found`` (name -> bool [rows]), comma-joined, "" for nothing."""
    names = np.array([f",{name}" for name in found], object)
    return pd.Series(np.column_stack(list(found.values())) @ names, index=index, dtype="str").str[1:]


def _normals(table: pd.DataFrame) -> np.ndarray:
    """Unit normals [n, 3] float64; NaN where the orientation is absent or its vectors are parallel or null."""
    axes = table[ORIENTATION].to_numpy(float)
    return _unit(np.cross(axes[:, :3], axes[:, 3:]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, 3] of length one; NaN where they are hardly longer than nothing."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.full_like(vectors, np.nan), where=length > 0.5)


def _common(vectors: np.ndarray, series: np.ndarray) -> np.ndarray:
    """For each row the direction that most of its ``series`` share, unit [n, 3]; NaN where no row of it has any.

    Opposite vectors count as one direction, whose sense is that of the greater part: a mean of halves would be nothing.
    A vector apart, as of a scout, has no weight.
    """
    known = np.isfinite(vectors).all(axis=1)
    largest = np.abs(np.where(known[:, None], vectors, 0)).argmax(axis=1)
    one_sense = vectors * np.sign(np.take_along_axis(vectors, largest[:, None], 1))
    near = pd.DataFrame(one_sense.round(2) + 0.0).assign(series=series)[known]
    counts = near.groupby(["series", 0, 1, 2], sort=True).cumcount(ascending=False)
    # Counted from the end, the first row of the most frequent direction has the highest number of its series.
    first = counts.groupby(near["series"]).idxmax()
    typical = one_sense[first.reindex(series).fillna(0).astype(int).to_numpy()]
    cosine = np.where(known & np.isin(series, first.index), (vectors * typical).sum(axis=1), 0.0)
    sense = np.where(np.abs(cosine) >= ALIKE, np.sign(cosine), np.nan)
    table = pd.DataFrame(vectors * sense[:, None]).assign(sense=sense)
    mean = table.groupby(series).transform("mean").to_numpy()
    mean = mean[:, :3] * np.where(mean[:, 3:] < 0, -1.0, 1.0)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _shifted(table: pd.DataFrame, series: np.ndarray, axis: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Which slices lie beside the straight line of their series' middles; a tilted gantry makes it a slanting one."""
    row = np.where(np.isfinite(row), row, [1.0, 0.0, 0.0])
    middle, found = _middles(table), np.zeros(len(table), bool)
    for across in (row, np.cross(axis, row)):
        line = pd.DataFrame({"series": series, "z": table["z"].to_numpy(), "u": (middle * across).sum(axis=1)})
        line = line.dropna().sort_values(["series", "z"])
        by = line.groupby("series")
        step, rise = by["z"].diff(), by["u"].diff()
        slope = (rise / step).where(step > TOUCHING).groupby(line["series"]).transform("median")
        rest = line["u"] - slope * line["z"]
        off = (rest - rest.groupby(line["series"]).transform("median")).abs()
        enough = by["u"].transform("size") >= 4  # of three it cannot be told which one is off
        found[line.index[enough & (off > SHIFTED)]] = True
    return found


def _middles(table: pd.DataFrame) -> np.ndarray:
    """Centers of the pictures, mm [n, 3]: a turned or mirrored slice has the same as before, but another first pixel."""
    first = table[POSITION].to_numpy(float)
    if not {"rows", "columns", *SPACING} <= set(table):
        return first
    axes, step = table[ORIENTATION].to_numpy(float), table[SPACING].to_numpy(float)
    along = axes[:, :3] * (step[:, 1] * (table["columns"].to_numpy(float) - 1) / 2)[:, None]
    down = axes[:, 3:] * (step[:, 0] * (table["rows"].to_numpy(float) - 1) / 2)[:, None]
    return first + along + down


def _stretched(table: pd.DataFrame) -> np.ndarray:
    """Which slices have another PixelSpacing than most of their series."""
    found = np.zeros(len(table), bool)
    for name in SPACING if set(SPACING) <= set(table) else ():
        usual = table["series"].map(table.groupby("series")[name].quantile(0.5, interpolation="lower"))
        found |= ((table[name] / usual - 1).abs() > STRETCHED).to_numpy()
    return found


def _steps(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which slices share their position, and which stand beside a gap; bool [n] each.

    Steps may change within a series. So a gap is a step that is longer than those on both sides; at an end, than the
    three before.
    """
    place = table.reset_index(drop=True)[["series", "z"]].dropna().sort_values(["series", "z"])
    step = place.groupby("series")["z"].diff()
    repeated, beside = np.zeros(len(table), bool), np.zeros(len(table), bool)
    touching = step < TOUCHING
    repeated[place.index[touching | touching.shift(-1, fill_value=False)]] = True
    place = place[~touching]
    place["step"] = place.groupby("series")["z"].diff()
    by = place.groupby("series")["step"]
    before = [by.shift(number) for number in (1, 2, 3)]
    after = [by.shift(-number) for number in (1, 2, 3)]
    left, right = (pd.concat(some[:2], axis=1).min(axis=1) for some in (before, after))
    alone = [pd.concat(some, axis=1).max(axis=1, skipna=False) for some in (before, after)]
    usual = np.fmax(left, right).where(left.notna() & right.notna(), alone[0].fillna(alone[1]))
    gap = place["step"] > GAP * usual
    beside[place.index[gap | gap.shift(-1, fill_value=False)]] = True
    return repeated, beside
