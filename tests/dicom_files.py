"""Tiny DICOM files for the tests, written by pydicom."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless


def make_dicom(path: Path, pixels: np.ndarray | None, *, syntax: str = ExplicitVRLittleEndian, **elements) -> Path:
    """Write ``pixels`` (two's complement if signed) with the elements of an RSNA slice, changed by ``elements``.

    An element given as None is left out, one given as a DataElement keeps its own value representation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the archive's identifiers are not valid UIDs
        path.parent.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(path, _dataset(path.stem, pixels, syntax, elements), enforce_file_format=True)
    return path


def _dataset(sop: str, pixels: np.ndarray | None, syntax: str, elements: dict) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = "9999.1"
    shape = (8, 8) if pixels is None else pixels.shape
    signed = pixels is not None and pixels.dtype.kind == "i"
    bits = 16 if pixels is None else 8 * pixels.dtype.itemsize
    values = {
        "SOPInstanceUID": sop, "Modality": "CT", "PatientID": "ID_p", "StudyInstanceUID": "ID_s",
        "SeriesInstanceUID": "ID_r", "StudyID": "", "ImagePositionPatient": [-125.0, -120.5, 10.0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "Rows": shape[0], "Columns": shape[1],
        "PixelSpacing": [0.5, 0.5], "BitsAllocated": bits, "BitsStored": 16 if signed else min(12, bits),
        "HighBit": 15 if signed else min(11, bits - 1), "PixelRepresentation": int(signed),
        "WindowCenter": ["00040", "00040"], "WindowWidth": ["00080", "00080"], "RescaleIntercept": "-1024",
        "RescaleSlope": "1", **elements,
    }  # fmt: skip
    for name, value in values.items():
        if isinstance(value, pydicom.DataElement):
            dataset.add(value)
        elif value is not None:
            setattr(dataset, name, value)
    if pixels is not None:
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
    return dataset


def noise(shape: tuple[int, int] = (8, 8), low: int = 0, high: int = 4096, seed: int = 0) -> np.ndarray:
    """Random stored values: uint16, int16 where ``low`` is negative."""
    dtype = np.int16 if low < 0 else np.uint16
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def compress(path: Path, syntax: str) -> Path:
    """Let ``path`` hold its picture compressed: by pydicom where it has an encoder, else by GDCM."""
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
        return path
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def scene(shape: tuple[int, int] = (48, 64), bits: int = 12, seed: int = 0) -> np.ndarray:
    """A picture as an encoder likes it: smooth, with some noise; uint16, or uint8 of 8 bits."""
    rows, columns = np.mgrid[:shape[0], :shape[1]]
    smooth = 0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 7)
    grain = np.random.default_rng(seed).normal(0, 0.01, shape)
    return np.clip((smooth + grain) * (1 << bits), 0, (1 << bits) - 1).astype(np.uint8 if bits == 8 else np.uint16)
