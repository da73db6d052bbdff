"""Probabilities of classes of which one holds, in groups of targets: opinion pools, and boosting of each group as a whole.

Every answer sums to 1 in each group, which one model a target would not give. A member that does not answer a group, NaN in
its columns, is left out of that group alone, so that networks of one group and of all stack together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from radstack.core.errors import UserError
from radstack.core.progress import track
from radstack.scoring.metrics import by_group, group_sizes, log_shares, shares
from radstack.scoring.task import CLASSES
from radstack.stack.features import index_column
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows
from radstack.stack.trees import Boosting

if TYPE_CHECKING:
    import lightgbm as lgb

POOLS = ("log", "linear")
"""Mean of log probabilities brought to sum 1, or of probabilities (Genest & Zidek 1986)."""
ENOUGH = 5
"""Patients a class, on average over the group, that boosting needs; with fewer, the blend stands."""
SHARPEST = 20.0
"""Largest factor on the blend's log probabilities; the least is its inverse."""


@dataclass(frozen=True)
class ClassMean(Method):
    """Opinion pool of the members that answer a group; nothing is learned."""

    learns: ClassVar[bool] = False
    handles: ClassVar[tuple[str, ...]] = (CLASSES,)
    groups: tuple[int, ...] = ()
    """Number of classes of each group, in the order of the targets; empty for one group of all."""
    pool: str = "log"
    """A name of ``POOLS``."""

    def fit(self, rows: Rows) -> Fitted:
        """Nothing to learn but the sizes of the groups; a UserError where they do not fit the targets."""
        return Fitted(self, group_sizes(self.groups, len(rows.task.targets)), {})

    def predict(self, rows: Rows, state: tuple[int, ...]) -> np.ndarray:
        """The pool in each group of the sizes ``state``; an unknown pool is a UserError."""
        return pooled(rows.predicted, state, self.pool, rows.task.metric.clip)

    def plain(self, rows: Rows) -> np.ndarray:
        """The pool."""
        return self.predict(rows, group_sizes(self.groups, len(rows.task.targets)))


@dataclass(frozen=True)
class ClassLightGBM(Boosting):
    """Gradient boosting of all classes of a group at once (softmax objective).

    The trees see every member's log probabilities of every group. The blend that they start from is calibrated by one
    temperature (Guo 2017). The defaults are small trees, for a few hundred rows.
    """

    handles: ClassVar[tuple[str, ...]] = (CLASSES,)
    groups: tuple[int, ...] = ()
    """As in :class:`ClassMean`."""
    columns: tuple[str, ...] = ()
    """Further index columns."""
    leaves: int = 7
    depth: int = 3
    lr: float = 0.03
    rounds: int = 500
    patience: int = 50

    def fit(self, rows: Rows) -> Fitted:
        """Boost each group; ``notes``: its number of rounds and temperature, or why the blend stands."""
        sizes = group_sizes(self.groups, len(rows.task.targets))
        x, blends = self._features(rows), _blends(rows, sizes)
        fits = []
        with track(len(sizes), "trees of the fold, groups", brief=True) as steps:
            for blend, truth in zip(blends, by_group(rows.truth, sizes)):
                held = np.isfinite(truth).all(axis=1)
                fits.append(self._fit_group(rows.take(held), x[held], blend[held], truth[held]))
                steps.step()
        names = (f"{part[0]}..{part[-1]}" for part in by_group(np.array(rows.task.targets), sizes))
        return Fitted(self, [one[:2] for one in fits], dict(zip(names, (notes for _, _, notes in fits))))

    def predict(self, rows: Rows, state: "list[tuple[lgb.Booster | None, float]]") -> np.ndarray:
        """Probabilities by the booster of each group and the factor on the log probabilities of its blend."""
        x, sizes = self._features(rows), group_sizes(self.groups, len(rows.task.targets))
        raw = [self._raw(booster, factor, x, start) for (booster, factor), start in zip(state, _blends(rows, sizes))]
        return shares(np.concatenate(raw, axis=1), sizes)

    def plain(self, rows: Rows) -> np.ndarray:
        """The opinion pool of the members."""
        return ClassMean(self.groups).plain(rows)

    def _fit_group(self, rows: Rows, x: np.ndarray, blend: np.ndarray,
                   truth: np.ndarray) -> "tuple[lgb.Booster | None, float, Any]":
        """Booster, inverse temperature of the blend, and notes."""
        patients, needed = len(np.unique(rows.group)), ENOUGH * truth.shape[1]
        if np.isnan(blend).any():
            return None, 1.0, "no member answers every row"
        if patients < needed:
            return None, 1.0, f"blend kept: {patients} patients, {needed} are needed"
        watch, y = self._watched(rows.group), truth.argmax(axis=1)
        factor = sharpness(blend[~watch], y[~watch])
        booster = self.boost(x, y, factor * blend, watch, objective="multiclass", num_class=truth.shape[1])
        return booster, factor, {"rounds": booster.best_iteration, "temperature": round(1 / factor, 4)}

    def _raw(self, booster: "lgb.Booster | None", factor: float, x: np.ndarray, blend: np.ndarray) -> np.ndarray:
        if booster is None or not len(x):
            return blend
        return np.asarray(booster.predict(x, raw_score=True, num_threads=self.threads_for(len(x)))) + factor * blend

    def _features(self, rows: Rows) -> np.ndarray:
        """float32 [rows, members * targets + columns]."""
        logs = log_shares(rows.predicted, rows.task.metric.clip)
        further = [index_column(rows, name).to_numpy(np.float32) for name in self.columns]
        return np.column_stack([*logs, *further]).astype(np.float32)

    def _watched(self, group: np.ndarray) -> np.ndarray:
        order = np.random.default_rng(self.seed).permutation(group.max() + 1)
        return np.isin(group, order[:max(1, round(self.held_out * len(order)))])


def pooled(predicted: np.ndarray, sizes: tuple[int, ...], pool: str, clip: float) -> np.ndarray:
    """Opinion pool over members of ``predicted`` [members, rows, targets], float64 [rows, targets].

    NaN is left out; what no member answers stays NaN. An unknown pool is a UserError.
    """
    if pool not in POOLS:
        raise UserError(f"there is no pool '{pool}'; choose one of {', '.join(POOLS)}")
    values = log_shares(predicted, clip) if pool == "log" else predicted.astype(np.float64)
    count = (~np.isnan(values)).sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
    return shares(mean, sizes) if pool == "log" else mean


def sharpness(logs: np.ndarray, y: np.ndarray) -> float:
    """Factor on ``logs`` [rows, classes], log probabilities, with the least log loss of the classes ``y``, int [rows].

    Its inverse is the temperature of Guo 2017.
    """
    from scipy.optimize import minimize_scalar  # slow to import
    from scipy.special import log_softmax

    rows = np.arange(len(y))

    def loss(power: float) -> float:
        return float(-log_softmax(np.exp(power) * logs, axis=1)[rows, y].mean())

    limit = np.log(SHARPEST)
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def _blends(rows: Rows, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Log of the members' opinion pool, [rows, classes] a group."""
    clip = rows.task.metric.clip
    return by_group(log_shares(pooled(rows.predicted, sizes, "log", clip), clip), sizes)
