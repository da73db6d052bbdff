"""Who a phantom knee belongs to, what a maturity looks like at a growth plate, and the best possible age for it.

Maturities S_b are years on the scale of the age: a man of age A has S_b = A + d + o_b + e_b, d ~ N(0, tau), e_b ~ N(0, .35).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
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
SECOND_VISIT = 55 / 90
"""Chance of a second visit: 145 volumes of 90 persons."""
GAP = (0.8, 1.2)
"""Years between two visits."""
CELL = 6.0
"""Spacing in mm of the lattices that texture the marrow and the muscles."""
LATTICE = (24, 44, 30)
"""Cells front to back, head to feet, across."""


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
    rows, train = (usable[usable["split"] == name] for name in (split, "train"))
    errors = {"floor": (rows["q_age_years"] - rows["age_years"]).abs(),
              "constant": (train["age_years"].median() - rows["age_years"]).abs()}
    found = {"n": float(len(rows))}
    for name, error in errors.items():
        found |= {name: float(error.mean()), f"{name}_se": float(error.sem())}
    return found


@dataclass(frozen=True)
class Person:
    """What two visits of a man share."""

    ages: tuple[float, ...]
    """Years at each visit."""
    tempo: float
    """d: years by which he is ahead of his age."""
    own: np.ndarray
    """e_b of the three bones in years, in the order of ``BONES``."""
    scale: float
    """Size of the knee, 1 the mean man's."""
    fat: float
    """Thickness in mm of the fat below the skin."""
    red: float
    """By how much more of the marrow is red than his maturity tells, a share."""
    undulation: float
    """Height in mm of the waves of the femoral plate, from peak to peak."""
    phase: float
    """Of these waves, in radians."""
    marrow: np.ndarray
    """Lattice of unit variance, float32 ``LATTICE``: where marrow turns yellow last."""
    grain: np.ndarray
    """The like for the soft tissue."""

    def maturity(self, visit: int) -> np.ndarray:
        """S_b of the three bones in years at ``visit`` (0, 1)."""
        return self.ages[visit] + self.tempo + OFFSET + self.own


def draw_person(seed: int, number: int, tau: float) -> Person:
    """Draw man ``number`` of ``seed``; ``tau`` in years only stretches his tempo."""
    rng = np.random.default_rng((seed, 0, number))
    ages = draw_ages(rng)
    tempo, own = tau * rng.standard_normal(), SCATTER * rng.standard_normal(len(BONES))
    scale, fat, red = 1 + 0.05 * rng.standard_normal(), rng.uniform(5, 13), 0.06 * rng.standard_normal()
    lattices = gaussian_filter(rng.standard_normal((2, *LATTICE), np.float32), (0, 1.0, 1.0, 1.0))
    lattices /= lattices.std((1, 2, 3), keepdims=True)
    return Person(ages, float(tempo), own, float(np.clip(scale, 0.87, 1.13)), float(fat), float(red),
                  float(rng.uniform(4, 6)), float(rng.uniform(0, 2 * np.pi)), *lattices)


def draw_ages(rng: np.random.Generator) -> tuple[float, ...]:
    """Years at one or two visits; drawn again while one is out of range.

    Two visits lie around a middle that varies less, so that the ages of all volumes have nearly the same spread (SD 1.38
    years, 1.40 of single visits).
    """
    twice, gap = rng.random() < SECOND_VISIT, rng.uniform(*GAP)
    steps = np.array([-gap / 2, gap / 2]) if twice else np.zeros(1)
    spread = np.sqrt(SPREAD**2 - (steps**2).mean())
    while True:
        ages = MEAN + spread * rng.standard_normal() + steps
        if ages.min() >= YOUNGEST and ages.max() <= OLDEST:
            return tuple(float(age) for age in ages)
