"""The archive of wrists: children, visits, labels, split and defects; what is drawn of a picture; the tables.

Everything follows from the seed, the noise and the number, so that a bigger archive begins with the smaller one.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from competitions.radius_ulna.index import BOX_COLUMNS
from competitions.radius_ulna.phases import BONES, LEARNED, TARGETS
from phantoms.archive import Facts, Progress, Request, draw_missing, read_truth_table, write_png, write_truth
from phantoms.radius_ulna.law import LATER, NOISE, Child, draw_child, rate, stage_probabilities, years
from phantoms.radius_ulna.render import draw_picture
from radstack.core.errors import Refused
from radstack.core.files import write_table
from radstack.images.boxes import CORNERS

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
LEAST = 8
"""Pictures of the smallest archive: the first three children, of whom the last is a test one, have fewer before it."""
TINT = (0.86, 0.95, 1.0)
"""Blue, green, red of the color picture, as shares of its gray level: a photographed film."""


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
    def file(self) -> str:
        """Path of the picture below the input folder."""
        return f"pictures/{self.id}.png"

    @property
    def age(self) -> float:
        """Years since birth to a tenth: those of the maturity for the sex, and the child's tempo."""
        return round(years("radius", self.child.radius[self.visit]) + LATER * self.child.male + self.child.tempo, 1)


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
        lacking = np.array(SHARES[split]) / sum(SHARES[split]) * (seen[split].sum() + 1) - seen[split]
        child = draw_child(rng, number, LEARNED["radius"][int(lacking.argmax())])
        unnamed, unknown = rng.random(2) < UNKNOWN
        for visit in range(len(child.days)):
            radius, ulna = (rate(rng, getattr(child, bone)[visit], bone, NOISE[noise][bone]) for bone in BONES)
            entries.append(Entry(len(entries), child, visit, split, radius, ulna, not (unnamed and len(child.days) == 1),
                                 not unknown))
            seen[split][radius - LEARNED["radius"][0]] += 1
        number += 1
    train = [entry.number for entry in entries[:DEFECTS_FROM] if entry.split == "train"]
    marks = dict(zip(train[-len(DEFECTS):], DEFECTS)) if pictures >= DEFECTS_FROM else {}
    return [replace(entry, defect=marks.get(entry.number, "")) for entry in entries[:pictures]]


def draw(folder: Path, *, series: int, workers: int = 2, size: int = 1302, seed: int = 0, noise: str = "default",
         progress: Progress | None = None) -> None:
    """Draw ``series`` phantom hands below ``folder``, with labels and boxes; keep what a killed run has drawn.

    The folder becomes ``input/radius_ulna-demo``: pictures/<day>_<serial>.png, labels.csv, boxes.csv (train),
    sample_submission.csv (test), and truth.npz for the report, written last. At least 8 pictures are drawn, so that both
    splits exist; from 50 on with a truncated, an absent and a color picture. ``size`` is the long side in pixels of an
    upright picture, at least 128; wide ones are 1.08 times as long. ``noise`` is the rater's: ``default`` (ceiling of 95 %
    for both bones) or ``human`` (about 88 and 92 %). For seed and workers see :func:`phantoms.draw_demo`.

    Raises:
        Refused: an argument is out of range, the folder holds another archive, or the disk is too full.
    """
    if series < LEAST or size < 128 or noise not in NOISE:
        raise Refused(f"cannot draw {series} pictures of {size} pixels with the noise {noise!r}; needs "
                        f"{LEAST} pictures, 128 pixels and one of: {', '.join(NOISE)}")
    entries = plan(seed, series, noise)
    pictures = draw_missing(folder, {"seed": seed, "size": size, "noise": noise, "version": 1}, entries, draw_entry,
                            what="pictures", pictures="pictures", entry_bytes=2 * size * size, workers=workers,
                            progress=progress)
    if pictures:
        truth = _truth(entries, pictures, noise)
        write_tables(folder, entries, truth)
        write_truth(folder, truth)


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; UserError where the archive is not finished.

    Returns:
        One row a picture, test and defective ones included.
        ``id``, ``split``, ``defect`` ("", truncated, absent, color), ``m_radius``, ``m_ulna`` (maturity), ``R5`` .. ``U9``
        (the rater's stages, one-hot floats, test too), ``q_R5`` .. ``q_U9`` (their exact chances given the maturity),
        ``radius_x1`` .. ``ulna_y2`` (tight boxes in pixels), ``mirrored``, ``cast`` (0/1).
    """
    return read_truth_table(folder)


def draw_entry(folder: Path, request: Request, entry: Entry) -> Facts:
    """Draw one picture and write its file, with its defect; an absent one is taken away."""
    drawn = draw_picture(request["seed"], entry.number, entry.child, entry.visit, request["size"])
    path, picture = folder / entry.file, drawn.picture
    if entry.defect == "absent":
        path.unlink(missing_ok=True)
    else:
        color = entry.defect == "color"
        levels = np.rint(picture[:, :, None] * np.array(TINT)).astype(np.uint8) if color else picture
        write_png(path, levels, truncated=entry.defect == "truncated")
    boxes = dict(zip(BOX_COLUMNS, np.round(drawn.boxes, 2).ravel()))
    return boxes | {"mirrored": int(drawn.mirrored), "cast": int(drawn.cast)}


def _truth(entries: list[Entry], facts: list[Facts], noise: str) -> pd.DataFrame:
    """The table of :func:`read_truth`."""
    maturity = {bone: np.array([getattr(entry.child, bone)[entry.visit] for entry in entries]) for bone in BONES}
    truth = pd.DataFrame({name: [getattr(entry, name) for entry in entries] for name in ("id", "split", "defect")})
    truth = truth.assign(**{f"m_{bone}": maturity[bone] for bone in BONES})
    for bone in BONES:
        rated = np.array([getattr(entry, bone) for entry in entries])
        truth[list(TARGETS[bone])] = np.equal.outer(rated, LEARNED[bone]).astype(float)
    for bone in BONES:
        truth[[f"q_{name}" for name in TARGETS[bone]]] = stage_probabilities(maturity[bone], bone, NOISE[noise][bone])
    return pd.concat([truth, pd.DataFrame(facts)], axis=1)


def write_tables(folder: Path, entries: list[Entry], truth: pd.DataFrame) -> None:
    """Write labels.csv (stages empty in test), boxes.csv (train) and sample_submission.csv (test).

    ``truth`` is the table of :func:`read_truth`, in the order of ``entries``.
    """
    write_table(folder / "labels.csv", pd.DataFrame([_label(entry) for entry in entries]))
    boxes = np.rint(truth[BOX_COLUMNS].to_numpy()).astype(int).reshape(-1, len(BONES), 4)  # annotators click whole pixels
    write_table(folder / "boxes.csv", pd.DataFrame([{"file": entry.file, "bone": bone} | dict(zip(CORNERS, box))
                                                    for entry, pair in zip(entries, boxes) if entry.split == "train"
                                                    for bone, box in zip(BONES, pair)]))
    test = pd.DataFrame({"file": [entry.file for entry in entries if entry.split == "test"]})
    guess = {name: round(1 / len(names), 4) for names in TARGETS.values() for name in names}
    write_table(folder / "sample_submission.csv", test.assign(radius_phase="stagnation", ulna_phase="stagnation", **guess))


def _label(entry: Entry) -> dict[str, object]:
    """A row of labels.csv."""
    hidden = entry.split == "test"
    return {"file": entry.file, "date": entry.day, "serial": entry.serial,
            "child": f"c{entry.child.number + 1:04d}" if entry.named else "",
            "radius_stage": "" if hidden else f"R{entry.radius}", "ulna_stage": "" if hidden else f"U{entry.ulna}",
            "sex": ("F", "M")[entry.child.male] if entry.described else "", "age": entry.age if entry.described else ""}
