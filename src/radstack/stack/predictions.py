"""Prediction tables: one probability or number a target, keyed by id, with the fold that scored the row."""

from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.artifact import check_unedited, manifest_of
from radstack.core.errors import LeakError, Missing
from radstack.core.files import read_json, write_table
from radstack.stack.rows import Member


def prediction_table(ids: np.ndarray, fold: int, predicted: np.ndarray, targets: tuple[str, ...]) -> pd.DataFrame:
    """Columns ``id``, ``fold``, then one float32 column a target from ``predicted`` [rows, targets]."""
    table = pd.DataFrame(predicted.astype(np.float32), columns=list(targets))
    table.insert(0, "id", ids)
    table.insert(1, "fold", np.int8(fold))
    return table


def fold_files(folder: Path, fold: int) -> tuple[Path, Path]:
    """Files of one fold: rows scored out of fold, test rows."""
    return folder / f"fold{fold}.parquet", folder / f"fold{fold}_test.parquet"


def write_fold(folder: Path, fold: int, scored: pd.DataFrame, test: pd.DataFrame) -> None:
    """Write both tables of one fold."""
    for path, table in zip(fold_files(folder, fold), (scored, test)):
        write_table(path, table)


def read_member(folder: Path, folds: list[int]) -> Member:
    """Read the tables of ``folds``: those named, never a glob, and each as its manifest says.

    Raises:
        UserError: a table is missing or edited, or the folds come from different fold tables.
    """
    scored, test, hashes = [], [], set()
    for fold in folds:
        files = fold_files(folder, fold)
        for path in files:
            if not manifest_of(path).exists() or not path.exists():
                raise Missing(path)
            check_unedited(path, read_json(manifest_of(path))["files"][path.name])
        hashes.add(read_json(manifest_of(files[0]))["fold_hash"])
        scored.append(pd.read_parquet(files[0]))
        test.append(pd.read_parquet(files[1]).assign(fold=fold))
    if len(hashes) != 1:
        raise LeakError(f"{folder}: its folds were made on different fold tables; run its stage again with --force")
    return Member(pd.concat(scored, ignore_index=True), pd.concat(test, ignore_index=True), hashes.pop())
