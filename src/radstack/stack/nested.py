"""Fits a stacker out of fold and scores it on rows its fit never saw.

For each fold k the method is fitted on the other folds' rows and predicts fold k; a test row gets one prediction a fit.
The usual compromise of level two remains, and of each level above: the members' predictions of the *other* folds come
from models that did see fold k, so that the fit is not wholly blind to it. A fully nested scheme would train every network
folds^2 times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import LeakError, UserError, command
from radstack.core.folds import fold_hash
from radstack.core.lookup import places
from radstack.core.progress import track
from radstack.recipes.stacker import Stacker
from radstack.scoring.intervals import Interval, group_sums, intervals
from radstack.scoring.task import Task
from radstack.stack.guard import screen, stand_in
from radstack.stack.method import CONSTANT, MEAN, TAKEN, Fitted, Method
from radstack.stack.predictions import prediction_table
from radstack.stack.registry import check_handles, method_of
from radstack.stack.rows import Member, Rows, join


@dataclass(frozen=True)
class StackResult:
    """A fitted stack: tables in the shape of a member, its nested score, and what was learned."""

    member: Member
    """Out-of-fold and test predictions; a further stacker may take it as a member."""
    score: Interval
    """Nested score by the task's metric, with its patient-bootstrap interval."""
    class_scores: dict[str, float]
    """Loss of each target, or of each group of classes."""
    best_member: str
    """Member with the best score on the same rows."""
    gain: Interval
    """Loss of the best member less that of the stack, paired by patient; positive is better."""
    learned: dict[str, Any]
    """``fold0`` ... -> weights, importances or decisions of that fit."""
    fits: dict[int, Fitted]
    """Fold -> what was fitted without it."""
    lines: list[str]
    """What was left out, shrunk or replaced since something simpler is better, a line each."""

    def facts(self) -> dict[str, Any]:
        """The numbers as JSON values, for the manifest."""
        return {"score": vars(self.score), "class_scores": self.class_scores, "best_member": self.best_member,
                "gain": vars(self.gain), "gain_is_noise": not self.gain.excludes_zero, "learned": self.learned,
                "folds_hash": self.member.folds_hash, **({"guard": self.lines} if self.lines else {}),
                **({"mark": self.member.mark} if self.member.mark else {})}


def fit_stack(stacker: Stacker, members: Mapping[str, Member], index: pd.DataFrame, folds: pd.DataFrame,
              task: Task, rivals: tuple[str, ...] | None = None) -> StackResult:
    """Fit ``stacker`` once a fold and predict everything out of fold; its members are looked up by name in ``members``.

    Unless ``rivals`` is None, members are screened as :mod:`radstack.stack.guard` says. With ``rivals`` (``MEAN`` of its
    members, or names of members), the best of them and of the constant stands in where the stack is worse out of fold. A
    stack without rivals may lose to the mean and still add to a later one; where it loses to the constant, or is a mean
    itself wherever nothing is sure, the better of the two stands in.

    A LeakError where a member does not fit the index and the fold table; a UserError where one is missing, the method does
    not work on what the metric scores, or one that learns has only one fold. A LeakError where one that learns meets a mark.
    """
    missing = [name for name in stacker.members if name not in members]
    if missing:
        raise UserError(f"stacker {stacker.name} needs predictions of {missing[0]}; make them with "
                        f"{command('05_predict', missing[0])}, or 06_sequence.py or 07_stack.py for one of these")
    check_handles(stacker, task.metric)
    train, test = join({name: members[name] for name in stacker.members}, index, folds, task)
    method, numbers = method_of(stacker), [int(number) for number in np.unique(train.fold)]
    if method.learns and len(numbers) < 2:
        raise UserError(f"stacker {stacker.name} learns from other folds, but its members share fold {numbers[0]} alone; "
                        "train and predict another fold")
    fits, marked = dict[int, Fitted](), _marks(stacker, members, method.learns)
    lines = [f"{name} enters by plain average: {mark}" for name, mark in marked.items()]
    guarded = rivals is not None and len(numbers) > 1 and not marked
    with track(len(numbers), f"{stacker.name}, folds", brief=True) as steps:
        for number in numbers:
            fits[number], words = _fit_without(number, method, train, stacker.members, guarded)
            lines += [f"fold {number}: {line}" for line in words]
            steps.step()
    if guarded and method.guarded and (rivals or method.learns):
        fits, words = _guarded(fits, train, (*(rivals or [MEAN]), CONSTANT), stacker.members,
                               always=bool(rivals) or method.falls_back)
        lines += words
    tables = [_answered(fitted, train.take(train.fold == number), number) for number, fitted in fits.items()]
    stacked = Member(pd.concat(tables, ignore_index=True), apply_fits(fits, test), fold_hash(folds),
                     "; ".join(f"{name}: {mark}" for name, mark in marked.items()))
    return _result(stacker, stacked, train, fits, lines)


def _marks(stacker: Stacker, members: Mapping[str, Member], learns: bool) -> dict[str, str]:
    """The members with a mark; a LeakError where there are some and the stacker ``learns``."""
    marked = {name: members[name].mark for name in stacker.members if members[name].mark}
    for name, mark in marked.items() if learns else ():
        raise LeakError(f"{stacker.name} would learn from {name}, which may enter plain averages alone: {mark}; leave it "
                        "out, or use the method mean")
    return marked


def _fit_without(number: int, method: Method, train: Rows, names: tuple[str, ...],
                 screened: bool) -> tuple[Fitted, list[str]]:
    """The fit on the other folds' rows, with the members that these rows speak for; and what was left out."""
    others = train.take(train.fold != number)
    chosen, words = screen(others, names) if screened and method.screened else (None, [])
    # What learns nothing may see every row: a mean needs no second fold.
    rows = others if method.learns else train
    fitted = method.fit(chosen(rows) if chosen else rows)
    return replace(fitted, screen=chosen), words


def _guarded(fits: dict[int, Fitted], train: Rows, rivals: tuple[str, ...],
             names: tuple[str, ...], always: bool) -> tuple[dict[int, Fitted], list[str]]:
    """The fits, or what stands in for all of them, and a line on it; unless ``always`` only where the constant is better."""
    simpler = {what: {number: replace(fitted, instead=str(names.index(what)) if what in names else what,
                                      constant=train.prior(train.fold != number))
                      for number, fitted in fits.items()} for what in rivals}
    nested = {what: _nested(each, train) for what, each in simpler.items()}
    metric, own = train.task.metric, _nested(fits, train)
    best = stand_in(metric, train.truth, own, nested)
    if not best or not (always or metric.score(train.truth, own) > metric.score(train.truth, nested[CONSTANT])):
        return fits, []
    return simpler[best.what], [f"{best.what} stands in: {best.score:.4f} out of fold, without it {best.own:.4f}"]


def _nested(fits: dict[int, Fitted], train: Rows) -> np.ndarray:
    """What each fold's fit says of its fold, float32 [rows, targets] as it would be stored."""
    out = np.empty(train.truth.shape, np.float32)
    for number, fitted in fits.items():
        out[train.fold == number] = fitted.predict(train.take(train.fold == number))
    return out


def apply_fits(fits: Mapping[int, Fitted], rows: Rows) -> pd.DataFrame:
    """``id``, ``fold``, targets: what each fold's fit answers for ``rows`` that none of them saw."""
    return pd.concat([_answered(fitted, rows, number) for number, fitted in fits.items()], ignore_index=True)


def _answered(fitted: Fitted, rows: Rows, number: int) -> pd.DataFrame:
    return prediction_table(rows.table["id"].to_numpy(), number, fitted.predict(rows), rows.task.targets)


def _result(stacker: Stacker, stacked: Member, train: Rows, fits: dict[int, Fitted], lines: list[str]) -> StackResult:
    targets, metric = train.task.targets, train.task.metric
    predicted = stacked.oof[list(targets)].to_numpy()[places(stacked.oof["id"], train.table["id"])]
    losses = metric.row_losses(train.truth, predicted)
    rivals = [metric.row_losses(train.truth, member) for member in train.predicted]
    # A member that answers some groups of classes alone has no score (NaN) and no part in this race.
    best = int(np.argmin(np.nan_to_num([rival.mean() for rival in rivals], nan=np.inf)))
    score, gain = intervals([group_sums(each, train.group) for each in (losses, rivals[best] - losses)])
    return StackResult(
        stacked, score,
        dict(zip(metric.scored(targets), map(float, metric.target_losses(train.truth, predicted)), strict=True)),
        stacker.members[best], gain,
        {f"fold{number}": _notes(fitted, stacker.members) for number, fitted in fits.items()}, fits, lines)


def _notes(fitted: Fitted, names: tuple[str, ...]) -> dict[str, Any]:
    """The notes of a fit, with its members by name where some were left out."""
    if fitted.screen is None or fitted.screen.kept.all():
        return fitted.notes
    return fitted.notes | {TAKEN: [name for name, kept in zip(names, fitted.screen.kept) if kept]}
