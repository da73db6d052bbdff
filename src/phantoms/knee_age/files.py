"""The layout of Pietz and Proeve 2018: MetaImage volumes and labels, a folder a study, and two tables."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from phantoms.knee_age.people import Person
from phantoms.knee_age.plan import STUDIES, Entry, label_age
from phantoms.knee_age.render import Drawn
from radstack.core.errors import UserError
from radstack.core.files import write_table

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)
"""Direction cosines, row by row, of columns to the patient's left, rows to the feet, slices to the back."""
FLIPPED = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, -1.0, 0.0)
"""The same with slices to the front."""
INTENSITY = (50, 100, 150)
"""Of femur, tibia and fibula in a label volume: decoded in descending order as fibula, tibia, femur."""
GUESS = 17.5
"""Years in the sample submission."""


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
    """Write the volume, and its label volume if annotated, with the defect of ``entry``.

    Raises:
        UserError: the folder cannot be written.
    """
    path, flipped = folder / volume_path(entry, person), entry.defect == "flipped"
    if entry.defect == "absent":
        return
    try:
        _write(path, drawn.pixels, drawn, flipped, compressed=False)
        if entry.defect == "truncated":
            raw = path.with_suffix(".raw")
            raw.write_bytes(raw.read_bytes()[:raw.stat().st_size * 2 // 3])
        if entry.annotated:
            labels = np.max([mask * np.int16(value) for mask, value in zip(drawn.outlined, INTENSITY)], axis=0)
            _write(folder / label_path(volume_path(entry, person)), labels, drawn, flipped, compressed=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"cannot write {path}: {reason}; free some disk and run it again") from error


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
