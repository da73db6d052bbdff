"""How readers label a hand whose bones show B_read months, and the best possible prediction of it."""

import numpy as np
from scipy.stats import norm

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


def draw_label(rng: np.random.Generator, age: float, male: int, test: bool) -> float:
    """Label in months of a hand that shows ``age``: one snapped reading, or for ``test`` the mean of six unsnapped ones."""
    if test:
        return float(np.clip(age + rng.normal(0, SIGMA, READERS).mean(), *RANGE))
    reading = age + rng.normal(0, SIGMA)
    return float(np.clip(nearest_plate(reading, male) if rng.random() < SNAP else np.rint(reading), *RANGE))


def nearest_plate(reading: np.ndarray | float, male: int) -> np.ndarray:
    """The atlas plate of that sex nearest to each reading in months (any shape)."""
    plates = np.array(PLATES[male], float)
    return plates[np.searchsorted((plates[1:] + plates[:-1]) / 2, reading)]


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
