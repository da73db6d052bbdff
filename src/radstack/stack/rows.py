"""Joins members' prediction tables to the index, by id, and refuses what could leak."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from radstack.core.errors import LeakError, UserError, command
from radstack.core.folds import fold_hash, fold_of
from radstack.core.lookup import places
from radstack.scoring.task import Task


@dataclass(frozen=True)
class Member:
    """Predictions of one model or stack: what ``oof/<comp>/<name>/`` holds."""

    oof: pd.DataFrame
    """``id``, ``fold``, targets: each training row once, from the model that did not see its fold."""
    test: pd.DataFrame
    """``id``, ``fold``, targets: each test row once a fold."""
    folds_hash: str
    """``fold_hash`` of the fold table the models were trained on."""
    mark: str = ""
    """Why it may enter plain averages alone, and no fit; "" for what was made here."""


@dataclass(frozen=True)
class Rows:
    """Pictures with the members' predictions, series by series in slice order."""

    task: Task
    table: pd.DataFrame
    """The index rows: ``id``, ``group``, ``series``, ``position``, targets, further columns."""
    fold: np.ndarray
    """int [rows], -1 for test."""
    predicted: np.ndarray
    """Probabilities or numbers, float32 [members, rows, targets]."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.table)

    def take(self, chosen: np.ndarray) -> "Rows":
        """The rows where ``chosen`` (bool [rows]) holds, in the same order."""
        return Rows(self.task, self.table[chosen], self.fold[chosen], self.predicted[:, chosen])

    def prior(self, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """What to say of other rows by the labels of the ``chosen`` (numbers, or bool [rows]), float64 [targets]."""
        return self.task.metric.prior(self.table[list(self.task.targets)].iloc[chosen]).to_numpy(np.float64)

    @cached_property
    def truth(self) -> np.ndarray:
        """Labels, float32 [rows, targets]."""
        return self.table[list(self.task.targets)].to_numpy(np.float32)

    @cached_property
    def series(self) -> np.ndarray:
        """Series number, int [rows]; a series' rows follow each other."""
        return pd.factorize(self.table["series"])[0]

    @cached_property
    def group(self) -> np.ndarray:
        """Patient number, int [rows]."""
        return pd.factorize(self.table["group"])[0]

    @cached_property
    def linked(self) -> np.ndarray:
        """Predictions on the scale on which they are averaged (log odds or numbers), float32 [members, rows, targets]."""
        out = np.empty(self.predicted.shape, np.float32)
        for place, member in enumerate(self.predicted):
            out[place] = self.task.metric.link(member)
        return out

    @cached_property
    def blend(self) -> np.ndarray:
        """Mean of the members on that scale, float32 [rows, targets]."""
        return self.linked.mean(axis=0)


def mean_over_folds(test: pd.DataFrame, targets: tuple[str, ...]) -> pd.DataFrame:
    """One row an id: the mean of its folds' predictions (``id`` and ``targets``, float32).

    A UserError where some fold lacks an id that another fold has.
    """
    counts = test.groupby("fold")["id"].nunique()
    ids = test["id"].nunique()
    if len(counts) * ids != len(test) or (counts != ids).any():
        raise UserError(f"the folds' test tables hold different ids; run {command('05_predict')} --force")
    return test.groupby("id", sort=False)[list(targets)].mean().astype(np.float32).reset_index()


def join(members: Mapping[str, Member], index: pd.DataFrame, folds: pd.DataFrame, task: Task) -> tuple[Rows, Rows]:
    """Training and test rows of ``index`` with every member's predictions (test: the mean over folds).

    Training rows are those of the folds that every member has, since a recipe may train three folds of five.

    A LeakError where a member was made on another fold table, scores a row in another fold than the table says, or holds
    other ids than the index; a UserError where there is no member, no common fold, or a training row without a label.
    """
    if not members:
        raise UserError("a stack needs at least one member; name some in its recipe's members")
    expected = fold_hash(folds)
    for name, member in members.items():
        if member.folds_hash != expected:
            raise LeakError(f"{name} was trained on another fold table ({member.folds_hash}, not {expected}): its "
                            "predictions are not out of fold here; train and predict it again, or leave it out")
    ordered = in_order(index)
    fold = fold_of(ordered, folds).to_numpy()
    is_test = (ordered["split"] == "test").to_numpy()
    if (fold[~is_test] < 0).any():
        raise UserError(f"patient {ordered['group'][~is_test & (fold < 0)].iloc[0]} has no fold: the fold table was made "
                        f"on other data; run {command('01_make_folds')} --force")
    common = set.intersection(*(set(member.oof["fold"]) for member in members.values()))
    if not common:
        raise UserError(f"{', '.join(members)} have no fold in common; predict the same folds for all of them")
    is_train = np.isin(fold, sorted(common)) & ~is_test
    train = _rows({name: member.oof for name, member in members.items()}, ordered[is_train], fold[is_train], task)
    test = unseen({name: member.test for name, member in members.items()}, ordered[is_test], task)
    if not task.metric.usable(train.truth).all():
        raise UserError(f"the index has training rows without a label; run {command('01_make_folds')} --force")
    return train, test


def unseen(tests: Mapping[str, pd.DataFrame], index: pd.DataFrame, task: Task) -> Rows:
    """Rows that no fit saw, with the mean over folds of every member's predictions (``id``, ``fold``, targets).

    Raises:
        LeakError: a member holds other ids than ``index``.
        UserError: a member's folds hold different ids.
    """
    means = {name: mean_over_folds(table, task.targets) for name, table in tests.items()}
    return _rows(means, in_order(index), np.full(len(index), -1), task)


def in_order(index: pd.DataFrame) -> pd.DataFrame:
    """The rows series by series in slice order."""
    return index.iloc[np.lexsort((index["position"], pd.factorize(index["series"])[0]))].reset_index(drop=True)


def _rows(tables: dict[str, pd.DataFrame], index: pd.DataFrame, fold: np.ndarray, task: Task) -> Rows:
    aligned = [_aligned(name, table, index["id"], fold, list(task.targets)) for name, table in tables.items()]
    return Rows(task, index, fold, np.stack(aligned))


def _aligned(name: str, table: pd.DataFrame, ids: pd.Series, fold: np.ndarray, targets: list[str]) -> np.ndarray:
    """The predictions of ``table`` in the order of ``ids``; training rows must come from the fold ``fold`` says."""
    if not table["id"].is_unique:
        raise LeakError(f"{name} predicts {table['id'][table['id'].duplicated()].iloc[0]} twice; predict it again")
    if "fold" in table:
        table = table[table["fold"].isin(np.unique(fold))]
    known, place = table["id"], places(table["id"], ids)
    if (place < 0).any():
        raise LeakError(f"{name} has no prediction for {ids.iloc[int(np.argmax(place < 0))]}; predict it on this index")
    if len(known) > len(ids):
        raise LeakError(f"{name} predicts {known[~known.isin(ids)].iloc[0]}, which is not in the index with that fold; "
                        "predict it on this index")
    found = table.iloc[place]
    if "fold" in table and (found["fold"].to_numpy() != fold).any():
        raise LeakError(f"{name} scores {ids.iloc[int(np.argmax(found['fold'].to_numpy() != fold))]} in another fold "
                        "than the fold table; train and predict it again")
    return found[targets].to_numpy(np.float32)
