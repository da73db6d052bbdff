"""Averages of the members: equal, or of logits with weights fitted or picked by hill climbing."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from radstack.scoring.metrics import normalized, sigmoid
from radstack.scoring.task import NUMBERS, PROBABILITIES
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class Mean(Method):
    """Average of the logits, or of numbers as they are; nothing is learned."""

    learns: ClassVar[bool] = False
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES, NUMBERS)

    def predict(self, rows: Rows, state: None) -> np.ndarray:
        """The blend, back from the scale on which it was averaged."""
        return rows.task.metric.unlink(rows.blend)


@dataclass(frozen=True)
class _Mixture(Method):
    """A weighted mean of the members' logits."""

    def predict(self, rows: Rows, state: np.ndarray) -> np.ndarray:
        """Probabilities by the weights ``state``, [members] or [members, targets]."""
        return sigmoid(mix(state, rows.linked))

    def _weighted(self, weights: np.ndarray) -> Fitted:
        return Fitted(self, weights, {"weights": np.round(weights, 6).tolist()})


@dataclass(frozen=True)
class Weights(_Mixture):
    """Non-negative weights of sum 1 with the least weighted log loss, by SLSQP. The problem is convex."""

    per_class: bool = False
    """Weights for each class rather than one set for all."""

    def fit(self, rows: Rows) -> Fitted:
        """Find the weights; ``notes`` holds them in the order of the members (by class, with ``per_class``)."""
        if not self.per_class:
            return self._weighted(least_loss_weights(rows.linked, rows.truth, normalized(rows.task.metric.weights)))
        return self._weighted(np.stack([least_loss_weights(rows.linked[:, :, [c]], rows.truth[:, [c]], np.ones(1))
                                        for c in range(len(rows.task.targets))], axis=1))


@dataclass(frozen=True)
class Climb(_Mixture):
    """Ensemble selection with replacement, sorted start and bagging (Caruana 2004).

    Members are added one at a time, whichever lowers the loss most, starting from the best ones. This is done on
    ``bags`` random halves of the patients and the counts are averaged. Never worse on the rows it was fitted on than the
    best member: if the bagged average is, the climb on all rows is taken.
    """

    bags: int = 10
    """Random subsets of patients."""
    share: float = 0.5
    """Share of the patients in a bag."""
    bag_rows: int = 60_000
    """A bag takes fewer patients when it would hold more rows than this; keeps 750k rows within minutes."""
    steps: int = 30
    """Most members (with repeats) in one ensemble."""
    seed: int = 0
    """Of the subsets."""

    def fit(self, rows: Rows) -> Fitted:
        """Climb in each bag; ``notes`` holds the weights in the order of the members."""
        class_weights = normalized(rows.task.metric.weights)
        bags = [_climb(rows.linked[:, bag], rows.truth[bag], class_weights, self.steps) for bag in self._draw(rows)]
        mixture = np.mean(bags, axis=0)
        alone = min(_loss(member, rows.truth, class_weights) for member in rows.linked)
        if _loss(mix(mixture, rows.linked), rows.truth, class_weights) > alone:
            mixture = _climb(rows.linked, rows.truth, class_weights, self.steps)
        return self._weighted(mixture)

    def _draw(self, rows: Rows) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        patients = rows.group.max() + 1
        take = max(1, round(patients * min(self.share, self.bag_rows / len(rows))))
        return [np.isin(rows.group, rng.permutation(patients)[:take]) for _ in range(self.bags)]


def least_loss_weights(logits: np.ndarray, truth: np.ndarray, class_weights: np.ndarray,
                       penalty: float = 0.0) -> np.ndarray:
    """Weights of the members, float64 [members], for ``logits`` [members, rows, targets] and 0/1 ``truth``.

    ``penalty`` times their squared distance from equal weights is added to the mean loss.
    """
    from scipy.optimize import minimize  # slow to import

    count = len(logits)
    flat, scale = logits.reshape(count, -1), class_weights / len(truth)

    def loss_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed, off = mix(weights, logits), weights - 1 / count
        residual = (sigmoid(mixed) - truth) * scale
        return (_loss(mixed, truth, class_weights) + penalty * float(off @ off),
                flat @ residual.reshape(-1) + 2 * penalty * off)

    found = minimize(loss_and_slope, np.full(count, 1 / count), jac=True, method="SLSQP", bounds=[(0, 1)] * count,
                     constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
                     options={"ftol": 1e-9})
    positive = np.clip(found.x, 0, None)
    return positive / positive.sum()


def mix(weights: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Weighted sum of ``logits`` over members, [rows, targets]; ``weights`` is [members] or [members, targets]."""
    return np.einsum("m,mrt->rt" if weights.ndim == 1 else "mt,mrt->rt", weights.astype(np.float32), logits)


def _loss(logits: np.ndarray, truth: np.ndarray, class_weights: np.ndarray) -> float:
    """Weighted log loss of logits, without a detour through probabilities: ln(1 + e^z) - y z."""
    losses = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits))) - truth * logits
    return float(losses.mean(axis=0, dtype=np.float64) @ class_weights)


def mixed_loss(logits: np.ndarray, truth: np.ndarray, class_weights: np.ndarray) -> np.ndarray:
    """Weighted log loss of each row of ``logits`` [rows, targets], float64 [rows]."""
    return (np.logaddexp(0, logits) - truth * logits) @ class_weights


def _climb(logits: np.ndarray, truth: np.ndarray, class_weights: np.ndarray, steps: int) -> np.ndarray:
    """Weights [members] of the ensemble that greedy selection ends with."""
    # Each class's rows side by side: a mean over them is several times faster so, and most of the work is such means.
    logits, truth = np.ascontiguousarray(logits.transpose(0, 2, 1)).transpose(0, 2, 1), np.asfortranarray(truth)

    def loss_with(member: int) -> float:
        return _loss((total + logits[member]) / (counts.sum() + 1), truth, class_weights)

    counts, total, best = np.zeros(len(logits), int), np.zeros_like(logits[0]), np.inf
    # The sorted start: the best members in order of their score, while the loss falls.
    for member in np.argsort([loss_with(member) for member in range(len(logits))]):
        if (loss := loss_with(member)) >= best:
            break
        counts[member] += 1
        total, best = total + logits[member], loss
    while counts.sum() < steps:
        losses = [loss_with(member) for member in range(len(logits))]
        if min(losses) >= best:
            break
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total, best = total + logits[chosen], losses[chosen]
    return counts / counts.sum()
