"""Groups of pictures where no column names the patient: near duplicates stay together."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.images.dicom import Unreadable
from radstack.images.duplicates import duplicates
from radstack.images.own.pictures import SOFT, prepare
from radstack.images.shards import shard_path, write_shard

SIDE = 96
"""Pixels of a side of the pictures that are compared."""


def clusters(folder: Path, paths: list[str], workers: int, window: tuple[float, float] = SOFT) -> np.ndarray:
    """Number of the cluster of each file below ``folder``, int [files]: those that are (nearly) the same picture share
    one.
    """
    rows = pd.DataFrame({"id": [str(place) for place in range(len(paths))], "path": paths, "plane": -1, "shard": 0})
    rows = rows.assign(group=rows["id"], slot=np.arange(len(rows)))
    with tempfile.TemporaryDirectory() as place:
        shard = shard_path(Path(place), 0)
        shard.parent.mkdir(parents=True, exist_ok=True)
        write_shard(shard, [partial(_small, folder, path, window) for path in paths], (SIDE, SIDE), "uint8")
        pairs, _ = duplicates(Path(place), rows, np.arange(len(rows)), workers=workers)
    return joined(len(rows), pairs[["id", "other_id"]].astype(int).to_numpy() if len(pairs) else np.zeros((0, 2), int))


def _small(folder: Path, path: str, window: tuple[float, float]) -> np.ndarray:
    from radstack.images.own.pictures import facts_of

    count = int(facts_of(folder / path)["slices"])
    try:
        return prepare(folder, pd.DataFrame({"path": [path], "plane": [count // 2 if count else -1]}), SIDE, window)[0][0]
    except Unreadable:
        return np.zeros((SIDE, SIDE), np.uint8)


def linked(*columns: pd.Series) -> np.ndarray:
    """Number of the set of each row, int [rows]: rows that share a value of any column, directly or through others, are in
    one.
    """
    rows = pd.Series(np.arange(len(columns[0])))
    firsts = [rows.groupby(column.to_numpy()).transform("first") for column in columns]
    return joined(len(rows), np.concatenate([np.stack([rows, first], axis=1) for first in firsts]))


def joined(count: int, pairs: np.ndarray) -> np.ndarray:
    """Number of the set of each of ``count`` things, int [count]; things that ``pairs`` connect are in one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(count, count))
    return connected_components(graph, directed=False)[1]
