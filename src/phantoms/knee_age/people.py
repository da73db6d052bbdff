"""Who a phantom knee belongs to: age at each visit, tempo, maturity of the bones, build."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from competitions.knee_age.volume import BONES
from phantoms.knee_age.law import MEAN, OFFSET, OLDEST, SCATTER, SPREAD, YOUNGEST

SECOND_VISIT = 55 / 90
"""Chance of a second visit: 145 volumes of 90 persons."""
GAP = (0.8, 1.2)
"""Years between two visits."""
CELL = 6.0
"""Spacing in mm of the lattices that texture the marrow and the muscles."""
LATTICE = (24, 44, 30)
"""Cells front to back, head to feet, across."""


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
