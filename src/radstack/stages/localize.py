"""Stage 02: find the anatomy in every picture."""

import shutil
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.files import write_table
from radstack.core.parallel import mapped_rows
from radstack.images.dicom import Unreadable
from radstack.recipes.localizer import Chain, Classical, Detection
from radstack.running.context import Context
from radstack.running.tables import raw_files, read_index
from radstack.stages import chain, detect

VERSION = 1
CHUNK = 2000
"""Pictures in one piece of work, some seconds."""


def localize(context: Context) -> None:
    """Write ``cache/<comp>/boxes.parquet`` and ``quarantine.csv``, the pictures that cannot be decoded."""
    localizer = context.competition.localizer
    if isinstance(localizer, Chain):
        chain.follow_chain(context, localizer)
        return
    if isinstance(localizer, Detection):
        detect.find_boxes(context, localizer)
        return
    paths = context.paths
    files = (paths.cache / "boxes.parquet", paths.cache / "quarantine.csv")
    artifact = Artifact("02_localize", VERSION, files, {}, (paths.folds / "index.parquet",), raw_files(context))
    context.make(artifact, partial(_build, context, localizer, files))


def show(context: Context, count: int) -> None:
    """Draw what was found in ``count`` pictures of each split; a UserError where no network did it."""
    localizer = context.competition.localizer
    if isinstance(localizer, Detection):
        detect.show(context, localizer, count)
    else:
        chain.show(context, count)


def _build(context: Context, localizer: Classical, files: tuple[Path, Path]) -> dict[str, Any]:
    index = read_index(context)
    look = partial(localize_files, localizer, context.paths.input)
    parts = context.paths.cache / f"parts-v{VERSION}"
    found = mapped_rows(look, index["path"].tolist(), parts, context.options.workers, "localize", CHUNK)
    table = index.join(found.drop(columns="path"))
    bad = table["reason"] != ""
    settled = localizer.settle(table[~bad].reset_index(drop=True))
    write_table(files[0], settled.drop(columns=["reason", "detail"]))
    write_table(files[1], table.loc[bad, ["id", "split", "path", "reason", "detail"]])
    shutil.rmtree(parts, ignore_errors=True)
    print(f"  {len(settled):,} pictures localized, {bad.sum():,} cannot be decoded ({files[1]})")
    return {"rows": len(settled), "quarantined": int(bad.sum())}


def localize_files(localizer: Classical, folder: Path, paths: list[str]) -> pd.DataFrame:
    """One row a path.

    Columns ``path``, ``reason`` and ``detail`` ("" where it can be decoded), ``crc`` (CRC-32 of the pixels), and what the
    localizer's ``look`` returns.
    """
    return pd.DataFrame([{"path": path} | _look(localizer, folder / path) for path in paths])


def _look(localizer: Classical, path: Path) -> dict[str, Any]:
    try:
        pixels = localizer.read(path)
        return {"reason": "", "detail": "", "crc": zlib.crc32(pixels.tobytes()), **localizer.look(pixels)}
    except Unreadable as error:
        return {"reason": error.reason, "detail": error.detail}
