"""What a stack keeps: nothing that the constant predictor beats, and what is submitted nothing that a plain mean beats.

Members come first (:func:`screen`). Log odds of a class on which a member is worse than the constant shrink towards it, by
the scale and bias that cross-fitting over patients finds; a member that is still no better is left out. Then the stack
(:func:`stand_in`): where its nested predictions lose to something simpler, that stands in for it. All of it is learned from
training rows and stored with the fit.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from radstack.scoring.metrics import log_losses, logit, normalized
from radstack.scoring.task import PROBABILITIES, Metric
from radstack.stack.adjust import calibrated, crossfitted, crossfitted_rows, platt
from radstack.stack.rows import Rows
from radstack.stack.screen import Screen


def screen(rows: Rows, names: tuple[str, ...]) -> tuple[Screen | None, list[str]]:
    """What to take of the members called ``names``, None for all as they are; and a line on each change.

    One member always stays, the best.
    """
    metric, count = rows.task.metric, len(rows.predicted)
    constant = metric.target_losses(rows.truth, priors(rows))
    lines, scores, words = np.full((count, rows.truth.shape[1], 2), np.nan), np.empty(count), list[str]()
    for place, member in enumerate(rows.predicted):
        losses = metric.target_losses(rows.truth, member)
        before = float(losses @ normalized(metric.weights))
        if metric.kind.predicts == PROBABILITIES:
            losses = _shrink(rows, place, losses, constant, lines[place])
        scores[place] = losses @ normalized(metric.weights)
        if moved := [name for name, line in zip(rows.task.targets, lines[place]) if np.isfinite(line[0])]:
            words.append(f"{names[place]} shrinks towards the constant in {', '.join(moved)}: {before:.4f} before")
    limit = float(constant @ normalized(metric.weights))
    kept = ~(scores >= limit)  # NaN is a member that answers some groups of classes alone
    words += [f"{names[place]} is left out: {scores[place]:.4f}, the constant predictor {limit:.4f}"
              for place in np.flatnonzero(~kept)]
    if not kept.any():
        kept[int(np.argmin(scores))] = True
        words.append(f"no member is better than the constant predictor: {names[int(np.argmin(scores))]} stays")
    return (Screen(kept, lines) if words else None), words


def priors(rows: Rows) -> np.ndarray:
    """The prior of each patient's rows by other patients, float64 [rows, targets]; of one patient his own.

    A member has not met the patient that it answers, so the constant that it must beat has not either.
    """
    if not rows.group.max(initial=0):
        return np.broadcast_to(rows.prior(), rows.truth.shape)
    return crossfitted_rows(lambda others: np.broadcast_to(rows.prior(others), rows.truth.shape), rows.group)


def _shrink(rows: Rows, member: int, losses: np.ndarray, constant: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Fill ``lines`` [targets, 2] of the classes that must shrink; return each class's loss afterwards, cross-fitted."""
    after, prior = losses.copy(), rows.prior()
    weights = normalized(rows.task.metric.weights)
    everywhere = losses @ weights >= constant @ weights
    for place in np.flatnonzero(everywhere | (losses > constant)):
        z, y = rows.linked[member, :, place], rows.truth[:, place]
        scale, bias = platt(z, y)
        gain = constant[place] - float(log_losses(y, crossfitted(calibrated, z, y, rows.group)).mean()) \
            if scale > 0 and rows.group.max() else 0.0
        lines[place] = (scale, bias) if gain > 0 else (0.0, float(logit(np.array(prior[place]), rows.task.metric.clip)))
        after[place] = constant[place] - max(gain, 0.0)
    return after


class StandIn(NamedTuple):
    """What is better than a stack."""

    what: str
    score: float
    """Its nested score."""
    own: float
    """That of the stack."""


def stand_in(metric: Metric, truth: np.ndarray, stacked: np.ndarray, others: Mapping[str, np.ndarray]) -> StandIn | None:
    """The best of ``others`` (name -> predictions [rows, targets]), nested as ``stacked``; None where none is better.

    The choice sees the labels of all folds, as the choice of a model to submit does. Among so few, what it adds to the score
    is far below the score's interval.
    """
    scores = {name: metric.score(truth, predicted) for name, predicted in others.items()}
    scores = {name: score for name, score in scores.items() if np.isfinite(score)}
    own, best = metric.score(truth, stacked), min(scores, key=lambda name: scores[name], default="")
    return StandIn(best, scores[best], own) if best and scores[best] < own else None
