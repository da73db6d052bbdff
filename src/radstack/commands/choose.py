"""Which networks to take where a hidden test set must be answered in so many hours: members against seconds."""

from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, replacing, write_table
from radstack.recipes.experiment import Experiment
from radstack.recipes.stacker import Outside, Stacker
from radstack.report.plots import figure, style
from radstack.report.stage import made_folds
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_rows
from radstack.scoring.intervals import interval
from radstack.scoring.task import CLASSES
from radstack.stack.choice import Costs, choose, nested_losses
from radstack.stack.predictions import fold_file
from radstack.stack.rows import Rows, join
from radstack.stages.stack import members_of, stack_folds, task_of

SECONDS = 3600.0
"""Of an hour."""
LEAST = 1e-3
"""Seconds that a fold of a member costs at least."""
BUDGETS = 8
"""Points of the frontier."""


def choose_members(context: Context, hours: float, gpu: str = "") -> pd.DataFrame:
    """Write and print the frontier: ``seconds``, ``budget``, ``score``, ``low``, ``high``, ``members``; return it.

    Candidates are the networks and sequence models that answer all rows. Seconds are those that stages 05 and 06 took here
    for the test rows, all folds together, scaled to the organizer's number of them; with ``gpu``, a card that ``plan.py``
    knows, those of networks that never wait for pictures there. Scores are of equal-weight means; each fold's set is chosen
    on the other folds' rows.

    Raises:
        UserError: there is no candidate, none fits into ``hours``, or the card's rate of one is not known.
    """
    names = candidates(context)
    if not names:
        raise UserError(f"there is nothing to choose from; predict first with: {context.command('05_predict')}")
    rows, costs = rows_of(context, names), costs_on(context, names, gpu) if gpu else costs_of(context, names)
    least, most = min(costs.of([name]) for name in names), min(costs.of(names), hours * 3600)
    if least > most:
        raise UserError(f"the cheapest member needs {least / 3600:.2f} hours; give --hours that much or more")
    lines = [frontier_line(rows, names, costs, budget) for budget in dict.fromkeys(np.geomspace(least, most, BUDGETS))]
    table = pd.DataFrame([line for line in lines if line]).drop_duplicates("members", ignore_index=True)
    folder, chosen = context.paths.reports, table["members"].iloc[-1].split()
    write_table(folder / "choose.csv", table)
    _draw(context, table)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    method = "class_mean" if context.competition.metric.kind.predicts == CLASSES else "mean"
    print(f"  chosen for {hours:g} hours: Stacker(\"chosen\", \"{method}\", {tuple(chosen)!r})\n  {folder / 'choose.csv'}")
    return table


def candidates(context: Context) -> list[str]:
    """Networks and sequence models that are predicted on the folds that all of them have, with a value in each row."""
    found = []
    for recipe in context.recipes:
        folds = stack_folds(context, recipe.name)
        if not isinstance(recipe, Stacker | Outside) and len(made_folds(context, recipe.name)) == len(folds) > 1 and all(
                manifest_of(fold_file(context.paths.oof / recipe.name, fold, "test")).exists() for fold in folds):
            table = members_of(context, (recipe.name,), tests=False)[recipe.name].oof
            if np.isfinite(table[list(context.competition.targets)].to_numpy()).all():
                found.append(recipe.name)
    return found


def rows_of(context: Context, names: list[str]) -> Rows:
    """The training rows with what each candidate says out of fold."""
    return join(members_of(context, tuple(names), tests=False), read_rows(context, "train")[0], read_folds(context),
                task_of(context))[0]


def costs_of(context: Context, names: list[str]) -> Costs:
    """Seconds of test predictions as the manifests have them, scaled to the organizer's number of test pictures."""
    needs, here = needs_of(context, names), len(read_rows(context, "test")[0])
    scale = (context.competition.data.rows[1] or here) / max(here, 1)
    seconds = {one: scale * sum(_seconds(context, one)) for one in frozenset().union(*needs.values())}
    return Costs(seconds, needs)


def needs_of(context: Context, names: list[str]) -> dict[str, frozenset[str]]:
    """Candidate -> all models whose work it needs."""
    known = {recipe.name: recipe for recipe in context.recipes}
    return {name: frozenset((name, *getattr(known[name], "members", ()))) for name in names}


def costs_on(context: Context, names: list[str], gpu: str) -> Costs:
    """Seconds that the organizer's test pictures take on the card ``gpu``, by the rates that ``plan.py`` reads; says which.

    A UserError where the rate of a network is not known there.
    """
    from radstack.commands import rates
    from radstack.commands.cards import rows_of as rates_of
    from radstack.commands.plan import Budget, Size, all_rates

    machine, measured = rates_of(rates.read_files(rates.FOLDER), gpu)
    needs, data = needs_of(context, names), context.competition.data
    wanted = [recipe for recipe in context.recipes if recipe.name in frozenset().union(*needs.values())]
    size = Size(0, data.rows[1] or len(read_rows(context, "test")[0]), data.a_series, "")
    found = all_rates(context, tuple(one for one in wanted if isinstance(one, Experiment)), measured, size, None)
    if lacking := [one.name for one in wanted if one.name not in found]:
        raise UserError(f"no rate of {', '.join(lacking)} on {machine} is known; measure it there with: python "
                        f"benchmarks/gpu.py --seconds 450 --only {context.competition.name}, or leave --gpu away")
    budget = Budget(context, size, found)
    print(f"  {size.test:,} pictures on {machine}: {budget.words(wanted)}")
    return Costs({one.name: max(SECONDS * budget.applying(one, size.test), LEAST) for one in wanted}, needs)


def _seconds(context: Context, name: str) -> list[float]:
    files = [manifest_of(fold_file(context.paths.oof / name, fold, "test")) for fold in stack_folds(context, name)]
    # Of few pictures it may have been none by the manifest; nothing is free.
    return [max(float(read_json(file)["seconds"]), LEAST) for file in files if file.exists()]


def frontier_line(rows: Rows, names: list[str], costs: Costs, budget: float) -> dict[str, Any]:
    """What a budget buys, empty where it buys nothing in some fold."""
    chosen, losses = choose(rows, names, costs, budget * (1 + 1e-9)), nested_losses(rows, names, costs, budget * (1 + 1e-9))
    if losses is None or not chosen:
        return {}
    score = interval(losses, rows.group)
    return {"seconds": costs.of(chosen), "budget": budget, "score": score.value, "low": score.low, "high": score.high,
            "members": " ".join(chosen)}


def _draw(context: Context, table: pd.DataFrame) -> None:
    with style(), replacing(context.paths.reports / "choose.svg") as part:
        made, ax = figure(6.5, 3.5)
        reach = table[["low", "high"]].sub(table["score"], axis=0).abs().to_numpy().T
        ax.errorbar(table["seconds"], table["score"], yerr=reach, fmt="o-", ms=4, lw=1.2)
        ax.set(xscale="log", xlabel="seconds for the organizer's test set", ylabel=str(context.competition.metric))
        made.savefig(part, format="svg")
