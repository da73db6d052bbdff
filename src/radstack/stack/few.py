"""Level two for few patients: what is fitted is held near something simple, the more so the fewer patients there are.

With ten or twenty patients a scale and a bias of each class, or a weight of each member, are mostly noise; with eighty they
pay. All of it sees training rows only, and is stored with the fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from radstack.scoring.intervals import standard_error
from radstack.scoring.metrics import logit, normalized, sigmoid
from radstack.stack.adjust import crossfitted_rows
from radstack.stack.blend import least_loss_weights, mix, mixed_loss
from radstack.stack.method import CONSTANT, MEAN, Fitted, Method
from radstack.stack.rows import Rows

PENALTIES = (0.1, 0.01, 0.001)
"""On the squared distance of a blend's weights from equal ones, beside the mean log loss."""


@dataclass(frozen=True)
class Shrink(Method):
    """Scale and bias of each class's log odds, held near one scale and bias for all classes; or as it is; or the constant.

    A scale below 1 mends overconfidence (the temperature of Guo 2017), a bias what was sampled in other shares than it is
    scored. What is anti-informative gets scale 0. A member stays as it is where cross-fitting over patients does not say
    that the lines are better: of a sound member and few patients they are noise. Where it says that the constant is better
    by more than ``margin`` standard errors, that is taken; and where the result is worse than the constant out of fold, the
    constant stands in.
    """

    screened: ClassVar[bool] = False  # it does itself what the screen would do
    rivals: ClassVar[tuple[str, ...]] = (CONSTANT,)
    hold: float = 1.0
    """Penalty on the squared distance from the scale and bias of all classes, beside the log loss of one patient's rows."""
    margin: float = 1.0
    """Standard errors over patients by which the constant must be better."""

    def fit(self, rows: Rows) -> Fitted:
        """Fit and decide; ``notes``: each class's fitted scale and bias, their gain, its error, whether they are kept."""
        z, y, weights = rows.blend.astype(np.float64), rows.truth.astype(np.float64), normalized(rows.task.metric.weights)
        group, count, everyone = rows.group, z.shape[1], np.arange(len(z))
        # Numbers of rows -> scale and bias of each class, float64 [targets, 2], by those rows.
        forms: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "as it is": lambda part: np.tile([1.0, 0.0], (count, 1)),
            "lines": lambda part: held_lines(z[part], y[part], weights, self.hold / len(np.unique(group[part]))),
            CONSTANT: lambda part: np.stack([np.zeros(count), logit(rows.prior(part))], axis=1)}

        def better(than: str, other: str) -> tuple[float, float]:
            """By how much ``other`` has the lower loss, and the standard error over patients."""
            gains = loss[than] - loss[other]
            return float(gains.mean()), standard_error(gains, group)

        taken, gain, error = "as it is", 0.0, 0.0
        if group.max(initial=0) > 0:
            said = {name: crossfitted_rows(_by(form, z), group, rows.fold) for name, form in forms.items()}
            loss = {name: mixed_loss(one, y, weights) for name, one in said.items()}
            gain, error = better("as it is", "lines")
            taken = "lines" if gain > 0 else taken
            over, spread = better(taken, CONSTANT)
            taken = CONSTANT if over > self.margin * spread else taken
        fitted = forms["lines"](everyone)
        return Fitted(self, forms[taken](everyone), {
            name: {"scale": float(line[0]), "bias": float(line[1]), "gain": gain, "error": error, "kept": taken == "lines"}
            for name, line in zip(rows.task.targets, fitted)})

    def predict(self, rows: Rows, state: np.ndarray) -> np.ndarray:
        """The blend by each class's scale and bias, ``state`` [targets, 2]."""
        return sigmoid(_moved(rows.blend, state))


def held_lines(z: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Scale and bias of each class, float64 [targets, 2], of log odds ``z`` and labels ``y`` [rows, targets].

    ``penalty`` times the squared distance from the one scale and bias that fit all classes best, by the class ``weights`` of
    sum 1, is added to the mean log loss.
    """
    flat = np.broadcast_to(weights * len(weights), z.shape).ravel()
    common = _line(z.ravel(), y.ravel(), flat, np.array([1.0, 0.0]), 0.0)
    return np.stack([_line(z[:, place], y[:, place], np.ones(len(z)), common, penalty) for place in range(z.shape[1])])


def _moved(z: np.ndarray, lines: np.ndarray) -> np.ndarray:
    return z * lines[:, 0] + lines[:, 1]


def _by(form: Callable[[np.ndarray], np.ndarray], z: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What takes the numbers of the rows to fit, and gives the log odds of all rows by the scale and bias of those."""
    return lambda part: _moved(z, form(part))


def _line(z: np.ndarray, y: np.ndarray, weights: np.ndarray, center: np.ndarray, penalty: float) -> np.ndarray:
    """Scale (0 or more) and bias with the least weighted log loss plus ``penalty`` on the distance from ``center``."""
    from scipy.optimize import minimize  # slow to import

    def loss_and_slope(line: np.ndarray) -> tuple[float, np.ndarray]:
        moved = line[0] * z + line[1]
        residual, off = (sigmoid(moved) - y) * weights / len(z), line - center
        loss = (weights * (np.logaddexp(0, moved) - y * moved)).mean() + penalty * off @ off
        return float(loss), np.array([residual @ z, residual.sum()]) + 2 * penalty * off

    return minimize(loss_and_slope, center, jac=True, method="L-BFGS-B", bounds=[(0, None), (-20, 20)]).x


@dataclass(frozen=True)
class Choose(Method):
    """A weighted mean of the members' logits, of the form that cross-fitting over patients finds best.

    Forms: the plain mean of all members, of the best two, three ..., the best one, and weights that a penalty holds near
    equal ones. Where a member, or the plain mean of all, is better out of fold than what is chosen so, it stands in.
    """

    rivals: ClassVar[tuple[str, ...]] = (MEAN,)
    members_stand_in: ClassVar[bool] = True

    def fit(self, rows: Rows) -> Fitted:
        """Choose a form and fit it to all rows; ``notes``: the weights, the loss of each form, and which was taken."""
        logits, y, weights = rows.linked, rows.truth, normalized(rows.task.metric.weights)
        forms, taken, losses = blends(len(logits), weights), MEAN, {}
        if rows.group.max(initial=0) > 0:
            for name, form in forms.items():
                said = crossfitted_rows(_answer(form, logits, y), rows.group, rows.fold)
                losses[name] = float(mixed_loss(said, y, weights).mean())
            taken = min(losses, key=lambda name: losses[name])
        found = forms[taken](logits, y)
        return Fitted(self, found, {"weights": np.round(found, 6).tolist(), "form": taken, "loss": losses})

    def predict(self, rows: Rows, state: np.ndarray) -> np.ndarray:
        """Probabilities by the weights ``state`` [members]."""
        return sigmoid(mix(state, rows.linked))


Blend = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(logits [members, rows, targets], labels [rows, targets]) -> weights [members] of sum 1."""


def _answer(form: Blend, logits: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What takes the numbers of the rows to fit, and gives the log odds of all rows by the blend of those."""
    return lambda part: mix(form(logits[:, part], y[part]), logits)


def blends(count: int, weights: np.ndarray) -> dict[str, Blend]:
    """The forms of a blend of ``count`` members by name, the simplest first; ``weights`` of classes have the sum 1."""
    def best(number: int) -> Blend:
        def found(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
            order = np.argsort([mixed_loss(one, y, weights).mean() for one in logits], kind="stable")
            return np.isin(np.arange(count), order[:number]) / number
        return found

    def held(penalty: float) -> Blend:
        return lambda logits, y: least_loss_weights(logits, y, weights, penalty)

    return {f"mean of the best {number}" if number < count else MEAN: best(number) for number in range(count, 0, -1)} | (
        {f"weights, penalty {penalty:g}": held(penalty) for penalty in PENALTIES} if count > 1 else {})
