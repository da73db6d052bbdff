"""Operating points: what a reader gets who fixes how many false alarms, or how many misses, are allowed."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

FIXED = (0.8, 0.9, 0.95)
"""Specificities, then sensitivities, that are fixed."""
DRAWS = 200
"""Of the bootstrap over patients, which chooses the threshold anew in each draw."""


class Curve(NamedTuple):
    """Rows in the order of falling probability; points lie where the probability changes."""

    positive: np.ndarray
    """bool [rows]."""
    said: np.ndarray
    """float64 [rows]."""
    patient: np.ndarray
    """int [rows]."""
    ends: np.ndarray
    """Last row of each probability, int [points]."""


def curve_of(truth: np.ndarray, said: np.ndarray, patient: np.ndarray) -> Curve:
    """The curve of ``said`` [rows] against labels ``truth`` (above 0.5 is positive), rows of patients ``patient``."""
    order = np.argsort(-said, kind="stable")
    falling = said[order]
    return Curve(truth[order] > 0.5, falling, pd.factorize(patient[order])[0],
                 np.flatnonzero(np.append(falling[1:] != falling[:-1], True)))


def points(curve: Curve, fixed: tuple[float, ...] = FIXED, draws: int = DRAWS, seed: int = 0) -> Iterator[dict[str, object]]:
    """``measure`` at a fixed ``at``: sensitivity at each specificity, then the reverse.

    Yields:
        ``measure``, ``at``, ``threshold`` (rows of that probability or more are called positive), ``value``, ``low`` and
        ``high`` (95 %, bootstrap over patients).
    """
    rng, patients = np.random.default_rng(seed), int(curve.patient.max()) + 1
    ones = np.ones(len(curve.said))
    own = _values(curve, ones, fixed)
    drawn = np.array([_values(curve, np.bincount(rng.integers(patients, size=patients), minlength=patients)[
        curve.patient].astype(np.float64), fixed)[0] for _ in range(draws)])
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0) if patients > 1 else np.full((2, 2 * len(fixed)), np.nan)
    pairs = (("sensitivity", "specificity"), ("specificity", "sensitivity"))
    names = [(measure, f"{held} {one:g}") for measure, held in pairs for one in fixed]
    for place, (measure, at) in enumerate(names):
        yield {"measure": measure, "at": at, "threshold": own[1][place], "value": own[0][place], "low": low[place],
               "high": high[place]}


def _values(curve: Curve, weights: np.ndarray, fixed: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Values and thresholds, those of fixed specificities first; NaN where a draw has one class alone."""
    hits = np.cumsum(np.where(curve.positive, weights, 0.0))[curve.ends]
    alarms = np.cumsum(np.where(curve.positive, 0.0, weights))[curve.ends]
    if not hits[-1] or not alarms[-1]:
        return np.full(2 * len(fixed), np.nan), np.full(2 * len(fixed), np.nan)
    sensitivity, specificity = hits / hits[-1], 1 - alarms / alarms[-1]
    slack = 1e-12  # of sums that are rounded
    values, thresholds = [], []
    for one in fixed:  # the lowest threshold that still has this specificity; above all rows none is called
        place = int(np.searchsorted(-specificity, -(one - slack), side="right")) - 1
        values.append(float(sensitivity[place]) if place >= 0 else 0.0)
        thresholds.append(float(curve.said[curve.ends[place]]) if place >= 0 else float("inf"))
    for one in fixed:  # the highest threshold that has this sensitivity
        place = int(np.searchsorted(sensitivity, one - slack, side="left"))
        values.append(float(specificity[place]))
        thresholds.append(float(curve.said[curve.ends[place]]))
    return np.array(values), np.array(thresholds)
