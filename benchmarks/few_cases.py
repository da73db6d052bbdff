"""What level two makes of few patients: a finished solution's stackers, fitted on random patients of its own tables.

    python benchmarks/few_cases.py bone_age --recipes small --patients 40 100 300 751

The networks stay those that were trained on all; each stacker is fitted out of fold on the patients drawn, and what it says
of them is scored beside each model that answers all targets, the plain mean of these, and the constant of the other
folds. No test label is read.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from competitions import load
from radstack.core.folds import fold_hash
from radstack.core.recipe import change
from radstack.recipes.stacker import Stacker
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_folds, read_rows
from radstack.scoring.task import Task
from radstack.stack.nested import fit_stack
from radstack.stack.rows import Member, Rows, join
from radstack.stages.stack import members_of, rivals_of, task_of


def main() -> None:
    """Print one table: models by number of patients, mean loss over the draws, and how often the constant was better."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("competition")
    arguments.add_argument("--demo", action="store_true")
    arguments.add_argument("--recipes", default="")
    arguments.add_argument("--patients", type=int, nargs="+", default=[10, 20, 40, 80])
    arguments.add_argument("--draws", type=int, default=6)
    arguments.add_argument("--folds", type=int, nargs="+", default=[], help="those that were trained; all unless named")
    arguments.add_argument("--folder", default=".", help="where the solution was made")
    args = arguments.parse_args()
    name = f"{args.competition}-{args.recipes}" if args.recipes else args.competition
    known = load(name, args.demo)
    networks = tuple(change(one, folds=tuple(args.folds) or one.folds) for one in known.models.experiments)
    context = make_context(change(known, models__experiments=networks), Options(data_dir=args.folder, out_dir=args.folder))
    rows, folds = read_rows(context, "train")[0], read_folds(context)
    folds = folds[folds["fold"].isin(args.folds or folds["fold"])]
    stackers = context.competition.models.stackers
    made = {one.name for one in stackers}
    below = dict.fromkeys(name for one in stackers for name in one.members if name not in made)
    tables = members_of(context, tuple(below), tests=False)
    columns = {}
    for patients in args.patients:
        drawn = [losses(context, tables, *few(rows, folds, patients, seed)) for seed in range(args.draws)]
        table = pd.DataFrame(drawn)
        worse = table.gt(table["constant"], axis=0).sum()
        columns[str(patients)] = [f"{mean:.4g}" + f" ({worse[model]} worse)" * bool(worse[model])
                                  for model, mean in table.mean().items()]
    print(pd.DataFrame(columns, index=list(table.columns))[table.notna().any().to_numpy()].to_string())


def few(rows: pd.DataFrame, folds: pd.DataFrame, patients: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and fold table of ``patients`` random groups, as many of each fold; all of them where there are no more."""
    rng = np.random.default_rng([seed, patients])
    dealt = folds.sample(frac=1, random_state=int(rng.integers(2**31)))
    place = dealt.groupby("fold").cumcount()
    taken = dealt.assign(place=place).sort_values(["place", "fold"]).head(patients)[["group", "fold"]]
    return rows[rows["group"].isin(taken["group"])].reset_index(drop=True), taken.reset_index(drop=True)


def losses(context: Context, known: dict[str, Member], rows: pd.DataFrame, folds: pd.DataFrame) -> dict[str, float]:
    """Loss of the constant, each model below the stackers, the plain mean of these, and each stacker, out of fold."""
    task, ids, dealt = task_of(context), set(rows["id"]), fold_hash(folds)
    members = {name: replace(one, oof=one.oof[one.oof["id"].isin(ids)].reset_index(drop=True), folds_hash=dealt)
               for name, one in known.items()}
    train, _ = join(members, rows, folds, task)
    found = {"constant": of_constant(train, task)}
    found |= {name: task.metric.score(train.truth, each) for name, each in zip(members, train.predicted)}
    found["plain mean"] = task.metric.score(train.truth, task.metric.unlink(np.nanmean(train.linked, axis=0)))
    for stacker in context.competition.models.stackers:
        members[stacker.name], found[stacker.name] = fitted(context, stacker, members, rows, folds, task)
    return found


def of_constant(train: Rows, task: Task) -> float:
    """Loss of the prior by the labels of the other folds."""
    said = np.empty(train.truth.shape)
    for fold in np.unique(train.fold):
        said[train.fold == fold] = train.prior(train.fold != fold)
    return task.metric.score(train.truth, said)


def fitted(context: Context, stacker: Stacker, members: dict[str, Member], rows: pd.DataFrame, folds: pd.DataFrame,
           task: Task) -> tuple[Member, float]:
    """The stack as a member of later ones, and its nested loss."""
    result = fit_stack(stacker, members, rows, folds, task, rivals_of(context, stacker))
    return result.member, result.score.value


if __name__ == "__main__":
    main()
