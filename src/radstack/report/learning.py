"""How the networks learned: the loss of every fold over its steps, and what training cost."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from radstack.core.artifact import manifest_of
from radstack.recipes.stacker import Stacker
from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.plots import BACK, COLORS, SOFT, figure, svg

if TYPE_CHECKING:  # half a second to import, and only the report needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 4000
"""Points of all curves of a figure together, which is about 60 KB of SVG."""
LEGEND = {"fontsize": 7.5, "handlelength": 1, "frameon": True, "facecolor": BACK, "edgecolor": "none", "framealpha": 0.7}
"""Of a legend within a small panel: curves shine through."""
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
        formats = {"parameters": ",.0f", "seconds a fold": ",.0f", "images/s": ",.0f", "waiting": ".0%", "last loss": ".4f"}
        blocks.append(Table(costs, "What was trained", {name: form for name, form in formats.items() if name in costs},
                            "Mean over folds. Waiting: share of the time without data to learn from. A sequence model's "
                            "seconds include its predictions. Losses compare within one kind of network only."))
    return blocks


def trained(evidence: Evidence) -> list[Any]:
    """Recipes of what may have been trained by gradient descent: networks of localization, experiments, sequences."""
    context = evidence.context
    learned = (recipe for recipe in context.recipes if not isinstance(recipe, Stacker))
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
    made = [evidence.manifest(file) for file in files if manifest_of(file).exists()]
    made = made or [evidence.manifest(file) for file in predicted if manifest_of(file).exists()]
    return {"model": recipe.name, "network": _network(recipe), "picture": _picture(recipe),
            "started from": _start(recipe, made), "parameters": _parameters(files), "folds": len(made),
            "seconds a fold": _mean([one.get("seconds") for one in made]),
            "images/s": _mean([one.get("images_per_second") for one in made]),
            "waiting": _mean([run.waiting for run in runs]), "last loss": _mean([run.loss[-1] for run in runs])}


def _mean(values: Iterable[float | None]) -> float:
    """Mean of what is known, NaN where nothing is."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _start(recipe: Any, made: list[dict[str, Any]]) -> str:
    """The network that was the start, or where its weights came from in a word or two."""
    own = getattr(getattr(recipe, "backbone", None), "start", "")
    words = dict.fromkeys(str(one["started_from"]).split(" (")[0].split(";")[0] for one in made if one.get("started_from"))
    return f"{own} of the same fold" if own else ", ".join(words)


def _network(recipe: Any) -> str:
    if hasattr(recipe, "trunk"):
        return str(recipe.trunk)
    return str(recipe.backbone.name) if hasattr(recipe, "backbone") else type(recipe.model).__name__


def _picture(recipe: Any) -> str:
    """Height, width and channels of what an experiment sees."""
    view = getattr(recipe, "view", None)
    return " × ".join(str(side) for side in (*view.size, len(view.mean))) if view else ""


def _parameters(files: list[Path]) -> float:
    """Numbers learned, by the header of the first weights file that is there; NaN where there is none."""
    from safetensors import safe_open

    for file in files:
        if file.exists():
            with safe_open(str(file), "np") as tensors:
                return float(sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()  # noqa: SIM118
                                 if not name.endswith(NOT_LEARNED)))
    return float("nan")


def draw_curves(runs: list[Run]) -> "Figure":
    """One panel a model, one line a fold (``runs`` of at least two entries)."""
    models, folds = list(dict.fromkeys(run.model for run in runs)), sorted({run.fold for run in runs})
    made, axes = panels(len(models), across=4, width=9.2, height=1.8)
    most = max(POINTS // (len(runs) + len(models)), 12)
    for ax, name in zip(axes, models):
        _draw_model(ax, [run for run in runs if run.model == name], folds, most)
        ax.set_title(name, fontsize=9)
    handles = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    if len(folds) > 1:
        made.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=len(handles), fontsize=8)
    return made


def _draw_model(ax: "Axes", runs: list[Run], folds: list[int], most: int) -> None:
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


def panels(count: int, across: int = 2, width: float = 5.2, height: float = 2.2, **how: Any) -> "tuple[Figure, list[Any]]":
    """A figure of ``count`` axes, ``across`` in a row, each ``height`` inches high; places that are left over stay empty."""
    across = min(across, count)
    down = -(-count // across)
    made, grid = figure(width, max(height * down, 2.4), down, across, squeeze=False, **how)
    axes = list(grid.flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return made, axes[:count]
