"""What stage 02 does for every kind of localizer: decode each picture once, and set aside what cannot be decoded."""

import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.files import read_table, write_table
from radstack.core.folds import fold_of
from radstack.core.parallel import mapped_rows
from radstack.images.dicom import Unreadable
from radstack.running.context import Context
from radstack.running.tables import raw_files, read_folds, read_index

CHUNK = 500
"""Pictures in one piece of work, some seconds."""
Read = Callable[[Path], np.ndarray]
Look = Callable[[np.ndarray], dict[str, Any]]


def set_aside(context: Context, version: int, file: Path, facts: Callable[[Path], pd.DataFrame], recipe: Any = None,
              more: tuple[Path, ...] = (), then: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> None:
    """Make ``file``, a table of the pictures that can be decoded, and ``quarantine.csv`` of the others.

    Args:
        context: of the run.
        version: raised by hand whenever what is written changes.
        file: parquet.
        facts: called with a folder for finished parts; a row an index row: ``crc`` (CRC-32 of the pixels), ``reason`` and
            ``detail`` ("" where the picture can be decoded), and whatever else the table shall hold.
        recipe: decides, with the index and the raw files, what is made.
        more: files that ``facts`` writes.
        then: index rows and facts of readable pictures -> the table, if that is not they.
    """
    paths, quarantine = context.paths, context.paths.cache / "quarantine.csv"
    artifact = Artifact("02_localize", version, (file, quarantine, *more), recipe or {}, (paths.folds / "index.parquet",),
                        raw_files(context))

    def build() -> dict[str, Any]:
        parts = paths.cache / f"parts-{artifact.key}"
        rows = read_index(context).join(facts(parts))
        bad = rows["reason"] != ""
        table = rows[~bad].drop(columns=["reason", "detail"]).reset_index(drop=True)
        table = then(table) if then else table
        write_table(file, table)
        write_table(quarantine, rows.loc[bad, ["id", "split", "path", "reason", "detail"]])
        shutil.rmtree(parts, ignore_errors=True)
        print(f"  {len(table):,} pictures decoded, {bad.sum():,} cannot be ({quarantine})")
        return {"rows": len(table), "quarantined": int(bad.sum())}

    context.make(artifact, build)


def decode_all(context: Context, read: Read, parts: Path, look: Look | None = None) -> pd.DataFrame:
    """Facts of all index rows for :func:`set_aside`, with what ``look`` says of the pixels that ``read`` gives."""
    paths = read_index(context)["path"].tolist()
    return mapped_rows(partial(decode, context.paths.input, read, look), paths, parts, context.options.workers, "decode",
                       CHUNK)


def decode(folder: Path, read: Read, look: Look | None, paths: list[str]) -> pd.DataFrame:
    """Facts of the files ``paths`` below ``folder``, see :func:`decode_all`."""
    cv2.setNumThreads(1)  # the files are shared out to processes
    return pd.DataFrame([_decode(folder / path, read, look) for path in paths])


def _decode(path: Path, read: Read, look: Look | None) -> dict[str, Any]:
    try:
        pixels = read(path)
        return {"crc": zlib.crc32(pixels.tobytes()), "reason": "", "detail": "", **(look(pixels) if look else {})}
    except Unreadable as error:
        return {"crc": 0, "reason": error.reason, "detail": error.detail}


def rows_file(context: Context) -> Path:
    """The table of readable pictures that networks find things in."""
    return context.paths.cache / "prepared" / "rows.parquet"


def prepared_rows(context: Context) -> tuple[pd.DataFrame, np.ndarray]:
    """Index rows of readable pictures, and each row's fold (-1 for test)."""
    rows = read_table(rows_file(context), context.command("02_localize"))
    return rows, fold_of(rows, read_folds(context)).to_numpy()


def fold_artifact(context: Context, version: int, files: tuple[Path, ...], recipe: Any, *more: Path) -> Artifact:
    """``files`` of stage 02 that are made from the readable pictures, their folds and the files ``more``."""
    inputs = (rows_file(context), context.paths.folds / "folds.csv", *more)
    return Artifact("02_localize", version, files, recipe, inputs, raw_files(context))
