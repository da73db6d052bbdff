"""What stage 02 does for every kind of localizer: decode each picture once, and set aside what cannot be decoded."""

import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Lesson, Part, split_digests
from radstack.core.files import read_table, stamp, write_table
from radstack.core.folds import fold_of
from radstack.core.parallel import mapped_rows
from radstack.core.passing import check_passing
from radstack.core.recipe import digest
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
        recipe: decides, with the index, the raw files and ``then``, what is made.
        more: files that ``facts`` writes.
        then: index rows and facts of readable pictures -> the table, if that is not they.
    """
    paths, quarantine = context.paths, context.paths.cache / "quarantine.csv"
    settings = {"recipe": recipe, "then": then}  # the parts, which cost most, do not depend on what follows
    artifact = Artifact("02_localize", version, (file, quarantine, *more), settings, (paths.folds / "index.parquet",),
                        raw_files(context))

    def build() -> dict[str, Any]:
        # Kept, and named by the version: when some pictures change, the others are not decoded again.
        parts = paths.cache / f"parts-{digest(version, recipe)}"
        index = read_index(context)
        rows = index.join(facts(parts))
        bad, strict = rows["reason"] != "", paths.home is None  # elsewhere, what can be answered is answered
        again = check_passing(rows[~bad], rows[bad], paths.input, print, strict)
        table = rows[~bad].drop(columns=["reason", "detail"]).reset_index(drop=True)
        table = table.astype(_whole(table.drop(columns=list(index)))) if bad.any() else table
        table = then(table) if then and len(table) else table
        write_table(file, table)
        write_table(quarantine, rows.loc[bad, ["id", "split", "path", "reason", "detail"]])
        for old in set(paths.cache.glob("parts-*")) - {parts}:
            shutil.rmtree(old, ignore_errors=True)  # another person's may stay
        print(f"  {len(table):,} pictures decoded, {bad.sum():,} cannot be ({quarantine})")
        return {"rows": len(table), "quarantined": int(bad.sum()), "passing": again, "splits": split_digests(table, recipe)}

    context.make(artifact, build)


def _whole(facts: pd.DataFrame) -> dict[str, str]:
    """Columns of whole numbers: beside the rows of unreadable pictures, which lack them, they became fractions."""
    floats = facts.select_dtypes("float64")
    return {name: "int64" for name in floats if np.isfinite(floats[name]).all() and (floats[name] % 1 == 0).all()}


def decode_all(context: Context, read: Read, parts: Path, look: Look | None = None) -> pd.DataFrame:
    """Facts of all index rows for :func:`set_aside`, with what ``look`` says of the pixels that ``read`` gives."""
    index = read_index(context)
    index["stamp"] = stamps(context.paths.input, index["path"])
    found = [pd.DataFrame()]
    for split, rows in index.groupby("split", sort=False):  # apart, so that no part holds pictures of both
        facts = mapped_rows(partial(decode, context.paths.input, read, look), rows[["path", "stamp"]].to_numpy().tolist(),
                            parts / str(split), context.options.workers, f"decode {split}", CHUNK)
        found.append(facts.set_index(rows.index))
    return pd.concat(found).loc[index.index]


def stamps(folder: Path, paths: pd.Series) -> list[str]:
    """Size and time of each file below ``folder``, or of all files of its name or in it: what it holds depends on these."""
    known = {path: stamp(folder / path) for path in paths.unique()}
    return [known[path] for path in paths]


def decode(folder: Path, read: Read, look: Look | None, files: list[list[str]]) -> pd.DataFrame:
    """Facts of ``files``, path below ``folder`` and stamp, see :func:`decode_all`."""
    cv2.setNumThreads(1)  # the files are shared out to processes
    return pd.DataFrame([_decode(folder / path, read, look) for path, _ in files])


def _decode(path: Path, read: Read, look: Look | None) -> dict[str, Any]:
    try:
        pixels = read(path)
        found = look(pixels) if look else {}
        return {"crc": zlib.crc32(np.ascontiguousarray(pixels).data), "reason": "", "detail": "", **found}
    except Unreadable as error:
        return {"crc": 0, "reason": error.reason, "detail": error.detail}


def rows_file(context: Context) -> Path:
    """The table of readable pictures that networks find things in."""
    return context.paths.cache / "prepared" / "rows.parquet"


def prepared_rows(context: Context, split: str = "") -> tuple[pd.DataFrame, np.ndarray]:
    """Index rows of readable pictures (of ``split``), and each row's fold (-1 for test)."""
    rows = read_table(rows_file(context), context.command("02_localize"))
    rows = rows[rows["split"] == split].reset_index(drop=True) if split else rows
    if (rows["split"] == "test").all():  # asks no fold table: pictures elsewhere have none
        return rows, np.full(len(rows), -1)
    return rows, fold_of(rows, read_folds(context)).to_numpy()


@dataclass(frozen=True)
class Learned(Artifact):
    """What networks found in their own fold: it is made again where one of them is gone, since test pictures need it."""

    networks: tuple[Path, ...] = ()
    """Files of networks, each an artifact of its own."""

    def why(self) -> str:
        """As that of any artifact."""
        gone = next((f"{path.parent.name}/{path.name} is gone" for path in self.networks if not path.exists()), "")
        return super().why() or gone


def fold_artifact(context: Context, version: int, files: tuple[Path, ...], recipe: Any, *more: Path,
                  networks: tuple[Path, ...] = ()) -> Learned:
    """``files`` of stage 02 that are learned from the readable training pictures, their masks and folds, and ``more``.

    ``networks`` as in :class:`Learned`.
    """
    rows = prepared_rows(context, "train")[0] if rows_file(context).exists() else pd.DataFrame()
    masks = digest(stamps(context.paths.input, rows["mask"][rows["mask"] != ""])) if "mask" in rows else ""
    competition = context.competition
    lesson = Lesson((*competition.targets, *competition.data.label_columns))  # they learn from masks, landmarks and boxes
    inputs: tuple[Path | Part, ...] = (Part(rows_file(context), "train", lesson), context.paths.folds / "folds.csv", *more)
    return Learned("02_localize", version, files, recipe, inputs, {"masks": masks} if masks else {}, networks)


def look_artifact(context: Context, version: int, files: tuple[Path, ...], recipe: Any, *weights: Path) -> Artifact:
    """``files`` of stage 02 that networks find in the readable test pictures."""
    return Artifact("02_localize", version, files, recipe, (Part(rows_file(context), "test"), *weights))
