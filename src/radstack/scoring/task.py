"""What is predicted and how it is scored: all that differs between probabilities, numbers and classes, and the score table.

Shapes: ``truth`` and ``predicted`` are [rows, targets]; a loss is scored for each target, or for each group of classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.lookup import places
from radstack.core.progress import track
from radstack.core.recipe import digest
from radstack.core.registry import pick
from radstack.scoring import metrics, named
from radstack.scoring.intervals import group_sums, intervals
from radstack.scoring.metrics import ClassGroup

PROBABILITIES, NUMBERS, CLASSES = "probabilities", "numbers", "classes"


@dataclass(frozen=True)
class Kind:
    """One kind of score. Lower is better. The functions take the metric for its ``clip`` and its ``groups``."""

    predicts: str  # ``PROBABILITIES``, ``NUMBERS`` or ``CLASSES``: what a stacking method must be able to handle
    losses: Callable[[np.ndarray, np.ndarray, "Metric"], np.ndarray]
    """(truth, predicted, metric) -> losses, float64 [rows, targets], or [rows, groups] of classes."""
    constant: Callable[[pd.DataFrame], pd.Series]  # Labels -> the constant with the least loss, one a target
    link: Callable[[np.ndarray, "Metric"], np.ndarray]
    """(predicted, metric) -> the scale on which models are averaged, same shape."""
    unlink: Callable[[np.ndarray, "Metric"], np.ndarray]
    """Back from that scale."""
    details: Callable[[np.ndarray, np.ndarray, "Metric"], dict[str, np.ndarray]]
    """(truth, predicted, metric) -> further columns of the score table: name -> one value a target or group."""


KINDS: dict[str, Kind] = {
    "weighted log loss": Kind(
        PROBABILITIES, lambda truth, predicted, metric: metrics.log_losses(truth, predicted, metric.clip),
        lambda labels: labels.mean(), lambda predicted, metric: metrics.logit(predicted, metric.clip),
        lambda linked, metric: metrics.sigmoid(linked),
        lambda truth, predicted, metric: {"auc": metrics.class_aucs(truth, predicted)}),
    "mean absolute error": Kind(
        NUMBERS, lambda truth, predicted, metric: metrics.absolute_errors(truth, predicted), lambda labels: labels.median(),
        lambda predicted, metric: predicted, lambda linked, metric: linked,
        lambda truth, predicted, metric: metrics.error_summary(truth, predicted)),
    "mean squared error": Kind(
        NUMBERS, lambda truth, predicted, metric: metrics.absolute_errors(truth, predicted)**2, lambda labels: labels.mean(),
        lambda predicted, metric: predicted, lambda linked, metric: linked,
        lambda truth, predicted, metric: metrics.error_summary(truth, predicted)),
    "classification error": Kind(
        CLASSES, lambda truth, predicted, metric: metrics.error_rates(truth, predicted, metric.groups),
        lambda labels: labels.mean(), lambda predicted, metric: metrics.log_shares(predicted, metric.clip),
        lambda linked, metric: metrics.shares(linked, metric.sizes),
        lambda truth, predicted, metric: metrics.class_details(truth, predicted, metric.groups, metric.clip)),
}


@dataclass(frozen=True)
class Metric:
    """What the leaderboard computes. Lower is better."""

    name: str  # A name of ``KINDS``
    weights: tuple[float, ...]  # One a target, or one a group of classes; they need not sum to 1
    unit: str = ""
    """Of a number and its error, e.g. ``mm``."""
    clip: float = metrics.CLIP  # Probabilities are kept this far from 0 and 1; not used for numbers
    groups: tuple[ClassGroup, ...] = ()
    """Targets of which one holds, group by group in their order, for a kind that scores classes; empty for the others."""
    also: str = ""
    """A score by its name (:mod:`radstack.scoring.named`), shown beside this one: what cannot be a mean of rows' losses."""

    @property
    def kind(self) -> Kind:
        """The functions behind the name; an unknown name is a UserError with the nearest known one."""
        return pick(KINDS, self.name, "metric")

    @property
    def key(self) -> str:
        """Digest of what losses and fits depend on, for the keys of what is made by them; how a score is shown is none."""
        return digest(replace(self, unit="", also=""))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of targets of each group."""
        return tuple(len(group.classes) for group in self.groups)

    def scored(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Names of what has a loss of its own: the groups, or the targets where there are none."""
        return tuple(group.name for group in self.groups) or targets

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def row_losses(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Loss of each row, float64 [rows]: the mean of its targets' by ``weights``. UserError as the kind's formula.

        Of a row that lacks the label of a group of classes it is the mean of the others. NaN where the model answers only
        some groups of classes: such a model has details and no score.
        """
        return self.across(self.kind.losses(truth, predicted, self), truth, predicted)

    def across(self, losses: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Mean of ``losses`` [rows, targets or groups] by ``weights`` over what is labeled, float64 [rows], as above."""
        weights, held = metrics.normalized(self.weights), self.held(truth)
        if held.all():
            return losses @ weights
        answered = ~np.isnan(np.asarray(predicted, dtype=np.float64)).any(axis=1)
        return np.where(answered, np.where(held, losses, 0.0) @ weights / (held @ weights), np.nan)

    def score(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """The number on the leaderboard: the mean of :meth:`row_losses`."""
        return float(self.row_losses(truth, predicted).mean())

    def target_losses(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Mean loss of each of :meth:`scored` over the rows that have its label, float64."""
        return metrics.mean_by_group(self.kind.losses(truth, predicted, self), self.held(truth))

    def number_losses(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Loss of each row for one target that is a number, float64 [rows]; both are [rows]."""
        return self.kind.losses(truth[:, None], predicted[:, None], self)[:, 0]

    def held(self, truth: np.ndarray) -> np.ndarray:
        """Which of :meth:`scored` have a label in each row of ``truth`` [rows, targets], bool."""
        if not self.groups:
            return ~np.isnan(np.asarray(truth, dtype=np.float64))
        return metrics.labeled_groups(truth, self.sizes)

    def usable(self, truth: np.ndarray) -> np.ndarray:
        """Rows that can be learned from and scored, bool [rows]: all targets are labeled, or some group of classes."""
        some = np.any if self.groups else np.all
        return np.asarray(some(self.held(truth), axis=1))

    def constant(self, labels: pd.DataFrame) -> pd.Series:
        """Best constant of each column: the prevalence for log loss and classes, the median for the absolute error."""
        return self.kind.constant(labels)

    def prior(self, labels: pd.DataFrame) -> pd.Series:
        """What to say of a row of which nothing is known, by the ``labels`` of others: their constant.

        For log loss it is the share by Laplace's rule of succession, ``(positives + 1) / (rows + 2)``: a label that none
        of ``labels`` has would otherwise cost as much as ``clip`` says wherever it is met.
        """
        constant, count = self.constant(labels), len(labels)
        return (constant * count + 1) / (count + 2) if self.kind.predicts == PROBABILITIES else constant

    def link(self, predicted: np.ndarray) -> np.ndarray:
        """The scale on which models are averaged, same shape: log odds of probabilities, log of shares, numbers as are."""
        return self.kind.link(predicted, self)

    def unlink(self, linked: np.ndarray) -> np.ndarray:
        """Predictions from :meth:`link`'s scale, same shape and precision."""
        return self.kind.unlink(linked, self)

    def details(self, truth: np.ndarray, predicted: np.ndarray, targets: tuple[str, ...]) -> dict[str, float]:
        """Columns of the score table: ``loss <target>``, then the kind's own, e.g. ``auc`` for probabilities."""
        columns = {"loss": self.target_losses(truth, predicted), **self.kind.details(truth, predicted, self)}
        return {f"{name} {target}": float(value) for name, values in columns.items()
                for target, value in zip(self.scored(targets), values, strict=True)}


@dataclass(frozen=True)
class Task:
    """What is predicted and how it is scored."""

    targets: tuple[str, ...]  # Label columns in order
    metric: Metric

    def place(self, target: str) -> int:
        """Column number of ``target``."""
        if target not in self.targets:
            raise UserError(f"there is no target '{target}'; choose one of {', '.join(self.targets)}")
        return self.targets.index(target)


def score_rows(split: str, models: dict[str, pd.DataFrame], rows: pd.DataFrame, constant: pd.Series | pd.DataFrame,
               best: pd.DataFrame | None, task: Task, strata: pd.DataFrame | None = None) -> pd.DataFrame:
    """Score ``models`` (name -> prediction table) and ``constant`` on labeled ``rows``: a value a target, or a table, too.

    ``rows`` has ``id``, ``group`` and the labels; ids outside it are left out, and a model that lacks some is scored on
    what it has (column ``rows``). ``best`` are the best possible predictions, for phantoms. ``strata`` are parts of ``rows``
    (same order) that get a score of their own: each True of a bool column, each value of a text or categorical one; a row
    without a value is in no part.

    Returns:
        ``split``, ``model``, ``rows``, ``score``, ``low``, ``high`` (95 %, over patients), ``efficiency`` where ``best``
        is known, then the metric's details of each target, and ``score <part>`` of each stratum.
    """
    rows = rows.reset_index(drop=True)
    always = constant if isinstance(constant, pd.DataFrame) else rows[["id"]].assign(**constant.to_dict())
    tables = {"constant": always, **models} | ({"floor": best} if best is not None else {})
    parts = parts_of(strata).set_index(rows.index) if strata is not None else pd.DataFrame(index=rows.index)
    found, sums = [], []
    with track(len(tables), f"scores {split}, models", brief=True) as steps:
        for name, table in tables.items():
            scores, own = _scores(table, rows, parts, task)
            found.append({"split": split, "model": name, **scores})
            sums.append(own)
            steps.step()
    bounds = [vars(one) for one in intervals(sums)]
    scored = pd.DataFrame(found)
    for place, (column, field) in enumerate({"score": "value", "low": "low", "high": "high"}.items(), start=3):
        scored.insert(place, column, [one[field] for one in bounds])
    if best is not None:
        limits = scored.set_index("model")["score"]
        efficient = metrics.efficiency(scored["score"].to_numpy(), limits["constant"], limits["floor"])
        scored.insert(6, "efficiency", efficient)
    return scored


def parts_of(strata: pd.DataFrame) -> pd.DataFrame:
    """One bool column a part: bool columns as they are, one for each value of the others (categories in their order)."""
    return pd.get_dummies(strata, prefix="", prefix_sep="", dtype=bool)


def matched(table: pd.DataFrame, rows: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The labeled ``rows`` (``id``, ``group``, targets) that ``table`` predicts: the rows, and what is compared.

    Returns:
        Those rows, their labels and their predictions, both float64 [rows, targets].

    Raises:
        UserError: an id stands twice in one of them.
    """
    targets = list(task.targets)
    for one in (rows["id"], table["id"]):
        if not one.is_unique:
            raise UserError(f"{one[one.duplicated()].iloc[0]} stands twice in a table to be scored; keep one row an id")
    place = places(table["id"], rows["id"])
    held, predicted = place >= 0, table[targets].to_numpy(np.float64)
    both = rows.loc[held, ["id", "group", *targets]]
    return both, both[targets].to_numpy(np.float64), predicted[place[held]]


def _scores(table: pd.DataFrame, rows: pd.DataFrame, parts: pd.DataFrame,
            task: Task) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """A line of the table without score and interval, which come from what is second: sums of each group."""
    both, truth, predicted = matched(table, rows, task)
    losses = task.metric.row_losses(truth, predicted)
    stratified = {f"score {name}": float(losses[held.to_numpy()].mean()) if held.any() else float("nan")
                  for name, held in parts.loc[both.index].items()}
    also = task.metric.also
    beside = dict(zip((also, f"{also} low", f"{also} high"), named.with_interval(
        also, truth, predicted, task.metric.sizes, both["group"]))) if also and len(both) else {}
    return {"rows": len(both), **beside, **task.metric.details(truth, predicted, task.targets), **stratified}, group_sums(
        losses, both["group"])
