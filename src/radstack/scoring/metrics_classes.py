"""Scores of classes of which one holds, in groups of 0/1 targets; all in float64.

Shapes: ``truth`` and ``predicted`` are [rows, targets]; the targets of a group follow each other and sum to 1. Classes may
be scored as coarser ones: the probability of a coarse class is the sum over its classes. A group that a model does not
answer is NaN in all its columns, and so are its scores.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from radstack.core.errors import UserError

TOLERANCE = 1e-3
"""How far a group's float32 probabilities may sum from 1."""


@dataclass(frozen=True)
class ClassGroup:
    """Neighboring targets of which one holds."""

    name: str
    """For the score table."""
    classes: tuple[str, ...]
    """What each of its targets is scored as, in column order; those of one name are one class."""

    @property
    def coarse(self) -> tuple[str, ...]:
        """The classes that are scored, in order."""
        return tuple(dict.fromkeys(self.classes))

    @property
    def merging(self) -> np.ndarray:
        """0/1 matrix float64 [targets, coarse classes] by which probabilities are summed."""
        return (np.array(self.classes)[:, None] == np.array(self.coarse)).astype(np.float64)


def group_sizes(groups: tuple[int, ...], targets: int) -> tuple[int, ...]:
    """``groups``, or one group of all ``targets`` where it is empty; a UserError unless the sizes sum to ``targets``."""
    sizes = tuple(groups) or (targets,)
    if min(sizes) < 1 or sum(sizes) != targets:
        raise UserError(f"groups of {sizes} classes do not make up {targets} targets; correct the sizes")
    return sizes


def by_group(values: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Columns of each group, [..., classes], of ``values`` [..., targets]."""
    return np.split(values, list(accumulate(group_sizes(sizes, values.shape[-1])))[:-1], axis=-1)


def coarse(predicted: np.ndarray, groups: tuple[ClassGroup, ...]) -> list[np.ndarray]:
    """Probability of each coarse class, float64 [rows, coarse classes] a group.

    Raises:
        UserError: a value is not a probability, or a group neither sums to 1 nor is NaN throughout.
    """
    parts = by_group(np.asarray(predicted, dtype=np.float64), tuple(len(group.classes) for group in groups))
    for group, part in zip(groups, parts):
        silent = np.isnan(part).all(axis=1)
        wrong = ~((part >= 0).all(axis=1) & (np.abs(part.sum(axis=1) - 1) <= TOLERANCE)) & ~silent
        if wrong.any():
            raise UserError(f"row {int(wrong.argmax())} has {part[wrong][0].round(4).tolist()} for {group.name}: no "
                            "probabilities of sum 1; bring each group to sum 1 before scoring")
    return [part @ group.merging for group, part in zip(groups, parts)]


def error_rates(truth: np.ndarray, predicted: np.ndarray, groups: tuple[ClassGroup, ...]) -> np.ndarray:
    """Whether the likeliest coarse class is wrong, float64 [rows, groups]; of soft ``truth`` its expectation.

    The mean is 1 - accuracy. Of equally likely classes the first counts.

    Raises:
        UserError: as :func:`coarse`, a label is missing, or the shapes differ.
    """
    y, p = _pair(truth, predicted, groups)
    wrong = [1 - np.take_along_axis(a, b.argmax(axis=1)[:, None], 1)[:, 0] for a, b in zip(y, p)]
    return np.stack([np.where(np.isnan(b).any(axis=1), np.nan, losses) for losses, b in zip(wrong, p)], axis=1)


def coarse_log_losses(truth: np.ndarray, predicted: np.ndarray, groups: tuple[ClassGroup, ...], clip: float) -> np.ndarray:
    """Cross-entropy of the coarse classes, float64 [rows, groups]; probabilities are kept ``clip`` from 0."""
    y, p = _pair(truth, predicted, groups)
    return np.stack([-(a * np.log(np.maximum(b, clip))).sum(axis=1) for a, b in zip(y, p)], axis=1)


def kappas(truth: np.ndarray, predicted: np.ndarray, groups: tuple[ClassGroup, ...]) -> np.ndarray:
    """Cohen's kappa with quadratic weights (Cohen 1968) of the likeliest coarse classes, float64 [groups].

    NaN where the group is not answered, or truth and prediction are one and the same class throughout.
    """
    from sklearn.metrics import cohen_kappa_score  # a second to import, and stages that only check must start at once

    def kappa(y: np.ndarray, p: np.ndarray) -> float:
        true, told = y.argmax(axis=1), p.argmax(axis=1)
        defined = np.isfinite(p).all() and len(np.union1d(true, told)) > 1
        return cohen_kappa_score(true, told, weights="quadratic", labels=np.arange(y.shape[1])) if defined else np.nan

    return np.array([kappa(y, p) for y, p in zip(*_pair(truth, predicted, groups))])


def class_details(truth: np.ndarray, predicted: np.ndarray, groups: tuple[ClassGroup, ...],
                  clip: float) -> dict[str, np.ndarray]:
    """Further columns of the score table, one value a group.

    ``log_loss`` and ``kappa`` are of the coarse classes, ``fine_loss`` and ``fine_kappa`` the share of errors and the
    quadratic kappa of the targets themselves.
    """
    fine = tuple(ClassGroup(group.name, tuple(map(str, range(len(group.classes))))) for group in groups)
    return {"log_loss": coarse_log_losses(truth, predicted, groups, clip).mean(axis=0),
            "kappa": kappas(truth, predicted, groups),
            "fine_loss": error_rates(truth, predicted, fine).mean(axis=0), "fine_kappa": kappas(truth, predicted, fine)}


def log_shares(predicted: np.ndarray, clip: float) -> np.ndarray:
    """Log of the probabilities kept ``clip`` from 0, float64, same shape: models are averaged as logarithmic opinions."""
    return np.log(np.maximum(np.asarray(predicted, dtype=np.float64), clip))


def shares(linked: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Back from :func:`log_shares`: softmax within each group, same shape and precision."""
    from scipy.special import softmax

    return np.concatenate([softmax(part, axis=-1) for part in by_group(linked, sizes)], axis=-1)


def _pair(truth: np.ndarray, predicted: np.ndarray,
          groups: tuple[ClassGroup, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if np.shape(truth) != np.shape(predicted):
        raise UserError(f"labels of shape {np.shape(truth)} do not fit predictions of shape {np.shape(predicted)}; join "
                        "them by id first")
    if not np.isfinite(truth).all():
        raise UserError("some rows have no label; score training rows only")
    return coarse(truth, groups), coarse(predicted, groups)
