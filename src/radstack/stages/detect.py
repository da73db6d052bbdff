"""Stage 02 with a detector: every picture decoded once, one detector a fold, one table of the boxes that they found.

Fold k's detector and prior are learned without fold k, then look at the fold and the test pictures.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, split_digests
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.paths import Paths
from radstack.core.progress import track
from radstack.images.boxes import CORNERS, complete, fit_prior, flags
from radstack.images.similarity import resized, warp
from radstack.recipes.detector import Detector
from radstack.recipes.localizer import Detection
from radstack.running.context import Context
from radstack.stages.decode import (
    Learned,
    decode_all,
    fold_artifact,
    look_artifact,
    prepared_rows,
    rows_file,
    set_aside,
)

if TYPE_CHECKING:  # torch is slow to import, and a stage with nothing to do starts without it
    import torch

VERSION = 2


def found_columns(classes: tuple[str, ...], kind: str = "found") -> list[str]:
    """``found_<class>_x1`` .. ``found_<class>_y2`` in raw pixels, class by class; always there, see :func:`write_boxes`.

    ``kind`` "whole" names the boxes of a fold's table, where a prior fills in what was not found.
    """
    return [f"{kind}_{name}_{corner}" for name in classes for corner in CORNERS]


def score_columns(classes: tuple[str, ...]) -> list[str]:
    """``score_<class>``, 0 to 1; NaN where nothing was found."""
    return [f"score_{name}" for name in classes]


def prepare(context: Context, localizer: Detection) -> None:
    """Decode every picture: index rows of what is readable in ``prepared/rows.parquet``, the rest in ``quarantine.csv``."""
    set_aside(context, VERSION, rows_file(context), partial(decode_all, context, localizer.read), {"read": localizer.read})


def found_file(paths: Paths, fold: int, split: str) -> Path:
    """What the detector of one fold found in its own pictures (``train``) or the test pictures."""
    return paths.cache / "found" / f"fold{fold}{'_test' * (split == 'test')}.parquet"


def found_artifact(context: Context, localizer: Detection, fold: int) -> Learned:
    """What the detector of one fold finds in its own pictures, from what."""
    return fold_artifact(context, VERSION, (found_file(context.paths, fold, "train"),), _learns(localizer, fold),
                         networks=(weights_file(context, localizer, fold),))


def weights_artifact(context: Context, localizer: Detection, fold: int) -> Artifact:
    """The detector of one fold, from what."""
    return fold_artifact(context, VERSION, (weights_file(context, localizer, fold),), _learns(localizer, fold))


def _learns(localizer: Detection, fold: int) -> dict[str, Any]:
    """What decides a detector beside the pictures, whose table has what reads them in its recipe."""
    return {"detector": localizer.detector, "drawn": localizer.drawn, "fold": fold}


def applied_artifact(context: Context, localizer: Detection, fold: int) -> Artifact:
    """What the detector of one fold finds in the test pictures, from what."""
    # All of the recipe: the same weights find other boxes with another ``least_score`` or ``nms``.
    recipe = {"detector": localizer.detector, "fold": fold}
    return look_artifact(context, VERSION, (found_file(context.paths, fold, "test"),), recipe,
                         weights_file(context, localizer, fold))


def learn(context: Context, localizer: Detection, fold: int, device: "torch.device") -> dict[str, Any]:
    """Train the detector of fold ``fold`` unless that is done, and write what it finds in its pictures."""
    _train(context, localizer, fold, device)
    return look(context, localizer, fold, device, "train")


def weights_file(context: Context, localizer: Detection, fold: int) -> Path:
    """The detector of one fold."""
    return context.paths.weights / localizer.detector.name / f"fold{fold}.safetensors"


def look(context: Context, localizer: Detection, fold: int, device: "torch.device", split: str = "test") -> dict[str, Any]:
    """Write what fold ``fold``'s trained detector finds in its own or the test pictures, :func:`found_file`.

    Columns ``id``, :func:`found_columns` and :func:`score_columns`, NaN where there is nothing, and the prior's boxes.
    """
    from radstack.detection.nets import detect, read_detector
    from radstack.training.distributed import distributed

    classes = localizer.detector.classes
    net, prior = read_detector(weights_file(context, localizer, fold), localizer.detector)
    rows, fold_of_row = prepared_rows(context, split)
    rows = rows[fold_of_row == (fold if split == "train" else -1)]
    if distributed()[0] == 0:
        pictures = (localizer.read(context.paths.input / path) for path in rows["path"])
        with track(len(rows), "look", brief=True) as steps:
            boxes, scores = detect(net, localizer.detector, steps.over(pictures), device)
        whole = complete(boxes, rows[["height", "width"]].to_numpy(float), prior)
        columns = [*found_columns(classes), *score_columns(classes), *found_columns(classes, "whole")]
        flat = len(rows), 4 * len(classes)  # named, since there may be no picture
        values = np.hstack([boxes.reshape(flat), scores, whole.reshape(flat)])
        table = pd.DataFrame(values, columns=columns)
        table.insert(0, "id", rows["id"].to_numpy())
        write_table(found_file(context.paths, fold, split), table)
    return {"rows": len(rows)}


def _train(context: Context, localizer: Detection, fold: int, device: "torch.device") -> None:
    """Train the fold's detector unless that is done."""
    from radstack.core.say import say
    from radstack.detection.nets import write_detector
    from radstack.detection.train import DetectRun, train
    from radstack.detection.trunks import Weights
    from radstack.training import checkpoint
    from radstack.training.distributed import distributed, same_everywhere, together

    path, recipe, options = weights_file(context, localizer, fold), localizer.detector, context.options
    artifact = weights_artifact(context, localizer, fold)
    if not same_everywhere(bool(context.why(artifact))):
        return

    def work() -> dict[str, Any]:
        rows, boxes = _lessons(context, localizer, fold)
        pictures, scales = zip(*_shrunk(localizer, context.paths.input, rows))
        prior = fit_prior(boxes, rows[["height", "width"]].to_numpy(float))
        run = DetectRun(recipe, fold, rows["id"].to_numpy(), pictures, boxes * np.array(scales)[:, None, None], artifact.key,
                        path.with_suffix(".checkpoint"), device, options.checkpoint_seconds, say,
                        Weights(Path(options.weights) if options.weights else None, options.offline))
        if not options.resume:
            checkpoint.remove(run.checkpoint)
        net, facts = train(run)
        if distributed()[0] == 0:
            write_detector(path, net, prior)
        checkpoint.remove(run.checkpoint)
        return facts | {"pictures": len(rows)}

    together(artifact, work, options.force)


def _lessons(context: Context, localizer: Detection, fold: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows outside the fold on which something is boxed, and their boxes [rows, classes, 4]."""
    rows, fold_of_row = prepared_rows(context, "train")
    boxes = localizer.drawn(rows)
    taught = (fold_of_row >= 0) & (fold_of_row != fold) & np.isfinite(boxes).all(-1).any(-1)
    if not taught.any():
        raise UserError(f"{localizer.detector.name}: no picture outside fold {fold} has hand-made boxes; put some below "
                        f"{context.paths.input} (see docs/add_your_own.md), then run stage 01 again")
    return rows[taught].reset_index(drop=True), boxes[taught]


def _shrunk(localizer: Detection, folder: Path, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, float]]:
    """Pictures at the size in which they are learned from, kept in memory, and their scale."""
    with track(len(rows), "read", brief=True) as steps:
        for path in steps.over(rows["path"]):
            yield smaller(localizer.read(folder / path), localizer.detector)


def smaller(picture: np.ndarray, recipe: Detector) -> tuple[np.ndarray, float]:
    """A picture uint8 [height, width] at the recipe's sides, and the scale; one that is smaller stays as it is."""
    from radstack.detection.nets import shrunk

    scale, size = shrunk(picture.shape, recipe)
    return (picture, 1.0) if scale >= 1 else (warp(picture, resized(scale), size), scale)


def write_boxes(context: Context, localizer: Detection) -> None:
    """Write ``boxes.parquet``: exactly one box a class and picture, scores, flags; then the competition's own columns."""
    paths, (rows, _) = context.paths, prepared_rows(context)
    found = [found_file(paths, fold, split) for split in rows["split"].unique()
             for fold in range(context.competition.folds.count)]
    recipe = {"classes": localizer.detector.classes, "sure": localizer.detector.sure_score,
              "rule": localizer.write_boxes}
    artifact = Artifact("02_localize", VERSION, (paths.cache / "boxes.parquet",), recipe, (rows_file(context), *found))

    def build() -> dict[str, Any]:
        tables = [pd.read_parquet(file) for file in found]
        boxes = localizer.write_boxes(pd.concat([rows, joined(rows["id"], tables, localizer)], axis=1))
        write_table(artifact.files[0], boxes)
        flagged = int((boxes["flag"] != "").sum())
        print(f"  {len(boxes):,} pictures with one box a class, {flagged:,} of them flagged")
        return {"rows": len(boxes), "flagged": flagged, "splits": split_digests(boxes)}

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
        np.stack([np.where((rows >= 0)[:, None], table[columns].to_numpy(float)[rows], np.nan)
                  for table, rows in zip(tables, place)])
        for columns in (found_columns(classes), found_columns(classes, "whole"), score_columns(classes)))
    asked = (np.stack(place) >= 0)[..., None]
    seen = np.isfinite(score)
    scores = np.where(seen.any(0), np.nansum(score, 0) / asked.sum(0), np.nan)
    least = np.repeat(seen.any(0), len(CORNERS), axis=1)
    boxes = np.where(least, _median(found), _median(prior))
    doubts = flags(np.where(least, boxes, np.nan).reshape(len(ids), len(classes), 4), scores, classes,
                   localizer.detector.sure_score)
    table = pd.DataFrame(np.hstack([boxes, scores]), columns=found_columns(classes) + score_columns(classes))
    return table.assign(flag=np.array(doubts, dtype=object)).astype({"flag": "str"})


def _median(boxes: np.ndarray) -> np.ndarray:
    """Median over the folds [folds, rows, corners] that have one; NaN where none has."""
    masked = np.ma.masked_invalid(boxes)
    return np.ma.median(masked, axis=0).filled(np.nan)


def draw(paths: Paths, localizer: Detection, row: Any, file: Path) -> None:
    """Draw the boxes of one row of ``boxes.parquet`` on its raw picture."""
    localizer.show(localizer.read(paths.input / str(row.path)), row, file)
