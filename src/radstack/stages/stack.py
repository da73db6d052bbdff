"""Stage 07: one stacker -> out-of-fold and test tables, its nested score and what it learned."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from radstack.core.artifact import Artifact, Part
from radstack.core.code import code_digest
from radstack.core.files import write_table
from radstack.recipes.stacker import Stacker
from radstack.running.context import Context
from radstack.running.tables import check_folds_fit, read_folds, read_rows
from radstack.running.tasks import spared, tolerated
from radstack.scoring.task import Task
from radstack.stack.predictions import fitted_files, fold_file, read_member, read_tests
from radstack.stack.rows import Member

VERSION = 4


def stack_all(context: Context) -> None:
    """:func:`stack` of every chosen stacker, in order; in a run of all stages a variant that fails is passed over."""
    spare = spared(context)
    for stacker in context.stackers:
        tolerated(context, spare & {stacker.name}, partial(stack, context, stacker))


def stack(context: Context, stacker: Stacker) -> None:
    """Fit ``stacker`` out of fold, then apply it to the test rows, each unless that is done and unchanged."""
    check_folds_fit(context)
    context.make(fitted_artifact(context, stacker), lambda: _fit(context, stacker))
    apply_stack(context, stacker)


def apply_stack(context: Context, stacker: Stacker) -> None:
    """Let every fold's fit answer for the test rows, unless that is done and unchanged."""
    context.make(applied_artifact(context, stacker), lambda: _apply(context, stacker))


def fitted_artifact(context: Context, stacker: Stacker) -> Artifact:
    """The fit and the out-of-fold table of each fold, from the members' out-of-fold tables."""
    paths, rivals = context.paths, rivals_of(context, stacker)
    facts = facts_of(context, stacker) | ({"rivals": ", ".join(rivals)} if rivals else {})
    return Artifact("07_stack", VERSION, (*_tables(context, stacker, "train"), *_fits(context, stacker)), stacker,
                    (Part(paths.cache / "rows.parquet", "train"), paths.folds / "folds.csv",
                     *_member_files(context, stacker, "train")), facts)


def applied_artifact(context: Context, stacker: Stacker) -> Artifact:
    """What each fold's fit says of the test rows, from the members' test tables."""
    return Artifact("07_stack", VERSION, _tables(context, stacker, "test"), stacker,
                    (Part(context.paths.cache / "rows.parquet", "test"), *_fits(context, stacker),
                     *_member_files(context, stacker, "test")), facts_of(context, stacker))


def facts_of(context: Context, stacker: Stacker) -> dict[str, str]:
    """Whoever edits a method, or the metric by which it is fitted and guarded, has its fits and its answers made again."""
    from radstack.stack.registry import method_of

    return {"code of the method": code_digest(type(method_of(stacker))), "metric": context.competition.metric.key}


def _tables(context: Context, stacker: Stacker, split: str) -> tuple[Path, ...]:
    return tuple(fold_file(context.paths.oof / stacker.name, fold, split) for fold in stack_folds(context, stacker))


def _fits(context: Context, stacker: Stacker) -> list[Path]:
    folder = context.paths.weights / stacker.name
    return [path for fold in stack_folds(context, stacker) for path in fitted_files(folder, fold)]


def _member_files(context: Context, stacker: Stacker, split: str) -> list[Path]:
    return [fold_file(context.paths.oof / member, fold, split) for member in stacker.members
            for fold in stack_folds(context, member)]


def stack_folds(context: Context, which: Stacker | str) -> list[int]:
    """Folds that all members of a stacker (or a member called so) have, down to level one."""
    return context.all_folds(which)


def below(context: Context, name: str) -> dict[str, Any]:
    """Name -> recipe of a model and all that it descends from, members first."""
    known, found = {recipe.name: recipe for recipe in context.recipes}, dict[str, Any]()
    for member in getattr(known[name], "members", ()):
        found |= below(context, member)
    return found | {name: known[name]}


def task_of(context: Context) -> Task:
    """Targets and metric of the competition."""
    return Task(context.competition.targets, context.competition.metric)


def rivals_of(context: Context, stacker: Stacker) -> tuple[str, ...]:
    """What stands in for a stack where it is better: what its method names, else only for what is submitted, or is all that
    the submitted one reads.

    An earlier stack may lose to the plain mean of its members and still add to a later one.
    """
    from radstack.stack.method import MEAN
    from radstack.stack.registry import method_of

    method = method_of(stacker)
    if method.rivals:
        return (*(stacker.members if method.members_stand_in else ()), *method.rivals)
    stackers = {item.name: item for item in context.competition.models.stackers}
    submitted = [context.competition.models.final]
    while submitted[-1] in stackers and len(stackers[submitted[-1]].members) == 1:
        submitted += stackers[submitted[-1]].members
    if stacker.name not in submitted:
        return ()
    plain = [name for name in stacker.members if name in stackers and (other := method_of(stackers[name])).guarded
             and not other.learns]
    return (*plain, *([MEAN] if method.learns else []))


def members_of(context: Context, names: tuple[str, ...], tests: bool = True) -> dict[str, Member]:
    """Read the tables of models and stacks by name; without ``tests`` those of training rows alone."""
    return {name: read_member(context.paths.oof / name, stack_folds(context, name), tests) for name in names}


def _fit(context: Context, stacker: Stacker) -> dict[str, Any]:
    from radstack.stack.nested import fit_stack
    from radstack.stack.store import write_fitted

    rows, _ = read_rows(context, "train")
    members = members_of(context, stacker.members, tests=False)
    result = fit_stack(stacker, members, rows, read_folds(context), task_of(context), rivals_of(context, stacker))
    for fold, fitted in result.fits.items():
        table = result.member.oof
        write_table(fold_file(context.paths.oof / stacker.name, fold, "train"),
                    table[table["fold"] == fold].reset_index(drop=True))
        write_fitted(context.paths.weights / stacker.name, fold, fitted)
    for line in in_short(result.lines):
        print(f"  {stacker.name}: {line}")
    print(f"  {stacker.name}: nested {result.score}, gain over {result.best_member} {result.gain}", flush=True)
    return result.facts() | {"fold_hash": result.member.folds_hash}


def in_short(lines: list[str]) -> list[str]:
    """The lines of a stack without those on members that only shrink, which the page has: these are counted."""
    shrunk = sum(" shrinks towards the constant " in line for line in lines)
    told = [f"{shrunk} times a member of a fold shrinks towards the constant, see the page"] if shrunk else []
    return told + [line for line in lines if " shrinks towards the constant " not in line]


def _apply(context: Context, stacker: Stacker) -> None:
    from radstack.stack.nested import apply_fits
    from radstack.stack.registry import method_of
    from radstack.stack.rows import unseen
    from radstack.stack.store import read_fitted

    rows, _ = read_rows(context, "test")
    tests = {name: read_tests(context.paths.oof / name, stack_folds(context, name)) for name in stacker.members}
    fits = {fold: read_fitted(context.paths.weights / stacker.name, fold, method_of(stacker))
            for fold in stack_folds(context, stacker)}
    table = apply_fits(fits, unseen(tests, rows, task_of(context)))
    for fold in fits:
        write_table(fold_file(context.paths.oof / stacker.name, fold, "test"),
                    table[table["fold"] == fold].assign(fold=np.int8(-1)).reset_index(drop=True))
