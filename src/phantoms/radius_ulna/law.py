"""How raters name the stage of a bone of known maturity, and the best accuracy that leaves.

Maturity is continuous; its whole part is the stage: a radius of 7.3 is an R7 that is near to R8 by 70 %.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from competitions.radius_ulna.phases import LEARNED, LEARNED_PHASES, PHASES, TARGETS

NOISE = {"default": {"radius": 0.12, "ulna": 0.19}, "human": {"radius": 0.30, "ulna": 0.30}}
"""SD of a rater's error in stages. The default has a ceiling of 95 % for both bones. People agree with an ICC of
.95-.97 where stages have an SD of 1.5: .30 makes it 1.5^2 / (1.5^2 + .30^2) = .96."""


def rate(rng: np.random.Generator, maturity: float, bone: str, sigma: float) -> int:
    """The stage that one rater names: that of the maturity plus an error of SD ``sigma``, within ``LEARNED``."""
    return int(np.clip(np.floor(maturity + sigma * rng.standard_normal()), LEARNED[bone][0], LEARNED[bone][-1]))


def stage_probabilities(maturity: np.ndarray, bone: str, sigma: float) -> np.ndarray:
    """Chance of every stage of ``bone`` for maturities [n] -> float64 [n, 7] for the radius, [n, 6] for the ulna."""
    edges = np.array([-np.inf, *LEARNED[bone][1:], np.inf])
    return np.diff(norm.cdf((edges - np.asarray(maturity, float)[:, None]) / sigma), axis=1)


def phase_probabilities(stages: np.ndarray, bone: str) -> np.ndarray:
    """Chances of stages [n, stages] -> chances of the phases [n, 4 or 3], in the order of ``LEARNED_PHASES``."""
    first = LEARNED[bone][0]
    phases = [[stage for stage in PHASES[bone][phase] if stage >= first] for phase in LEARNED_PHASES[bone]]
    return np.stack([stages[:, [stage - first for stage in phase]].sum(1) for phase in phases], axis=1)


def ceilings(truth: pd.DataFrame, split: str) -> dict[str, float]:
    """Best possible accuracy (0-1) of the phase on the pictures of one split, by bone: the mean of max P(phase | maturity).

    Args:
        truth: table of :func:`phantoms.radius_ulna.read_truth`.
        split: ``train`` or ``test``.
    """
    rows = truth[truth["split"] == split]
    stages = {bone: rows[[f"q_{name}" for name in names]].to_numpy(float) for bone, names in TARGETS.items()}
    return {bone: float(phase_probabilities(chances, bone).max(1).mean()) for bone, chances in stages.items()}
