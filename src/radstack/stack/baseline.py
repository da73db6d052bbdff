"""What is known of a row without its picture: nothing, or a small model of a few columns. Out of fold, as every model is."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.recipes.baseline import PLACE, SLICES, Baseline
from radstack.scoring.task import Task


def constant_table(rows: pd.DataFrame, fold: np.ndarray, task: Task) -> pd.DataFrame:
    """``id`` and targets of all ``rows`` (train and test): the prior of training rows of other folds, for test of all.

    Arguments as for :func:`baseline_table`; ``rows`` needs ``id``, ``split`` and the targets.
    """
    return _out_of_fold(rows, fold, task, lambda fitted, asked: task.metric.prior(rows.loc[fitted, list(task.targets)]))


def baseline_table(baseline: Baseline, rows: pd.DataFrame, fold: np.ndarray, task: Task) -> pd.DataFrame:
    """``id`` and targets of all ``rows`` (train and test): each answered by training rows of other folds, test by all.

    Rows fall into cells by the columns of the recipe. A cell says the best constant of its training rows (share, or median),
    drawn to the prior of all training rows: it weighs as its number of patients, the other as ``strength`` patients. A row
    whose cell is empty gets that prior. With the place in the series as column this is what slice position alone is
    worth; with the number of slices, which is the same for a whole series, what a series' share of each label is before any
    of its pictures was seen.

    Args:
        baseline: the recipe.
        rows: ``id``, ``split``, ``group``, ``series``, ``position``, the targets and the recipe's columns.
        fold: int [rows], -1 for test.
        task: targets and metric.

    Raises:
        UserError: a column is missing.
    """
    facts = facts_of(baseline, rows)
    return _out_of_fold(rows, fold, task, lambda fitted, asked: _answers(baseline, facts, rows, fitted, asked, task))


def _out_of_fold(rows: pd.DataFrame, fold: np.ndarray, task: Task,
                 answer: Callable[[np.ndarray, np.ndarray], np.ndarray | pd.Series]) -> pd.DataFrame:
    """The table of what ``answer`` says by the rows to fit, for the rows that are asked; both bool [rows]."""
    train = (rows["split"] == "train").to_numpy()
    out = np.empty((len(rows), len(task.targets)), np.float32)
    for number in np.unique(fold[train]):
        asked = train & (fold == number)
        out[asked] = answer(train & ~asked, asked)
    out[~train] = answer(train, ~train)
    return rows[["id"]].assign(**dict(zip(task.targets, out.T, strict=True)))


def facts_of(baseline: Baseline, rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the recipe, same order as ``rows``; a UserError where one is missing."""
    count = rows.groupby("series")["position"].transform("size")
    rank = rows.groupby("series")["position"].rank(method="first") - 1
    known = {PLACE: (rank / (count - 1).clip(lower=1)).where(count > 1, 0.5), SLICES: count}
    if missing := [name for name in baseline.columns if name not in known and name not in rows]:
        raise UserError(f"baseline {baseline.name} reads {missing[0]}, which no row has; take {PLACE}, {SLICES} or one of "
                        f"{', '.join(map(str, rows.columns))}")
    return pd.DataFrame({name: known[name] if name in known else rows[name] for name in baseline.columns})


def _answers(baseline: Baseline, facts: pd.DataFrame, rows: pd.DataFrame, fitted: np.ndarray, asked: np.ndarray,
             task: Task) -> np.ndarray:
    """Predictions float64 [asked rows, targets] by the rows ``fitted``; both bool [rows]."""
    cuts = pd.DataFrame({name: _cut(facts[name], fitted, baseline.parts) for name in facts}, rows.index)
    cells = cuts.groupby([*cuts], sort=False).ngroup()
    labels = rows.loc[fitted, list(task.targets)]
    everyone = task.metric.prior(labels).to_numpy(np.float64)
    said = np.tile(everyone, (cells.nunique(), 1))
    for cell, part in labels.groupby(cells[fitted]):
        weight = (patients := rows.loc[part.index, "group"].nunique()) / (patients + baseline.strength)
        said[cell] = weight * task.metric.constant(part).to_numpy(np.float64) + (1 - weight) * everyone
    return said[cells[asked]]


def _cut(values: pd.Series, fitted: np.ndarray, parts: int) -> np.ndarray:
    """The part of each row: its value as text, or for numbers of many values between which quantiles of ``fitted``."""
    if not pd.api.types.is_numeric_dtype(values) or values[fitted].nunique() <= parts:
        return values.astype(str).to_numpy()
    inner = np.nanquantile(values[fitted].to_numpy(np.float64), np.linspace(0, 1, parts + 1)[1:-1])
    return np.searchsorted(np.unique(inner), values.to_numpy(np.float64), side="right")
