"""Prediction tables: one probability or number a target, keyed by id, with the fold that scored the row."""

from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.artifact import check_unedited, manifest_of
from radstack.core.errors import LeakError, Missing
from radstack.core.files import read_json
from radstack.core.folds import fold_name
from radstack.stack.rows import Member


def prediction_table(ids: np.ndarray, fold: int, predicted: np.ndarray, targets: tuple[str, ...]) -> pd.DataFrame:
    """Columns ``id``, ``fold``, then one float32 column a target from ``predicted`` [rows, targets]."""
    table = pd.DataFrame(predicted.astype(np.float32), columns=list(targets))
    table.insert(0, "id", ids)
    table.insert(1, "fold", np.int8(fold))
    return table


def fold_file(folder: Path, fold: int, split: str) -> Path:
    """The table of one fold: ``train``, its rows scored out of fold; ``test``, the test rows."""
    return folder / f"{fold_name(fold)}{'_test' * (split == 'test')}.parquet"


def fitted_files(folder: Path, fold: int) -> tuple[Path, Path]:
    """What a stacker learned without ``fold``: its arrays, and the numbers that name them."""
    return folder / f"fold{fold}.safetensors", folder / f"fold{fold}_state.json"


def fold_files(folder: Path, fold: int) -> tuple[Path, Path]:
    """Files of one fold: rows scored out of fold, test rows."""
    return fold_file(folder, fold, "train"), fold_file(folder, fold, "test")


def networks_file(folder: Path, fold: int) -> Path:
    """What each network of a fold says of its rows, where several are averaged: ``network`` beside the usual columns."""
    return folder / f"{fold_name(fold)}_networks.parquet"


def networks_files(folder: Path, folds: list[int]) -> list[Path]:
    """Those that belong to the predictions of ``folds`` as they are now; a recipe that had several networks leaves older."""
    return [file for fold in folds if (file := networks_file(folder, fold)).exists()
            and file.name in read_json(manifest_of(fold_file(folder, fold, "train")))["files"]]


def read_networks(folder: Path, folds: list[int]) -> dict[str, pd.DataFrame]:
    """Name of a network -> its rows out of fold, of the folds whose predictions are a mean of several; empty without any.

    A UserError where a table was edited.
    """
    if not (files := networks_files(folder, folds)):
        return {}
    whole = pd.concat([_read(file) for file in files], ignore_index=True)
    return {str(name): table.drop(columns="network").reset_index(drop=True)
            for name, table in whole.groupby("network", sort=False)}


def read_member(folder: Path, folds: list[int], tests: bool = True) -> Member:
    """Read the tables of ``folds``: those named, never a glob, each as its manifest says; without ``tests`` no test rows.

    A UserError where a table is missing or edited, or the folds come from different fold tables.
    """
    scored = [_read(fold_file(folder, fold, "train")) for fold in folds]
    told = [read_json(manifest_of(fold_file(folder, fold, "train"))) for fold in folds]
    hashes = {one["fold_hash"] for one in told}
    if len(hashes) != 1:
        raise LeakError(f"{folder}: its folds were made on different fold tables; run its stage again with --force")
    return Member(pd.concat(scored, ignore_index=True),
                  read_tests(folder, folds) if tests else scored[0].iloc[:0], hashes.pop(),
                  told[0].get("mark", ""))


def read_tests(folder: Path, folds: list[int]) -> pd.DataFrame:
    """``id``, ``fold``, targets: the test rows by the models of ``folds``. UserError where a table is missing or edited."""
    return pd.concat([_read(fold_file(folder, fold, "test")).assign(fold=fold) for fold in folds], ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    if not manifest_of(path).exists() or not path.exists():
        raise Missing(path)
    check_unedited(path, read_json(manifest_of(path))["files"][path.name])
    return pd.read_parquet(path)
