"""The archive of hands: ids, split, defects, and how each hand follows from the seed and its number; pictures and tables.

A bigger archive begins with the smaller one; only the share of annotated hands may reach further. Landmarks are written as
VGG Image Annotator (VIA) exports them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from competitions.bone_age.annotations import LANDMARKS, mask_path
from phantoms.archive import Facts, Progress, Request, draw_missing, read_truth_table, write_png, write_truth
from phantoms.bone_age.anatomy import Pose, Skeleton, draw_pose, field_mask, lay
from phantoms.bone_age.law import Person, best_prediction, draw_label, draw_person, read_age
from phantoms.bone_age.render import Exposure, draw_exposure, draw_hand, expose, stored
from radstack.core.errors import Refused
from radstack.core.files import write_table

FIRST_TRAIN, FIRST_TEST, TEST_IDS = 1377, 4360, 200
"""First ids as in RSNA 2017, and how many are of the test split."""
TEST_EVERY = 7
"""Hand 3 of every seven is in the test split, until their ids run out."""
DEFECTS_FROM, TRUNCATED, ABSENT = 50, (44,), (46, 48)
"""Archives of so many hands and more have defects: the hands of these numbers, all in the train split, have a file that ends
early, and labels without a picture."""
VIA_COLUMNS = ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
               "region_attributes"]
"""Of a VIA 2 CSV export."""


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
        first = seen[split] + (FIRST_TEST if split == "test" else FIRST_TRAIN)
        step = TEST_IDS * (split == "train" and first >= FIRST_TEST)  # train ids step over those of the test hands
        entries.append(Entry(number, str(first + step), split, truncated, absent, annotate))
        seen[split] += 1
    return entries


def draw_case(seed: int, entry: Entry, size: int) -> Case:
    """Draw all that is random about a hand but noise, texture and marker: from the seed and its number alone."""
    rng = np.random.default_rng((seed, entry.number))
    person, skeleton = draw_person(rng), lay(rng)
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


def draw(folder: Path, *, series: int, workers: int = 2, size: int = 1300, seed: int = 0, annotated: float = 0.25,
         progress: Progress | None = None) -> None:
    """Draw ``series`` phantom hands below ``folder`` in the layout of the Kaggle mirror; keep what a killed run has drawn.

    The folder becomes ``input/bone_age-demo``: the two label tables and picture folders, ``annotations/masks/<id>.png``,
    ``annotations/landmarks.csv`` (VIA 2), and truth.npz for the report, written last. At least 4 hands are drawn, so that
    both splits exist; from 50 on one picture is truncated and two are missing. ``size`` is the typical long side in pixels,
    at least 64; ``annotated`` the share of the train hands, the first ones, with masks and landmarks. For seed and workers
    see :func:`phantoms.draw_demo`.

    Raises:
        Refused: an argument is out of range, the folder holds other pictures, or the disk is too full.
    """
    if series < 4 or size < 64 or not 0 <= annotated <= 1:
        raise Refused(f"cannot draw {series} hands of {size} pixels with {annotated:.0%} annotated; needs 4 hands, "
                        "64 pixels and a share in [0, 1]")
    entries = plan(series, annotated)
    hands = draw_missing(folder, {"seed": seed, "size": size, "version": 1}, entries, draw_entry, what="hands",
                         pictures="boneage-training-dataset", entry_bytes=2 * size * size, workers=workers,
                         progress=progress)
    if hands:
        truth = _truth(hands)
        write_tables(folder, truth, entries)
        write_truth(folder, truth)


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; UserError where the archive is not finished.

    Returns:
        One row a hand: ``id``, ``split``, ``boneage`` (the label, test hands too), ``q_boneage`` (the best possible
        prediction of it), ``b_read`` (the months that the bones show), ``male``, ``mirrored``, ``inverted`` (0/1), and the
        landmarks ``p1x`` .. ``p3y`` in raw pixels.
    """
    return read_truth_table(folder)


def draw_entry(folder: Path, request: Request, entry: Entry) -> Facts:
    """Draw one hand and write its picture, and its mask where it has one; a label without a picture has neither."""
    case = draw_case(request["seed"], entry, request["size"])
    name = "boneage-training-dataset" if entry.split == "train" else "boneage-test-dataset"
    path = folder / name / name / f"{entry.id}.png"  # the organizer nests its folder
    if entry.absent:
        path.unlink(missing_ok=True)  # a smaller archive has it
    else:
        hand = draw_hand(case.person, case.skeleton, case.pose)
        rng = np.random.default_rng((request["seed"], entry.number, 1))
        picture = expose(rng, hand, case.skeleton, case.pose, case.exposure)
        write_png(path, stored(picture, case.exposure), entry.truncated)
        if entry.annotated:
            mask = 255 * (hand.mask & field_mask(case.pose))
            write_png(mask_path(folder, entry.id), np.ascontiguousarray(mask[:, ::-1]) if case.exposure.mirrored else mask)
    return {"id": entry.id, "split": entry.split, "boneage": case.label, "b_read": case.read, "male": case.person.male,
            "mirrored": int(case.exposure.mirrored), "inverted": int(case.exposure.inverted),
            **dict(zip(LANDMARKS, landmarks(case).ravel()))}


def _truth(hands: list[Facts]) -> pd.DataFrame:
    """The table of :func:`read_truth`."""
    truth = pd.DataFrame(hands)
    truth.insert(3, "q_boneage", 0.0)
    for (male, split), group in truth.groupby(["male", "split"]):
        truth.loc[group.index, "q_boneage"] = best_prediction(group["b_read"].to_numpy(), int(male), split == "test")
    return truth


def write_tables(folder: Path, truth: pd.DataFrame, entries: list[Entry]) -> None:
    """Write boneage-training-dataset.csv, boneage-test-dataset.csv (no ages) and annotations/landmarks.csv.

    ``truth`` is the table of :func:`read_truth`, in the order of ``entries``.
    """
    train, test = (truth[truth["split"] == split] for split in ("train", "test"))
    write_table(folder / "boneage-training-dataset.csv", pd.DataFrame(
        {"id": train["id"], "boneage": train["boneage"].round().astype(int), "male": train["male"].astype(bool)}))
    write_table(folder / "boneage-test-dataset.csv", pd.DataFrame(
        {"Case ID": test["id"], "Sex": np.where(test["male"] == 1, "M", "F")}))
    annotated = truth[[entry.annotated for entry in entries]]
    places = annotated[list(LANDMARKS)].to_numpy(float).reshape(-1, 3, 2)
    # The size of the file, which nothing reads, is -1. Annotators click whole pixels of pictures three times as large as the
    # demo's: hence one decimal.
    rows = [[f"{name}.png", -1, "{}", 3, point, json.dumps({"name": "point", "cx": round(x, 1), "cy": round(y, 1)}),
             json.dumps({"point": f"P{point + 1}"})]
            for name, hand in zip(annotated["id"], places) for point, (x, y) in enumerate(hand)]
    write_table(folder / "annotations" / "landmarks.csv", pd.DataFrame(rows, columns=VIA_COLUMNS))
