"""Which volumes the archive holds: persons, visits, sources, split, masks and defects.

Everything follows from the seed and the number of the volume, so a bigger archive begins with the smaller one.
"""

from dataclasses import dataclass, replace

import numpy as np

from phantoms.knee_age.people import Person, draw_person

TEST_EVERY = 6
"""One person in six is test, with all visits."""
JOPP = 80 / 145
"""Share of the Jopp study; persons stay in their study."""
DEFECTS = ("flipped", "truncated", "absent", "female")
DEFECTS_AMONG = 40
"""The defects stand on the last training volumes of the first forty, so that small archives have none."""
STUDIES = {"jopp": "Jopp_Study", "epi": "Epi_Study"}


@dataclass(frozen=True)
class Entry:
    """One volume of the archive."""

    number: int
    person: int
    visit: int
    """From 0; the tables count from 1."""
    split: str
    source: str
    """``jopp`` or ``epi``."""
    annotated: bool
    """A label volume exists; only of training volumes."""
    defect: str
    """One of ``DEFECTS``, or empty."""

    @property
    def subject(self) -> str:
        """Two tokens, so that a file name's tokens 3 and 4, counted from 0, are years and months."""
        return f"{self.source.capitalize()}_{self.person:04d}"

    @property
    def series(self) -> str:
        """``<subject>_<visit>``."""
        return f"{self.subject}_{self.visit + 1}"


def plan(seed: int, volumes: int, tau: float, annotated: float) -> list[tuple[Entry, Person]]:
    """The first ``volumes`` entries of the archive of ``seed``, each with the man; ``annotated`` = share with masks."""
    found: list[tuple[Entry, Person]] = []
    while len(found) < max(volumes, DEFECTS_AMONG):
        number = found[-1][0].person + 1 if found else 0
        person = draw_person(seed, number, tau)
        found += [(_entry(seed, len(found) + visit, number, visit, annotated), person) for visit in range(len(person.ages))]
    return _with_defects(found)[:volumes]


def label_age(entry: Entry, person: Person) -> float:
    """Age in years as the label gives it: whole months."""
    return round(person.ages[entry.visit] * 12) / 12


def _entry(seed: int, number: int, person: int, visit: int, annotated: float) -> Entry:
    test = person % TEST_EVERY == 1
    source = "jopp" if int((person + 1) * JOPP) > int(person * JOPP) else "epi"
    masked = bool(np.random.default_rng((seed, 2, number)).random() < annotated)
    return Entry(number, person, visit, "test" if test else "train", source, masked and not test, "")


def _with_defects(found: list[tuple[Entry, Person]]) -> list[tuple[Entry, Person]]:
    """Mark the last training volumes without masks (so that no mask is wasted) among the first ``DEFECTS_AMONG``."""
    places = [place for place, (entry, _) in enumerate(found[:DEFECTS_AMONG]) if entry.split == "train"]
    places.sort(key=lambda place: (found[place][0].annotated, -place))
    marks = dict(zip(places, DEFECTS))
    return [(replace(entry, defect=marks.get(place, "")), person) for place, (entry, person) in enumerate(found)]
