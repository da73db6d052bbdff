"""Which hands the archive holds: ids, split, defects; and how each follows from the seed and its number.

A bigger archive begins with the smaller one; only the share of annotated hands may reach further.
"""

from dataclasses import dataclass

import numpy as np

from phantoms.bone_age.imaging import Exposure, draw_exposure
from phantoms.bone_age.latents import Person, draw_person, read_age
from phantoms.bone_age.law import draw_label
from phantoms.bone_age.pose import Pose, draw_pose
from phantoms.bone_age.skeleton import Skeleton, lay

FIRST_TRAIN, FIRST_TEST = 1377, 4360
"""Ids as in RSNA 2017."""
TEST_EVERY = 7
"""Hand 3 of every seven is in the test split, until their ids run out."""
TEST_IDS = 200
DEFECTS_FROM = 50
"""Archives of so many hands and more have the defects."""
TRUNCATED, ABSENT = (44,), (46, 48)
"""Numbers of the hands, all in the train split, whose file ends early and whose labels have no picture."""


@dataclass(frozen=True)
class Entry:
    """One hand of the archive."""

    number: int
    id: str
    split: str
    """``train`` or ``test``."""
    truncated: bool = False
    absent: bool = False
    annotated: bool = False


@dataclass(frozen=True)
class Case:
    """All latents of a hand and its picture; nothing is drawn yet."""

    person: Person
    skeleton: Skeleton
    pose: Pose
    exposure: Exposure
    label: float
    """Months."""
    read: float
    """B_read: the months that the drawn bones show."""


def plan(hands: int, annotated: float) -> list[Entry]:
    """The entries of an archive of ``hands``; the first share ``annotated`` of the train hands have masks and landmarks."""
    splits = ["test" if number % TEST_EVERY == 3 and number // TEST_EVERY < TEST_IDS else "train" for number in range(hands)]
    last = round(annotated * splits.count("train"))
    seen = {"train": 0, "test": 0}
    entries = []
    for number, split in enumerate(splits):
        truncated, absent = (hands >= DEFECTS_FROM and number in numbers for numbers in (TRUNCATED, ABSENT))
        annotate = split == "train" and seen[split] < last and not truncated and not absent
        entries.append(Entry(number, hand_id(split, seen[split]), split, truncated, absent, annotate))
        seen[split] += 1
    return entries


def hand_id(split: str, order: int) -> str:
    """Id of the hand that is number ``order`` of its split; train ids step over those of the test hands."""
    if split == "test":
        return str(FIRST_TEST + order)
    number = FIRST_TRAIN + order
    return str(number if number < FIRST_TEST else number + TEST_IDS)


def draw_case(seed: int, entry: Entry, size: int) -> Case:
    """Draw all that is random about a hand but noise, texture and marker: from the seed and its number alone."""
    rng = np.random.default_rng((seed, entry.number))
    person = draw_person(rng)
    skeleton = lay(rng)
    read = read_age(person)
    label = draw_label(rng, read, person.male, entry.split == "test")
    exposure = draw_exposure(rng)
    return Case(person, skeleton, draw_pose(rng, skeleton, person.length, size), exposure, label, read)


def landmarks(case: Case) -> np.ndarray:
    """[3, 2]: P1, P2, P3 in raw pixels of the stored picture."""
    points = case.pose.to_pixels(case.skeleton.landmarks)
    if case.exposure.mirrored:
        points[:, 0] = case.pose.width - 1 - points[:, 0]
    return points
