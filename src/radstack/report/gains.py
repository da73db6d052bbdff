"""What each model that builds on others gained over the best of them, paired by patient."""

from typing import Any

import numpy as np
import pandas as pd

from radstack.report.evidence import Evidence
from radstack.scoring.intervals import difference
from radstack.scoring.metrics import coarse
from radstack.scoring.task import CLASSES, NUMBERS, PROBABILITIES

MOVED = {PROBABILITIES: 0.05, NUMBERS: 0.1}
"""A row counts as changed from here on: a probability by that much, a number by that share of the mean absolute error."""
CHANGED = {PROBABILITIES: "some probability moved by more than 0.05", CLASSES: "another class became the likeliest",
           NUMBERS: "the number moved by more than a tenth of the error before"}
COLUMNS = ("model", "over", "before", "after", "gain", "low", "high", "verdict", "rows changed")


def additions(evidence: Evidence) -> pd.DataFrame:
    """One row a sequence model or stacker, in the order of the recipes.

    Returns:
        ``model``, ``over`` (its best member of those that answer all its rows), ``before`` and ``after`` (their losses on
        the same rows), ``gain`` (before less after; positive is better) with ``low`` and ``high`` (95 %, over patients),
        ``verdict`` (``better`` or ``worse`` where the interval excludes 0, else ``noise``), ``rows changed`` (a share).
    """
    losses: dict[str, np.ndarray] = {}
    rows = [addition(evidence, name, recipe.members, losses) for name, recipe in evidence.recipes.items()
            if getattr(recipe, "members", ())]
    return pd.DataFrame([row for row in rows if row], columns=list(COLUMNS))


def addition(evidence: Evidence, name: str, members: tuple[str, ...], losses: dict[str, np.ndarray]) -> dict[str, Any]:
    """A row of :func:`additions`; empty where no member answers all rows of ``name``. ``losses`` keeps what is computed."""
    rows = evidence.answered(name)
    rivals = [one for one in members if one in evidence.oof and evidence.answered(one)[rows].all()]
    if not rivals or not rows.any():
        return {}
    for one in {name, *rivals} - losses.keys():
        answered = evidence.answered(one)
        losses[one] = np.full(len(rows), np.nan)
        losses[one][answered] = evidence.task.metric.row_losses(evidence.truth[answered], evidence.oof[one][answered])
    best = min(rivals, key=lambda one: losses[one][rows].mean())
    before, after = losses[best][rows], losses[name][rows]
    gain = difference(before, after, evidence.train["group"].to_numpy()[rows])
    verdict = ("better" if gain.value > 0 else "worse") if gain.excludes_zero else "noise"
    moved = changed(evidence, evidence.oof[best][rows], evidence.oof[name][rows], float(before.mean()))
    return dict(zip(COLUMNS, (name, best, float(before.mean()), float(after.mean()), gain.value, gain.low, gain.high,
                              verdict, float(moved.mean()))))


def changed(evidence: Evidence, before: np.ndarray, after: np.ndarray, score: float) -> np.ndarray:
    """Rows that moved by more than ``MOVED``, bool [rows]; of classes, whose likeliest one is another."""
    metric = evidence.task.metric
    if metric.kind.predicts == CLASSES:
        pairs = zip(coarse(before, metric.groups), coarse(after, metric.groups))
        return np.any([one.argmax(axis=1) != other.argmax(axis=1) for one, other in pairs], axis=0)
    least = MOVED[metric.kind.predicts] * (score if metric.kind.predicts == NUMBERS else 1.0)
    return (np.abs(after - before) > least).any(axis=1)
