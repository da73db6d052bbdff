"""Stage 04: one experiment on one fold -> ``weights/<comp>/<experiment>/fold0.safetensors``."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Lesson, Part
from radstack.core.errors import UserError
from radstack.core.folds import ALL, fold_name
from radstack.core.progress import titled
from radstack.core.recipe import change, set_fields
from radstack.recipes.experiment import Backbone, Experiment
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.tasks import make_all, per_fold, shared
from radstack.stages.more_rows import inputs_of, learned_rows, prepare

VERSION = 2


def train(context: Context) -> None:
    """Train every chosen experiment on every chosen fold, unless that is done and unchanged."""
    for one in context.experiments:
        if (other := context.trained_as(one)).name != one.name:
            print(f"  {one.name} differs from {other.name} in test-time settings alone and uses its weights", flush=True)
    # Such a recipe has its own folds; where both are chosen the work is one.
    recipes = [change(context.trained_as(one), folds=tuple(context.all_folds(one))) for one in context.experiments]
    prepare(context, recipes)
    makers = per_fold(context, "train", recipes, weights_artifact, train_fold)
    make_all(context, list({task.name: (artifact, task) for artifact, task in makers}.values()))


def weights_artifact(context: Context, experiment: Experiment, fold: int) -> Artifact:
    """The weights file; test-time settings do not enter its key, and recipes that differ in them alone share it."""
    paths, file, experiment = context.paths, weights_file(context, experiment, fold), context.trained_as(experiment)
    recipe = {"experiment": {**set_fields(experiment), "tta": None, "folds": None, "note": None}, "fold": fold}
    return Artifact("04_train", VERSION, (file,), recipe,
                    (Part(paths.cache / "rows.parquet", "train", lesson_of(context, experiment, fold)),
                     paths.folds / "folds.csv", *started_from(context, experiment, fold),
                     *inputs_of(context, experiment, fold)))


def weights_file(context: Context, experiment: Experiment, fold: int) -> Path:
    """The network of a fold."""
    return context.paths.weights / context.trained_as(experiment).name / f"{fold_name(fold)}.safetensors"


def lesson_of(context: Context, experiment: Experiment, fold: int) -> Lesson:
    """What the network of a fold learns from: its own targets, and those by which its rows are drawn, of the other folds."""
    competition, sampling = context.competition, experiment.sampling
    named = {sampling.rare_class, *(name for names in sampling.balance for name in names), *experiment.head.columns}
    labels = (*competition.targets, *competition.data.label_columns)
    learned = {*experiment.targets_of(competition.targets), *named}
    return Lesson(labels, tuple(name for name in labels if name in learned), sampling.keep,
                  context.paths.folds / "folds.csv", fold)


def train_fold(context: Context, experiment: Experiment, fold: int) -> None:
    """Train here, or in ``--gpus`` processes started by torchrun."""
    if shared(context, train_fold, context, experiment, fold):
        return
    from radstack.training.distributed import joined, together

    kind = device_of(context.options.device)
    with joined(context.options.gpus, kind) as device, titled(f"train {experiment.name} fold {fold}"):
        artifact = weights_artifact(context, experiment, fold)
        together(artifact, lambda: train_run(context, _run(context, experiment, fold, artifact, device)))


def train_run(context: Context, run: Any) -> dict[str, Any]:
    """Train a :class:`radstack.training.run.Run` and write the weights beside its checkpoint; facts for the manifest."""
    from radstack.nets.backbones import build
    from radstack.nets.objectives import objective
    from radstack.training import checkpoint
    from radstack.training.run import train as fit

    experiment = run.experiment
    if not context.options.resume:
        checkpoint.remove(run.checkpoint)
    judge = objective(experiment.loss, run.targets)

    def make() -> Any:
        backbone, folder = starting(context, experiment, run.fold)
        return build(backbone, judge.outputs, len(experiment.view.mean), folder, context.options.offline, experiment.head,
                     judge.shares)

    learner, facts = fit(run, make)
    write_weights(run.checkpoint.with_suffix(".safetensors"), learner.result.state_dict())
    checkpoint.remove(run.checkpoint)
    return facts


def starting(context: Context, experiment: Experiment, fold: int) -> tuple[Backbone, Path | None]:
    """The backbone whose weights are loaded, and the folder that is looked in for them first."""
    if experiment.backbone.start:
        file = started_from(context, experiment, fold)[0]
        return change(experiment.backbone, pretrained=True, weights=file.name), file.parent
    return experiment.backbone, Path(context.options.weights) if context.options.weights else None


def started_from(context: Context, experiment: Experiment, fold: int) -> tuple[Path, ...]:
    """The weights of the same fold that training starts from, if the recipe names any: they never saw the fold either."""
    start = experiment.backbone.start
    if start and fold == ALL:
        raise UserError(f"{experiment.name} starts from {start}, which has a network a fold and none of all rows; leave it "
                        "out of --folds all")
    return (context.paths.weights / start / f"fold{fold}.safetensors",) if start else ()


def _run(context: Context, experiment: Experiment, fold: int, artifact: Artifact, device: Any) -> Any:
    from radstack.core.say import say
    from radstack.training.run import Run
    from radstack.training.tryout import check_words

    targets = experiment.targets_of(context.competition.targets)
    rows, fold_of_row, pictures = learned_rows(context, experiment, fold)
    check_words(experiment, targets, rows)  # also what only prediction will read
    workers = context.options.workers if device.type == "cuda" else 0
    return Run(experiment, fold, targets, rows, fold_of_row, pictures,
               artifact.key, artifact.files[0].with_suffix(".checkpoint"), device, workers,
               context.options.checkpoint_seconds, say,
               judge=partial(_judge, context, rows, targets) if context.options.held_out and fold != ALL else None)


def _judge(context: Context, rows: pd.DataFrame, targets: tuple[str, ...], numbers: np.ndarray,
           said: np.ndarray) -> dict[str, float]:
    """Loss of each target, or group of classes, by the competition's metric; those of groups not answered are left out."""
    metric, every = context.competition.metric, context.competition.targets
    whole = pd.DataFrame(said, columns=list(targets)).reindex(columns=list(every)).to_numpy()
    losses = metric.target_losses(rows[list(every)].to_numpy()[numbers], whole)
    return {name: float(loss) for name, loss in zip(metric.scored(every), losses, strict=True) if np.isfinite(loss)}


def write_weights(path: Path, weights: Mapping[str, Any]) -> None:
    """Write parameters and buffers (name -> tensor) as safetensors, atomically; of several processes rank 0 alone does."""
    from safetensors.torch import save_file

    from radstack.core.files import replacing
    from radstack.training.distributed import distributed

    if distributed()[0] > 0:
        return
    with replacing(path) as part:
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, part)
