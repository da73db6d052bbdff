"""How sure a number is: scores by resampling patients, new numbers by residuals of rows that no model saw, shares.

Slices of one patient are not independent, patients are: so a score is resampled by patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from radstack.core.errors import UserError

LEVEL = 0.95  # Confidence of the intervals of shares
BLOCK = 20  # Draws that are multiplied at a time


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile bootstrap interval (Efron 1979), over whole groups."""

    value: float  # On all rows
    low: float  # Lower bound; NaN with fewer than two groups
    high: float  # Upper bound; NaN with fewer than two groups

    @property
    def excludes_zero(self) -> bool:
        """For a difference: whether it is more than noise."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.5f} [{self.low:.5f}, {self.high:.5f}]"


def interval(losses: np.ndarray, groups: np.ndarray | pd.Series, draws: int = 1000, level: float = 0.95,
             seed: int = 0) -> Interval:
    """Bootstrap interval of the mean of ``losses`` (float [rows]) over ``groups`` (one label a row).

    Each draw takes as many groups as there are, with replacement, and averages over their rows. Only per-group sums
    are resampled, so that a thousand draws of 750k rows take a fraction of a second. NaN bounds where a loss is not finite.
    """
    return intervals([group_sums(losses, groups)], draws, level, seed)[0]


def intervals(sums: Sequence[tuple[np.ndarray, np.ndarray]], draws: int = 1000, level: float = 0.95,
              seed: int = 0) -> list[Interval]:
    """The same of several means at once, each given as :func:`group_sums`. Those of as many groups share the draws, which
    are the numbers of times that each group is taken: a mean's thousand sums are a matrix times a vector.
    """
    found = [Interval(float(own.sum() / counts.sum()), float("nan"), float("nan")) for own, counts in sums]
    for n in {len(counts) for _, counts in sums} - {1}:
        places = [place for place, (_, counts) in enumerate(sums) if len(counts) == n]
        with np.errstate(invalid="ignore"):
            scores = _resampled(np.array([sums[place] for place in places]), draws, seed)
            bounds = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2], axis=1)
        for place, low, high in zip(places, *bounds.tolist(), strict=True):
            found[place] = replace(found[place], low=low, high=high)
    return found


def _resampled(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Means [means, draws] of groups drawn with replacement, from ``sums`` [means, 2, groups]: of losses, of rows."""
    rng, (count, _, n) = np.random.default_rng(seed), sums.shape
    found = np.empty((count, 2, draws))
    for start in range(0, draws, BLOCK):  # all draws of many patients would fit into no cache
        taken = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(BLOCK, draws - start))]
        times = np.array(taken, np.float64)
        # Sum by sum: in a product of two matrices the last digit of a sum depends on what stands beside it.
        for place in np.ndindex(count, 2):
            found[(*place, slice(start, start + BLOCK))] = times @ sums[place]
    return found[:, 0] / found[:, 1]


def difference(first: np.ndarray, second: np.ndarray, groups: np.ndarray | pd.Series, draws: int = 1000,
               level: float = 0.95, seed: int = 0) -> Interval:
    """Paired interval of ``mean(first) - mean(second)``: both losses ([rows], same rows) meet the same patients."""
    return interval(np.asarray(first) - np.asarray(second), groups, draws, level, seed)


def standard_error(losses: np.ndarray, groups: np.ndarray | pd.Series) -> float:
    """Standard error of the mean of ``losses`` over independent groups (ratio estimator, Cochran 1977 section 6.4)."""
    return ratio_error(*group_sums(losses, groups))


def ratio_error(sums: np.ndarray, counts: np.ndarray) -> float:
    """The same from each group's sum of losses and its number of rows (float [groups]); infinite for fewer than two."""
    n = len(sums)
    if n < 2:
        return float("inf")
    residuals = sums - counts * sums.sum() / counts.sum()
    return float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / counts.sum())


def group_sums(losses: np.ndarray, groups: np.ndarray | pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Sum of ``losses`` ([rows]) and number of rows of each group (both float64 [groups]), groups as they come first."""
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 1 or len(losses) != len(groups) or not len(losses):
        raise UserError(f"{losses.shape} losses for {len(groups)} groups; give one loss and one group a row")
    codes = pd.factorize(groups)[0]
    return np.bincount(codes, weights=losses), np.bincount(codes).astype(np.float64)


def conformal(residuals: np.ndarray, coverage: float) -> float:
    """Half width of a prediction interval that holds a new row's truth with probability ``coverage`` or more.

    Split conformal prediction (Lei 2018, algorithm 2): the ceil((n + 1) * coverage)-th smallest absolute residual. It
    holds for any model and any noise as long as new rows come from where these do. ``residuals`` [rows] are truth less
    prediction of held-out rows; the half width has their unit and is infinite where they are too few for that coverage.
    UserError where the coverage is not between 0 and 1, or a residual is not finite.
    """
    if not 0 < coverage < 1:
        raise UserError(f"coverage {coverage} must lie between 0 and 1; write 0.9 for 90 %")
    sizes = np.sort(np.abs(np.asarray(residuals, dtype=np.float64).reshape(-1)))
    if not np.isfinite(sizes).all():
        raise UserError("some residuals are not finite; give rows that have both a label and a prediction")
    # Rounded, since (n + 1) * 0.9 may come out a hair above a whole number.
    rank = int(np.ceil(round((len(sizes) + 1) * coverage, 9)))
    return float(sizes[rank - 1]) if rank <= len(sizes) else float("inf")


def wilson(hits: int, among: int) -> tuple[float, float, float]:
    """Share ``hits / among`` and the bounds of its 95 % score interval (Wilson 1927); NaN where ``among`` is 0."""
    from scipy.stats import binomtest  # slow to import, and every stage imports this file

    if not among:
        return float("nan"), float("nan"), float("nan")
    bounds = binomtest(hits, among).proportion_ci(LEVEL, method="wilson")
    return hits / among, float(bounds.low), float(bounds.high)
