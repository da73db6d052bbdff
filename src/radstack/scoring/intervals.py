"""Prediction intervals of numbers, from residuals of rows that the models did not see; intervals of shares."""

import numpy as np
from scipy.stats import binomtest

from radstack.core.errors import UserError

LEVEL = 0.95
"""Confidence of the intervals of shares."""


def conformal(residuals: np.ndarray, coverage: float) -> float:
    """Half width of a prediction interval that holds a new row's truth with probability ``coverage`` or more.

    Split conformal prediction (Lei 2018, algorithm 2): the ceil((n + 1) * coverage)-th smallest absolute residual. It
    holds for any model and any noise as long as new rows come from where these do.

    Args:
        residuals: truth less prediction of held-out rows, [rows], in the unit of the target; signs do not matter.
        coverage: wanted share of covered rows, between 0 and 1, e.g. 0.9.

    Returns:
        Half width in the unit of the residuals; infinite where there are too few rows for that coverage.

    Raises:
        UserError: the coverage is not between 0 and 1, or a residual is not finite.
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
    if not among:
        return float("nan"), float("nan"), float("nan")
    bounds = binomtest(hits, among).proportion_ci(LEVEL, method="wilson")
    return hits / among, float(bounds.low), float(bounds.high)
