"""Formulas of scores, all in float64: probabilities against 0/1 labels, numbers against numbers, classes of which one holds.

Shapes: ``truth`` and ``probability`` or ``predicted`` are [rows, targets]; ``weights`` is one number a target, of any sum.
The weighted log loss is the score of RSNA 2019 (weights 1, 1, 1, 1, 1 and 2 for ``any``):
``-sum_c w_c [y ln p + (1 - y) ln(1 - p)] / sum_c w_c``, averaged over rows.

Classes of which one holds are groups of 0/1 targets that follow each other and sum to 1. They may be scored as coarser ones:
the probability of a coarse class is the sum over its classes. A group that a model does not answer is NaN in all its
columns, and so are its scores. A row may lack the label of a group, NaN in all its columns, if it has that of another: its
losses of that group are NaN and enter no mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pandas as pd

from radstack.core.errors import UserError

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1: a confident miss costs 13.8 (11.5 at 1e-5, 34.5 at Kaggle's 1e-15)."""
TOLERANCE = 1e-3  # How far the float32 probabilities of a group of classes may sum from 1


def clipped(probability: np.ndarray, clip: float = CLIP) -> np.ndarray:
    """``probability`` as float64 within [clip, 1 - clip]; widened first, because float32 rounds 1 - 1e-15 to 1.

    UserError where a value is not finite or outside [0, 1].
    """
    wide = np.asarray(probability, dtype=np.float64)
    bad = wide[~((wide >= 0) & (wide <= 1))]
    if bad.size:
        raise UserError(f"{bad[0]} is not a probability; predictions must lie in [0, 1] (did logits get in?)")
    return np.clip(wide, clip, 1 - clip)


def logit(probability: np.ndarray, clip: float = CLIP) -> np.ndarray:
    """Log odds of the clipped ``probability``, float64, at most ``ln((1 - clip) / clip)`` (13.8) from zero."""
    from scipy import special  # a tenth of a second to import, and every stage imports this file

    return special.logit(clipped(probability, clip))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Probability of the log odds ``z``; never overflows, keeps float32 as float32."""
    from scipy import special

    return special.expit(z)


def log_losses(truth: np.ndarray, probability: np.ndarray, clip: float = CLIP) -> np.ndarray:
    """Binary cross-entropy of every entry, float64, same shape. ``truth`` may be soft (a probability).

    UserError where a label is missing (NaN), or a prediction is not a probability.
    """
    y, p = _matching(truth, clipped(probability, clip))
    if not np.all((y >= 0) & (y <= 1)):
        raise UserError("some rows have no label in [0, 1]; score training rows only")
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def row_log_losses(truth: np.ndarray, probability: np.ndarray, weights: Sequence[float],
                   clip: float = CLIP) -> np.ndarray:
    """Weighted log loss of each row, float64 [rows]: the mean of the row's targets by ``weights``."""
    return log_losses(truth, probability, clip) @ normalized(weights)


def weighted_log_loss(truth: np.ndarray, probability: np.ndarray, weights: Sequence[float],
                      clip: float = CLIP) -> float:
    """The score: mean over rows of :func:`row_log_losses`. Lower is better; 0.6931 for one half everywhere."""
    return float(row_log_losses(truth, probability, weights, clip).mean())


def class_aucs(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each target, float64 [targets]; NaN where a target has one class only."""
    from sklearn.metrics import roc_auc_score  # a second to import, and stages that only check must start at once

    columns = zip(np.asarray(truth).T, np.asarray(probability).T, strict=True)
    return np.array([roc_auc_score(y, p) if y.min() < y.max() else np.nan for y, p in columns])


def absolute_errors(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Size of the error of every entry, float64, same shape, in the unit of the target.

    UserError where a label is missing (NaN), a prediction is not finite, or the shapes differ.
    """
    y, x = _matching(truth, predicted)
    if not np.isfinite(x).all():
        raise UserError("some predictions are not finite; predict again before scoring")
    return np.abs(x - _labeled(y))


def _matching(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 of one shape."""
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.shape != p.shape:
        raise UserError(f"labels of shape {y.shape} do not fit predictions of shape {p.shape}; join them by id first")
    return y, p


def _labeled(truth: np.ndarray) -> np.ndarray:
    if not np.isfinite(truth).all():
        raise UserError("some rows have no label; score training rows only")
    return truth


def error_summary(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """What an error of numbers is made of, float64 [targets] each, in the unit of the target.

    ``bias`` is the mean of predicted less true, ``sd`` the standard deviation of that difference (bias^2 + sd^2 is the mean
    squared error), ``r2`` the share of the labels' variance that is explained; NaN where the labels do not vary.
    """
    y = np.asarray(truth, dtype=np.float64)
    error = np.asarray(predicted, dtype=np.float64) - y
    variance = y.var(axis=0)
    unexplained = np.divide((error**2).mean(axis=0), variance, out=np.full(variance.shape, np.nan), where=variance > 0)
    return {"bias": error.mean(axis=0), "sd": error.std(axis=0), "r2": 1 - unexplained}


def efficiency(score: float, constant: float, floor: float) -> float:
    """Share of what can be won over the constant predictor: ``(constant - score) / (constant - floor)``."""
    return (constant - score) / (constant - floor)


def reliability(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Reliability table of one target ([rows]) over ``bins`` bins of equal width; empty ones are left out.

    ``low``, ``high`` (edges), ``count``, ``predicted`` (mean probability), ``observed`` (share of positives).
    """
    p = np.asarray(probability, dtype=np.float64)
    low = np.minimum((p * bins).astype(int), bins - 1) / bins
    table = pd.DataFrame({"low": low, "predicted": p, "observed": np.asarray(truth, dtype=np.float64)}).groupby("low").agg(
        count=("observed", "size"), predicted=("predicted", "mean"), observed=("observed", "mean")).reset_index()
    table.insert(1, "high", (np.rint(table["low"] * bins) + 1) / bins)
    return table


def calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of one target: mean of |predicted - observed| over bins, by count (Naeini 2015)."""
    table = reliability(truth, probability, bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["count"]))


def normalized(weights: Sequence[float]) -> np.ndarray:
    """``weights`` as float64 with sum 1."""
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or not np.all(w >= 0) or w.sum() <= 0:
        raise UserError(f"class weights {tuple(weights)} must be non-negative with a positive sum")
    return w / w.sum()


@dataclass(frozen=True)
class ClassGroup:
    """Neighboring targets of which one holds."""

    name: str  # For the score table
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

    UserError where a value is not a probability, or a group neither sums to 1 nor is NaN throughout.
    """
    parts = by_group(np.asarray(predicted, dtype=np.float64), tuple(len(group.classes) for group in groups))
    for group, part in zip(groups, parts):
        silent = np.isnan(part).all(axis=1)
        wrong = ~((part >= 0).all(axis=1) & (np.abs(part.sum(axis=1) - 1) <= TOLERANCE)) & ~silent
        if wrong.any():
            raise UserError(f"row {int(wrong.argmax())} has {part[wrong][0].round(4).tolist()} for {group.name}: no "
                            "probabilities of sum 1; bring each group to sum 1 before scoring")
    return [part @ group.merging for group, part in zip(groups, parts)]


def labeled_groups(truth: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Which groups of ``truth`` [rows, targets] have a label, bool [rows, groups]."""
    return np.stack([~np.isnan(part).all(axis=1) for part in by_group(np.asarray(truth, dtype=np.float64), sizes)], axis=1)


def mean_by_group(losses: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Mean of ``losses`` over the rows that have a label, ``held``, both [rows, groups]: float64 [groups].

    NaN where a group is not answered in such a row, or no row has its label.
    """
    if held.all():
        return losses.mean(axis=0)
    columns = zip(losses.T, held.T)
    return np.array([column[own].mean() if own.any() else np.nan for column, own in columns])


def error_rates(truth: np.ndarray, predicted: np.ndarray, groups: tuple[ClassGroup, ...]) -> np.ndarray:
    """Whether the likeliest coarse class is wrong, float64 [rows, groups]; of soft ``truth`` its expectation.

    The mean is 1 - accuracy. Of equally likely classes the first counts. NaN without a label. UserError as :func:`coarse`,
    or where a row has no label at all or the shapes differ.
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
        held = np.isfinite(y).all(axis=1)
        y, p = y[held], p[held]
        true, called = y.argmax(axis=1), p.argmax(axis=1)
        defined = np.isfinite(p).all() and len(np.union1d(true, called)) > 1
        return cohen_kappa_score(true, called, weights="quadratic", labels=np.arange(y.shape[1])) if defined else np.nan

    return np.array([kappa(y, p) for y, p in zip(*_pair(truth, predicted, groups))])


def class_details(truth: np.ndarray, predicted: np.ndarray, groups: tuple[ClassGroup, ...],
                  clip: float) -> dict[str, np.ndarray]:
    """Further columns of the score table, one value a group.

    ``log_loss`` and ``kappa`` are of the coarse classes, ``fine_loss`` and ``fine_kappa`` the share of errors and the
    quadratic kappa of the targets themselves.
    """
    fine = tuple(ClassGroup(group.name, tuple(map(str, range(len(group.classes))))) for group in groups)
    held = labeled_groups(truth, tuple(len(group.classes) for group in groups))
    return {"log_loss": mean_by_group(coarse_log_losses(truth, predicted, groups, clip), held),
            "kappa": kappas(truth, predicted, groups),
            "fine_loss": mean_by_group(error_rates(truth, predicted, fine), held),
            "fine_kappa": kappas(truth, predicted, fine)}


def log_shares(predicted: np.ndarray, clip: float) -> np.ndarray:
    """Log of the probabilities kept ``clip`` from 0, float64, same shape: models are averaged as logarithmic opinions."""
    return np.log(np.maximum(np.asarray(predicted, dtype=np.float64), clip))


def shares(linked: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Back from :func:`log_shares`: softmax within each group, same shape and precision."""
    from scipy import special

    return np.concatenate([special.softmax(part, axis=-1) for part in by_group(linked, sizes)], axis=-1)


def _pair(truth: np.ndarray, predicted: np.ndarray,
          groups: tuple[ClassGroup, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    y, p = _matching(truth, predicted)
    sizes = tuple(len(group.classes) for group in groups)
    held = labeled_groups(y, sizes)
    if not held.any(axis=1).all() or np.isnan(y[np.repeat(held, sizes, axis=1)]).any():
        raise UserError("some rows have no label; score training rows only")
    return coarse(y, groups), coarse(p, groups)
