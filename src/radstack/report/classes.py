"""Classes of which one holds: what is taken for what, how often each is met, and how sure the model may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.learning import LEGEND, panels
from radstack.report.plots import COLORS, INK, svg
from radstack.report.probabilities import BINS, draw_bins
from radstack.scoring.intervals import wilson
from radstack.scoring.metrics import ClassGroup, by_group, calibration_error

if TYPE_CHECKING:  # half a second to import, and only the report needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Called:
    """What a model says of one group: true and called class, int [rows], and the probability of the called one."""

    truth: np.ndarray
    called: np.ndarray
    confidence: np.ndarray
    names: tuple[str, ...]

    @property
    def right(self) -> np.ndarray:
        """Whether the called class holds, bool [rows]."""
        return self.truth == self.called

    @property
    def counts(self) -> np.ndarray:
        """Confusion matrix, int [true, called]."""
        size = len(self.names)
        return np.bincount(self.truth * size + self.called, minlength=size * size).reshape(size, size)


def class_blocks(evidence: Evidence, single: Mapping[str, str]) -> list[Block]:
    """Confusion, accuracy by class and calibration of every group.

    Args:
        evidence: of classes.
        single: group -> its best single network, where there is one.
    """
    final, said = evidence.final, {}
    for group in evidence.task.metric.groups:
        names = dict.fromkeys([final, single.get(group.name, final)])
        found = {name: one for name in names if (one := called_of(evidence, name, group.name))}
        if final in found:
            said[group.name] = found
    if not said:
        return []
    fine = {group.name: one for group in evidence.task.metric.groups if len(group.coarse) < len(group.classes)
            and (one := called_of(evidence, final, group.name, merged=False))}
    scored = {name: models[final] for name, models in said.items()}
    blocks: list[Block] = [Heading("What is taken for what")]
    blocks += [Plot(svg(draw_confusion(scored)), f"Confusion of the scored classes by {final}: rows are the truth, columns "
                    "what was called; share of the row in percent above the number of cases. The diagonal is right.")]
    blocks += [Plot(svg(draw_confusion(fine)), "The same before classes are merged into the scored ones.")] if fine else []
    return [
        *blocks, Heading("Accuracy and calibration"),
        Plot(svg(draw_accuracy(said)), "Share of each true class that is called right, with 95 % intervals (Wilson): "
             f"{final} filled, the best single network hollow."),
        Plot(svg(draw_confidence(said)), "Accuracy against the probability of the called class, with 95 % intervals: on the "
             "dotted diagonal the model is as right as it is sure. Bars: cases of each bin, on a logarithmic scale."),
        Table(accuracy_table(said), "Accuracy by class", dict.fromkeys(
            ("accuracy", "low", "high", "precision", "within one"), ".3f"), "Low and high: 95 % interval (Wilson). "
            "Precision: of those called so, the share that is. Within one: share that is at most one class off."),
        Table(calibration_of(evidence), "Expected calibration error of every model's called class", dict.fromkeys(
            (group.name for group in evidence.task.metric.groups), ".4f"), folded=True, strong=(final,)),
    ]


def called_of(evidence: Evidence, model: str, group: str, merged: bool = True) -> Called | None:
    """What ``model`` calls in ``group``, classes merged into the scored ones or not; None where it answers no row."""
    groups, metric = evidence.task.metric.groups, evidence.task.metric
    place = [one.name for one in groups].index(group)
    kept = groups if merged else tuple(ClassGroup(one.name, _own(evidence, at)) for at, one in enumerate(groups))
    y, p = (by_group(values, metric.sizes)[place].astype(np.float64) @ kept[place].merging
            for values in (evidence.truth, evidence.oof[model]))
    usable = np.isfinite(y).all(axis=1) & np.isfinite(p).all(axis=1)
    if not usable.any():
        return None
    y, p = y[usable], p[usable]
    return Called(y.argmax(axis=1), p.argmax(axis=1), np.clip(p.max(axis=1), 0, 1), kept[place].coarse)


def _own(evidence: Evidence, place: int) -> tuple[str, ...]:
    """Names of a group's targets."""
    return tuple(by_group(np.array(evidence.task.targets), evidence.task.metric.sizes)[place].tolist())


def draw_confusion(groups: Mapping[str, Called]) -> "Figure":
    """A confusion matrix a group, shaded by the share of the row."""
    size = max(len(one.names) for one in groups.values())
    made, axes = panels(len(groups), height=2.6 if size > 4 else 2.4)
    for ax, (name, one) in zip(axes, groups.items()):
        _draw_matrix(ax, one)
        ax.set_title(name, fontsize=9)
    made.supxlabel("called", fontsize=9)
    made.supylabel("true", fontsize=9)
    return made


def _draw_matrix(ax: "Axes", one: Called) -> None:
    counts, size = one.counts, len(one.names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    small = 6.2 if size > 5 else 8
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color, alpha = COLORS[0 if row == column else 1], 0.08 + 0.5 * shares[row, column]
            ax.bar(column, 1, 1, row - 0.5, color=color, alpha=alpha, lw=0)
            ax.text(column, row, f"{shares[row, column]:.0%}\n{count:,}", ha="center", va="center", fontsize=small)
    ax.set_xticks(range(size), one.names, fontsize=7.5, rotation=40 if max(map(len, one.names)) > 4 else 0)
    ax.set_yticks(range(size), one.names, fontsize=7.5)
    ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    ax.grid(visible=False)
    ax.tick_params(length=0, colors=INK)


def draw_accuracy(said: Mapping[str, Mapping[str, Called]]) -> "Figure":
    """Accuracy of each class with its interval, one panel a group."""
    made, axes = panels(len(said), sharex=True, height=2.5)
    for ax, (group, models) in zip(axes, said.items()):
        names = next(iter(models.values())).names
        for place, (name, one) in enumerate(models.items()):
            shares = np.array([wilson(int(one.right[held].sum()), int(held.sum())) for held in _held(one)])
            level = np.arange(len(names))[::-1] + 0.12 * (1 - 2 * place)
            ax.hlines(level, shares[:, 1], shares[:, 2], color=COLORS[place], lw=1.1)
            ax.plot(shares[:, 0], level, "o", ms=4, color=COLORS[place], mfc=COLORS[place] if not place else "none",
                    label=f"{name} {one.right.mean():.3f}")
        ax.set_yticks(np.arange(len(names))[::-1], names)
        ax.set(ylim=(-0.5, len(names) - 0.5))
        ax.set_title(group, fontsize=9)
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1), **LEGEND)
    axes[0].set_xlim(None, 1.02)  # shared, so only when all panels are drawn
    made.supxlabel("accuracy", fontsize=9)
    return made


def _held(one: Called) -> list[np.ndarray]:
    return [one.truth == place for place in range(len(one.names))]


def draw_confidence(said: Mapping[str, Mapping[str, Called]]) -> "Figure":
    """Reliability of the called class, one panel a group."""
    made, axes = panels(len(said), sharex=True, sharey=True, height=2.6)
    for ax, (group, models) in zip(axes, said.items()):
        draw_bins(ax, {name: (one.right, one.confidence) for name, one in models.items()})
        ax.set_title(group, fontsize=9)
    made.supxlabel("probability of the called class", fontsize=9)
    made.supylabel("accuracy", fontsize=9)
    return made


def accuracy_table(said: Mapping[str, Mapping[str, Called]]) -> pd.DataFrame:
    """One row a group, model and class, those of all classes first."""
    rows = []
    for group, models in said.items():
        for model, one in models.items():
            near = np.abs(one.truth - one.called) <= 1
            for name, held in zip(("all", *one.names), (np.ones(len(one.truth), bool), *_held(one))):
                share, low, high = wilson(int(one.right[held].sum()), int(held.sum()))
                told = np.ones_like(held) if name == "all" else one.called == one.names.index(name)
                rows.append({"group": group, "model": model, "class": name, "cases": int(held.sum()),
                             "hits": int(one.right[held].sum()), "accuracy": share, "low": low, "high": high,
                             "precision": float(one.right[told].mean()) if told.any() else np.nan,
                             "within one": float(near[held].mean()) if held.any() else np.nan})
    return pd.DataFrame(rows)


def calibration_of(evidence: Evidence) -> pd.DataFrame:
    """Calibration error of the called class, one row a model and one column a group; NaN where it does not answer."""
    return pd.DataFrame([{"model": model, **{
        group.name: calibration_error(one.right, one.confidence, BINS) if (one := called_of(evidence, model, group.name))
        else np.nan for group in evidence.task.metric.groups}} for model in evidence.names])
