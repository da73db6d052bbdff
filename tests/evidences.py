"""Evidence of a small made-up competition, for tests of the page's sections."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from competitions import load
from radstack.core.paths import Paths
from radstack.recipes.competition import Competition, Models, Pages
from radstack.recipes.stacker import Stacker
from radstack.report.evidence import Evidence
from radstack.running.context import Context, Options
from radstack.scoring.task import Metric, Task, score_rows

TARGETS = ("bleed", "any")
LOSS = Metric("weighted log loss", (1, 2))


def experiment(name: str) -> object:
    """A recipe that counts as level one."""
    from tiny import EXPERIMENT

    from radstack.core.recipe import change
    return change(EXPERIMENT, name=name)


def small_competition(task: Task, models: Models, pages: Pages | None = None, **edits: object) -> Competition:
    """A competition of ``task`` and ``models`` whose data nobody reads."""
    return replace(load("ich"), name="small", title="Small", targets=task.targets, metric=task.metric, models=models,
                   pages=pages or Pages(), **edits)


def evidence(folder: Path, oof: dict[str, np.ndarray], truth: np.ndarray, *,
             members: dict[str, tuple[str, ...]] | None = None, metric: Metric = LOSS, targets: tuple[str, ...] = TARGETS,
             per_series: int = 4, **fields: object) -> Evidence:
    """Evidence of ``truth`` [n, targets] and predictions; models in ``members`` are stackers of those, others networks."""
    count, members = len(truth), members or {}
    series = np.arange(count) // per_series
    train = pd.DataFrame({"id": [f"r{row}" for row in range(count)], "series": [f"s{one}" for one in series],
                          "group": [f"p{one}" for one in series], "position": np.arange(count) % per_series,
                          "split": "train"})
    train[list(targets)] = truth
    experiments = tuple(experiment(name) for name in oof if name not in members)
    stackers = tuple(Stacker(name, "mean", own) for name, own in members.items())
    task, models = Task(targets, metric), Models(experiments, stackers, final=next(reversed(oof)))
    competition = small_competition(task, models, Pages(case_by="series", **fields))
    tables = {name: train[["id"]].assign(**dict(zip(targets, predicted.T))) for name, predicted in oof.items()}
    scores = score_rows("out of fold", tables, train, competition.metric.constant(train[list(targets)]), None, task)
    context = Context(competition, Paths(folder, folder, "small", "small"), Options())
    nothing = pd.DataFrame(columns=["stage", "split", "path", "reason", "detail"])
    return Evidence(context, task, list(oof), train, nothing, train, train, series % 3, oof, scores,
                    pd.DataFrame({"measure": [], "value": []}), SimpleNamespace())
