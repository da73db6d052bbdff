"""The archive of head CT: patients, studies, series, split, ids and defects; files and tables as the organizer wrote them.

Everything follows from the seed and the number of the series, so a longer archive begins with the shorter one. DICOM files
are explicit VR little endian with a short header.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom.config import disable_value_validation
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from competitions.ich.labels import TARGETS
from phantoms import archive
from phantoms.archive import Facts, Progress, Request, draw_missing, write_truth
from phantoms.ich.head import Slices
from phantoms.ich.law import NOISE, draw_labels, majority, marked, with_any
from phantoms.ich.render import Series, draw_series, draw_study
from radstack.core.errors import Refused
from radstack.core.files import write_table, writing

TRUNCATED = "ID_6431af929"
"""The file of the real archive whose pixels end early."""
SECOND_STUDY, SECOND_SERIES = 0.13, 0.05
"""Chance of one more study for a patient (1.15 a patient, as it may repeat), and of a second series in a study."""
WRONG_INTERCEPT_EVERY, SIGNED_EVERY = 3, 50
"""One slice of every third series (about 1 % of slices), and every fiftieth series (2 %)."""
HEX_36 = (1 << 36) - 1
INTERCEPT, PADDING = -1024, -2000
"""RescaleIntercept of a sound file; stored value outside the field of view of a signed series."""
SLICES, DUPLICATED = 40, 4
"""Slices of a series on average, to foresee the disk they need; images listed twice in the table, with the same labels."""


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


@disable_value_validation()
def header(seed: int, entry: Entry, slices: Slices, several_windows: bool) -> FileDataset:
    """The part of the header that the slices of a series share. There is no InstanceNumber and no SliceThickness."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion, meta.MediaStorageSOPClassUID = b"\0\1", CTImageStorage
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, UID("1.2.40.0.13.1.1.1")
    meta.ImplementationVersionName = "dcm4che-1.4.38"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.Modality, data.PatientID = "CT", holder_id(seed, "patient", entry.patient)
    data.StudyInstanceUID = holder_id(seed, "study", entry.patient, entry.visit)
    data.SeriesInstanceUID, data.StudyID = holder_id(seed, "series", entry.number), ""
    down = slices.columns.round(6) + 0.0
    data.ImageOrientationPatient = [f"{value:.9g}" for value in (1, 0, 0, *down)]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = slices.size
    data.PixelSpacing = [f"{slices.pixel:.9g}"] * 2
    data.BitsAllocated, data.BitsStored, data.HighBit = (16, 16, 15) if entry.signed else (16, 12, 11)
    data.PixelRepresentation = int(entry.signed)
    data.WindowCenter = ["00040", "00040"] if several_windows else "40"
    data.WindowWidth = ["00080", "00080"] if several_windows else "80"
    data.RescaleIntercept, data.RescaleSlope = str(INTERCEPT), "1"
    return data


@disable_value_validation()
def write_slice(path: Path, data: FileDataset, position: np.ndarray, stored: np.ndarray, intercept: int,
                truncated: bool) -> None:
    """Write one slice; the stem of ``path`` becomes its SOPInstanceUID. A truncated file ends in mid-picture."""
    data.SOPInstanceUID = path.stem
    data.ImagePositionPatient = [f"{value:.9g}" for value in position]
    data.RescaleIntercept = str(intercept)
    pixels = stored.tobytes()
    data.add_new("PixelData", "OW", pixels[:len(pixels) // 2] if truncated else pixels)
    uid = 10**38 + int(path.stem[3:], 16) * 0x9E3779B97F4A7C15F39CC060 % 10**38  # as long as the organizer's: 39 digits
    data.file_meta.MediaStorageSOPInstanceUID = UID(f"9999.{uid}")
    data.save_as(path, enforce_file_format=False)


def store(hu: np.ndarray, entry: Entry, wrong: bool | np.bool_) -> tuple[np.ndarray, int]:
    """Stored values [size, size] and the intercept that is written with them.

    A wrong intercept is one that the repair of the 11th place undoes: the values have lost 1000 modulo 4096, so that
    adding 1000, wrapping at 4096 and using -1000 gives the HU back.
    """
    if wrong:
        return (np.maximum(hu, -1000) % 4096).astype("<u2"), 0
    if not entry.signed:
        return (hu - INTERCEPT).astype("<u2"), INTERCEPT
    axis = np.arange(len(hu)) - (len(hu) - 1) / 2
    outside = np.add.outer(axis**2, axis**2) > (len(hu) / 2) ** 2
    return np.where(outside, PADDING, hu - INTERCEPT).astype("<i2"), INTERCEPT


def draw(folder: Path, *, series: int, workers: int = 2, size: int = 512, seed: int = 0, noise: str = "realistic",
         test_share: float = 0.25, progress: Progress | None = None) -> None:
    """Draw ``series`` phantom series below ``folder`` in the organizer's layout; keep what a killed run has drawn.

    The folder becomes ``input/ich-demo``: stage_2_train.csv, stage_2_sample_submission.csv, stage_2_train/, stage_2_test/,
    and truth.npz for the report, written last. There are at least 2 series, one of each split, of ``size`` rows and columns;
    ``noise`` of the labels is ``clean``, ``realistic`` or ``adjudicated`` (law.py); ``test_share`` of the patients is in the
    test split. For seed and workers see :func:`phantoms.draw_demo`.

    Raises:
        Refused: an argument is out of range, the folder holds another archive, or the disk is too full.
    """
    if noise not in NOISE:
        raise Refused(f"there is no label noise '{noise}'; choose one of {', '.join(NOISE)}")
    if series < 2 or not 0 < test_share <= 0.5 or size < 32:
        raise Refused(f"cannot draw {series} series of {size} pixels with test share {test_share}; "
                        "needs 2 series, 32 pixels and a share in (0, 0.5]")
    request = {"seed": seed, "size": size, "noise": noise, "test_share": test_share, "version": 1}
    parts = draw_missing(folder, request, plan(seed, series, test_share), draw_entry, what="series",
                         pictures="stage_2_train", entry_bytes=SLICES * (2 * size * size + 1000), workers=workers,
                         progress=progress)
    if parts:
        truth = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        write_tables(folder, truth, seed)
        write_truth(folder, truth)


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; UserError where the archive is not finished.

    Returns:
        ``id``, ``split``, one float32 column a target with the label (test rows too), and ``q_<target>``, the true
        probability that it is 1.
    """
    truth = archive.read_truth(folder)
    table = pd.DataFrame({"id": truth["id"], "split": truth["split"]})
    table[list(TARGETS)] = truth["y"].astype(np.float32)
    table[[f"q_{target}" for target in TARGETS]] = truth["q"]
    return table


def draw_entry(folder: Path, request: Request, entry: Entry) -> Facts:
    """Draw one series and write its files; the facts are arrays with a row a slice."""
    seed, noise = request["seed"], NOISE[request["noise"]]
    rng = np.random.default_rng((seed, 4, entry.number))
    drawn = draw_series(draw_study(seed, entry.patient, entry.visit), rng, request["size"])
    count = len(drawn.pixels)
    ids = [TRUNCATED if entry.split == "train" and entry.truncated and position == count // 2
           else slice_id(seed, entry.number, position) for position in range(count)]
    wrong = np.arange(count) == (count // 2 + rng.integers(1, count)) % count  # never the truncated one
    wrong &= entry.wrong_intercept and not entry.signed
    _write_slices(folder, seed, entry, drawn, ids, wrong, several_windows=bool(rng.random() < 0.3))
    q = with_any(majority(marked(drawn.area, drawn.contrast, noise), noise.votes if entry.split == "test" else 1))
    return {"id": np.array(ids), "split": np.full(count, entry.split), "q": q, "y": draw_labels(rng, q),
            "area": drawn.area, "contrast": drawn.contrast,
            "group": np.full(count, holder_id(seed, "patient", entry.patient)),
            "series": np.full(count, entry.number), "position": np.arange(count), "wrong_intercept": wrong}


def _write_slices(folder: Path, seed: int, entry: Entry, drawn: Series, ids: list[str], wrong: np.ndarray,
                  several_windows: bool) -> None:
    """The DICOM files of one series. They become whole with their mark: without that, all are drawn again."""
    data = header(seed, entry, drawn.slices, several_windows)
    middle, place = len(ids) // 2, folder / f"stage_2_{entry.split}"
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        for position, name in enumerate(ids):
            stored, intercept = store(drawn.pixels[position], entry, wrong[position])
            write_slice(place / f"{name}.dcm", data, drawn.slices.positions[position],
                              stored, intercept, truncated=entry.truncated and position == middle)


def write_tables(folder: Path, truth: dict[str, np.ndarray], seed: int) -> None:
    """Write stage_2_train.csv (0/1, four images twice) and stage_2_sample_submission.csv (0.5), six rows a slice.

    The slices stand in the order of their ids, which says nothing about their place in the head.
    """
    order = np.argsort(truth["id"], kind="stable")
    train, test = (order[truth["split"][order] == split] for split in ("train", "test"))
    twice = np.random.default_rng((seed, 5)).choice(len(train), min(DUPLICATED, len(train)), replace=False)
    listed = np.insert(train, np.sort(twice) + 1, train[np.sort(twice)])
    write_table(folder / "stage_2_train.csv", _rows(truth["id"][listed], truth["y"][listed]))
    write_table(folder / "stage_2_sample_submission.csv", _rows(truth["id"][test], np.full((len(test), 6), 0.5)))


def _rows(ids: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Table of ``ID_<slice>_<class>`` and Label."""
    names = [f"{name}_{kind}" for name in ids for kind in TARGETS]
    return pd.DataFrame({"ID": names, "Label": labels.ravel()})
