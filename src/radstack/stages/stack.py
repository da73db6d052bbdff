"""Stage 07: one stacker -> out-of-fold and test tables, its nested score and what it learned."""

from typing import Any

import pandas as pd

from radstack.core.artifact import Artifact
from radstack.recipes.stacker import Stacker
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_rows
from radstack.scoring.task import Task
from radstack.stack.predictions import fold_files, read_member, write_fold
from radstack.stack.rows import Member
from radstack.stages.sequence import member_folds

VERSION = 1


def stack(context: Context, stacker: Stacker) -> None:
    """Fit ``stacker`` out of fold, unless that is done and unchanged."""
    folder, chosen = context.paths.oof / stacker.name, stack_folds(context, stacker)
    files = tuple(path for fold in chosen for path in fold_files(folder, fold))
    inputs = [context.paths.cache / "rows.parquet", context.paths.folds / "folds.csv"]
    for member in stacker.members:
        inputs += [path for fold in stack_folds(context, member) for path in fold_files(context.paths.oof / member, fold)]
    artifact = Artifact("07_stack", VERSION, files, stacker, tuple(inputs))
    context.make(artifact, lambda: _fit(context, stacker, chosen))


def stack_folds(context: Context, which: Stacker | str) -> list[int]:
    """Folds that all members of a stacker (or a member called so) have, down to level one."""
    stackers = {item.name: item for item in context.competition.models.stackers}
    sequences = {item.name: item for item in context.competition.models.sequences}
    if isinstance(which, str) and which not in stackers and which not in sequences:
        return member_folds(context, which)
    recipe = which if isinstance(which, Stacker) else stackers.get(which) or sequences[which]
    common = set.intersection(*(set(stack_folds(context, member)) for member in recipe.members))
    return sorted(common)


def task_of(context: Context) -> Task:
    """Targets and metric of the competition."""
    return Task(context.competition.targets, context.competition.metric)


def members_of(context: Context, names: tuple[str, ...]) -> dict[str, Member]:
    """Read the tables of models and stacks by name."""
    return {name: read_member(context.paths.oof / name, stack_folds(context, name)) for name in names}


def _fit(context: Context, stacker: Stacker, chosen: list[int]) -> dict[str, Any]:
    from radstack.stack.nested import fit_stack

    rows, _ = read_rows(context)
    result = fit_stack(stacker, members_of(context, stacker.members), rows, read_folds(context), task_of(context))
    for fold in chosen:
        scored, test = (table[table["fold"] == fold] for table in (result.member.oof, result.member.test))
        write_fold(context.paths.oof / stacker.name, fold, scored.reset_index(drop=True),
                   pd.DataFrame(test.assign(fold=-1)).reset_index(drop=True))
    print(f"  {stacker.name}: nested {result.score}, gain over {result.best_member} {result.gain}", flush=True)
    return result.facts() | {"fold_hash": result.member.folds_hash}
