"""Stage 02 with a detector: every picture decoded once, one detector a fold, one table of the boxes that they found."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.files import read_table, write_table
from radstack.core.parallel import mapped_rows
from radstack.core.paths import Paths
from radstack.images.boxes import CORNERS, flags
from radstack.images.dicom import Unreadable
from radstack.recipes.localizer import Detection
from radstack.running.context import Context
from radstack.running.tables import raw_files, read_index
from radstack.running.tasks import Task, make_all
from radstack.stages.chain import prepared_rows

VERSION = 1
CHUNK = 500
"""Pictures in one piece of work, some seconds."""


def find_boxes(context: Context, localizer: Detection) -> None:
    """Write ``prepared/rows.parquet``, every fold's detector and findings, ``boxes.parquet``, ``quarantine.csv``."""
    prepare(context, localizer)
    from radstack.stages.detect_fold import detect_fold

    make_all(context, [(found_artifact(context, localizer, fold), Task(f"detect fold {fold}", detect_fold, (context, fold)))
                       for fold in range(context.competition.folds.count)])
    settle(context, localizer)


def found_columns(classes: tuple[str, ...]) -> list[str]:
    """``found_<class>_x1`` .. ``found_<class>_y2`` in raw pixels, class by class; always there, see :func:`settle`."""
    return [f"found_{name}_{corner}" for name in classes for corner in CORNERS]


def prior_columns(classes: tuple[str, ...]) -> list[str]:
    """Like :func:`found_columns` for the boxes of a fold's table, filled by its prior where nothing was found."""
    return [f"whole_{name}_{corner}" for name in classes for corner in CORNERS]


def score_columns(classes: tuple[str, ...]) -> list[str]:
    """``score_<class>``, 0 to 1; NaN where nothing was found."""
    return [f"score_{name}" for name in classes]


def prepare(context: Context, localizer: Detection) -> None:
    """Decode every picture: index rows of what is readable in ``prepared/rows.parquet``, the rest in ``quarantine.csv``."""
    paths, index = context.paths, read_index(context)
    files = (paths.cache / "prepared" / "rows.parquet", paths.cache / "quarantine.csv")
    artifact = Artifact("02_localize", VERSION, files, {}, (paths.folds / "index.parquet",), raw_files(context))

    def build() -> dict[str, Any]:
        parts = paths.cache / f"parts-{artifact.key}"
        looked = mapped_rows(partial(decode, localizer, paths.input), index["path"].tolist(), parts, context.options.workers,
                             "decode", CHUNK)
        rows = index.join(looked.drop(columns="path"))
        bad = rows["reason"] != ""
        write_table(files[0], rows[~bad].drop(columns=["reason", "detail"]).reset_index(drop=True))
        write_table(files[1], rows.loc[bad, ["id", "split", "path", "reason", "detail"]])
        shutil.rmtree(parts, ignore_errors=True)
        print(f"  {len(rows) - bad.sum():,} pictures decoded, {bad.sum():,} cannot be ({files[1]})")
        return {"rows": int((~bad).sum()), "quarantined": int(bad.sum())}

    context.make(artifact, build)


def decode(localizer: Detection, folder: Path, paths: list[str]) -> pd.DataFrame:
    """One row a path below ``folder``: ``path``, ``crc`` (CRC-32 of the pixels), ``reason``, ``detail`` ("" if decoded)."""
    return pd.DataFrame([{"path": path} | _decode(localizer, folder / path) for path in paths])


def found_file(paths: Paths, fold: int) -> Path:
    """What the detector of one fold found in its own and the test pictures."""
    return paths.cache / "found" / f"fold{fold}.parquet"


def found_artifact(context: Context, localizer: Detection, fold: int) -> Artifact:
    """What the detector of one fold makes, from what."""
    paths = context.paths
    inputs = (paths.cache / "prepared" / "rows.parquet", paths.folds / "folds.csv")
    recipe = {"detector": localizer.detector, "fold": fold}
    return Artifact("02_localize", VERSION, (found_file(paths, fold),), recipe, inputs, raw_files(context))


def settle(context: Context, localizer: Detection) -> None:
    """Write ``boxes.parquet``: exactly one box a class and picture, scores, flags; then the competition's own columns."""
    paths, folds = context.paths, range(context.competition.folds.count)
    inputs = (paths.cache / "prepared" / "rows.parquet", paths.folds / "folds.csv",
              *(found_file(paths, fold) for fold in folds))
    if context.options.dry_run and not all(path.exists() for path in inputs):
        print("  would make boxes.parquet: its inputs are not made yet")
        return
    recipe = {"classes": localizer.detector.classes, "sure": localizer.detector.sure_score}
    artifact = Artifact("02_localize", VERSION, (paths.cache / "boxes.parquet",), recipe, inputs)

    def build() -> dict[str, Any]:
        rows, _ = prepared_rows(context)
        tables = [pd.read_parquet(found_file(paths, fold)) for fold in folds]
        boxes = localizer.settle(pd.concat([rows, joined(rows["id"], tables, localizer)], axis=1))
        write_table(paths.cache / "boxes.parquet", boxes)
        flagged = int((boxes["flag"] != "").sum())
        print(f"  {len(boxes):,} pictures with one box a class, {flagged:,} of them flagged")
        return {"rows": len(boxes), "flagged": flagged}

    context.make(artifact, build)


def joined(ids: pd.Series, tables: list[pd.DataFrame], localizer: Detection) -> pd.DataFrame:
    """One box a class for every id, from its own fold's table or, in test, from all folds' tables.

    Corners are medians over the folds that found one, else over their priors; scores are means, a miss counting as 0.

    Returns:
        :func:`found_columns`, :func:`score_columns` (NaN where no fold found one) and ``flag``, in the order of ``ids``.
    """
    classes = localizer.detector.classes
    place = [pd.Index(table["id"]).get_indexer(pd.Index(ids)) for table in tables]
    found, prior, score = (
        np.stack([np.where((rows >= 0)[:, None], table[columns(classes)].to_numpy(float)[rows], np.nan)
                  for table, rows in zip(tables, place)]) for columns in (found_columns, prior_columns, score_columns))
    asked = (np.stack(place) >= 0)[..., None]
    seen = np.isfinite(score)
    scores = np.where(seen.any(0), np.nansum(score, 0) / asked.sum(0), np.nan)
    least = np.repeat(seen.any(0), len(CORNERS), axis=1)
    boxes = np.where(least, _median(found), _median(prior))
    doubts = flags(np.where(least, boxes, np.nan).reshape(len(ids), len(classes), 4), scores, classes,
                   localizer.detector.sure_score)
    table = pd.DataFrame(np.hstack([boxes, scores]), columns=found_columns(classes) + score_columns(classes))
    return table.assign(flag=np.array(doubts, dtype=object)).astype({"flag": "str"})


def show(context: Context, localizer: Detection, count: int) -> None:
    """Draw ``count`` pictures of each split with their boxes, flagged ones first, below ``reports/<comp>/localize``."""
    paths = context.paths
    boxes = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    chosen = boxes.sort_values("flag", ascending=False, kind="stable").groupby("split").head(count)
    for row in chosen.itertuples():
        localizer.show(localizer.read(paths.input / str(row.path)), row, paths.reports / "localize" / f"{row.id}.png")
    print(f"  the boxes of {len(chosen)} pictures: {paths.reports / 'localize'}")


def _decode(localizer: Detection, path: Path) -> dict[str, Any]:
    import zlib

    cv2.setNumThreads(1)
    try:
        return {"crc": zlib.crc32(localizer.read(path).tobytes()), "reason": "", "detail": ""}
    except Unreadable as error:
        return {"crc": 0, "reason": error.reason, "detail": error.detail}


def _median(boxes: np.ndarray) -> np.ndarray:
    """Median over the folds [folds, rows, corners] that have one; NaN where none has."""
    masked = np.ma.masked_invalid(boxes)
    return np.ma.median(masked, axis=0).filled(np.nan)
