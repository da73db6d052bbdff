"""What a maturity looks like at a growth plate, and the best possible age for it.

Maturities S_b are years on the scale of the age: a man of age A has S_b = A + d + o_b + e_b, d ~ N(0, tau), e_b ~ N(0, .35).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from competitions.knee_age.volume import BONES

OFFSET = np.array([0.0, -0.1, 0.2])
"""Years by which a bone is ahead of the person, in the order of ``BONES``."""
SCATTER = 0.35
"""SD in years of a bone's own deviation e_b."""
MEAN, SPREAD, YOUNGEST, OLDEST = 17.5, 1.5, 14.0, 21.0
"""Ages in years: a normal law cut to this range."""
CLOSING_FROM, CLOSED = 15.3, 18.3
"""Maturity at which the plate begins to close at its center, and at which closure has come to the rim."""
FADING = 2.2
"""Years after that in which the scar fades."""
THICK, THINNING, THINNING_FROM = 2.2, 0.35, 12.0
"""Thickness of an open plate in mm, the share it loses, and where that begins: it ends where closure starts, so that each
stage of maturity has a sign of its own."""


@dataclass(frozen=True)
class Plate:
    """The look of a growth plate."""

    front: float
    """Radius, 0 center to 1 rim, up to which it is closed; 0 to 1.2."""
    thickness: float
    """Of the open part in mm."""
    scar: float
    """Visibility of the closed part, 1 fading to 0."""


def plate(maturity: float) -> Plate:
    """The growth plate of a bone whose maturity is ``maturity`` years."""
    front = float(np.clip((maturity - CLOSING_FROM) / (CLOSED - CLOSING_FROM), 0, 1.2))
    thinned = float(np.clip((maturity - THINNING_FROM) / (CLOSING_FROM - THINNING_FROM), 0, 1))
    return Plate(front, THICK * (1 - THINNING * thinned), float(np.clip(1 - (maturity - CLOSED) / FADING, 0, 1)))


def best_age(maturity: np.ndarray, tau: float) -> np.ndarray:
    """Median in years of the age given ``maturity``, the mean of the three S_b in years (same shape): least absolute error.

    Prior and likelihood are normal, so the posterior is a normal law cut to ``YOUNGEST`` .. ``OLDEST``.
    """
    noise = tau**2 + SCATTER**2 / len(BONES)
    weight = SPREAD**2 / (SPREAD**2 + noise)
    mean = weight * (np.asarray(maturity) - OFFSET.mean()) + (1 - weight) * MEAN
    sd = np.sqrt(weight * noise)
    low, high = norm.cdf((YOUNGEST - mean) / sd), norm.cdf((OLDEST - mean) / sd)
    return mean + sd * norm.ppf((low + high) / 2)


def oracle(truth: pd.DataFrame, split: str = "test") -> dict[str, float]:
    """Errors in years that no model can beat on one split of :func:`read_truth`, beside those of the constant.

    Returns:
        ``n``, ``floor`` and ``constant`` (MAE of the best possible prediction and of the training median), each with its
        standard error ``floor_se``, ``constant_se``.
    """
    usable = truth[truth["defect"].isin(["", "flipped"])]
    rows, train = usable[usable["split"] == split], usable[usable["split"] == "train"]
    errors = {"floor": (rows["q_age_years"] - rows["age_years"]).abs(),
              "constant": (train["age_years"].median() - rows["age_years"]).abs()}
    found = {"n": float(len(rows))}
    for name, error in errors.items():
        found |= {name: float(error.mean()), f"{name}_se": float(error.sem())}
    return found
