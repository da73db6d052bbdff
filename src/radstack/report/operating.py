"""Operating points of the final model and the best networks: a table for readers, and a part of section Models."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Heading, Table
from radstack.report.classes import called_of
from radstack.report.evidence import Evidence
from radstack.scoring.intervals import interval, wilson
from radstack.scoring.operating import curve_of, points
from radstack.scoring.task import CLASSES, NUMBERS

NAME = "operating_points.csv"
COLUMNS = ["model", "level", "target", "measure", "at", "threshold", "value", "low", "high", "cases", "positives"]


def operating_table(evidence: Evidence, models: Iterable[str]) -> pd.DataFrame:
    """What ``models`` reach out of fold at points that a reader may choose; one row a model, level, target and point.

    Probabilities: sensitivity at fixed specificity and the reverse, by row and by patient (who is positive where any of his
    rows is, and as likely as the likeliest of them). Numbers: share of cases within each of the competition's ``within``.
    Classes: share called right, and within one class.
    """
    kinds = {NUMBERS: _numbers, CLASSES: _classes}
    make = kinds.get(evidence.task.metric.kind.predicts, _probabilities)
    return pd.DataFrame([{"model": model, **row} for model in dict.fromkeys(models) for row in make(evidence, model)],
                        columns=COLUMNS)


def _probabilities(evidence: Evidence, model: str) -> Iterator[dict[str, Any]]:
    patients = evidence.train["group"].to_numpy()
    for place, target in enumerate(evidence.task.targets):
        truth, said = evidence.truth[:, place], evidence.oof[model][:, place].astype(np.float64)
        usable = np.isfinite(truth) & np.isfinite(said)
        rows = pd.DataFrame({"truth": truth[usable], "said": said[usable], "patient": patients[usable]})
        levels = {"row": rows, "patient": rows.groupby("patient", sort=False, as_index=False)[["truth", "said"]].max()}
        for level, table in levels.items() if len(levels["patient"]) < len(rows) else [("row", rows)]:
            positives = int((table["truth"] > 0.5).sum())
            if 0 < positives < len(table):
                counts = {"level": level, "target": target, "cases": len(table), "positives": positives}
                curve = curve_of(*(table[name].to_numpy() for name in ("truth", "said", "patient")))
                yield from (counts | point for point in points(curve))


def _numbers(evidence: Evidence, model: str) -> Iterator[dict[str, Any]]:
    by, unit = evidence.context.competition.pages.case_by, evidence.task.metric.unit
    for place, target in enumerate(evidence.task.targets):
        rows = pd.DataFrame({"truth": evidence.truth[:, place], "said": evidence.oof[model][:, place]}).join(
            evidence.train[[by, "group"]].set_axis(["case", "group"], axis=1)).dropna()
        cases = rows.groupby("case", sort=False, as_index=False).agg({"truth": "mean", "said": "mean", "group": "first"})
        error = (cases["said"] - cases["truth"]).abs().to_numpy()
        for margin in evidence.context.competition.pages.within if len(cases) else ():
            yield {"level": "case", "target": target, "measure": "share", "at": f"within {margin:g} {unit}".strip(),
                   "cases": len(cases), **_share(error <= margin, cases["group"])}


def _classes(evidence: Evidence, model: str) -> Iterator[dict[str, Any]]:
    groups = evidence.train["group"].to_numpy()
    for group in evidence.task.metric.groups:
        for merged in (True, False) if len(group.coarse) < len(group.classes) else (True,):
            called = called_of(evidence, model, group.name, merged)
            if called is None:
                continue
            apart = np.abs(called.truth - called.called)
            name = group.name if merged else f"{group.name}, unmerged classes"
            answered = groups[_answered(evidence, model, group.name)]
            for words, held in (("right", apart == 0), ("within one class", apart <= 1)):
                yield {"level": "row", "target": name, "measure": "share", "at": words, "cases": len(apart),
                       **_share(held, pd.Series(answered))}


def _answered(evidence: Evidence, model: str, group: str) -> np.ndarray:
    """Rows of which :func:`called_of` speaks, bool [n]."""
    metric = evidence.task.metric
    ends = np.cumsum([0, *metric.sizes])
    place = [one.name for one in metric.groups].index(group)
    part = slice(ends[place], ends[place + 1])
    return np.isfinite(evidence.truth[:, part]).all(axis=1) & np.isfinite(evidence.oof[model][:, part]).all(axis=1)


def _share(held: np.ndarray, groups: "pd.Series[Any]") -> dict[str, float]:
    """A share with its 95 % interval: Wilson's where each patient has one case, else a bootstrap over patients."""
    if groups.nunique() == len(held):
        value, low, high = wilson(int(held.sum()), len(held))
        return {"value": value, "low": low, "high": high}
    return vars(interval(held.astype(np.float64), groups))


def operating_blocks(evidence: Evidence) -> list[Block]:
    """The table of the final model, one a level, and that of the others folded; nothing where there are no points."""
    table = evidence.operating
    if not len(table):
        return []
    formats = dict.fromkeys(("value", "low", "high"), ".1%") | {"threshold": ".3g"}
    own = table[table["model"] == evidence.final].drop(columns="model").dropna(axis=1, how="all")
    others = table[table["model"] != evidence.final].dropna(axis=1, how="all")
    note = ("Out of fold; low and high: 95 % interval over patients. Thresholds are chosen on these very rows, in each draw "
            f"of the interval anew; before use elsewhere choose them on data from there. All of it is in {NAME}.")
    return [Heading("Operating points"),
            *(Table(part, f"{evidence.final} by {level}", formats, note)
              for level, part in own.groupby("level", sort=False)),
            *([Table(others, "The best networks", formats, folded=True)] if len(others) else [])]
