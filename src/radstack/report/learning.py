"""How the networks learned: the loss of every fold over its steps, and what training cost."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.recipes.experiment import Experiment, Train
from radstack.recipes.stacker import Outside, Stacker
from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, SOFT, Axes, Figure, panels, svg

POINTS = 4000
"""Points of all curves of a figure together, which is about 60 KB of SVG."""
NOT_LEARNED = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of the names of tensors that are counted, not learned."""


@dataclass(frozen=True)
class Run:
    """The training of one model on one fold."""

    model: str
    fold: int
    step: np.ndarray
    """int [entries]: optimizer steps, or epochs where ``unit`` says so."""
    loss: np.ndarray
    """Training loss, float64 [entries]: smoothed over steps, or the mean of an epoch."""
    rate: np.ndarray
    """Learning rate, float64 [entries]; NaN where it is not logged."""
    waiting: float
    """Share of the time spent waiting for data, mean over the entries; NaN where it is not logged."""
    unit: str = "step"


def learning(evidence: Evidence) -> list[Block]:
    """Learning curves and the table of what was trained, those parts for which there is something."""
    runs = [run for recipe in trained(evidence) for run in runs_of(evidence, recipe.name)]
    curves, costs = [run for run in runs if len(run.step) > 1], cost_table(evidence, runs)
    blocks: list[Block] = [Heading("Training")] if len(curves) or len(costs) else []
    if curves:
        few = " Runs of one log entry are in the table only." if len(curves) < len(runs) else ""
        blocks.append(Plot(svg(draw_curves(curves)), "Training loss, smoothed or by epoch: one panel a network, one line "
                           "a fold. The dashed gray line is the learning rate, from zero to its peak. Lines that lie apart "
                           f"are folds that were learned unequally well.{few}", wide=True))
    if len(costs):
        formats = {"parameters": ",.0f", "networks a fold": ".0f",
                   "seconds a fold": ",.0f", "images/s": ",.0f", "waiting": ".0%", "last loss": ".4f"}
        blocks.append(Table(costs, "What was trained", {name: form for name, form in formats.items() if name in costs},
                            "Mean over folds. Waiting: share of the time without data to learn from. A sequence model's "
                            "seconds include its predictions. Losses compare within one kind of network only."))
    return blocks


def trained(evidence: Evidence) -> list[Any]:
    """Recipes of what may have been trained by gradient descent: networks of localization, experiments, sequences."""
    context = evidence.context
    learned = (recipe for recipe in context.recipes if not isinstance(recipe, Stacker | Outside))
    return [*context.competition.localizer.networks, *learned]


def runs_of(evidence: Evidence, name: str) -> list[Run]:
    """Logs of ``name`` fold by fold; where there is none, the losses of each epoch that its manifest holds, if any."""
    paths, found = evidence.context.paths, []
    for fold in range(evidence.context.competition.folds.count):
        file = paths.weights / name / f"fold{fold}_log" / "figures.csv"
        losses = [] if file.exists() else evidence.manifest(paths.oof / name / f"fold{fold}.parquet").get("losses") or []
        if file.exists():
            found += read_log(file, name, fold)
        elif losses:
            found.append(Run(name, fold, np.arange(1, len(losses) + 1), np.array(losses, np.float64),
                             np.full(len(losses), np.nan), float("nan"), "epoch"))
    return found


def read_log(file: Path, model: str, fold: int) -> list[Run]:
    """The run behind a ``figures.csv`` (``step``, ``time``, ``name``, ``value``); none where no loss was logged."""
    log = pd.read_csv(file)
    table = log.pivot_table(index="step", columns="name", values="value", aggfunc="last")
    if "loss" not in table or not len(table["loss"].dropna()):
        return []
    table = table.reindex(columns=table.columns.union(["lr", "waiting"])).dropna(subset="loss")
    return [Run(model, fold, table.index.to_numpy(), table["loss"].to_numpy(np.float64), table["lr"].to_numpy(np.float64),
                float(table["waiting"].mean()))]


def cost_table(evidence: Evidence, runs: Iterable[Run]) -> pd.DataFrame:
    """One row a trained network: what it is, its size, its folds, what they cost; columns without any value are left out."""
    rows = [_cost(evidence, recipe, [run for run in runs if run.model == recipe.name]) for recipe in trained(evidence)]
    table = pd.DataFrame([row for row in rows if row["folds"]])
    return table.replace("", np.nan).dropna(axis=1, how="all")


def _cost(evidence: Evidence, recipe: Any, runs: list[Run]) -> dict[str, Any]:
    paths, folds = evidence.context.paths, range(evidence.context.competition.folds.count)
    files = [paths.weights / recipe.name / f"fold{fold}.safetensors" for fold in folds]
    predicted = [paths.oof / recipe.name / f"fold{fold}.parquet" for fold in folds]
    made = [told for file in files if (told := evidence.manifest(file))]
    made = made or [told for file in predicted if (told := evidence.manifest(file))]
    train = recipe.train if isinstance(recipe, Experiment) else Train()
    further = [evidence.manifest(file.with_name(f"{file.stem}_seed{train.seed + number}.safetensors"))
               for file in files for number in range(1, train.seeds)]
    view, backbone = getattr(recipe, "view", None), getattr(recipe, "backbone", None)
    # The network that was the start, or where its weights came from in a word or two.
    start = f"{backbone.start} of the same fold" if backbone and backbone.start else ""
    origins = [str(one["started_from"]).split(" (")[0].split(";")[0] for one in made if one.get("started_from")]
    return {"model": recipe.name,
            "network": backbone.name if backbone else getattr(recipe, "trunk", "") or type(recipe.model).__name__,
            "picture": " × ".join(map(str, (*view.size, len(view.mean)))) if view else "",
            "started from": start or ", ".join(dict.fromkeys(origins)), "parameters": _parameters(files),
            "folds": len(made), "networks a fold": recipe.networks if train.several else "",
            "seconds a fold": train.seeds * _mean([one.get("seconds") for one in [*made, *further]]),
            "images/s": _mean([one.get("images_per_second") for one in made]),
            "waiting": _mean([run.waiting for run in runs]), "last loss": _mean([run.loss[-1] for run in runs])}


def _mean(values: Iterable[float | None]) -> float:
    """Mean of what is known, NaN where nothing is."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _parameters(files: list[Path]) -> float:
    """Numbers learned, by the header of the first weights file that is there; NaN where there is none."""
    from safetensors import safe_open

    for file in files:
        if file.exists():
            with safe_open(str(file), "np") as tensors:
                return float(sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()  # noqa: SIM118
                                 if not name.endswith(NOT_LEARNED)))
    return float("nan")


def draw_curves(runs: list[Run]) -> Figure:
    """One panel a model, one line a fold (``runs`` of at least two entries)."""
    own, folds = {run.model: [one for one in runs if one.model == run.model] for run in runs}, {run.fold for run in runs}
    most = max(POINTS // (len(runs) + len(own)), 12)
    made = panels(own, partial(_draw_model, folds=sorted(folds), most=most), across=4, width=9.2, height=1.8)
    handles = {str(line.get_label()): line for ax in made.axes for line in ax.get_lines() if ax.axison}
    if len(folds) > 1:
        made.legend(handles.values(), list(handles), loc="outside upper left", ncols=len(handles), fontsize=8)
    return made


def _draw_model(ax: Axes, runs: list[Run], folds: list[int], most: int) -> None:
    longest = max(runs, key=lambda run: run.step[-1])
    rate = ax.twinx()
    rate.plot(*thinned(most, longest.step, longest.rate / np.nanmax([*longest.rate, 1e-12])), color=SOFT, lw=1, ls="--")
    rate.set(ylim=(0, 1.05), yticks=[])
    rate.set_axis_off()
    for run in runs:
        ax.plot(*thinned(most, run.step, run.loss), color=COLORS[folds.index(run.fold) % len(COLORS)],
                marker="." if len(run.step) < 5 else "", lw=1.2, label=f"fold {run.fold}")
    losses = np.concatenate([run.loss for run in runs])
    if losses.min() > 0 and losses.max() >= 10 * losses.min():
        ax.set_yscale("log")
    else:
        ax.locator_params(axis="y", nbins=4)
    ax.locator_params(axis="x", nbins=4, integer=True)
    ax.set_xlabel(longest.unit, fontsize=8)
    ax.tick_params(labelsize=8)


def thinned(most: int, *columns: np.ndarray) -> list[np.ndarray]:
    """At most ``most`` evenly spaced entries of columns of one length, the first and the last among them."""
    if len(columns[0]) <= most:
        return list(columns)
    kept = np.unique(np.linspace(0, len(columns[0]) - 1, most).round().astype(int))
    return [np.asarray(column)[kept] for column in columns]
