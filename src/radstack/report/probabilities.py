"""Probabilities against 0/1 labels: ranking (ROC, precision and recall) and calibration, before and after."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, INK, LEGEND, SOFT, Axes, Figure, figure, panels, svg
from radstack.scoring.intervals import wilson
from radstack.scoring.metrics import calibration_error, log_losses, reliability

POINTS = 150
"""Of one ROC or precision-recall curve."""
BINS = 10
"""Of the reliability curves and the calibration error."""
HEADROOM = 1.4
"""Upper end of axes to 1 whose legend stands above the curves."""
TICKS = (0, 0.5, 1)
"""Of axes from 0 to 1 in small panels."""
Models = dict[str, tuple[np.ndarray, np.ndarray]]
"""Model, the final one first -> labels (bool) and probabilities (float64) of the rows that all of them answer."""
Curves = dict[str, Models]
"""Target -> its models."""


def probability_blocks(evidence: Evidence, single: Mapping[str, str], before: Mapping[str, str]) -> list[Block]:
    """Curves of the final model beside ``single``, a target's best network, and ``before`` its calibration, where known."""
    ranked, calibrated = curves_of(evidence, single), curves_of(evidence, before)
    if not ranked or not calibrated:
        return []
    final, table = evidence.final, calibration_table(calibrated)
    return [
        Heading("Ranking"),
        Plot(svg(draw_roc(ranked)), f"ROC curves of {final} and, for each label, the best single network, with the area "
             "under the curve. Up and to the left is better, the dotted diagonal is chance."),
        Plot(svg(draw_recall(ranked)), "Precision against recall of the same models, with the average precision (AP); the "
             "dotted line is the prevalence, which is what guessing reaches. Telling where positives are rare."),
        Table(ranking_table(ranked), f"Ranking by label: the best single network and {final}", {
            "prevalence": ".2%", **dict.fromkeys(("AUC", "AUC, final", "AP", "AP, final"), ".3f")}),
        Heading("Calibration"),
        Plot(svg(panels(calibrated, draw_bins, "predicted probability", "share of positives", height=2.3, sharex=True,
                        sharey=True)), "Share of positives against predicted probability in bins of 0.1, with 95 % "
             "intervals: on the dotted diagonal a probability means what it says. Bars: rows of each bin, on a logarithmic "
             "scale. ECE, the expected calibration error, is the mean distance from the diagonal."),
        Plot(svg(draw_errors(table, final)), "Expected calibration error by label, before (hollow) and after (filled); "
             "further left is better."),
        Table(table, f"Calibration by label, before and after ({final})", {
            "rows": ",", **dict.fromkeys(("loss before", "loss after", "ECE before", "ECE after"), ".4f")}),
        Table(error_table(evidence), "Expected calibration error of every model", dict.fromkeys(
            ("mean", *evidence.task.targets), ".4f"), folded=True, strong=(final,)),
    ]


def curves_of(evidence: Evidence, beside: Mapping[str, str]) -> Curves:
    """The final model and the one ``beside`` it for each target that has positive and negative rows."""
    found, truths = {}, evidence.truth
    for place, target in enumerate(evidence.task.targets):
        names = dict.fromkeys([evidence.final, beside.get(target, evidence.final)])
        truth, said = truths[:, place], {name: evidence.oof[name][:, place].astype(np.float64) for name in names}
        usable = np.isfinite([truth, *said.values()]).all(axis=0)
        positive = truth[usable] > 0.5
        if positive.any() and not positive.all():
            found[target] = {name: (positive, values[usable]) for name, values in said.items()}
    return found


def draw_roc(curves: Curves) -> Figure:
    """Sensitivity against 1 - specificity, one panel a target."""
    from sklearn.metrics import roc_auc_score, roc_curve

    def panel(ax: Axes, models: Models) -> None:
        ax.plot([0, 1], [0, 1], color=SOFT, ls=":", lw=1)
        ax.set(xticks=TICKS, yticks=TICKS)
        for color, (name, (truth, said)) in zip(COLORS, models.items()):
            wrong, right, _ = roc_curve(truth, said)
            ax.plot(*evenly(wrong, right), color=color, label=f"{name} {roc_auc_score(truth, said):.3f}")
        ax.legend(loc="lower right", **LEGEND)

    titled = {f"{target}, {_truth(models).sum():,} positive": models for target, models in curves.items()}
    return panels(titled, panel, "1 - specificity", "sensitivity", sharex=True, sharey=True)


def draw_recall(curves: Curves) -> Figure:
    """Precision against recall, one panel a target."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def panel(ax: Axes, models: Models) -> None:
        ax.axhline(_truth(models).mean(), color=SOFT, ls=":", lw=1.2)
        for color, (name, (truth, said)) in zip(COLORS, models.items()):
            precision, recall, _ = precision_recall_curve(truth, said)
            kept = recall > 0  # before the first hit, precision is 0 or made up
            ax.plot(*evenly(recall[kept][::-1], precision[kept][::-1]), color=color,
                    label=f"{name} {average_precision_score(truth, said):.3f}")
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, HEADROOM), xticks=TICKS, yticks=TICKS)
        ax.legend(loc="upper right", **LEGEND)

    titled = {f"{target}, prevalence {_truth(models).mean():.2%}": models for target, models in curves.items()}
    return panels(titled, panel, "recall", "precision", sharex=True, sharey=True)


def _truth(models: Models) -> np.ndarray:
    """Labels, the same for all ``models``."""
    return next(iter(models.values()))[0]


def evenly(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """At most ``POINTS`` points of a curve with rising ``x``, even in length along it, so that steep parts keep theirs."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))
    return [x[kept], y[kept]] if len(x) > POINTS else [x, y]


def ranking_table(curves: Curves) -> pd.DataFrame:
    """One row a target: prevalence, area under the ROC curve and average precision of the best network and the final."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    measures = {"AUC": roc_auc_score, "AP": average_precision_score}
    rows = [{"label": target, "positive": int(_truth(models).sum()), "prevalence": float(_truth(models).mean()),
             **_beside(models, "best single network", measures, ("", ", final"))} for target, models in curves.items()]
    return pd.DataFrame(rows)


def _beside(models: Models, title: str, measures: Mapping[str, Callable[..., float]],
            marks: tuple[str, str]) -> dict[str, Any]:
    """``measures`` of the model beside the final one, named in column ``title``, and of the final one, which is first."""
    row: dict[str, Any] = {}
    for mark, (name, pair) in reversed(list(zip(reversed(marks), models.items()))):
        row |= {title: name} if mark == marks[0] else {}
        row |= {f"{measure}{mark}": measured(*pair) for measure, measured in measures.items()}
    return row


def draw_bins(ax: Axes, models: Models) -> None:
    """Reliability of each model (labels and probabilities) in one panel, the first on top; bars count rows per bin."""
    counts = ax.twinx()
    ax.plot([0, 1], [0, 1], color=SOFT, ls=":", lw=1)
    most = 1
    for place, (name, (truth, said)) in reversed(list(enumerate(models.items()))):
        table = reliability(truth, said, BINS)
        shares = np.array([wilson(round(row.observed * row.count_), row.count_) for row in
                           table.rename(columns={"count": "count_"}).itertuples()])
        ax.vlines(table["predicted"], shares[:, 1], shares[:, 2], color=COLORS[place], lw=0.8, alpha=0.7)
        # The one behind is broad, so that it is seen where both are the same.
        ax.plot(table["predicted"], table["observed"], color=COLORS[place], marker="o", ms=3 + place, lw=1.2 + 2 * place,
                alpha=0.55 if place else 1, label=f"{name}, ECE {calibration_error(truth, said, BINS):.4f}")
        width = 1 / BINS / len(models)
        counts.bar(table["low"] + width * (place + 0.5), table["count"], width * 0.9, color=COLORS[place], alpha=0.22, lw=0)
        most = max(most, int(table["count"].max()))
    # The bars fill the lowest third: the axis reaches three times as many decades as the largest bin needs.
    counts.set(yscale="log", ylim=(0.7, max(most, 10)**3), yticks=[])
    counts.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(-0.02, HEADROOM), xticks=TICKS, yticks=TICKS)
    ax.legend(loc="upper left", reverse=True, **LEGEND)


def draw_errors(table: pd.DataFrame, final: str) -> Figure:
    """Calibration errors of :func:`calibration_table` before and after, on a line each."""
    made, ax = figure(height=max(0.32 * len(table) + 1, 2.4))
    place = np.arange(len(table))[::-1]
    if "ECE before" in table:
        ax.hlines(place, table["ECE before"], table["ECE after"], color=SOFT, lw=1.2)
        ax.plot(table["ECE before"], place, "o", mfc="none", color=COLORS[1], label="before")
    ax.plot(table["ECE after"], place, "o", color=COLORS[0], label=f"after: {final}")
    ax.set_yticks(place, table["label"])
    ax.set(xlabel="expected calibration error", xlim=(0, None), ylim=(-0.6, len(table) - 0.4))
    ax.tick_params(axis="y", colors=INK, length=0)
    made.legend(loc="outside upper left", ncols=2)
    return made


def calibration_table(curves: Curves) -> pd.DataFrame:
    """One row a target: log loss and calibration error of the model before and of the final one."""
    measures: dict[str, Callable[..., float]] = {
        "loss ": lambda truth, said: float(log_losses(truth, np.clip(said, 0, 1)).mean()),
        "ECE ": partial(calibration_error, bins=BINS)}
    table = pd.DataFrame([{"label": target, "rows": len(_truth(models)), **_beside(
        models, "before", measures, ("before", "after"))} for target, models in curves.items()])
    order = ["label", "rows", "before", "loss before", "loss after", "ECE before", "ECE after"]
    return table[[name for name in order if name in table]]


def error_table(evidence: Evidence) -> pd.DataFrame:
    """Calibration error of every model on what it answers: ``mean`` over targets, then each target."""
    rows, truth = [], evidence.truth
    for said in evidence.oof.values():
        usable = np.isfinite(said) & np.isfinite(truth)
        rows.append({target: calibration_error(truth[kept, place], said[kept, place], BINS) if kept.any() else np.nan
                     for place, (target, kept) in enumerate(zip(evidence.task.targets, usable.T))})
    errors = pd.DataFrame(rows)
    return pd.concat([pd.DataFrame({"model": list(evidence.oof), "mean": errors.mean(axis=1)}), errors], axis=1)
