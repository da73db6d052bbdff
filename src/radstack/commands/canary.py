"""Fits to shuffled labels: what is fitted to labels that belong to other patients must not beat the constant predictor.

A stack, or a network, that does has met the labels that it is scored on. Labels that are hidden in a picture or in a column
are not found this way, since they are not shuffled with the targets.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.recipe import change
from radstack.recipes.experiment import Experiment, Pseudo
from radstack.recipes.stacker import Stacker
from radstack.report.ensemble import submitted
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_rows
from radstack.scoring.intervals import Interval, difference
from radstack.scoring.task import Task
from radstack.stack.predictions import fold_files
from radstack.stack.rows import Member
from radstack.stages.stack import members_of, task_of

SEEDS = (0, 1)
"""Of the shuffles. One honest fit in forty beats a 95 % interval by chance, so that a hit is tried with the next seed."""


@dataclass(frozen=True)
class Trial:
    """What one fit to shuffled labels reached."""

    name: str
    score: float
    """Out of fold, by the metric, on the shuffled labels."""
    constant: float
    """Of the constant that the other folds' shuffled labels give."""
    gain: Interval
    """Loss of the constant less that of the fit, paired by patient; positive is better than it can honestly be."""

    @property
    def leaks(self) -> bool:
        """Whether the fit beats the constant by more than noise."""
        return self.gain.low > 0

    def __str__(self) -> str:
        return f"{self.name} {self.score:.4f}, constant {self.constant:.4f}, gain {self.gain}"


def shuffled(rows: pd.DataFrame, targets: list[str], seed: int) -> pd.DataFrame:
    """``rows`` with the ``targets`` of every training patient taken from another training patient.

    Each patient gives to one and takes from one other, all his series from the other's (in turn, where he has more of
    them). Within a series the labels come in random order, repeated where it is longer: a slice's place in its series tells
    much about its label, and would let an honest fit beat the constant.

    Raises:
        UserError: there are fewer than two training patients.
    """
    rng, train = np.random.default_rng(seed), np.flatnonzero((rows["split"] == "train").to_numpy())
    series = rows.iloc[train].groupby(["group", "series"], sort=False).indices
    patients: dict[str, list[np.ndarray]] = {}
    for (group, _), places in series.items():
        patients.setdefault(group, []).append(train[places])
    if len(patients) < 2:
        raise UserError("labels cannot be shuffled between fewer than two patients; index more of them")
    order, labels = rng.permutation(len(patients)), rows[targets].to_numpy()
    owners, dealt = list(patients.values()), labels.copy()
    for taker, giver in zip(order, np.roll(order, 1)):
        for number, places in enumerate(owners[taker]):
            given = owners[giver][number % len(owners[giver])]
            dealt[places] = labels[np.resize(rng.permutation(given), len(places))]
    return rows.assign(**{target: dealt[:, column] for column, target in enumerate(targets)})


def stacks(context: Context) -> Iterator[Trial]:
    """Refit each stacker that learns and that the final model is built on to shuffled labels, out of fold, in order.

    The members' tables stay as they are.
    """
    from radstack.stack.registry import method_of

    models = context.competition.models
    wanted = submitted(models.stackers, models.final)
    for stacker in models.stackers:
        if stacker.name in wanted and method_of(stacker).learns:
            yield repeated(partial(_refit, context, stacker, members_of(context, stacker.members)))


def _refit(context: Context, stacker: Stacker, members: dict[str, Member], seed: int) -> Trial:
    from radstack.stack.nested import fit_stack

    (rows, fold), task = read_rows(context), task_of(context)
    labeled = shuffled(rows, list(task.targets), seed)
    stacked = fit_stack(stacker, members, labeled, read_folds(context), task).member.oof
    return judged(stacker.name, stacked, labeled, fold, task)


def trained(context: Context, name: str) -> Trial:
    """Train the experiment ``name`` on its first fold to shuffled labels, in a temporary folder, and judge it.

    Raises:
        UserError: there is no such experiment.
    """
    models = context.competition.models
    known = {one.name: one for one in (*models.on_call, *models.experiments, *context.experiments)}
    if name not in known:
        raise UserError(f"--train {name}: no such experiment; known: {', '.join(known)}")
    return repeated(partial(_train, context, known[name]))


def repeated(once: Callable[[int], Trial]) -> Trial:
    """``once(seed)`` of the first seed, or, as long as it leaks, of the next."""
    for seed in SEEDS:
        trial = once(seed)
        if not trial.leaks:
            break
    return trial


def judged(name: str, table: pd.DataFrame, rows: pd.DataFrame, fold: np.ndarray, task: Task) -> Trial:
    """Set a prediction table (``id`` and targets, out of fold) beside the constant predictor.

    ``rows`` are the row table with the labels that were learned, ``fold`` is int [rows], -1 for test. Targets that are never
    answered do not count.
    """
    targets = list(task.targets)
    place = pd.Index(rows["id"]).get_indexer(pd.Index(table["id"]))
    truth, own = rows[targets].to_numpy(np.float64), fold[place]
    constant = np.empty((len(place), len(targets)))
    for number in np.unique(own):
        constant[own == number] = task.metric.prior(rows.loc[(fold >= 0) & (fold != number), targets]).to_numpy()
    losses = [task.metric.kind.losses(truth[place], predicted, task.metric)
              for predicted in (constant, table[targets].to_numpy(np.float64))]
    labeled = task.metric.held(truth[place])
    answered = ~(np.isnan(losses[1]) & labeled).any(axis=0)
    held, weights = labeled & answered, np.where(answered, task.metric.weights, 0.0)
    own = held.any(axis=1)
    plain, model = ((np.where(held, one, 0.0) @ weights)[own] / (held @ weights)[own] for one in losses)
    return Trial(name, float(model.mean()), float(plain.mean()), difference(plain, model, rows["group"].iloc[place[own]]))


def _train(context: Context, experiment: Experiment, seed: int) -> Trial:
    from radstack.stages.predict import predict_fold
    from radstack.stages.train import train_fold

    rows, fold = read_rows(context)
    number = context.folds_of(experiment)[0]
    with tempfile.TemporaryDirectory(prefix="leak-audit-") as folder:
        own = _elsewhere(context, experiment, Path(folder))
        labeled = shuffled(rows, list(context.competition.targets), seed)
        write_table(own.paths.cache / "rows.parquet", labeled)
        train_fold(own, experiment, number)
        predict_fold(own, experiment, number, "train")
        table = pd.read_parquet(fold_files(own.paths.oof / experiment.name, number)[0])
    return judged(f"{experiment.name} fold {number}", table, labeled, fold, task_of(context))


def _elsewhere(context: Context, experiment: Experiment, folder: Path) -> Context:
    """The context whose results go below ``folder``: folds and pictures are links, the row table is left out.

    A network that starts from another one's weights starts from them here; a restart, which honest training to shuffled
    labels would always ask for, is not made; of several networks a fold, which learn from the same rows, one is trained.
    """
    recipe = change(experiment, train__restarts=0, train__seeds=1, train__snapshots=1, train__averages=(),
                    sources=(), pseudo=Pseudo())  # whose labels are not shuffled
    models = replace(context.competition.models, experiments=(recipe,), on_call=(), sequences=())
    own = replace(context, competition=replace(context.competition, models=models),
                  paths=replace(context.paths, out=folder),
                  options=replace(context.options, only=(recipe.name,), out_dir=str(folder), resume=False))
    links = [*context.paths.folds.iterdir(), *context.paths.cache.iterdir()]
    links = [path for path in links if not path.name.startswith("rows.parquet")]
    links += [context.paths.weights / experiment.backbone.start] if experiment.backbone.start else []
    for path in links:
        link = folder / path.relative_to(context.paths.out)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    return own
