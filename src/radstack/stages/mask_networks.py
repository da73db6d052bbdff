"""Networks of masks side by side, as a study compares them: trained like those of stage 02, each scored on its own fold."""

from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.files import write_table
from radstack.core.progress import titled
from radstack.images.masks import dice, jaccard
from radstack.images.views import resized
from radstack.recipes.experiment import Experiment
from radstack.recipes.localizer import Step
from radstack.recipes.study import MaskNetworks
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.length import training_length
from radstack.running.tables import check_folds_fit
from radstack.running.tasks import Task, make_all, shared
from radstack.stages.chain import Scene, learning_scene, train_step
from radstack.stages.decode import fold_artifact, prepared_rows

if TYPE_CHECKING:  # torch is slow to import, and a study with nothing to do starts without it
    import torch

VERSION = 1


def score_masks(context: Context, masks: MaskNetworks) -> None:
    """Train and score every network on every chosen fold, unless that is done and unchanged.

    Raises:
        UserError: no picture of the other folds is annotated, or a job failed.
    """
    check_folds_fit(context)
    make_all(context, [(scores_artifact(context, masks, one, fold),
                        Task(f"masks {one.name} fold {fold}", score_fold, (context, masks, one, fold),
                             training_length(context, one)))
                       for one in masks.networks for fold in folds_of(context, masks)])


def folds_of(context: Context, masks: MaskNetworks) -> list[int]:
    """Those that are worked on, cut to ``--folds``."""
    chosen, every = context.options.folds, masks.folds or range(context.competition.folds.count)
    return [fold for fold in every if not chosen or fold in chosen]


def scores_file(context: Context, name: str, fold: int) -> Path:
    """A network's cases of one fold: ``case`` (id of the first picture), ``group``, ``fold``, ``dice``, ``jaccard``."""
    return context.paths.oof / name / f"masks_fold{fold}.parquet"


def scores_artifact(context: Context, masks: MaskNetworks, experiment: Experiment, fold: int) -> Artifact:
    """That table, and what it is made from."""
    step = step_of(context, masks)
    recipe = {"experiment": experiment, "step": masks.step, "known": step.known, "labels": step.labels,
              "threshold": masks.threshold, "cases": masks.cases, "joined": experiment.name in masks.joined, "fold": fold}
    return fold_artifact(context, VERSION, (scores_file(context, experiment.name, fold),), recipe)


def read_scores(context: Context, masks: MaskNetworks, name: str) -> pd.DataFrame:
    """The tables of all folds that are worked on, one below the other."""
    return pd.concat([pd.read_parquet(scores_file(context, name, fold)) for fold in folds_of(context, masks)],
                     ignore_index=True)


def annotated_cases(context: Context, masks: MaskNetworks) -> int:
    """How many cases can be learned from."""
    rows, _ = prepared_rows(context, "train")
    return len(cases_of(rows, masks, step_of(context, masks)))


def pictures_an_epoch(context: Context, masks: MaskNetworks, experiment: Experiment) -> float:
    """How many pictures a network of one fold meets in an epoch; a joined case is one."""
    from radstack.training.loader import epoch_order

    rows, _ = prepared_rows(context, "train")
    cases = cases_of(rows, masks, step_of(context, masks))
    met = cases[:, 0] if experiment.name in masks.joined else np.flatnonzero(step_of(context, masks).known(rows))
    return len(epoch_order(experiment.sampling, met, rows, (0, 0, 0))) * (1 - 1 / context.competition.folds.count)


def step_of(context: Context, masks: MaskNetworks) -> Step:
    """The step of the competition's chain whose masks are learned."""
    localizer: Any = context.competition.localizer
    return {step.experiment.name: step for step in localizer.steps}[masks.step]


def score_fold(context: Context, masks: MaskNetworks, experiment: Experiment, fold: int) -> None:
    """Train and score one network of one fold, here or in ``--gpus`` processes started by torchrun."""
    if shared(context, score_fold, context, masks, experiment, fold):
        return
    from radstack.training.distributed import joined, together

    with joined(context.options.gpus, device_of(context.options.device)) as device, \
            titled(f"masks {experiment.name} fold {fold}"):
        together(scores_artifact(context, masks, experiment, fold),
                 lambda: _learn(context, masks, experiment, fold, device), context.options.force)


def _learn(context: Context, masks: MaskNetworks, experiment: Experiment, fold: int,
           device: "torch.device") -> dict[str, Any]:
    from radstack.training.distributed import distributed

    localizer: Any = context.competition.localizer
    step, scene = replace(step_of(context, masks), experiment=experiment), learning_scene(context, localizer, fold)
    cases = cases_of(scene.rows, masks, step)
    if experiment.name in masks.joined:
        step, scene = as_volumes(context, step, scene, cases)
        cases = np.arange(len(cases))[:, None]
    weights = train_step(context, step, (), scene, fold, device, scene_of(masks, experiment))
    own = cases[scene.fold[cases[:, 0]] == fold]
    if distributed()[0] == 0:
        overlaps = _overlaps(context, step, scene, own, weights, masks.threshold, device)
        about = scene.rows.iloc[own[:, 0]]
        write_table(scores_file(context, experiment.name, fold), pd.DataFrame(
            {"case": about["id"].to_numpy(), "group": about["group"].to_numpy(), "fold": fold, **overlaps}))
    return {"cases": len(own)}


def scene_of(masks: MaskNetworks, experiment: Experiment) -> dict[str, Any]:
    """What decides, beside the step, what a network learns from: how cases are joined, where they are."""
    return {"joined": masks.cases} if experiment.name in masks.joined else {}


def cases_of(rows: pd.DataFrame, masks: MaskNetworks, step: Step) -> np.ndarray:
    """Row numbers of each annotated case, int [cases, pictures]."""
    known = np.flatnonzero(step.known(rows))
    return known[masks.cases(rows.iloc[known].reset_index(drop=True))] if masks.cases else known[:, None]


def as_volumes(context: Context, step: Step, scene: Scene, cases: np.ndarray) -> tuple[Step, Scene]:
    """The cases (int [cases, pictures]) as pictures of their own, one picture above the other, and a step that knows their
    masks.
    """
    side = scene.pictures.shape[1]
    made = step.labels(context.paths.input, scene.rows, side)
    stacked = np.stack([np.concatenate([made[row] for row in case]) for case in cases])
    rows, fold = scene.rows.iloc[cases[:, 0]].reset_index(drop=True), scene.fold[cases[:, 0]]
    pictures = scene.pictures[cases].reshape(len(cases), -1, side)
    # ``wraps``: in keys they count as the step's own functions. That they are stacked, and how, is in ``scene_of``.
    known, labels = wraps(step.known)(lambda rows: np.ones(len(rows), bool)), wraps(step.labels)(lambda *_: stacked)
    return replace(step, known=known, labels=labels), Scene(rows, fold, pictures, pictures[:, None][:, :0])


def _overlaps(context: Context, step: Step, scene: Scene, cases: np.ndarray, weights: Path, threshold: float,
              device: "torch.device") -> dict[str, list[float]]:
    """Dice and Jaccard of each case, all of its pictures together, at the size that the network sees."""
    from radstack.training.inference import predict_raw

    experiment, made = step.experiment, step.labels(context.paths.input, scene.rows, scene.pictures.shape[1])
    found: dict[str, list[float]] = {"dice": [], "jaccard": []}
    for case in cases:
        pictures = np.stack([resized(scene.pictures[row], experiment.view.size) for row in case])
        said = predict_raw(experiment, step.targets, weights, pictures, device) >= 255 * threshold
        true = np.stack([made[row] for row in case]) >= 0.5
        found["dice"].append(dice(said, true))
        found["jaccard"].append(jaccard(said, true))
    return found
