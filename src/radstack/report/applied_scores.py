"""Of the page of an applied set: its score on labels that were given, with drawings."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from radstack.report.applied_set import COVERAGE, Applied, half_widths
from radstack.report.blocks import Block, Figures, Plot, Section, Table, Words
from radstack.report.evidence import Evidence, aligned
from radstack.report.plots import svg
from radstack.scoring.intervals import wilson
from radstack.scoring.task import NUMBERS, PROBABILITIES
from radstack.stages.stack import task_of

LEAST = 5
"""Labeled answers from which on they are drawn."""


def scores_section(applied: Applied) -> Section:
    """The score on the labels with its interval, subgroups and calibration, and drawings of these."""
    assert applied.scores is not None and applied.labeled is not None
    scores, metric = applied.scores, applied.there.competition.metric
    final = applied.there.competition.models.final
    own = scores[scores["model"] == final].iloc[0]
    blocks: list[Block] = [
        Figures({str(metric): (f"{own['score']:.4f}", f"{own['low']:.4f} to {own['high']:.4f}, 95 % over patients"),
                 "labeled answers": (f"{len(applied.labeled):,}", f"of {applied.labeled['group'].nunique():,} patients")}),
        Table(scores.drop(columns="split").set_index("model").T.rename_axis("measure").reset_index(),
              "Score, subgroups and calibration", note="Constant: the best constant on these labels. Score NAME: of a "
              "subgroup. ECE: expected calibration error. Predicted, observed: means.", strong=("score",))]
    if len(applied.labeled) >= LEAST:
        blocks += drawings(applied)
    return Section("scores", "Score on the labels", "How the solution does on these pictures by the labels that were given.",
                   tuple(blocks))


def drawings(applied: Applied) -> Iterator[Block]:
    """Ranking and calibration of probabilities, agreement and errors of numbers, confusion of classes."""
    evidence = evidence_of(applied)
    if applied.kind == PROBABILITIES:
        from radstack.report.probabilities import curves_of, draw_bins, draw_roc, panels

        if curves := curves_of(evidence, {}):
            yield Plot(svg(draw_roc(curves)), "ROC curves, with the area under the curve; the dotted diagonal is chance.")
            yield Plot(svg(panels(curves, draw_bins, "predicted probability", "share of positives", height=2.3, sharex=True,
                                  sharey=True)), "Calibration: share of positives in bins of predicted probability, with 95 "
                       "% intervals; on the dotted diagonal a probability means what it says.")
    elif applied.kind == NUMBERS:
        yield from _number_drawings(applied, evidence)
    else:
        yield from _class_drawings(evidence)


def _number_drawings(applied: Applied, evidence: Evidence) -> Iterator[Block]:
    from radstack.report.numbers import cases_of, draw_agreement, draw_differences, draw_range

    unit = evidence.task.metric.unit
    for target in evidence.task.targets:
        cases = cases_of(evidence, target, evidence.final, None)
        yield Plot(svg(draw_agreement(cases, "", unit), dpi=150), f"Predicted against true {target}.")
        yield Plot(svg(draw_differences(cases, "", unit), dpi=150), "Bland-Altman: predicted less true against the mean.")
        yield Plot(svg(draw_range(cases, {evidence.final: "final"}, unit)), "Calibration: mean error (filled) and mean "
                   "absolute error (hollow) over the true value.")
    if applied.known.answers is not None:
        held = inside_intervals(applied)
        low, high = wilson(int(held.sum()), len(held))[1:]
        yield Words(f"Of {len(held):,} labels {held.mean():.1%} lie in the {COVERAGE:.0%} intervals of training "
                    f"({low:.1%} to {high:.1%}).", "good" if high >= COVERAGE else "warn")


def inside_intervals(applied: Applied) -> np.ndarray:
    """Whether each label lies in the interval around its answer, bool [labeled rows times targets]."""
    assert applied.labeled is not None
    widths, rows = half_widths(applied), applied.labeled
    said = applied.answers.set_index("id").loc[rows["id"]]
    own, held = [name for name in widths if name in applied.there.competition.pages.interval_by], []
    for target in applied.targets:
        width = rows[own].merge(widths[widths["target"] == target], on=own, how="left")["half width"] if own else \
            widths.loc[widths["target"] == target, "half width"].iloc[0]
        held.append(np.abs(rows[target].to_numpy() - said[target].to_numpy()) <= np.asarray(width))
    return np.concatenate(held)


def _class_drawings(evidence: Evidence) -> Iterator[Block]:
    from radstack.report.classes import accuracy_table, called_of, draw_confusion
    from radstack.report.probabilities import draw_bins, panels

    final = evidence.final
    said = {group.name: one for group in evidence.task.metric.groups if (one := called_of(evidence, final, group.name))}
    if not said:
        return
    yield Plot(svg(draw_confusion(said)), "Confusion of the scored classes: rows are the truth, columns what was called.")
    sure = {name: {final: (one.right, one.confidence)} for name, one in said.items()}
    yield Plot(svg(panels(sure, draw_bins, "probability of the called class", "accuracy", height=2.6, sharex=True,
                          sharey=True)), "Calibration: accuracy against the probability of the called class.")
    yield Table(accuracy_table({name: {final: one} for name, one in said.items()}), "Accuracy by class")


def evidence_of(applied: Applied) -> Evidence:
    """The labeled answers as what the drawings of stage 09 are made from."""
    there, rows = applied.there, applied.labeled
    assert rows is not None and applied.scores is not None
    final = there.competition.models.final
    none = pd.DataFrame()
    return Evidence(there, task_of(there), [final], rows, none, none, rows.reset_index(drop=True), np.zeros(len(rows), int),
                    {final: aligned(rows, applied.answers, there.competition.targets)}, applied.scores, none, None)
