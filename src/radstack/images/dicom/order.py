"""Slices in their order along the slice normal. Numbers in the header (InstanceNumber, file names) are not trusted."""

import numpy as np
import pandas as pd

POSITION = ["position_x", "position_y", "position_z"]
"""ImagePositionPatient, mm; NaN where absent."""
ORIENTATION = ["row_x", "row_y", "row_z", "column_x", "column_y", "column_z"]
"""ImageOrientationPatient; NaN where absent."""
AXIAL = np.array([0.0, 0.0, 1.0])
"""Normal of an axial slice in patient coordinates: toward the head."""


def order(table: pd.DataFrame) -> pd.DataFrame:
    """Rank the slices of each series along its normal.

    The normal of a slice is cross(row, column) of ImageOrientationPatient (PS3.3 C.7.6.2.1.1); a series has one
    normal, the mean of its slices', so that ``z = dot(position, normal)`` is comparable within it. Under gantry tilt
    this is the distance between parallel slices. Equal z are ranked by ``id``.

    ``table`` has ``id``, ``series``, ``POSITION`` and ``ORIENTATION``, one row a slice. It comes back sorted by series and
    position with ``position`` (int32 rank 0..n-1), ``z`` (float64 mm, NaN without a position) and ``order_flag``
    (comma-joined: ``no-position`` is ranked last, ``no-orientation`` is taken as its series or as axial,
    ``mixed-orientation``, ``repeated-position``).
    """
    normal = _normals(table)
    table = table.assign(**dict(zip("uvw", normal.T)))
    mean = table.groupby("series")[["u", "v", "w"]].transform("mean").to_numpy()
    mean = np.where(np.isfinite(mean), mean, AXIAL)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-6)
    table["z"] = (table[POSITION].to_numpy(float) * mean).sum(axis=1)
    table["order_flag"] = _flags(table, normal, mean)
    table = table.drop(columns=list("uvw")).sort_values(["series", "z", "id"], ignore_index=True)
    return table.assign(position=table.groupby("series").cumcount().astype("int32"))


def _normals(table: pd.DataFrame) -> np.ndarray:
    """Unit normals [n, 3] float64; NaN where the orientation is absent or its vectors are parallel or null."""
    axes = table[ORIENTATION].to_numpy(float)
    normal = np.cross(axes[:, :3], axes[:, 3:])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.divide(normal, length, out=np.full_like(normal, np.nan), where=length > 0.5)


def _flags(table: pd.DataFrame, normal: np.ndarray, mean: np.ndarray) -> pd.Series:
    cosine = (normal * mean).sum(axis=1)
    found = {
        "no-position": table["z"].isna().to_numpy(),
        "no-orientation": np.isnan(cosine),
        "mixed-orientation": cosine < np.cos(np.radians(1.0)),
        "repeated-position": (table["z"].notna() & table.duplicated(["series", "z"], keep=False)).to_numpy(),
    }
    names = np.array([f",{name}" for name in found], object)
    return pd.Series(np.column_stack(list(found.values())) @ names, index=table.index, dtype="str").str[1:]
