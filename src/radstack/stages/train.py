"""Stage 04: one experiment on one fold -> ``weights/<comp>/<experiment>/fold0.safetensors``."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Lesson, Part
from radstack.core.errors import UserError
from radstack.core.folds import ALL, fold_name, fold_words
from radstack.core.progress import titled
from radstack.core.recipe import change, set_fields
from radstack.recipes.experiment import Backbone, Experiment
from radstack.recipes.losses import Regression
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.length import training_length
from radstack.running.tasks import Task, make_all, per_fold, shared
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
    for chosen in in_turn(recipes):
        makers = [maker for pair in per_fold(context, "train", chosen, weights_artifact, train_fold,
                                               partial(training_length, context))
                  for maker in _of_seeds(*pair)]
        make_all(context, list({task.name: (artifact, task) for artifact, task in makers}.values()))


def in_turn(recipes: list[Experiment]) -> Iterator[list[Experiment]]:
    """``recipes`` in groups, such that whatever a network starts from is in an earlier group."""
    while True:
        names = {one.name for one in recipes}
        free = [one for one in recipes if one.backbone.start not in names]
        if recipes and not free:
            raise UserError(f"{', '.join(sorted(names))} start from one another; let backbone.start of one be empty")
        yield free
        recipes = [one for one in recipes if one.backbone.start in names]
        if not recipes:
            return


def _of_seeds(artifact: Artifact, task: Task) -> Iterator[tuple[Artifact, Task]]:
    """What trains one fold, seed by seed."""
    context, experiment, fold = task.arguments
    yield artifact, task
    for number in range(1, experiment.train.seeds):
        yield (weights_artifact(context, experiment, fold, number),
               replace(task, name=f"{task.name} seed {experiment.train.seed + number}", arguments=(*task.arguments, number)))


def weights_artifact(context: Context, experiment: Experiment, fold: int, number: int = 0) -> Artifact:
    """What one run of a fold leaves, that of seed ``train.seed + number``: its network, and others of the same run.

    Test-time settings do not enter its key, and recipes that differ in them alone share it; nor does how many seeds there
    are, so that more of them cost the new ones alone.
    """
    paths, files = context.paths, run_files(context, experiment, fold, number)
    experiment = of_seed(context.trained_as(experiment), number)
    recipe = {"experiment": {**set_fields(experiment), "tta": None, "folds": None, "note": None}, "fold": fold}
    return Artifact("04_train", VERSION, files, recipe,
                    (Part(paths.cache / "rows.parquet", "train", lesson_of(context, experiment, fold)),
                     paths.folds / "folds.csv", *started_from(context, experiment, fold),
                     *inputs_of(context, experiment, fold)))


def weights_artifacts(context: Context, experiment: Experiment, fold: int) -> list[Artifact]:
    """Those of all seeds."""
    return [weights_artifact(context, experiment, fold, number) for number in range(experiment.train.seeds)]


def of_seed(experiment: Experiment, number: int) -> Experiment:
    """The recipe of one of its seeds alone."""
    return change(experiment, train__seed=experiment.train.seed + number, train__seeds=1)


def weights_file(context: Context, experiment: Experiment, fold: int) -> Path:
    """The first network of a fold."""
    return network_files(context, experiment, fold)[0]


def network_files(context: Context, experiment: Experiment, fold: int) -> tuple[Path, ...]:
    """The networks that answer for a fold together, as :func:`network_names` calls them."""
    return tuple(file for number in range(experiment.train.seeds) for file in run_files(context, experiment, fold, number))


def run_files(context: Context, experiment: Experiment, fold: int, number: int) -> tuple[Path, ...]:
    """Those of one seed: ``fold0.safetensors``, of a further seed ``fold0_seed1``, of a snapshot ``fold0_epoch3``."""
    folder = context.paths.weights / context.trained_as(experiment).name
    stem = fold_name(fold) + experiment.seed_ends[number]
    return tuple(folder / f"{stem}{part}.safetensors" for part in ("", *(f"_{name}" for name in experiment.kept)))


def network_names(experiment: Experiment) -> tuple[str, ...]:
    """What the networks of a fold are called in tables; one name that is "" where there is one network."""
    recipe = experiment.train
    seeds = [f"seed {recipe.seed + number}" if recipe.seeds > 1 else "" for number in range(recipe.seeds)]
    runs = ["last" if experiment.kept else "", *experiment.kept]
    return tuple(" ".join(filter(None, (seed, run))) for seed in seeds for run in runs)


def lesson_of(context: Context, experiment: Experiment, fold: int) -> Lesson:
    """What the network of a fold learns from: its own targets, and those by which its rows are drawn, of the other folds."""
    competition, sampling = context.competition, experiment.sampling
    named = {sampling.rare_class, *(name for names in sampling.balance for name in names), sampling.weight,
             *experiment.head.columns}
    labels = (*competition.targets, *competition.data.label_columns)
    learned = {*experiment.targets_of(competition.targets), *named}
    return Lesson(labels, tuple(name for name in labels if name in learned), sampling.keep,
                  context.paths.folds / "folds.csv", fold)


def train_fold(context: Context, experiment: Experiment, fold: int, number: int = 0) -> None:
    """Train one seed here, or in ``--gpus`` processes started by torchrun; a probe here."""
    gpus = 1 if experiment.probe else context.options.gpus
    if gpus > 1 and shared(context, train_fold, context, experiment, fold, number):
        return
    from radstack.training.distributed import joined, together

    kind = device_of(context.options.device)
    seed = f" seed {experiment.train.seed + number}" if number else ""
    with joined(gpus, kind) as device, titled(f"train {experiment.name} {fold_words(fold)}{seed}"):
        artifact = weights_artifact(context, experiment, fold, number)
        one = of_seed(experiment, number)
        together(artifact, lambda: train_run(context, _run(context, one, fold, artifact, device)), context.options.force)


def train_run(context: Context, run: Any) -> dict[str, Any]:
    """Train a :class:`radstack.training.run.Run` and write its networks beside its checkpoint; facts for the manifest."""
    from radstack.nets.backbones import build
    from radstack.nets.objectives import objective
    from radstack.training import checkpoint
    from radstack.training.align import aligned
    from radstack.training.probe import fit_probe
    from radstack.training.run import train as fit

    experiment = run.experiment
    if not context.options.resume:
        checkpoint.remove(run.checkpoint)
    judge = objective(experiment.loss, run.targets)

    def make() -> Any:
        backbone, folder = starting(context, experiment, run.fold)
        return build(backbone, judge.outputs, len(experiment.view.mean), folder, context.options.offline, experiment.head,
                     judge.shares)

    if experiment.probe:
        networks, facts = fit_probe(run, make)
    else:
        learner, facts = fit(run, make)
        networks = learner.networks()
        if isinstance(experiment.loss, Regression) and experiment.loss.line:
            networks, lines = aligned(run, learner)
            facts |= lines
    first = run.checkpoint.with_suffix("")
    for end, weights in zip(("", *(f"_{name}" for name in experiment.kept)), networks, strict=True):
        write_weights(first.with_name(f"{first.name}{end}.safetensors"), weights)
    checkpoint.remove(run.checkpoint)
    return facts


def starting(context: Context, experiment: Experiment, fold: int) -> tuple[Backbone, Path | None]:
    """The backbone whose weights are loaded, and the folder that is looked in for them first."""
    if experiment.backbone.start:
        file = started_from(context, experiment, fold)[0]
        return change(experiment.backbone, pretrained=True, weights=file.name), file.parent
    return experiment.backbone, Path(context.options.weights) if context.options.weights else None


def started_from(context: Context, experiment: Experiment, fold: int) -> tuple[Path, ...]:
    """The weights of the same fold that training starts from, if the recipe names any: they never saw the fold either.

    They are those of an experiment, or of a step of the localizer, which has none of all rows.
    """
    start = experiment.backbone.start
    if not start:
        return ()
    models = context.competition.models
    other = next((one for one in (*models.experiments, *models.on_call) if one.name == start), None)
    if other is not None:
        return run_files(context, other, fold, 0)[:1]
    if fold == ALL:
        raise UserError(f"{experiment.name} starts from {start}, which has a network a fold and none of all rows; leave it "
                        "out of --folds all")
    return (context.paths.weights / start / f"fold{fold}.safetensors",)


def _run(context: Context, experiment: Experiment, fold: int, artifact: Artifact, device: Any) -> Any:
    from radstack.core.say import say
    from radstack.training.run import Run
    from radstack.training.tryout import check_words

    targets = context.competition.targets_of(experiment)
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
