"""The chain of one fold: train each network without the fold, then answer for the fold and the test pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import replacing, write_table
from radstack.core.progress import titled, track
from radstack.core.say import say
from radstack.images.shards import Shards
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.localizer import Chain, Step, same_picture
from radstack.running.context import Context
from radstack.running.tables import raw_files
from radstack.running.tasks import has_gpu, shared
from radstack.stages.chain import VERSION, found_artifact, found_files, prepared_rows
from radstack.stages.train import started_from, starting, write_weights
from radstack.training import checkpoint
from radstack.training.distributed import distributed, joined, same_everywhere, together
from radstack.training.inference import predict_raw
from radstack.training.run import Run, train

PIECE = 1024
"""Pictures between two looks at the clock; a multiple of the batch size, so that batches stay as they were."""


@dataclass
class Scene:
    """The rows that one fold's chain works on, and how its next network sees them."""

    rows: pd.DataFrame
    """Rows to answer for, and annotated rows to learn from."""
    fold: np.ndarray
    """int [rows], -1 for test."""
    pictures: np.ndarray
    """uint8 [rows, side, side]"""
    maps: np.ndarray
    """Probability of each mask found so far, uint8 [rows, masks, side, side]."""


def localize_fold(context: Context, fold: int) -> None:
    """Train and answer; writes the weights of every step and :func:`radstack.stages.chain.found_files`."""
    chain = context.competition.localizer
    assert isinstance(chain, Chain)
    if shared(context, localize_fold, context, fold):
        return
    kind = context.options.device or ("cuda" if has_gpu() else "cpu")
    with joined(context.options.gpus, kind) as device, titled(f"localize fold {fold}"):
        together(found_artifact(context, chain, fold), lambda: _follow(context, chain, fold, device))


def _follow(context: Context, chain: Chain, fold: int, device: torch.device) -> dict[str, Any]:
    scene = _scene(context, chain, fold)
    scored = (scene.fold == fold) | (scene.fold < 0)
    before: list[Path] = []
    for number, step in enumerate(chain.steps):
        before.append(_train(context, step, scene, fold, before if _guides(chain, number) else [], device))
        last = not _guides(chain, number + 1)
        look(chain, step, scene, before[-1], device, scored if last else np.ones_like(scored))
    if distributed()[0] == 0:
        write_found(found_files(context.paths, fold), chain, scene, scored)
    return {"rows": len(scene.rows)}


def _guides(chain: Chain, number: int) -> bool:
    """Whether step ``number``, if there is one, meets anything that the steps before it found."""
    return number < len(chain.steps) and any(step.targets or step.follow is not same_picture
                                             for step in chain.steps[:number])


def look(chain: Chain, step: Step, scene: Scene, weights: Path, device: torch.device, wanted: np.ndarray) -> None:
    """Let one network answer for the rows ``wanted`` (bool) of ``scene``, which then is as the next network sees it."""
    found, rows = [], np.flatnonzero(wanted)
    with track(len(rows), f"look {step.experiment.name}", brief=True) as steps:
        for piece in np.split(rows, range(PIECE, len(rows), PIECE)):
            found.append(predict_raw(step.experiment, step.targets, weights, scene.pictures[piece], device))
            steps.step(len(piece), images=len(piece))
    answer = np.zeros((len(wanted), *found[0].shape[1:]), found[0].dtype)
    answer[rows] = np.concatenate(found)
    if step.targets:
        places = step.back(scene.rows, answer, chain.side)
        scene.rows = scene.rows.join(pd.DataFrame(places, columns=list(step.targets)))
    else:
        scene.maps = np.concatenate([scene.maps, answer[:, None]], axis=1)
    with track(len(wanted), f"follow {step.experiment.name}", brief=True) as steps:
        seen = []
        for picture, one in zip(scene.pictures, answer):
            seen.append(step.follow(picture, one))
            steps.step(images=1)
    scene.pictures = np.stack(seen)


def write_found(files: tuple[Path, Path], chain: Chain, scene: Scene, scored: np.ndarray) -> None:
    """Write points and maps of the rows ``scored`` (bool [rows])."""
    columns = ["id", *(target for step in chain.steps for target in step.targets)]
    write_table(files[0], scene.rows.loc[scored, columns].reset_index(drop=True))
    with replacing(files[1]) as part, part.open("wb") as handle:
        np.save(handle, scene.maps[scored])


def _scene(context: Context, chain: Chain, fold: int) -> Scene:
    """Rows to answer for or to learn from, with their folds and small pictures.

    Annotated rows are answered for by networks that trained on them, so that the next network learns on slightly better
    pictures than it will meet; their masks differ by less than a pixel's edge, and fold k stays unseen by all.
    """
    rows, fold_of_row = prepared_rows(context)
    known = np.any([step.known(rows) for step in chain.steps], axis=0)
    wanted = (fold_of_row == fold) | (fold_of_row < 0) | known
    return open_scene(context, rows[wanted].reset_index(drop=True), fold_of_row[wanted])


def open_scene(context: Context, rows: pd.DataFrame, fold_of_row: np.ndarray) -> Scene:
    """The prepared pictures of ``rows`` as the first network sees them."""
    shards = Shards(context.paths.cache / "prepared")
    pictures = np.stack([shards(shard, slot) for shard, slot in zip(rows["shard"], rows["slot"])])
    return Scene(rows, fold_of_row, pictures, pictures[:, None][:, :0])


def _train(context: Context, step: Step, scene: Scene, fold: int, before: list[Path], device: torch.device) -> Path:
    """Train one step's network unless that is done; return its weights."""
    experiment = step.experiment
    path = context.paths.weights / experiment.name / f"fold{fold}.safetensors"
    inputs = (context.paths.cache / "prepared" / "rows.parquet", context.paths.folds / "folds.csv", *before,
              *started_from(context, experiment, fold))
    artifact = Artifact("02_localize", VERSION, (path,), {"experiment": experiment, "fold": fold}, inputs,
                        raw_files(context))
    if not same_everywhere(bool(context.why(artifact))):
        return path
    teaches = np.where(step.known(scene.rows), scene.fold, -1)
    if not ((teaches >= 0) & (teaches != fold)).any():
        raise UserError(f"{experiment.name}: no picture outside fold {fold} is annotated; see README for where "
                        "annotations belong")

    def work() -> dict[str, Any]:
        workers = context.options.workers if device.type == "cuda" else 0
        labels = step.labels(context.paths.input, scene.rows, scene.pictures.shape[1])
        run = Run(experiment, fold, step.targets, scene.rows, teaches, scene.pictures, artifact.key,
                  path.with_suffix(".checkpoint"), device, workers, context.options.checkpoint_seconds, say, labels,
                  f"train {experiment.name}")
        if not context.options.resume:
            checkpoint.remove(run.checkpoint)
        backbone, folder = starting(context, experiment, fold)
        outputs = objective(experiment.loss, step.targets).outputs
        learner, facts = train(run, lambda: build(backbone, outputs, len(experiment.view.mean), folder,
                                                  context.options.offline, experiment.head))
        write_weights(path, learner.result.state_dict())
        checkpoint.remove(run.checkpoint)
        return facts

    together(artifact, work)
    return path
