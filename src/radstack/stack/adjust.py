"""Steps on one stream of predictions (the blend of the members, or one member): calibrate, correct, smooth, raise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from radstack.core.errors import UserError
from radstack.scoring.intervals import standard_error
from radstack.scoring.metrics import log_losses, sigmoid
from radstack.scoring.task import NUMBERS
from radstack.stack.features import index_column, neighbor
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows

POINTS = 33
"""Answers at which a correction is noted; in between it is a line."""
PARTS = 5
"""Groups of patients in the inner cross-fitting of a decision."""


@dataclass(frozen=True)
class Calibrate(Method):
    """Scale and bias of each class's logit (Platt 1999; 1 / scale is the temperature of Guo 2017).

    A class is changed only where cross-fitting inside the training patients says that it pays: the gain must exceed
    ``margin`` standard errors over patients (the one-standard-error rule of Breiman 1984), since what is already
    calibrated seems to gain a little by chance.
    """

    margin: float = 1.0
    """Standard errors that the cross-fitted gain must exceed."""

    def fit(self, rows: Rows) -> Fitted:
        """Fit and decide per class; ``notes``: scale, bias, gain in log loss, its standard error, kept or not."""
        lines, notes = np.tile([1.0, 0.0], (len(rows.task.targets), 1)), {}
        for place, name in enumerate(rows.task.targets):
            z, y = rows.blend[:, place], rows.truth[:, place]
            paid, line = pays(self.margin, calibrated, z, y, rows.group, partial(log_losses, y), sigmoid(z)), platt(z, y)
            lines[place] = line if paid["kept"] else (1.0, 0.0)
            notes[name] = {**paid, "scale": line[0], "bias": line[1]}
        return Fitted(self, lines, notes)

    def predict(self, rows: Rows, state: np.ndarray) -> np.ndarray:
        """The blend by each class's scale and bias, ``state`` [targets, 2]."""
        return sigmoid(rows.blend * state[:, 0] + state[:, 1])


def platt(z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and bias with the least log loss of ``sigmoid(scale * z + bias)``, with Platt's softened targets.

    Those (n+ + 1) / (n+ + 2) and 1 / (n- + 2) keep both finite when a class has no positive.
    """
    from scipy.optimize import minimize  # half a second, and stages that find nothing to do must end at once

    z, positive = np.asarray(z, dtype=np.float64), np.asarray(y) > 0.5
    up, down = positive.sum(), (~positive).sum()
    soft = np.where(positive, (up + 1) / (up + 2), 1 / (down + 2))

    def loss_and_slope(line: np.ndarray) -> tuple[float, np.ndarray]:
        mapped = line[0] * z + line[1]
        residual = (sigmoid(mapped) - soft) / len(z)
        return float((np.logaddexp(0, mapped) - soft * mapped).mean()), np.array([residual @ z, residual.sum()])

    scale, bias = minimize(loss_and_slope, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    return float(scale), float(bias)


def calibrated(z: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Probabilities of the log odds ``new``, by scale and bias that are fitted to ``z`` and labels ``y``, all [rows]."""
    scale, bias = platt(z, y)
    return sigmoid(scale * new + bias)


@dataclass(frozen=True)
class CorrectBias(Method):
    """The members' mean, and the median error of training rows with answers near it.

    Means of networks can be too high in one range of answers and too low in another, which no line mends as it does in
    the bias correction of Deeplasia (Rassmann 2024). A correction is kept only where cross-fitting by the folds of the
    training patients says that it pays over the mean, by more than ``margin`` standard errors over patients: none by
    default, since a smooth curve of many rows costs little where it is not needed.
    """

    handles: ClassVar[tuple[str, ...]] = (NUMBERS,)
    falls_back: ClassVar[bool] = True
    width: float = 0.5
    """Standard deviation of the Gaussian that says how near an answer is, in standard deviations of all answers."""
    margin: float = 0.0
    """Standard errors that the cross-fitted gain must exceed."""
    column: str = ""
    """Column of the index: rows without ``value`` in it are not learned from nor corrected; another model answers them."""
    value: Any = 1

    def fit(self, rows: Rows) -> Fitted:
        """Fit and decide; ``notes``: by target the gain, its error, whether it is kept, answers and their corrections."""
        rows = rows.take(self._meant(rows))
        x, y = rows.predicted.mean(axis=0, dtype=np.float64), rows.truth.astype(np.float64)
        lines, notes = np.zeros((x.shape[1], 2, POINTS)), {}
        for place, name in enumerate(rows.task.targets):
            answers, truth = x[:, place], y[:, place]

            def predict(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
                return new + np.interp(new, *median_errors(x, y, self.width))

            losses = partial(rows.task.metric.number_losses, truth)
            paid = pays(self.margin, predict, answers, truth, rows.group, losses, answers, rows.fold)
            line = median_errors(answers, truth, self.width)
            lines[place] = line if paid["kept"] else (line[0], np.zeros(POINTS))
            notes[name] = {**paid, "answers": line[0].round(4).tolist(), "corrections": line[1].round(4).tolist()}
        return Fitted(self, lines, notes)

    def predict(self, rows: Rows, state: np.ndarray) -> np.ndarray:
        """The mean by each target's answers and corrections, ``state`` [targets, 2, points], where it is for that row."""
        mean = rows.predicted.mean(axis=0, dtype=np.float64)
        corrected = np.stack([one + np.interp(one, *line) for one, line in zip(mean.T, state, strict=True)], axis=1)
        return np.where(self._meant(rows)[:, None], corrected, mean)

    def _meant(self, rows: Rows) -> np.ndarray:
        """Which rows are learned from and corrected, bool [rows]."""
        if not self.column:
            return np.ones(len(rows.table), bool)
        return (index_column(rows, self.column) == self.value).to_numpy(bool)


def median_errors(x: np.ndarray, y: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Answers [POINTS] from the least to the largest of ``x``, and the median of ``y - x`` near each, all float64.

    Rows count by a Gaussian of their distance, of ``width`` standard deviations of ``x``. Without rows there is no error.
    """
    if not len(x):
        return np.linspace(0, 1, POINTS), np.zeros(POINTS)
    points, order = np.linspace(x.min(), x.max(), POINTS), np.argsort(y - x)
    spread = max(width * float(x.std()), np.finfo(np.float64).tiny)
    near = np.exp(-0.5 * ((points[:, None] - x[order]) / spread) ** 2).cumsum(axis=1)
    return points, (y - x)[order][(near >= near[:, -1:] / 2).argmax(axis=1)]


def pays(margin: float, predict: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray,
         group: np.ndarray, losses: Callable[[np.ndarray], np.ndarray], plain: np.ndarray,
         fold: np.ndarray | None = None) -> dict[str, Any]:
    """Whether a fit is ``kept``: its mean ``gain`` over the predictions ``plain`` [rows], each patient predicted by a fit to
    others, must exceed ``margin`` times its standard ``error``.

    ``predict`` takes x ([rows] or [rows, columns]) and labels y [rows] to fit, and x to predict; ``losses`` turns
    predictions [rows] into losses [rows]; ``group`` holds patient numbers [rows], ``fold`` is as for :func:`crossfitted`.
    """
    gain, error = 0.0, float("inf")
    if group.max(initial=-1) > 0:
        gains = losses(plain) - losses(crossfitted(predict, x, y, group, fold))
        gain, error = float(gains.mean()), standard_error(gains, group)
    return {"kept": bool(gain > margin * error), "gain": gain, "error": error}


def crossfitted(predict: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray,
                group: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
    """Predictions float64 [rows], each patient's by a fit to others; two patients or more. Arguments as for :func:`pays`.

    With ``fold``, numbers [rows] of the folds that held patients out, a patient's fit knows none of his fold: it is used on
    networks that it has not met, and so it must be judged.
    """
    fitted = np.empty(len(y))
    for rest, part in _split(group, fold):
        fitted[part] = predict(x[rest], y[rest], x[part])
    return fitted


def crossfitted_rows(answer: Callable[[np.ndarray], np.ndarray], group: np.ndarray,
                     fold: np.ndarray | None = None) -> np.ndarray:
    """Answers [rows, targets] likewise, of what takes the numbers of the rows to fit and answers for all rows."""
    found = [(part, answer(rest)[part]) for rest, part in _split(group, fold)]
    order = np.argsort(np.concatenate([part for part, _ in found]))
    return np.concatenate([answers for _, answers in found])[order]


def _split(group: np.ndarray, fold: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of the rows to fit and to predict, by folds where there are two, else by patients."""
    from sklearn.model_selection import GroupKFold  # slow to import

    parted = group if fold is None or len(np.unique(fold)) < 2 else fold
    yield from GroupKFold(min(PARTS, len(np.unique(parted)))).split(group, groups=parted)


@dataclass(frozen=True)
class Smooth(Method):
    """Weighted mean over neighboring slices of a series; the weights of absent neighbors are shared among the rest."""

    learns: ClassVar[bool] = False
    guarded: ClassVar[bool] = False
    screened: ClassVar[bool] = False  # what reads the smoothed member screens it
    kernel: tuple[float, ...] = (0.6, 1.8, 0.6)
    """An odd number of weights, centered; divided by their sum. Default of the second place of RSNA 2019."""

    def fit(self, rows: Rows) -> Fitted:
        """Normalize the kernel, which ``notes`` hold for each class."""
        if len(self.kernel) % 2 == 0 or min(self.kernel) < 0 or not sum(self.kernel):
            raise UserError(f"kernel {self.kernel} must be an odd number of non-negative weights with a positive sum")
        kernel = np.array(self.kernel) / sum(self.kernel)
        return Fitted(self, kernel, dict.fromkeys(rows.task.targets, np.round(kernel, 4).tolist()))

    def predict(self, rows: Rows, state: np.ndarray) -> np.ndarray:
        """Each class smoothed by the kernel ``state``."""
        return np.stack([smoothed(p, rows.series, state) for p in sigmoid(rows.blend).T], axis=1)


def smoothed(p: np.ndarray, series: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """``p`` ([rows], series by series) averaged with ``kernel`` over neighbors inside the series, float64 [rows]."""
    total, weight = np.zeros(len(p)), np.zeros(len(p))
    for offset, share in enumerate(kernel, start=-(len(kernel) // 2)):
        near = neighbor(p, series, offset)
        total += share * np.nan_to_num(near)
        weight += share * ~np.isnan(near)
    return np.divide(total, weight, out=p.astype(np.float64), where=weight > 0)


@dataclass(frozen=True)
class RaiseAny(Method):
    """Raise the union's probability to the highest of its parts, where the training rows say that it pays."""

    guarded: ClassVar[bool] = False
    union: str = "any"
    """Target that is the OR of all others."""

    def fit(self, rows: Rows) -> Fitted:
        """Decide; ``notes``: weighted log loss before and after on the training rows, share of rows raised, kept."""
        plain, place = sigmoid(rows.blend), rows.task.place(self.union)
        lifted = raised(plain, place)
        before, after = (rows.task.metric.score(rows.truth, p) for p in (plain, lifted))
        share = float((lifted[:, place] > plain[:, place]).mean())
        kept = after < before
        return Fitted(self, kept, {"kept": kept, "before": before, "after": after, "share_raised": share})

    def predict(self, rows: Rows, state: bool) -> np.ndarray:
        """The blend, its union raised where ``state`` says that it pays."""
        return raised(sigmoid(rows.blend), rows.task.place(self.union)) if state else sigmoid(rows.blend)


def raised(p: np.ndarray, union: int) -> np.ndarray:
    """A copy of ``p`` [rows, targets] with column ``union`` at least the highest of its row."""
    out = p.copy()
    out[:, union] = p.max(axis=1)
    return out
