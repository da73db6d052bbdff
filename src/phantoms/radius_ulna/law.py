"""Children whose wrists are seen one to three times, how raters name the stage of a bone, and the best accuracy that leaves.

Maturity is continuous; its whole part is the stage: a radius of 7.3 is an R7 that is near to R8 by 70 %.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, truncnorm

from competitions.radius_ulna.phases import LEARNED, LEARNED_PHASES, PHASES, TARGETS
from phantoms.bone_age.anatomy import CARPALS, TUBULAR
from phantoms.bone_age.law import BOYS_AGE, HAND_LENGTH, LENGTH_MATURITY, LENGTH_SHARE, Person, mature

GIRLS_AGE = {
    "radius": ((5, 6, 7, 8, 9, 10, 11, 12), (9.0, 10.2, 11.4, 12.5, 13.7, 15.6, 17.0, 18.2)),
    "ulna": ((2, 3, 4, 5, 6, 7, 8, 9, 10), (8.0, 9.1, 10.2, 11.0, 12.2, 13.5, 15.2, 17.3, 18.9)),
}
"""Maturities, and the years at which girls reach them: R7, U5, R10 and U9 are means of the HKU-Shenzhen study, those between
are interpolated. R12, U2, U3 and U10 follow at intervals of 1.1 to 1.6 years."""
LATER = 1.75
"""Years by which boys are behind girls: the middle of 1.5 to 2."""
TEMPO = 1.0
"""SD of a child's age at a given maturity, in years (that of R7 in the HKU-Shenzhen study)."""
APART = 0.45
"""SD in stages of the ulna around what is usual at the radius' maturity."""
GIRLS = 0.7
"""Share of girls; braces are worn by girls more often."""
SCATTER = 5.0
"""SD in months of the other bones of the hand around the maturity of the radius."""
VISITS = (0.45, 0.3, 0.25)
"""Chances of one, two and three visits."""
HALF_YEAR = 182.6, 12.0
"""Mean and SD of the days between visits."""
FIRST_DAY, DAYS = np.datetime64("2012-01-02"), 1400
"""First visits fall on these days."""
NOISE = {"default": {"radius": 0.12, "ulna": 0.19}, "human": {"radius": 0.30, "ulna": 0.30}}
"""SD of a rater's error in stages. The default has a ceiling of 95 % for both bones. People agree with an ICC of
.95-.97 where stages have an SD of 1.5: .30 makes it 1.5^2 / (1.5^2 + .30^2) = .96."""


@dataclass(frozen=True)
class EndShape:
    """What is a child's own about the end of one bone."""

    half: float
    """Half the width of the metaphysis in mm of an adult-sized hand."""
    ripple: tuple[float, float]
    """Phases in radians of the plate's undulation."""
    styloid: float
    """Factor on the length of the styloid process."""


@dataclass(frozen=True)
class Child:
    """All that stays the same from visit to visit, and the days of the visits."""

    number: int
    male: int
    tempo: float
    """Years by which the child is older than usual for its maturity."""
    size: float
    """Factor on the length of the hand."""
    robust: float
    """Factor on cortical thickness."""
    scatter: dict[str, float]
    """Months by which each other bone is ahead of the radius."""
    shapes: dict[str, EndShape]
    days: tuple[np.datetime64, ...]
    radius: tuple[float, ...]
    """Maturity at each visit."""
    ulna: tuple[float, ...]


def draw_child(rng: np.random.Generator, number: int, stage: int) -> Child:
    """Draw a child whose radius is in ``stage`` (5 to 11, uniform within it) at the first visit.

    Visits end where a bone would have passed the last stage. The ulna is in U4 to U9, as in the clinic's archive: its
    deviation is a normal one cut there.
    """
    first = stage + rng.random()
    days = FIRST_DAY + np.cumsum([rng.integers(DAYS), *np.rint(rng.normal(*HALF_YEAR, 2)).astype(int)])
    age = years("radius", first) + (days - days[0]).astype(float) / 365.25
    usual = at_age("ulna", age[0])
    low, high = ((edge - usual) / APART for edge in (LEARNED["ulna"][0], LEARNED["ulna"][-1] + 1))
    ulna = at_age("ulna", age) + APART * truncnorm.rvs(low, high, random_state=rng)
    visits = min(int(rng.choice(3, p=VISITS)) + 1, int(((age < GIRLS_AGE["radius"][1][-1]) & (ulna < 10)).sum()))
    male = int(rng.random() > GIRLS)
    tempo, size = float(rng.normal(0, TEMPO)), float(np.exp(rng.normal(0, HAND_LENGTH[male][1])))
    robust, ahead = float(rng.normal(1 + 0.03 * (2 * male - 1), 0.04)), rng.normal(0, SCATTER)
    scatter = {name: ahead + rng.normal(0, SCATTER) for name in (*TUBULAR, *CARPALS, "sesamoid")}
    return Child(number, male, tempo, size, robust, scatter, _shapes(rng), tuple(days[:visits]),
                 tuple(map(float, at_age("radius", age[:visits]))), tuple(map(float, ulna[:visits])))


def years(bone: str, maturity: float) -> float:
    """Age in years at which girls have that maturity."""
    return float(np.interp(maturity, *GIRLS_AGE[bone]))


def at_age(bone: str, age: np.ndarray) -> np.ndarray:
    """Usual maturity of girls at ``age`` years, any shape; the inverse of :func:`years`."""
    return np.interp(age, *GIRLS_AGE[bone][::-1])


def person_at(child: Child, visit: int) -> Person:
    """The child at a visit as the bone-age phantom draws it; its own forearm is replaced."""
    months = 12 * years("radius", child.radius[visit])
    ripe = float(mature(months, 0))
    maturity = {name: float(np.clip(ripe + ahead, 0, BOYS_AGE[-1])) for name, ahead in child.scatter.items()}
    length = HAND_LENGTH[child.male][0] * float(np.interp(ripe, LENGTH_MATURITY, LENGTH_SHARE)) * child.size
    return Person(child.male, months, maturity, length, child.robust)


def _shapes(rng: np.random.Generator) -> dict[str, EndShape]:
    """Widths: 26 to 30 mm for the radius, 14 to 16.4 for the ulna."""
    found = {}
    for bone, low, high in (("radius", 13.0, 15.0), ("ulna", 7.0, 8.2)):
        ripple = rng.uniform(0, 2 * np.pi, 2)
        half, styloid = rng.uniform(low, high), rng.uniform(0.85, 1.15)
        found[bone] = EndShape(float(half), (float(ripple[0]), float(ripple[1])), float(styloid))
    return found


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

    ``truth`` is the table of :func:`phantoms.radius_ulna.read_truth`, ``split`` is ``train`` or ``test``.
    """
    rows = truth[truth["split"] == split]
    stages = {bone: rows[[f"q_{name}" for name in names]].to_numpy(float) for bone, names in TARGETS.items()}
    return {bone: float(phase_probabilities(chances, bone).max(1).mean()) for bone, chances in stages.items()}
