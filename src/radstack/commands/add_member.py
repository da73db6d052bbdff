"""Predictions that a teammate made elsewhere, as a member: read, held against our folds and labels, and written as ours."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part
from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_json, write_table
from radstack.core.folds import fold_hash
from radstack.core.given_folds import NAMES, fold_numbers, moved
from radstack.recipes.stacker import Outside, Stacker
from radstack.report.stage import made_folds
from radstack.running.context import NAME, OUTSIDE, TAKEN, Context
from radstack.running.tables import read_folds, read_rows
from radstack.scoring.intervals import difference, interval
from radstack.scoring.task import Task
from radstack.stack.predictions import fold_file, prediction_table, read_member
from radstack.stages.stack import task_of
from radstack.submission.outside import Read, Wanted, read_predictions

VERSION = 1
MOST_MISSING = 0.5
"""Share of the rows that a table may lack."""
FAR = 0.6
"""A table whose score is below this share of the best neighbor's, by more than noise, is suspected of a leak."""


class Tables(NamedTuple):
    """What a teammate gives."""

    oof: Path
    test: Path
    folds: Path | None = None
    """The folds that the models were trained on; None where ``oof`` has them in a column, or nobody knows."""
    held_out: bool = False
    """No model behind the table met any training row."""
    column: str = ""
    """Of a sole target, where the tables have several columns of numbers."""


def add_member(context: Context, name: str, tables: Tables) -> None:
    """Make ``name`` a member from a table of out-of-fold predictions and one of test; tell what was found.

    Raises:
        UserError: the name is taken, or a table does not fit (:mod:`radstack.submission.outside`).
    """
    taken = {*TAKEN, *(one.name for one in context.recipes if not isinstance(one, Outside))}
    if not NAME.fullmatch(name) or name in taken:
        raise UserError(f"{name!r} cannot name a member; take a name that no recipe has, of letters, digits, and . _ + -")
    paths, folder = context.paths, context.paths.oof / name
    numbers = range(context.competition.folds.count)
    files = (folder / OUTSIDE, *(fold_file(folder, one, split) for one in numbers for split in ("train", "test")))
    read = (tables.oof, tables.test, *([tables.folds] if tables.folds else []))
    rows = paths.cache / "rows.parquet"
    artifact = Artifact("add_member", VERSION, files, {"held out": tables.held_out, "column": tables.column},
                        (*read, paths.folds / "folds.csv", Part(rows, "train"), Part(rows, "test")),
                        {"metric": context.competition.metric.key})
    context.make(artifact, lambda: _build(context, name, tables))


def _build(context: Context, name: str, tables: Tables) -> dict[str, Any]:
    task, (train, fold), (test, _) = task_of(context), read_rows(context, "train"), read_rows(context, "test")
    layout, targets = context.competition.submission, list(task.targets)
    out_of_fold = read_predictions(tables.oof, Wanted(task, layout, train, test["id"], tables.column))
    bare = test.drop(columns=targets, errors="ignore")
    of_test = read_predictions(tables.test, Wanted(task, layout, bare, train["id"], tables.column))
    lacking = {"train": _lacking(tables.oof, out_of_fold.values, train), "test": _lacking(tables.test, of_test.values, test)}
    facts = _judged(context, train, fold, out_of_fold.values, ~lacking["train"], task)
    facts |= {"mark": mark_of(tables, train, fold, ~lacking["train"], task.targets), "filled": {
        split: int(rows.sum()) for split, rows in lacking.items()}, "notes": _notes(tables, out_of_fold, of_test)}
    whole = {"train": _filled(out_of_fold.values, train, fold, task), "test": _filled(of_test.values, train, None, task)}
    _write(context.paths.oof / name, {"train": train, "test": test}, fold, whole, task)
    write_json(context.paths.oof / name / OUTSIDE, {"name": name, "tables": [tables.oof.name, tables.test.name], **facts})
    tell(name, facts, {"train": len(train), "test": len(test)})
    return {"fold_hash": fold_hash(read_folds(context)), "score": facts["score"], "mark": facts["mark"]}


def _lacking(path: Path, values: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Rows without a prediction, bool [rows]."""
    lacking = ~np.isfinite(values).all(axis=1)
    if lacking.mean() > MOST_MISSING:
        raise UserError(f"{path} lacks {int(lacking.sum()):,} of {len(rows):,} rows, such as {rows['id'][lacking].iloc[0]}; "
                        "give a table of at least half of them")
    return lacking


def _notes(tables: Tables, *read: Read) -> list[str]:
    return [f"{path.name}: {note}" for path, one in zip((tables.oof, tables.test), read) for note in one.notes]


def _filled(values: np.ndarray, train: pd.DataFrame, fold: np.ndarray | None, task: Task) -> np.ndarray:
    """The values with the prior in rows that are missing: of training rows (``fold``) by the labels of the other folds."""
    out, targets, bare = values.copy(), list(task.targets), ~np.isfinite(values).all(axis=1)
    if fold is None:
        out[bare] = task.metric.prior(train[targets]).to_numpy(np.float64)
        return out
    for one in np.unique(fold):
        out[bare & (fold == one)] = task.metric.prior(train.loc[fold != one, targets]).to_numpy(np.float64)
    return out


def mark_of(tables: Tables, train: pd.DataFrame, fold: np.ndarray, answered: np.ndarray, targets: tuple[str, ...]) -> str:
    """Why a table may enter plain averages alone, in words; "" where its predictions are out of fold here as well."""
    if tables.held_out:
        return ""
    source = tables.folds or (tables.oof if _has_folds(tables.oof) else None)
    if source is None:
        return "its folds are not known; name them with --folds FILE, or say --held-out if no model of it met these rows"
    theirs, groups = fold_numbers(source, train, targets)[0], train["group"].to_numpy()
    ours = pd.Series(fold[answered], groups[answered])
    wrong, count = moved(ours.groupby(level=0).first(), pd.Series(theirs[answered], groups[answered]))
    return f"{wrong:,} of {count:,} patients lie in another fold than here" if wrong else ""


def _has_folds(path: Path) -> bool:
    return any(name.lower() in NAMES for name in read_text_table(path, ()))


def _judged(context: Context, train: pd.DataFrame, fold: np.ndarray, values: np.ndarray, answered: np.ndarray,
            task: Task) -> dict[str, Any]:
    """Score beside the best neighbor's, the constant's and that of the table shuffled within folds; what is suspected."""
    metric, targets = task.metric, list(task.targets)
    known = train[answered]
    truth, said, groups = known[targets].to_numpy(np.float64), values[answered], known["group"].to_numpy()
    losses = metric.row_losses(truth, said)
    best, near = neighbor(context, known["id"].to_numpy(), truth, task)
    constant = np.broadcast_to(metric.constant(train[targets]).to_numpy(np.float64), truth.shape)
    shuffled = metric.row_losses(truth, said[_within(fold[answered])])
    bland = metric.row_losses(truth, constant)
    suspected = []
    if best and losses.mean() < FAR * near.mean() and difference(near, losses, groups).low > 0:
        suspected.append(f"it is far better than its best neighbor {best} ({near.mean():.4f}): did its models meet these "
                         "rows?")
    if difference(bland, shuffled, groups).low > 0:
        suspected.append(f"shuffled within folds it still beats the constant predictor ({bland.mean():.4f}): its folds know "
                         "their labels")
    score = interval(losses, groups)
    return {"score": vars(score), "neighbor": best, "neighbor_score": float(near.mean()) if best else None,
            "shuffled": float(shuffled.mean()), "constant": float(bland.mean()), "suspected": suspected}


def _within(fold: np.ndarray) -> np.ndarray:
    """An order of rows in which each stays in its fold, int [rows]."""
    rng, order = np.random.default_rng(0), np.arange(len(fold))
    for one in np.unique(fold):
        order[fold == one] = rng.permutation(order[fold == one])
    return order


def neighbor(context: Context, ids: np.ndarray, truth: np.ndarray, task: Task) -> tuple[str, np.ndarray]:
    """The model here with the best score on the rows ``ids``, and its losses; "" where none answers all of them."""
    found: dict[str, np.ndarray] = {}
    for recipe in context.recipes:
        folds = [] if isinstance(recipe, Stacker | Outside) else made_folds(context, recipe.name)
        if not folds:
            continue
        table = read_member(context.paths.oof / recipe.name, folds, tests=False).oof.set_index("id")
        values = table[list(task.targets)].reindex(ids).to_numpy(np.float64)
        if np.isfinite(values).all():
            found[recipe.name] = task.metric.row_losses(truth, values)
    best = min(found, key=lambda name: found[name].mean(), default="")
    return best, found.get(best, np.empty(0))


def _write(folder: Path, rows: dict[str, pd.DataFrame], fold: np.ndarray, values: dict[str, np.ndarray], task: Task) -> None:
    for one in np.unique(fold):
        held = fold == one
        write_table(fold_file(folder, int(one), "train"), prediction_table(
            rows["train"]["id"].to_numpy()[held], int(one), values["train"][held], task.targets))
        # One answer for test, whatever number of models gave it: so each fold's is the same.
        write_table(fold_file(folder, int(one), "test"), prediction_table(
            rows["test"]["id"].to_numpy(), -1, values["test"], task.targets))


def tell(name: str, facts: dict[str, Any], sizes: dict[str, int]) -> None:
    """Print what was found."""
    for note in facts["notes"]:
        print(f"  note: {note}")
    for split, count in facts["filled"].items():
        if count:
            print(f"  note: {count:,} of {sizes[split]:,} {split} rows are missing and get the constant predictor")
    score, beside = facts["score"], f", {facts['neighbor']} {facts['neighbor_score']:.5f}" if facts["neighbor"] else ""
    print(f"  {name}: {score['value']:.5f} [{score['low']:.5f}, {score['high']:.5f}] out of fold; beside it the constant "
          f"{facts['constant']:.5f}{beside}, {name} shuffled within folds {facts['shuffled']:.5f}")
    for line in facts["suspected"]:
        print(f"  SUSPECTED LEAK: {line}")
    print(f"  {name} may enter plain averages alone: {facts['mark']}" if facts["mark"] else
          f"  {name} is a member like any other: name it in the members of a stacker", flush=True)
