"""The archive of knees: persons, visits, sources, split, masks and defects; what is drawn of each; the files.

Everything follows from the seed and the number of the volume, so a bigger archive begins with the smaller one. The layout is
that of Pietz and Proeve 2018: MetaImage volumes and labels, a folder a study, and two tables.
"""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from competitions.knee_age.volume import BONES
from phantoms.archive import Facts, Progress, Request, draw_missing, read_truth_table, write_truth
from phantoms.archive import read_truth as read_truth_arrays
from phantoms.knee_age.law import Person, best_age, draw_person
from phantoms.knee_age.render import Drawn, draw_volume
from radstack.core.errors import Refused, UserError
from radstack.core.files import need_disk, write_table, writing

TEST_EVERY = 6
"""One person in six is test, with all visits."""
JOPP = 80 / 145
"""Share of the Jopp study; persons stay in their study."""
DEFECTS = ("flipped", "truncated", "absent", "female")
DEFECTS_AMONG = 40
"""The defects stand on the last training volumes of the first forty, so that small archives have none."""
STUDIES = {"jopp": "Jopp_Study", "epi": "Epi_Study"}
CORONAL, FLIPPED = ((1.0, 0.0, 0.0, 0.0, 0.0, back, 0.0, -1.0, 0.0) for back in (1.0, -1.0))
"""Direction cosines, row by row, of columns to the patient's left, rows to the feet, slices to the back; or to the front."""
INTENSITY = (50, 100, 150)
"""Of femur, tibia and fibula in a label volume: decoded in descending order as fibula, tibia, femur."""
GUESS = 17.5
"""Years in the sample submission."""
VOXELS = 24 * 4
"""Voxels of a volume, in squares of ``size``: 24 slices of a frame twice as wide; 41 of 1.43 are fewer."""


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
        split = "test" if number % TEST_EVERY == 1 else "train"
        source = "jopp" if int((number + 1) * JOPP) > int(number * JOPP) else "epi"
        for visit in range(len(person.ages)):
            masked = bool(np.random.default_rng((seed, 2, len(found))).random() < annotated) and split == "train"
            found.append((Entry(len(found), number, visit, split, source, masked, ""), person))
    # Volumes without masks are marked first, so that no mask is wasted.
    train = sorted((entry.annotated, -entry.number) for entry, _ in found[:DEFECTS_AMONG] if entry.split == "train")
    marks = {-number: defect for (_, number), defect in zip(train, DEFECTS)}
    return [(replace(entry, defect=marks.get(entry.number, "")), person) for entry, person in found[:volumes]]


def label_age(entry: Entry, person: Person) -> float:
    """Age in years as the label gives it: whole months."""
    return round(person.ages[entry.visit] * 12) / 12


def volume_path(entry: Entry, person: Person) -> str:
    """Path below the input folder; the names of training volumes hold years and months as tokens 3 and 4, from 0."""
    name = entry.series
    if entry.split == "train":
        years, months = divmod(round(label_age(entry, person) * 12), 12)
        name += f"_{years:02d}_{months:02d}"
    return f"data/{STUDIES[entry.source]}/MHD/{name}_ORIG.mhd"


def label_path(volume: str) -> str:
    """Path of the label volume that belongs to a volume's."""
    return volume.replace("/MHD/", "/VOI_LABEL/").replace("_ORIG.mhd", "_LABEL.mhd")


def write_volume(folder: Path, entry: Entry, person: Person, drawn: Drawn) -> None:
    """Write the volume, and its label volume if annotated, with the defect of ``entry``; UserError where that fails."""
    name, flipped = volume_path(entry, person), entry.defect == "flipped"
    path = folder / name
    if entry.defect == "absent":
        return
    try:
        with writing(path, 2 * drawn.pixels.nbytes):
            _write(path, drawn.pixels, drawn, flipped, compressed=False)
            if entry.defect == "truncated":
                os.truncate(path.with_suffix(".raw"), drawn.pixels.nbytes * 2 // 3)
            if entry.annotated:
                labels = np.max([mask * np.int16(value) for mask, value in zip(drawn.outlined, INTENSITY)], axis=0)
                _write(folder / label_path(name), labels, drawn, flipped, compressed=True)
    except RuntimeError as error:  # SimpleITK does not say why
        need_disk(path.parent, 2 * drawn.pixels.nbytes, str(path))
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"cannot write {path}: {reason}; check the disk and run it again") from error


def _write(path: Path, array: np.ndarray, drawn: Drawn, flipped: bool, compressed: bool) -> None:
    """Write int16 [slices, h, w] as header and pixels; the header comes last, so that what has one is whole."""
    scan = drawn.scan
    back = scan.front + scan.spacing * (scan.slices - 1)
    image = sitk.GetImageFromArray(array[::-1] if flipped else array)
    image.SetSpacing((scan.pixel, scan.pixel, scan.spacing))
    image.SetDirection(FLIPPED if flipped else CORONAL)
    image.SetOrigin((-scan.joint[1] * scan.pixel, back if flipped else scan.front, scan.joint[0] * scan.pixel))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
        sitk.WriteImage(image, Path(scratch) / path.name, useCompression=compressed)
        for part in sorted(Path(scratch).iterdir(), key=lambda part: part.suffix == ".mhd"):
            part.replace(path.parent / part.name)


def write_tables(folder: Path, entries: list[tuple[Entry, Person]]) -> None:
    """Write volumes.csv (``age_years`` empty in test) and sample_submission.csv."""
    rows = pd.DataFrame([{
        "subject": entry.subject, "visit": entry.visit + 1, "file": volume_path(entry, person), "source": entry.source,
        "sex": "F" if entry.defect == "female" else "M",
        "age_years": round(label_age(entry, person), 4) if entry.split == "train" else np.nan,
        "split": entry.split} for entry, person in entries])
    write_table(folder / "volumes.csv", rows.drop(columns="split"))
    test = rows.loc[rows["split"] == "test", ["subject", "visit"]]
    write_table(folder / "sample_submission.csv", test.assign(age_years=GUESS))


def draw(folder: Path, *, series: int, workers: int = 2, size: int = 224, seed: int = 0, tau: float = 0.63,
         annotated: float = 0.5, progress: Progress | None = None) -> None:
    """Draw ``series`` phantom knees below ``folder`` as Pietz and Proeve 2018 laid out theirs; keep what is drawn.

    The folder becomes ``input/knee_age-demo``: data/<Study>/MHD and VOI_LABEL, volumes.csv, sample_submission.csv, and
    truth.npz for the report, written last. There are at least 4 volumes, to have both sources and both splits, about 1.6 of
    each man. ``size``: rows and columns of the square around the joint; frames are 2 (Jopp) and 1.43 (Epi) times as wide.
    ``tau``: SD in years by which men are ahead of their age: .63 makes .48 years the least possible error, 1.0 makes .66.
    ``annotated``: share of the training volumes that have a label volume. For seed and workers see
    :func:`phantoms.draw_demo`.

    Raises:
        Refused: an argument is out of range, the folder holds another archive, or the disk is too full.
    """
    if series < 4 or size < 32 or not tau > 0 or not 0 <= annotated <= 1:
        raise Refused(f"cannot draw {series} volumes of {size} pixels, tau {tau}, {annotated} of them annotated; needs "
                        "4 volumes, 32 pixels, a positive tau and a share in [0, 1]")
    pairs = plan(seed, series, tau, annotated)
    request = {"seed": seed, "size": size, "tau": tau, "annotated": annotated, "version": 1}
    volumes = draw_missing(folder, request, [entry for entry, _ in pairs], draw_entry, what="volumes", pictures="data",
                           entry_bytes=3 * VOXELS * size * size, workers=workers, progress=progress)
    if volumes:
        write_tables(folder, pairs)
        write_truth(folder, _truth(pairs, volumes, tau))


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; UserError where the archive is not finished.

    Returns:
        One row a volume, test and defective ones included.
        ``series`` (``<subject>_<visit>``), ``split``, ``subject``, ``visit``, ``source``, ``annotated``, ``defect`` ("",
        flipped, truncated, absent, female), ``age_years`` (true label), ``q_age_years`` (best possible prediction: median
        of the age given the mean of S_b), ``s_<bone>`` (S_b, years), ``share_<bone>`` (of the bone pixels), ``joint_row``,
        ``joint_column`` (pixels of the frame).
    """
    return read_truth_table(folder)


def read_masks(folder: Path, number: int) -> np.ndarray:
    """The true bones of the volume in row ``number`` of the truth, bool [3, slices, frame, frame] as ``BONES``.

    Unlike the label volumes they have no annotator's errors, and exist for test volumes too. Slices go front to back.
    UserError where there is no such volume.
    """
    kept = read_truth_arrays(folder, number)
    return np.unpackbits(kept["bits"], count=int(np.prod(kept["shape"]))).reshape(kept["shape"]).astype(bool)


def draw_entry(folder: Path, request: Request, entry: Entry) -> Facts:
    """Draw one volume and write its files; the facts are its bones, the share of each, and where the joint is."""
    seed, person = request["seed"], draw_person(request["seed"], entry.person, request["tau"])
    drawn = draw_volume(np.random.default_rng((seed, 1, entry.number)), person, entry.visit, entry.source, request["size"])
    write_volume(folder, entry, person, drawn)
    pixels = drawn.masks.sum((1, 2, 3))
    return {"bits": np.packbits(drawn.masks), "shape": drawn.masks.shape,
            **{f"share_{bone}": round(float(count / pixels.sum()), 4) for bone, count in zip(BONES, pixels)},
            "joint_row": round(drawn.scan.joint[0], 2), "joint_column": round(drawn.scan.joint[1], 2)}


def _truth(pairs: list[tuple[Entry, Person]], volumes: list[Facts], tau: float) -> pd.DataFrame:
    """The table of :func:`read_truth`."""
    people = pd.DataFrame([{
        "series": entry.series, "split": entry.split, "subject": entry.subject, "visit": entry.visit + 1,
        "source": entry.source, "annotated": entry.annotated, "defect": entry.defect, "age_years": label_age(entry, person),
        "q_age_years": np.nan, **dict(zip((f"s_{bone}" for bone in BONES), person.maturity(entry.visit)))}
        for entry, person in pairs])
    mean = people[[f"s_{bone}" for bone in BONES]].to_numpy().mean(1)
    facts = pd.DataFrame(volumes, columns=[*(f"share_{bone}" for bone in BONES), "joint_row", "joint_column"])
    return pd.concat([people.assign(q_age_years=best_age(mean, tau)), facts], axis=1)
