"""The tables that later stages read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, read_table
from radstack.core.folds import check_folds, fold_of
from radstack.core.paths import Paths
from radstack.running.context import Context

LOST = "quarantine-03.csv"
"""What stage 03 could no longer read of the pictures that stage 02 had decoded; there only if it is not empty."""

GIVEN = "given_folds.csv"
"""The fold table that somebody gave, as stage 01 took it; there only with ``--folds-from``."""


def quarantines(paths: Paths) -> dict[str, Path]:
    """Stage -> the table of what it set aside, of those that are there."""
    files = {"01": paths.folds / "quarantine.csv", "02": paths.cache / "quarantine.csv", "03": paths.cache / LOST}
    return {stage: file for stage, file in files.items() if file.exists()}


def read_index(context: Context, columns: Iterable[str] | None = None) -> pd.DataFrame:
    """The index of stage 01, or some of its columns."""
    return read_table(context.paths.folds / "index.parquet", context.command("01_make_folds"), columns=columns)


def read_folds(context: Context) -> pd.DataFrame:
    """The fold table of stage 01: columns group, fold."""
    return read_table(context.paths.folds / "folds.csv", context.command("01_make_folds"))


def check_folds_fit(context: Context) -> None:
    """Before any work, a UserError where the table deals another number of folds than the recipe has: rows would be missed.

    What has no fold table (pictures elsewhere) needs none.
    """
    file, count = context.paths.folds / "folds.csv", context.competition.folds.count
    if not file.exists():
        return
    dealt = int(read_folds(context)["fold"].max()) + 1
    if dealt != count:
        raise UserError(f"{file} deals {dealt} folds, the recipe has {count}; add --set folds.count={dealt} to each "
                        f"command, or deal again with: {context.command('01_make_folds')}")


def raw_files(context: Context) -> dict[str, str]:
    """Digest of the raw files that the index was made from, as a fact for artifacts that read them again."""
    manifest = manifest_of(context.paths.folds / "index.parquet")
    return {"raw files": read_json(manifest)["inputs"]["raw files"]} if manifest.exists() else {}


def read_rows(context: Context, split: str = "") -> tuple[pd.DataFrame, np.ndarray]:
    """The row table of stage 03, or its rows of ``split``, and each row's fold (-1 for test), checked for leaks."""
    rows = read_table(context.paths.cache / "rows.parquet", context.command("03_cache"))
    if split == "test":  # asks no fold table: pictures elsewhere have none
        rows = rows[rows["split"] == split].reset_index(drop=True)
        return rows, np.full(len(rows), -1)
    folds = read_folds(context)
    check_folds(folds, rows, list(context.competition.targets))
    rows = rows[rows["split"] == split].reset_index(drop=True) if split else rows
    return rows, fold_of(rows, folds).to_numpy()
