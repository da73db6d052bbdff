"""Scores by the names that leaderboards use, beside the loss by which models are stacked: AUC, kappa, F1 and their like.

Any scorer of scikit-learn does (``sklearn.metrics.get_scorer_names``). Of several targets the mean is taken.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.registry import check_name
from radstack.scoring.metrics import by_group

SHORT = {"log_loss": "neg_log_loss", "auc": "roc_auc", "mae": "neg_mean_absolute_error",
         "rmse": "neg_root_mean_squared_error", "mse": "neg_mean_squared_error", "kappa": "quadratic kappa"}
"""Names that people type -> those of scikit-learn; quadratic kappa is none of its scorers."""
KAPPA = "quadratic kappa"
MANY = {"f1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro", "roc_auc": "roc_auc_ovr",
        "average_precision": "average_precision"}
"""What stands for a score of two classes where there are more."""
DRAWS = 200
"""Of the bootstrap over patients."""


def known(name: str, predicts: str) -> str:
    """The full name of a score, for what a metric ``predicts``; a UserError with the nearest where there is none."""
    import sklearn.metrics  # a second to import

    full = SHORT.get(name, name)
    check_name(sorted({*sklearn.metrics.get_scorer_names(), KAPPA}), full, "metric")
    if _of_numbers(full) != (predicts == "numbers"):
        raise UserError(f"--metric {name} does not score {predicts}; take "
                        f"{'mae, rmse' if predicts == 'numbers' else 'auc, f1'} or "
                        "another")
    return full


def _of_numbers(name: str) -> bool:
    return any(word in name for word in ("error", "r2", "explained", "deviance", "d2_absolute", "d2_pinball"))


def direction(name: str) -> str:
    """Which way is better."""
    return "lower is better" if SHORT.get(name, name).startswith("neg_") else "higher is better"


def score(name: str, truth: np.ndarray, predicted: np.ndarray, sizes: tuple[int, ...]) -> float:
    """The score ``name`` of ``predicted`` against ``truth``, [rows, targets]; NaN where it is not defined, or the model
    does not answer a labeled row.

    ``sizes`` are those of groups of classes, empty for labels and numbers. Errors are given as they are, above 0.
    """
    full = SHORT.get(name, name)
    if sizes:
        pairs = [(y[held].argmax(1), p[held]) for y, p in zip(by_group(truth, sizes), by_group(predicted, sizes))
                 if (held := ~np.isnan(y).all(axis=1)).any()]
    else:
        pairs = list(zip(truth.T, predicted.T))
    found = [_one(full, y, p, bool(sizes)) for y, p in pairs]
    return float(np.mean(found) * (-1 if full.startswith("neg_") else 1))


def _one(name: str, truth: np.ndarray, predicted: np.ndarray, classes: bool) -> float:
    from sklearn.metrics import cohen_kappa_score, get_scorer

    numbers = _of_numbers(name)
    if not np.isfinite(predicted).all():
        return float("nan")
    answers = _Answers(predicted, numbers, classes)
    y = truth if numbers else np.rint(truth).astype(int)
    many = classes and predicted.shape[1] > 2
    with warnings.catch_warnings(action="ignore"):  # of rows of one class; the score then is NaN
        try:
            if name == KAPPA:  # distances are those between all classes, whichever occur
                labels = np.arange(predicted.shape[1]) if classes else None
                return float(cohen_kappa_score(y, answers.predict(None), weights="quadratic", labels=labels))
            return float(get_scorer(MANY.get(name, name) if many else name)(answers, np.zeros((len(y), 1)), y))
        except ValueError:
            return float("nan")


class _Answers:
    """Predictions in the place of a fitted estimator, as scorers want one."""

    def __init__(self, predicted: np.ndarray, numbers: bool, classes: bool) -> None:
        self.numbers, self.shares = numbers, predicted if classes or numbers else np.column_stack([1 - predicted, predicted])
        self.classes_ = np.arange(1 if numbers else self.shares.shape[1])
        self._estimator_type = "regressor" if numbers else "classifier"

    def __sklearn_tags__(self) -> Any:
        from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

        mixin = RegressorMixin if self.numbers else ClassifierMixin
        return type("Tagged", (mixin, BaseEstimator), {})().__sklearn_tags__()

    def fit(self, *_: Any) -> "_Answers":
        """Nothing to fit."""
        return self

    def predict(self, _: Any) -> np.ndarray:
        """Numbers, or the likeliest class."""
        return self.shares if self.numbers else self.shares.argmax(axis=1)

    def predict_proba(self, _: Any) -> np.ndarray:
        """Shares, [rows, classes], of sum 1."""
        return self.shares / self.shares.sum(axis=1, keepdims=True)


def with_interval(name: str, truth: np.ndarray, predicted: np.ndarray, sizes: tuple[int, ...],
                  groups: pd.Series, draws: int = DRAWS) -> tuple[float, float, float]:
    """The score and its 95 % interval from a bootstrap over ``groups`` (a patient a row); NaN bounds of one group."""
    number, rng = pd.factorize(groups)[0], np.random.default_rng(0)
    value = score(name, truth, predicted, sizes)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    if len(members) < 2:
        return value, float("nan"), float("nan")
    found = []
    for _ in range(draws):
        rows = np.concatenate([members[one] for one in rng.integers(len(members), size=len(members))])
        found.append(score(name, truth[rows], predicted[rows], sizes))
    low, high = np.nanquantile(found, [0.025, 0.975]) if np.isfinite(found).any() else (np.nan, np.nan)
    return value, float(low), float(high)
