"""Section ensemble: how alike the models are, what each step of level two gained, and what its methods learned."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from radstack.recipes.stacker import Stacker
from radstack.report.blocks import Block, Heading, Plot, Section, Table
from radstack.report.evidence import Evidence
from radstack.report.given import given_blocks
from radstack.report.level_two import learned_blocks
from radstack.report.plots import COLORS, INK, figure, svg
from radstack.scoring.intervals import Interval, difference, group_sums, intervals
from radstack.scoring.metrics import coarse
from radstack.scoring.task import CLASSES, NUMBERS, PROBABILITIES
from radstack.stack.predictions import fold_files

MOST = 16
"""Models whose likeness is shown; the best where there are more."""
SAMPLE = 50_000
"""Rows, at random, by which it is measured."""
FEWEST = 10
"""Entries that a correlation needs."""
VERDICT = {"better": COLORS[2], "worse": COLORS[1], "noise": COLORS[7]}
"""What the interval of a gain says, and its color."""
FAR = 4.0
"""A gain so many times farther than most is drawn at the edge."""
MOVED = {PROBABILITIES: 0.05, NUMBERS: 0.1}
"""A row counts as changed from here on: a probability by that much, a number by that share of the mean absolute error."""
CHANGED = {PROBABILITIES: "some probability moved by more than 0.05", CLASSES: "another class became the likeliest",
           NUMBERS: "the number moved by more than a tenth of the error before"}
COLUMNS = ("model", "over", "before", "after", "gain", "low", "high", "verdict", "rows changed")


def ensemble(evidence: Evidence) -> Section:
    """The section; without stackers it compares the models alone."""
    stackers = [recipe for recipe in evidence.recipes.values() if isinstance(recipe, Stacker)]
    blocks = [*likeness(evidence, stackers), *gains(evidence, stackers), *guarded(evidence, stackers),
              *learned_blocks(evidence, stackers), *given_blocks(evidence)]
    lead = ("What the models have in common, what putting them together gained, and how. All scores are out of fold: of "
            "rows from which neither the model nor the step had learned." if blocks else "There is nothing to combine.")
    return Section("ensemble", "Ensemble", lead, tuple(blocks))


def compared(evidence: Evidence, stackers: list[Stacker]) -> list[str]:
    """Models that are worth comparing: level one and members of blends, at most ``MOST``, in the order of the recipes.

    A network that only a route reaches, e.g. one trained on some patients, stands under the name of the route.
    """
    routed = {name for one in stackers if one.method == "route" for name in one.members}
    blended = {name for one in stackers if one.method != "route" and len(one.members) > 1 for name in one.members}
    level_one = {name for name, recipe in evidence.recipes.items() if not isinstance(recipe, Stacker)} - routed
    names = [name for name in evidence.names if name in blended | level_one and heard(evidence, name).sum() >= FEWEST]
    if len(names) <= MOST:
        return names
    best = evidence.scored()["score"].reindex(names).nsmallest(MOST).index
    return [name for name in names if name in best]


def heard(evidence: Evidence, name: str) -> np.ndarray:
    """Rows that a model answers, bool [n]; of classes one group is enough."""
    some = evidence.task.metric.kind.predicts == CLASSES
    return np.isfinite(evidence.oof[name]).any(axis=1) if some else evidence.answered(name)


def likeness(evidence: Evidence, stackers: list[Stacker]) -> list[Block]:
    """Correlation of the models' errors and of their predictions, both about the mean of each target."""
    names = compared(evidence, stackers)
    if len(names) < 2:
        return []
    n = len(evidence.train)
    rows = np.sort(np.random.default_rng(0).choice(n, SAMPLE, replace=False)) if n > SAMPLE else np.arange(n)
    errors, linked = (pd.DataFrame({name: _centered(evidence, name, rows, of_errors) for name in names}).corr(
        min_periods=FEWEST) for of_errors in (True, False))
    what = {PROBABILITIES: "losses", NUMBERS: "errors", CLASSES: "errors"}[evidence.task.metric.kind.predicts]
    wide = len(names) > 10
    empty = " Empty: they answer no target in common." if errors.isna().to_numpy().any() else ""
    return [Heading("How alike the models are"),
            Plot(heat_map(errors, wide), f"Correlation of the {what}, out of fold: models near 1 fail on the same rows and "
                 f"add little to each other. Noise in the labels is common to all and raises every number.{empty}", wide),
            Plot(heat_map(linked, wide), "Correlation of the predictions on the scale on which they are averaged: models "
                 "near 1 say the same.", wide)]


def _centered(evidence: Evidence, name: str, rows: np.ndarray, of_errors: bool) -> np.ndarray:
    """Signed errors of numbers, else losses, about the mean of each target, flat; NaN where there is no answer.

    Without ``of_errors`` the predictions likewise, on the scale on which models are averaged.
    """
    metric, answered = evidence.task.metric, heard(evidence, name)[rows]
    truth, predicted = evidence.truth[rows][answered], evidence.oof[name][rows][answered]
    if not of_errors:
        found = metric.link(predicted)
    else:
        found = predicted - truth if metric.kind.predicts == NUMBERS else metric.kind.losses(truth, predicted, metric)
    table = pd.DataFrame(found, np.flatnonzero(answered), dtype=np.float64).reindex(range(len(rows)))
    return (table - table.mean()).to_numpy().ravel()


def heat_map(table: pd.DataFrame, wide: bool = False) -> str:
    """Drawing of a correlation matrix below its diagonal, the stronger the color the higher."""
    from matplotlib.patches import Rectangle

    names, values = list(table), table.to_numpy()
    lower = [(row, column) for row in range(1, len(names)) for column in range(row) if np.isfinite(values[row, column])]
    low = min((values[place] for place in lower), default=0.0)
    made, ax = figure(9.0 if wide else 5.2, 1.2 + (0.27 if wide else 0.25) * len(names))
    for row, column in lower:
        share = (values[row, column] - low) / max(1 - low, 1e-9)
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=COLORS[0], alpha=0.04 + 0.5 * share, linewidth=0))
        number = f"{values[row, column]:.2f}".replace("0.", ".")
        ax.text(column, row, number, ha="center", va="center", fontsize=7, color=INK)
    ax.grid(visible=False)
    ax.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5), yticks=range(1, len(names)), yticklabels=names[1:])
    ax.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
    ax.tick_params(labelsize=7, length=0)
    ax.spines[:].set_visible(False)
    return svg(made)


def gains(evidence: Evidence, stackers: list[Stacker]) -> list[Block]:
    """What each stacker gained over its best member: a drawing and a table."""
    methods = {one.name: one.method for one in stackers}
    table = additions(evidence)
    table = table[table["model"].isin(methods)].reset_index(drop=True)
    if not len(table):
        return []
    table.insert(1, "method", table["model"].map(methods))
    metric, chain = evidence.task.metric, submitted(stackers, evidence.final)
    note = (f"Gain: loss before less loss after on the same rows ({metric}), with its 95 % interval paired by patient. "
            f"Noise: the interval holds 0. Rows changed: {CHANGED[metric.kind.predicts]}. Bold: what the submission is "
            "made of.")
    digits = max(4 - int(np.floor(np.log10(max(table["after"].min(), 1e-3)))), 0)
    formats = {"rows changed": ".1%", **dict.fromkeys(("before", "after"), f".{digits}f"),
               **dict.fromkeys(("gain", "low", "high"), f"+.{digits}f")}
    return [Heading("What each step gained"),
            Plot(gain_plot(table, str(metric)), "Gain of each step of level two over its best member: right of 0 (green) "
                 "the step lowered the loss; lines are 95 % intervals over patients, gray where they hold 0.", wide=True),
            Table(table, "Score before and after each step", formats, note, strong=chain)]


def additions(evidence: Evidence) -> pd.DataFrame:
    """What each sequence model and stacker gained over the best of its members, in the order of the recipes.

    Returns:
        ``model``, ``over`` (its best member of those that answer all its rows), ``before`` and ``after`` (their losses on
        the same rows), ``gain`` (before less after; positive is better) with ``low`` and ``high`` (95 %, over patients),
        ``verdict`` (``better`` or ``worse`` where the interval excludes 0, else ``noise``), ``rows changed`` (a share).
        Models of which no member answers all rows are left out.
    """
    losses: dict[str, np.ndarray] = {}
    for name, predicted in evidence.oof.items():
        answered = evidence.answered(name)
        losses[name] = np.full(len(answered), np.nan)
        if answered.any():
            losses[name][answered] = evidence.task.metric.row_losses(evidence.truth[answered], predicted[answered])
    found, sums, patients = [], [], pd.factorize(evidence.train["group"])[0]
    for name, recipe in evidence.recipes.items():
        rows = np.isfinite(losses[name])
        rivals = [one for one in getattr(recipe, "members", ()) if one in losses and np.isfinite(losses[one][rows]).all()]
        if rivals and rows.any():
            best = min(rivals, key=lambda one: losses[one][rows].mean())
            before, after = losses[best][rows], losses[name][rows]
            sums.append(group_sums(before - after, patients[rows]))
            found.append((name, best, float(before.mean()), float(after.mean()),
                          changed(evidence, best, name, rows, float(before.mean()))))
    return pd.DataFrame([(*first, gain.value, gain.low, gain.high, _verdict(gain), moved)
                         for (*first, moved), gain in zip(found, intervals(sums), strict=True)], columns=list(COLUMNS))


def _verdict(gain: Interval) -> str:
    return ("better" if gain.value > 0 else "worse") if gain.excludes_zero else "noise"


def compared_losses(evidence: Evidence, before: np.ndarray, after: np.ndarray, rows: np.ndarray) -> tuple[Any, ...]:
    """``before`` .. ``verdict`` of :func:`additions`, from the losses float [rows] of ``rows`` (bool [n])."""
    gain = difference(before, after, evidence.train["group"].to_numpy()[rows])
    return float(before.mean()), float(after.mean()), gain.value, gain.low, gain.high, _verdict(gain)


def changed(evidence: Evidence, best: str, name: str, rows: np.ndarray, score: float) -> float:
    """Share of ``rows`` (bool [n]) in which ``name`` says something else than ``best``, whose loss there is ``score``."""
    metric, before, after = evidence.task.metric, evidence.oof[best][rows], evidence.oof[name][rows]
    if metric.kind.predicts == CLASSES:
        pairs = zip(coarse(before, metric.groups), coarse(after, metric.groups))
        moved = np.any([one.argmax(axis=1) != other.argmax(axis=1) for one, other in pairs], axis=0)
    else:
        least = MOVED[metric.kind.predicts] * (score if metric.kind.predicts == NUMBERS else 1.0)
        moved = (np.abs(after - before) > least).any(axis=1)
    return float(moved.mean())


def submitted(stackers: Iterable[Stacker], final: str) -> tuple[str, ...]:
    """The stackers that ``final`` is made of, itself included."""
    members, found, waiting = {one.name: one.members for one in stackers}, [], [final]
    while waiting:
        name = waiting.pop()
        if name in members and name not in found:
            found.append(name)
            waiting += members[name]
    return tuple(found)


def guarded(evidence: Evidence, stackers: list[Stacker]) -> list[Block]:
    """What was shrunk, left out or replaced since something simpler is better (:mod:`radstack.stack.guard`), a row each."""
    rows = [(one.name, line) for one in stackers for line in _lines(evidence, one.name)]
    return [Table(pd.DataFrame(rows, columns=["model", "what"]), "Members below the constant predictor, and what stands in",
                  note="Found in the rows that train each fit, and stored with it: other pictures are answered alike.",
                  folded=True)] if rows else []


def _lines(evidence: Evidence, name: str) -> list[str]:
    """The lines of a stacker, from the first manifest that it has."""
    for fold in np.unique(evidence.fold):
        facts = evidence.manifest(fold_files(evidence.context.paths.oof / name, int(fold))[0])
        if "guard" in facts:
            return list(facts["guard"])
    return []


def gain_plot(table: pd.DataFrame, metric: str) -> str:
    """Gains with their intervals, one row a step; what lies far beyond the others stands at the edge with its number."""
    reach = table[["gain", "low", "high"]].abs().max(axis=1)
    far = (table["gain"].abs() > FAR * reach.median()).to_numpy()
    edge = 1.05 * float(reach[~far].max()) or 1.0
    made, ax = figure(9.0, 0.8 + 0.22 * len(table))
    ax.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(table.itertuples()):
        color = VERDICT[row.verdict]
        if far[place]:
            ax.annotate(f"{row.gain:+.3g}", (np.sign(row.gain) * edge, place), (-np.sign(row.gain) * 14, 0), color=color,
                        textcoords="offset points", ha="left" if row.gain < 0 else "right", va="center", fontsize=8,
                        arrowprops={"arrowstyle": "->", "color": color})
            continue
        ax.plot([row.low, row.high], [place, place], color=color)
        ax.plot(row.gain, place, "o", color=color, markersize=5)
    names = [f"{step} over {rival}" for step, rival in zip(table["model"], table["over"])]
    ax.set(xlim=(-edge, edge), ylim=(len(table) - 0.5, -0.5), xlabel=f"gain, {metric}", yticks=range(len(table)),
           yticklabels=names)
    ax.tick_params(axis="y", labelsize=8)
    return svg(made)
