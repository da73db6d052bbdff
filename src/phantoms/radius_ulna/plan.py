"""Which pictures the archive holds: children, visits, labels, split and defects.

Everything follows from the seed, the noise and the number, so that a bigger archive begins with the smaller one.
"""

from dataclasses import dataclass, replace

import numpy as np

from competitions.radius_ulna.phases import LEARNED
from phantoms.radius_ulna.law import NOISE, rate
from phantoms.radius_ulna.people import Child, chronological_age, draw_child

TEST_EVERY = 4
"""One child in four is test: 150 of 600 and 100 of 400 pictures in the HKU-Shenzhen study."""
SHARES = {"train": (25, 25, 50, 75, 75, 25, 25), "test": (12.5, 12.5, 25, 12.5, 12.5, 12.5, 12.5)}
"""R5 to R11 as the HKU-Shenzhen study has the phases of the radius: 50:50:150:50 in train, 25 of each in test, the stages of
a phase alike. Ulna phases follow from what is usual at the radius' maturity."""
DEFECTS = ("truncated", "absent", "color")
DEFECTS_FROM = 50
"""Archives of so many pictures and more have the defects, on the last training pictures of the first fifty."""
UNKNOWN = 0.04
"""Share of children of whom neither sex nor age was noted, and of those seen once whose child is not named."""


@dataclass(frozen=True)
class Entry:
    """One picture of the archive."""

    number: int
    child: Child
    visit: int
    """From 0."""
    split: str
    radius: int
    """The rater's stage; hidden in test."""
    ulna: int
    named: bool
    """The child is known by name."""
    described: bool
    """Sex and age are known."""
    defect: str = ""
    """One of ``DEFECTS``, or empty."""

    @property
    def id(self) -> str:
        """Day and serial number, by which the clinic's pictures and labels are matched."""
        return f"{self.day}_{self.serial}"

    @property
    def day(self) -> str:
        """Of the picture, ISO."""
        return str(self.child.days[self.visit])

    @property
    def serial(self) -> str:
        """Four digits."""
        return f"{self.number + 1:04d}"

    @property
    def age(self) -> float:
        """Years, to a tenth."""
        return round(chronological_age(self.child, self.visit), 1)


def plan(seed: int, pictures: int, noise: str) -> list[Entry]:
    """The first ``pictures`` entries of the archive of ``seed``; ``noise`` is a key of ``NOISE``.

    Each child first comes with the stage that its split lacks most, so that stages keep to ``SHARES`` at any length.
    """
    entries: list[Entry] = []
    seen = {split: np.zeros(len(LEARNED["radius"])) for split in SHARES}
    number = 0
    while len(entries) < pictures:
        split = "test" if number % TEST_EVERY == 2 else "train"
        rng = np.random.default_rng((seed, 0, number))
        child = draw_child(rng, number, LEARNED["radius"][_lacking(seen[split], split)])
        added = _visits(rng, child, len(entries), split, noise)
        for entry in added:
            seen[split][entry.radius - LEARNED["radius"][0]] += 1
        entries += added
        number += 1
    return _with_defects(entries[:pictures]) if pictures >= DEFECTS_FROM else entries[:pictures]


def _lacking(seen: np.ndarray, split: str) -> int:
    share = np.array(SHARES[split]) / sum(SHARES[split])
    return int((share * (seen.sum() + 1) - seen).argmax())


def _visits(rng: np.random.Generator, child: Child, first: int, split: str, noise: str) -> list[Entry]:
    sigma = NOISE[noise]
    unnamed, unknown = rng.random(2) < UNKNOWN
    return [Entry(first + visit, child, visit, split, rate(rng, child.radius[visit], "radius", sigma["radius"]),
                  rate(rng, child.ulna[visit], "ulna", sigma["ulna"]), not (unnamed and len(child.days) == 1), not unknown)
            for visit in range(len(child.days))]


def _with_defects(entries: list[Entry]) -> list[Entry]:
    places = [place for place, entry in enumerate(entries[:DEFECTS_FROM]) if entry.split == "train"][-len(DEFECTS):]
    marks = dict(zip(places, DEFECTS))
    return [replace(entry, defect=marks.get(place, "")) for place, entry in enumerate(entries)]
