"""Classes of which one holds: what is taken for what, how often each is met, and how sure the model may be."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, INK, LEGEND, Axes, Figure, panels, svg
from radstack.report.probabilities import BINS, draw_bins
from radstack.scoring.intervals import wilson
from radstack.scoring.metrics import ClassGroup, by_group, calibration_error


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
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.truth, self.called, labels=range(len(self.names)))


def class_blocks(evidence: Evidence, single: Mapping[str, str]) -> list[Block]:
    """Confusion, accuracy by class and calibration of every group; ``single`` names a group's best network, if any."""
    final, said = evidence.final, {}
    for group in evidence.task.metric.groups:
        names = dict.fromkeys([final, single.get(group.name, final)])
        found = {name: one for name in names if (one := called_of(evidence, name, group.name))}
        if final in found:
            said[group.name] = found
    if not said:
        return []
    scored = {name: models[final] for name, models in said.items()}
    sure = {group: {name: (one.right, one.confidence) for name, one in models.items()} for group, models in said.items()}
    fine = {group.name: one for group in evidence.task.metric.groups if len(group.coarse) < len(group.classes)
            and (one := called_of(evidence, final, group.name, merged=False))}
    return [
        Heading("What is taken for what"),
        Plot(svg(draw_confusion(scored)), f"Confusion of the scored classes by {final}: rows are the truth, columns what "
             "was called; share of the row in percent above the number of cases. The diagonal is right."),
        *([Plot(svg(draw_confusion(fine)), "The same before classes are merged into the scored ones.")] if fine else []),
        Heading("Accuracy and calibration"),
        Plot(svg(draw_accuracy(said)), "Share of each true class that is called right, with 95 % intervals (Wilson): "
             f"{final} filled, the best single network hollow."),
        Plot(svg(panels(sure, draw_bins, "probability of the called class", "accuracy", height=2.6, sharex=True,
                        sharey=True)), "Accuracy against the probability of the called class, with 95 % intervals: on the "
             "dotted diagonal the model is as right as it is sure. Bars: cases of each bin, on a logarithmic scale."),
        Table(accuracy_table(said), "Accuracy by class", dict.fromkeys(
            ("accuracy", "low", "high", "precision", "within one"), ".3f"), "Low and high: 95 % interval (Wilson). "
            "Precision: of those called so, the share that is. Within one: share that is at most one class off."),
        Table(calibration_of(evidence), "Expected calibration error of every model's called class", dict.fromkeys(
            (group.name for group in evidence.task.metric.groups), ".4f"), folded=True, strong=(final,)),
    ]


def called_of(evidence: Evidence, model: str, group: str, merged: bool = True) -> Called | None:
    """What ``model`` calls in ``group``, classes merged into the scored ones or not; None where it answers no row."""
    metric, targets = evidence.task.metric, np.array(evidence.task.targets)
    place = [one.name for one in metric.groups].index(group)
    kept = metric.groups[place] if merged else ClassGroup(group, tuple(by_group(targets, metric.sizes)[place].tolist()))
    y, p = (by_group(values, metric.sizes)[place].astype(np.float64) @ kept.merging
            for values in (evidence.truth, evidence.oof[model]))
    usable = np.isfinite(y).all(axis=1) & np.isfinite(p).all(axis=1)
    if not usable.any():
        return None
    y, p = y[usable], p[usable]
    return Called(y.argmax(axis=1), p.argmax(axis=1), np.clip(p.max(axis=1), 0, 1), kept.coarse)


def draw_confusion(groups: Mapping[str, Called]) -> Figure:
    """A confusion matrix a group, shaded by the share of the row."""
    large = max(len(one.names) for one in groups.values()) > 4
    return panels(groups, _draw_matrix, "called", "true", height=2.6 if large else 2.4)


def _draw_matrix(ax: Axes, one: Called) -> None:
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


def draw_accuracy(said: Mapping[str, Mapping[str, Called]]) -> Figure:
    """Accuracy of each class with its interval, one panel a group."""
    made = panels(said, _draw_shares, "accuracy", height=2.5, sharex=True)
    made.axes[0].set_xlim(None, 1.02)  # shared, so only when all panels are drawn
    return made


def _draw_shares(ax: Axes, models: Mapping[str, Called]) -> None:
    names = next(iter(models.values())).names
    levels = np.arange(len(names))[::-1]
    for place, (name, one) in enumerate(models.items()):
        shares = np.array([wilson(*_hits(one, one.truth == number)) for number in range(len(names))])
        level = levels + 0.12 * (1 - 2 * place)
        ax.hlines(level, shares[:, 1], shares[:, 2], color=COLORS[place], lw=1.1)
        ax.plot(shares[:, 0], level, "o", ms=4, color=COLORS[place], mfc=COLORS[place] if not place else "none",
                label=f"{name} {one.right.mean():.3f}")
    ax.set_yticks(levels, names)
    ax.set(ylim=(-0.5, len(names) - 0.5))
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1), **LEGEND)


def _hits(one: Called, held: np.ndarray) -> tuple[int, int]:
    """How many of the rows ``held`` (bool) are called right, and how many there are."""
    return int(one.right[held].sum()), int(held.sum())


def accuracy_table(said: Mapping[str, Mapping[str, Called]]) -> pd.DataFrame:
    """One row a group, model and class, those of all classes first."""
    rows = []
    for group, model, one in ((group, model, one) for group, models in said.items() for model, one in models.items()):
        near, everyone = np.abs(one.truth - one.called) <= 1, np.ones(len(one.truth), bool)
        for number, name in enumerate(("all", *one.names), -1):
            held, called = (everyone, everyone) if number < 0 else (one.truth == number, one.called == number)
            hits, cases = _hits(one, held)
            share, low, high = wilson(hits, cases)
            rows.append({"group": group, "model": model, "class": name, "cases": cases, "hits": hits, "accuracy": share,
                         "low": low, "high": high, "precision": _share(one.right[called]), "within one": _share(near[held])})
    return pd.DataFrame(rows)


def _share(held: np.ndarray) -> float:
    return float(held.mean()) if len(held) else float("nan")


def calibration_of(evidence: Evidence) -> pd.DataFrame:
    """Calibration error of the called class, one row a model and one column a group; NaN where it does not answer."""
    return pd.DataFrame([{"model": model, **{
        group.name: calibration_error(one.right, one.confidence, BINS) if (one := called_of(evidence, model, group.name))
        else np.nan for group in evidence.task.metric.groups}} for model in evidence.names])
