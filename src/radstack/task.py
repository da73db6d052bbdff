"""What is predicted and how it is scored: all that differs between probabilities and numbers, above the formulas.

Shapes: ``truth`` and ``predicted`` are [rows, targets].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radstack import metrics
from radstack.errors import UserError
from radstack.registry import pick

PROBABILITIES, NUMBERS = "probabilities", "numbers"


@dataclass(frozen=True)
class Kind:
    """One kind of score. Lower is better. Functions that take ``clip`` keep probabilities that far from 0 and 1."""

    predicts: str
    """``PROBABILITIES`` or ``NUMBERS``: what a stacking method must be able to handle."""
    losses: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    """(truth, predicted, clip) -> loss of every entry, float64."""
    constant: Callable[[pd.DataFrame], pd.Series]
    """Labels -> the constant with the least loss, one a target."""
    link: Callable[[np.ndarray, float], np.ndarray]
    """(predicted, clip) -> the scale on which models are averaged, same shape."""
    unlink: Callable[[np.ndarray], np.ndarray]
    """Back from that scale."""
    details: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
    """(truth, predicted) -> further columns of the score table: name -> one value a target."""


KINDS: dict[str, Kind] = {
    "weighted log loss": Kind(
        PROBABILITIES, metrics.log_losses, lambda labels: labels.mean(), metrics.logit, metrics.sigmoid,
        lambda truth, predicted: {"auc": metrics.class_aucs(truth, predicted)}),
    "mean absolute error": Kind(
        NUMBERS, lambda truth, predicted, clip: metrics.absolute_errors(truth, predicted), lambda labels: labels.median(),
        lambda predicted, clip: predicted, lambda linked: linked, metrics.error_summary),
}


@dataclass(frozen=True)
class Metric:
    """What the leaderboard computes. Lower is better."""

    name: str
    """A name of ``KINDS``."""
    weights: tuple[float, ...]
    """One a target; they need not sum to 1."""
    unit: str = ""
    """Of a number and its error, e.g. ``mm``."""
    clip: float = metrics.CLIP
    """Probabilities are kept this far from 0 and 1; numbers know no such thing."""

    @property
    def kind(self) -> Kind:
        """The functions behind the name; an unknown name is a UserError with the nearest known one."""
        return pick(KINDS, self.name, "metric")

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def row_losses(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Loss of each row, float64 [rows]: the mean of its targets' by ``weights``. UserError as the kind's formula."""
        return self.kind.losses(truth, predicted, self.clip) @ metrics.normalized(self.weights)

    def score(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """The number on the leaderboard: the mean of :meth:`row_losses`."""
        return float(self.row_losses(truth, predicted).mean())

    def target_losses(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Mean loss of each target, float64 [targets]."""
        return self.kind.losses(truth, predicted, self.clip).mean(axis=0)

    def constant(self, labels: pd.DataFrame) -> pd.Series:
        """Best constant of each column: the prevalence for log loss, the median for the absolute error."""
        return self.kind.constant(labels)

    def link(self, predicted: np.ndarray) -> np.ndarray:
        """The scale on which models are averaged, same shape: log odds of probabilities, numbers as they are."""
        return self.kind.link(predicted, self.clip)

    def unlink(self, linked: np.ndarray) -> np.ndarray:
        """Predictions from :meth:`link`'s scale, same shape and precision."""
        return self.kind.unlink(linked)

    def details(self, truth: np.ndarray, predicted: np.ndarray, targets: tuple[str, ...]) -> dict[str, float]:
        """Columns of the score table: ``loss <target>``, then ``auc`` for probabilities or ``bias``, ``sd``, ``r2``."""
        columns = {"loss": self.target_losses(truth, predicted), **self.kind.details(truth, predicted)}
        return {f"{name} {target}": float(value) for name, values in columns.items()
                for target, value in zip(targets, values, strict=True)}


@dataclass(frozen=True)
class Task:
    """What is predicted and how it is scored."""

    targets: tuple[str, ...]
    """Label columns in order."""
    metric: Metric

    def place(self, target: str) -> int:
        """Column number of ``target``."""
        if target not in self.targets:
            raise UserError(f"there is no target '{target}'; choose one of {', '.join(self.targets)}")
        return self.targets.index(target)
