"""The decision that the age is asked for: of age or not, with intervals; and the error of the age. Numbers a volume."""

import math

import numpy as np

from radstack.core.errors import UserError
from radstack.scoring.intervals import standard_error, wilson

ADULT = 18.0
"""Years of life from which a person is of age in Germany (civil code, section 2)."""


def majority(truth: np.ndarray, predicted: np.ndarray, threshold: float = ADULT) -> dict[str, float]:
    """How well a threshold on predicted ages tells adults, the positive class, from minors.

    Ages and threshold are years, [volumes]. From ``ADULT`` on a person is an adult; above ``threshold``, e.g. that of
    :func:`no_minor_threshold` on other volumes, one is called an adult.

    Returns ``threshold``, ``adults``, ``minors``, ``minors_called_adult`` and ``accuracy``, ``sensitivity`` (share of adults
    called adult) and ``specificity`` (share of minors called minor), each with ``_low`` and ``_high`` of its 95 % interval
    (Wilson 1927, which takes volumes for independent: second visits make it a little narrow). NaN where there is none of the
    class; a UserError where there are no volumes, their numbers differ, or an age is missing.
    """
    truth, predicted = _checked(truth, predicted)
    adult, called = truth >= ADULT, predicted > threshold
    right = adult == called
    table = {"threshold": float(threshold), "adults": float(adult.sum()), "minors": float((~adult).sum()),
             "minors_called_adult": float((called & ~adult).sum())}
    for name, part in (("accuracy", right), ("sensitivity", right[adult]), ("specificity", right[~adult])):
        bounds = wilson(int(part.sum()), len(part))
        table |= dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))
    return table


def no_minor_threshold(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The least threshold in years above which :func:`majority` calls none of these minors an adult.

    Choose it on training volumes, by predictions of networks that did not see them, and judge it on others: there minors
    may well pass it. ``truth`` and ``predicted`` are ages in years, [volumes]; without a minor it is NaN.
    """
    truth, predicted = _checked(truth, predicted)
    minor = truth < ADULT
    return float(predicted[minor].max()) if minor.any() else math.nan


def mean_error(truth: np.ndarray, predicted: np.ndarray, person: np.ndarray | None = None) -> dict[str, float]:
    """Mean absolute error of ages in years [volumes] and its standard error over persons; UserError as :func:`majority`.

    ``person`` labels each volume's person, since errors of a person's visits are alike; None where each is another.

    The result: ``mae``, ``standard_error`` (infinite for one person), ``sd`` and ``worst`` of the absolute errors,
    ``volumes``, ``persons``.
    """
    truth, predicted = _checked(truth, predicted)
    errors = np.abs(predicted - truth)
    groups = np.arange(len(errors)) if person is None else np.asarray(person)
    return {"mae": float(errors.mean()), "standard_error": standard_error(errors, groups), "sd": float(errors.std()),
            "worst": float(errors.max()), "volumes": len(errors), "persons": len(np.unique(groups))}


def _checked(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [volumes], with an age in every place."""
    truth, predicted = (np.asarray(ages, dtype=np.float64) for ages in (truth, predicted))
    if truth.ndim != 1 or truth.shape != predicted.shape or not len(truth):
        raise UserError(f"true ages of shape {truth.shape} and predicted ones of shape {predicted.shape}: give "
                        "one of each a volume, joined by id")
    if not (np.isfinite(truth) & np.isfinite(predicted)).all():
        raise UserError("some volumes have no true or no predicted age; leave them out before judging the decision")
    return truth, predicted
