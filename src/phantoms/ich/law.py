"""Which exams bleed, and what a reader writes down: the only place where labels come from.

For each slice and class, A is the visible area (mm2 of pixels whose blood share is at least one half after slice
averaging) and C the contrast (HU of that blood above its surroundings). A reader marks the class with probability q.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import entr

AREA, SLOPE, CONTRAST, CONTRAST_WEIGHT = 25.0, 1.6, 25.0, 0.7
"""Area in mm2 and contrast in HU of blood that half the readers mark, steepness by area, weight of the contrast."""
WEIGHTS = np.array([1, 1, 1, 1, 1, 2]) / 7
"""Of the metric."""

SCENARIOS: dict[str, tuple[float, tuple[str, ...]]] = {
    "subdural": (0.0667, ("sdh",)),
    "subdural_subarachnoid": (0.0238, ("sdh", "sah")),
    "contusions": (0.0608, ("sdh", "sah", "lobar")),
    "severe": (0.0286, ("sdh", "sah", "lobar", "ivh")),
    "traumatic": (0.0125, ("sah",)),
    "contusion": (0.0118, ("lobar", "sah")),
    "lobar": (0.0268, ("lobar",)),
    "deep": (0.0228, ("deep",)),
    "deep_ventricular": (0.0783, ("deep", "ivh")),
    "deep_cisternal": (0.0161, ("deep", "ivh", "aneurysm")),
    "aneurysm": (0.0117, ("aneurysm",)),
    "aneurysm_ventricular": (0.0248, ("aneurysm", "ivh")),
    "ventricular": (0.0157, ("ivh",)),
    "epidural": (0.0049, ("edh",)),
    "epidural_subdural": (0.0024, ("edh", "sdh")),
    "epidural_subarachnoid": (0.0017, ("edh", "sah")),
    "chronic": (0.030, ("chronic",)),
    "operated": (0.010, ("air", "chronic")),
}
"""Name -> (share of exams, findings); the rest is free of blood.

Fitted by benchmarks/calibrate_phantom.py. It measured, on 80 other series of each scenario (--series 80 --seed 79, 128
pixels), in % of slices, epidural .40, intraparenchymal 4.60, intraventricular 3.56, subarachnoid 4.81, subdural 6.36,
any 14.25 (real archive: .40, 4.80, 3.50, 4.80, 6.30, 14.40), and a realistic oracle of .0395 (wanted: .040).
"""


@dataclass(frozen=True)
class Noise:
    """How readers err."""

    missed: float
    """eta1: the share of clear findings that is not marked."""
    invented: float
    """eta0: the probability of a mark where there is nothing."""
    votes: int = 1
    """Readers behind a test label; the majority is written down. A training label always has one."""


NOISE = {
    "clean": Noise(0.0, 0.0),
    "realistic": Noise(0.05, 0.0013),
    "adjudicated": Noise(0.05, 0.0013, votes=3),
}
"""Variants of the demo."""


def marked(area: np.ndarray, contrast: np.ndarray, noise: Noise) -> np.ndarray:
    """Probability that one reader marks a class, float64 [n, 5], for the slices of one series in order.

    ``area`` is in mm2 and ``contrast`` in HU, both [n, 5]. With both rates of ``noise`` zero every visible finding is marked
    and nothing else.
    """
    if noise.missed == noise.invented == 0:
        return (area > 0).astype(float)
    padded = np.pad(area > 0, ((1, 1), (0, 0)))
    near = padded[:-2] | padded[1:-1] | padded[2:]
    score = np.log(np.maximum(area, 1.0) / AREA)
    score += CONTRAST_WEIGHT * np.where(area > 0, contrast - CONTRAST, 0) / CONTRAST
    seen = 1 / (1 + np.exp(-SLOPE * score))
    return np.where(near, seen * (1 - noise.missed) + noise.invented, noise.invented)


def majority(q: np.ndarray, votes: int) -> np.ndarray:
    """Probability that most of one or three readers mark what each marks with probability ``q``."""
    return q if votes == 1 else q * q * (3 - 2 * q)


def with_any(q: np.ndarray) -> np.ndarray:
    """Append the probability [n, 1] that at least one of the five classes is marked."""
    return np.column_stack([q, 1 - np.prod(1 - q, axis=1)])


def draw_labels(rng: np.random.Generator, q: np.ndarray) -> np.ndarray:
    """Draw int8 [n, 6] from ``q`` [n, 6]: the five classes independently, ``any`` as their union."""
    marks = rng.random((len(q), 5)) < q[:, :5]
    return np.column_stack([marks, marks.any(1)]).astype(np.int8)


def draw_findings(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw a scenario and return its findings."""
    shares = [share for share, _ in SCENARIOS.values()]
    number = int(np.searchsorted(np.cumsum(shares), rng.random()))
    return [*(parts for _, parts in SCENARIOS.values()), ()][number]


def entropy(q: np.ndarray) -> np.ndarray:
    """Binary entropy in nats, elementwise: the expected log loss of predicting the true probability."""
    return entr(q) + entr(1 - q)


def oracle(truth: dict[str, np.ndarray], split: str | None = None) -> float:
    """Expected score of the perfect predictor: the mean over rows of ``truth`` (truth.npz) of the weighted mean of H(q).

    The rows are those of one split, ``train`` or ``test``, or all where it is None.
    """
    q = truth["q"] if split is None else truth["q"][truth["split"] == split]
    return float((entropy(q) @ WEIGHTS).mean())
