"""DICOM files as the organizer wrote them: explicit VR little endian, a short header, some defects."""

from pathlib import Path

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from phantoms.ich.head import Slices
from phantoms.ich.plan import Entry, holder_id

INTERCEPT = -1024
"""RescaleIntercept of a sound file."""
PADDING = -2000
"""Stored value outside the field of view of a signed series."""


@disable_value_validation()
def header(seed: int, entry: Entry, slices: Slices, several_windows: bool) -> FileDataset:
    """The part of the header that the slices of a series share. There is no InstanceNumber and no SliceThickness."""
    data = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
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
    data.file_meta = _meta(path.stem)
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


def _meta(stem: str) -> FileMetaDataset:
    """File meta information; the UID is as long as the organizer's (9999 and 39 digits)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"9999.{10**38 + int(stem[3:], 16) * 0x9E3779B97F4A7C15F39CC060 % 10**38}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("1.2.40.0.13.1.1.1")
    meta.ImplementationVersionName = "dcm4che-1.4.38"
    return meta
