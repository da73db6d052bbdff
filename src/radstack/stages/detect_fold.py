"""The detector of one fold: fit the prior and train without the fold, then look at the fold and the test pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchvision.models.detection import FasterRCNN

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.progress import titled, track
from radstack.core.say import say
from radstack.detection.nets import detect, read_detector, shrunk, write_detector
from radstack.detection.train import DetectRun, train
from radstack.detection.trunks import Weights
from radstack.images.boxes import Prior, complete, fit_prior
from radstack.images.similarity import resized, warp
from radstack.recipes.detector import Detector
from radstack.recipes.localizer import Detection
from radstack.running.context import Context
from radstack.running.tables import raw_files
from radstack.running.work import has_gpu, shared
from radstack.stages.chain import prepared_rows
from radstack.stages.detect import VERSION, found_artifact, found_columns, found_file, prior_columns, score_columns
from radstack.training import checkpoint
from radstack.training.distributed import distributed, joined, same_everywhere, together


def detect_fold(context: Context, fold: int) -> None:
    """Train and look; writes the weights of fold ``fold`` and :func:`radstack.stages.detect.found_file`."""
    localizer = context.competition.localizer
    assert isinstance(localizer, Detection)
    if shared(context, "competitions:detect", fold=fold):
        return
    kind = context.options.device or ("cuda" if has_gpu() else "cpu")
    with joined(context.options.gpus, kind) as device, titled(f"detect fold {fold}"):
        together(found_artifact(context, localizer, fold), lambda: _find(context, localizer, fold, device))


def weights_file(context: Context, localizer: Detection, fold: int) -> Path:
    """The detector of one fold."""
    return context.paths.weights / localizer.detector.name / f"fold{fold}.safetensors"


def look(localizer: Detection, net: FasterRCNN, prior: Prior, folder: Path, rows: pd.DataFrame,
         device: torch.device) -> pd.DataFrame:
    """What a detector finds in the pictures of ``rows`` (``id``, ``path`` below ``folder``, ``height``, ``width``).

    Returns:
        ``id``, ``found_columns`` and ``score_columns``, NaN where there is nothing, and ``prior_columns``, always there.
    """
    classes = localizer.detector.classes
    pictures = (localizer.read(folder / path) for path in rows["path"])
    with track(len(rows), "look", brief=True) as steps:
        boxes, scores = detect(net, localizer.detector, steps.over(pictures), device)
    whole = complete(boxes, rows[["height", "width"]].to_numpy(float), prior)
    values = np.hstack([boxes.reshape(len(rows), -1), scores, whole.reshape(len(rows), -1)])
    columns = [*found_columns(classes), *score_columns(classes), *prior_columns(classes)]
    table = pd.DataFrame(values, columns=columns)
    table.insert(0, "id", rows["id"].to_numpy())
    return table


def _find(context: Context, localizer: Detection, fold: int, device: torch.device) -> dict[str, Any]:
    path = _train(context, localizer, fold, device)
    net, prior = read_detector(path, localizer.detector)
    rows, fold_of_row = prepared_rows(context)
    wanted = rows[(fold_of_row == fold) | (fold_of_row < 0)].reset_index(drop=True)
    if distributed()[0] == 0:
        write_table(found_file(context.paths, fold), look(localizer, net, prior, context.paths.input, wanted, device))
    return {"rows": len(wanted)}


def _train(context: Context, localizer: Detection, fold: int, device: torch.device) -> Path:
    """Train the fold's detector unless that is done; return its weights."""
    path, recipe = weights_file(context, localizer, fold), localizer.detector
    inputs = (context.paths.cache / "prepared" / "rows.parquet", context.paths.folds / "folds.csv")
    artifact = Artifact("02_localize", VERSION, (path,), {"detector": recipe, "fold": fold}, inputs, raw_files(context))
    if not same_everywhere(bool(context.why(artifact))):
        return path

    def work() -> dict[str, Any]:
        options = context.options
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

    together(artifact, work)
    return path


def _lessons(context: Context, localizer: Detection, fold: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows outside the fold on which something is boxed, and their boxes [rows, classes, 4]."""
    rows, fold_of_row = prepared_rows(context)
    boxes = localizer.drawn(rows)
    taught = (fold_of_row >= 0) & (fold_of_row != fold) & np.isfinite(boxes).all(-1).any(-1)
    if not taught.any():
        raise UserError(f"{localizer.detector.name}: no picture outside fold {fold} has hand-made boxes; put some below "
                        f"{context.paths.input} (see README), then run stage 01 again")
    return rows[taught].reset_index(drop=True), boxes[taught]


def _shrunk(localizer: Detection, folder: Path, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, float]]:
    """Pictures at the size in which they are learned from, kept in memory, and their scale."""
    with track(len(rows), "read", brief=True) as steps:
        for path in rows["path"]:
            yield smaller(localizer.read(folder / path), localizer.detector)
            steps.step(images=1)


def smaller(picture: np.ndarray, recipe: Detector) -> tuple[np.ndarray, float]:
    """A picture uint8 [height, width] at the recipe's sides, and the scale; one that is smaller stays as it is."""
    scale, size = shrunk(picture.shape, recipe)
    return (picture, 1.0) if scale >= 1 else (warp(picture, resized(scale), size), scale)
