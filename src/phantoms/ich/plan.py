"""Who is in the archive: patients, their studies and series, the split, the ids and the defects.

Everything follows from the seed and the number of the series, so a longer archive begins with the shorter one.
"""

from dataclasses import dataclass

import numpy as np

TRUNCATED = "ID_6431af929"
"""The file of the real archive whose pixels end early."""
SECOND_STUDY, SECOND_SERIES = 0.13, 0.05
"""Chance of one more study for a patient (1.15 a patient, as it may repeat), and of a second series in a study."""
WRONG_INTERCEPT_EVERY, SIGNED_EVERY = 3, 50
"""One slice of every third series (about 1 % of slices), and every fiftieth series (2 %)."""
HEX_36 = (1 << 36) - 1


@dataclass(frozen=True)
class Entry:
    """One series of the archive."""

    number: int
    patient: int
    visit: int
    """Number of the study within the patient."""
    split: str
    """``train`` or ``test``; all series of a patient share it."""
    truncated: bool
    """The middle slice's file ends early."""
    wrong_intercept: bool
    """One slice has a wrong RescaleIntercept."""
    signed: bool
    """16 bit, PixelRepresentation 1, padded with -2000 outside the field of view."""


def plan(seed: int, series: int, test_share: float) -> list[Entry]:
    """The first ``series`` entries of the archive of ``seed``."""
    visits = _visits(seed, series)
    splits = ["test" if (patient * test_share + 1 - test_share + 1e-9) % 1 < test_share else "train"
              for patient, _ in visits]
    first = {splits.index(split) for split in set(splits)}
    return [Entry(number, patient, visit, splits[number], truncated=number in first,
                  wrong_intercept=number % WRONG_INTERCEPT_EVERY == 1, signed=number % SIGNED_EVERY == 2)
            for number, (patient, visit) in enumerate(visits)]


def _visits(seed: int, series: int) -> list[tuple[int, int]]:
    """Patient and study of each series; the first two patients have one series each, so that both splits exist."""
    found: list[tuple[int, int]] = []
    patient = 0
    while len(found) < series:
        rng = np.random.default_rng((seed, 0, patient))
        studies = 1 if patient < 2 else min(int(rng.geometric(1 - SECOND_STUDY)), 6)
        for visit in range(studies):
            found += [(patient, visit)] * (1 + (patient > 1 and int(rng.random() < SECOND_SERIES)))
        patient += 1
    return found[:series]


def slice_id(seed: int, number: int, position: int) -> str:
    """``ID_`` and nine hex digits, different for every slice of a seed: a random-looking one-to-one map of 36 bits."""
    value = number << 6 | position
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
        value = (value * factor + (seed + 1) * 0x94D049BB133111EB) & HEX_36
        value ^= value >> 17
    return f"ID_{value:09x}"


def holder_id(seed: int, kind: str, *numbers: int) -> str:
    """``ID_`` and eight hex digits for a patient, ten for a study or series."""
    stream = np.random.default_rng((seed, 3, *kind.encode(), *numbers))
    digits = 8 if kind == "patient" else 10
    return f"ID_{int(stream.integers(16**digits)):0{digits}x}"
