"""Who a phantom hand belongs to: sex, bone age, maturity of each bone, size; how readers label it, and the best prediction.

What readers see is B_read, the months that the bones show.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import norm

from phantoms.bone_age.anatomy import CARPALS, REGIONS, TUBULAR

HISTOGRAM = {
    1: (1, 0, 23, 19, 55, 33, 52, 50, 82, 89, 166, 41, 230, 55, 232, 45, 251, 51, 315, 59, 359, 82, 427, 433, 127, 600, 813,
        500, 790, 78, 221, 130, 128, 32, 174, 12, 57, 2, 19),
    0: (0, 3, 16, 14, 46, 40, 88, 42, 111, 15, 139, 10, 237, 27, 433, 61, 544, 63, 481, 66, 640, 129, 691, 113, 545, 87, 418,
        194, 175, 24, 205, 12, 60, 4, 27, 2, 16, 0, 0),
}  # fmt: skip
"""Training labels of RSNA 2017 nearest to 0, 6, 12 .. 228 months, by ``male``."""
SMOOTH = 4.0
"""Kernel SD in months over the histogram."""
OLDEST = {1: 226.0, 0: 203.0}
"""Bone ages are drawn below these, where something is left to see."""
GIRLS_AGE = np.array([0, 10, 24, 49, 64, 94, 121, 162, 180, 204], float)
BOYS_AGE = np.array([0, 13, 32, 69, 85, 114, 153, 186, 204, 228], float)
"""Ages in months at which girls and boys are equally mature."""
OFFSET = {"carpus": 4.0, "tubular": 2.5, "forearm": 2.5}
"""SD in months by which a region is ahead of the whole."""
SCATTER = 0.22 * 0.3**0.5
"""SD of a bone's own schedule as a share of its time of appearance: 22 %, without the .7 that a person's tempo
explains, since the bone age drawn from the histogram contains the tempo."""
SCATTER_MONTHS = (1.0, 5.0)
"""The least and the most of it; 5 is the SD of fusion."""
APPEARS = {name: bone.appears for bones in (CARPALS, TUBULAR) for name, bone in bones.items()}
HAND_LENGTH = {1: (189.0, 0.048), 0: (172.0, 0.047)}
"""Adult mean in mm and SD as a share."""
LENGTH_MATURITY = np.array([0, 12, 24, 60, 96, 132, 156, 180, 204, 228], float)
LENGTH_SHARE = np.array([0.36, 0.46, 0.52, 0.64, 0.735, 0.83, 0.905, 0.97, 0.995, 1.0])
"""Share of the adult length at a maturity; 121 mm for a boy of five years."""
ROBUST = 0.06, 0.04
"""Mean advantage of boys in cortical thickness, and its SD, set so that with size it tells the sex in 85-90 %."""

Months = TypeVar("Months", float, np.ndarray)
SIGMA = 7.0
"""SD of one reading in months: .58 years, as measured for one manual Greulich-Pyle rating."""
SNAP = 0.75
"""Chance that a reader names the nearest plate of the atlas."""
READERS = 6
"""Readings that a test label is the mean of."""
INFANT = (3, 6, 9, 12, 15, 18)
"""Plates of the Greulich-Pyle atlas before the second birthday."""
PLATES = {
    1: INFANT + (24, 42, 48, 54, 60, 72, 78, 84, 90, 96, 102, 108, 114, 120, 126, 132, 138, 144, 150, 153, 156, 162, 165,
                 168, 174, 180, 186, 192, 204, 216),
    0: INFANT + (24, 30, 36, 42, 50, 60, 69, 72, 82, 84, 88, 94, 96, 100, 106, 113, 120, 126, 132, 138, 144, 150, 156,
                 159, 162, 168, 174, 180, 192, 204),
}  # fmt: skip
"""Months that readers name, by ``male``: the thirty values that hold 93 and 95 % of the labels of RSNA 2017; there are
too few infants among them, whom these values would make toddlers."""
RANGE = 1, 228
"""Of the training labels in months; readings beyond are moved to the end."""
MONTHS = np.arange(RANGE[0], RANGE[1] + 1)


@dataclass(frozen=True)
class Person:
    """The latents of one hand."""

    male: int
    age: float
    """Bone age B in months, before the regions and bones were scattered."""
    maturity: dict[str, float]
    """Months on the boys' scale of every bone, and of the sesamoid."""
    length: float
    """Of the hand in mm."""
    robust: float
    """Factor on cortical thickness."""


def mature(age: Months, male: int) -> Months:
    """Bone age in months of that sex -> maturity, months on the boys' scale (any shape)."""
    return age if male else np.interp(age, GIRLS_AGE, BOYS_AGE)


def aged(maturity: Months, male: int) -> Months:
    """The inverse of :func:`mature`."""
    return maturity if male else np.interp(maturity, BOYS_AGE, GIRLS_AGE)


def draw_person(rng: np.random.Generator) -> Person:
    """Draw one child of the archive: sex as in RSNA 2017 (54 % boys), bone age from the histogram of that sex."""
    male = int(rng.random() < sum(HISTOGRAM[1]) / (sum(HISTOGRAM[1]) + sum(HISTOGRAM[0])))
    age = draw_age(rng, male)
    maturity = _scattered(rng, age, male)
    mean, spread = HAND_LENGTH[male]
    length = mean * np.interp(mature(age, male), LENGTH_MATURITY, LENGTH_SHARE) * np.exp(rng.normal(0, spread))
    return Person(male, age, maturity, float(length), 1 + ROBUST[0] * (male - 0.5) + float(rng.normal(0, ROBUST[1])))


def draw_age(rng: np.random.Generator, male: int) -> float:
    """Bone age in months; drawn again while it is outside 1 .. ``OLDEST``."""
    counts = np.array(HISTOGRAM[male], float)
    while True:
        age = 6 * rng.choice(len(counts), p=counts / counts.sum()) + rng.uniform(-3, 3) + rng.normal(0, SMOOTH)
        if 1 <= age <= OLDEST[male]:
            return float(age)


def _scattered(rng: np.random.Generator, age: float, male: int) -> dict[str, float]:
    """The maturity of each bone: that of its region, and its own deviation."""
    found = {}
    for region, bones in REGIONS.items():
        shared = mature(max(age + rng.normal(0, OFFSET[region]), 0.0), male)
        for name in bones:
            spread = float(np.clip(SCATTER * APPEARS[name], *SCATTER_MONTHS))
            found[name] = float(np.clip(shared + rng.normal(0, spread), 0, BOYS_AGE[-1]))
        if region == "tubular":
            found["sesamoid"] = float(shared)
    return found


def region_ages(person: Person) -> dict[str, float]:
    """Months of the child's sex that each region shows: the mean of the maturities its ossified bones imply.

    Shafts are always ossified. A carpus without any center tells nothing that the shafts do not, and takes their age.
    """
    seen = {region: [person.maturity[name] for name in bones if region != "carpus" or person.maturity[name] > APPEARS[name]]
            for region, bones in REGIONS.items()}
    return {region: float(aged(float(np.mean(values or seen["tubular"])), person.male)) for region, values in seen.items()}


def read_age(person: Person) -> float:
    """B_read: the mean of the three regions' ages, a function of what is drawn and the sex alone."""
    return float(np.mean(list(region_ages(person).values())))


def draw_label(rng: np.random.Generator, age: float, male: int, test: bool) -> float:
    """Label in months of a hand that shows ``age``: one snapped reading, or for ``test`` the mean of six unsnapped ones."""
    if test:
        return float(np.clip(age + rng.normal(0, SIGMA, READERS).mean(), *RANGE))
    reading, plates = age + rng.normal(0, SIGMA), np.array(PLATES[male], float)
    nearest = plates[np.searchsorted((plates[1:] + plates[:-1]) / 2, reading)]
    return float(np.clip(nearest if rng.random() < SNAP else np.rint(reading), *RANGE))


def probabilities(age: np.ndarray, male: int) -> np.ndarray:
    """Chance of every training label ``MONTHS`` of hands that show ``age`` [n] months -> [n, 228]."""
    plates = np.array(PLATES[male])
    rounded = _between(age, np.concatenate([[-np.inf], MONTHS[:-1] + 0.5, [np.inf]]))
    snapped = _between(age, np.concatenate([[-np.inf], (plates[1:] + plates[:-1]) / 2, [np.inf]]))
    chances = (1 - SNAP) * rounded
    chances[:, plates - RANGE[0]] += SNAP * snapped
    return chances


def best_prediction(age: np.ndarray, male: int, test: bool) -> np.ndarray:
    """The prediction [n] with the least expected absolute error for hands of one sex that show ``age`` [n] months.

    The median of the label: of a training label by its distribution, of a six-reader label ``age`` itself.
    """
    if test:
        return np.clip(age, *RANGE)
    return MONTHS[(np.cumsum(probabilities(age, male), axis=1) < 0.5).sum(1).clip(max=len(MONTHS) - 1)].astype(float)


def expected_error(chances: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Expected absolute error [n] of ``prediction`` [n] when labels have ``chances`` [n, 228]."""
    return (chances * np.abs(MONTHS - prediction[:, None])).sum(1)


def _between(mean: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.diff(norm.cdf((edges - np.asarray(mean, float)[:, None]) / SIGMA), axis=1)
