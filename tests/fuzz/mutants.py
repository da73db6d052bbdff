"""Seeded mutants of small sound files: one number makes the same file again, whatever was made before it."""

import io
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pydicom
import SimpleITK as sitk
from dicom_files import compress, make_dicom, scene
from pydicom import uid
from pydicom.encaps import encapsulate

from radstack.images.dicom import read_header, stream

Rng = np.random.Generator
SYNTAXES = {
    "explicit": uid.ExplicitVRLittleEndian, "implicit": uid.ImplicitVRLittleEndian, "big endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian, "RLE": uid.RLELossless, "JPEG 2000": uid.JPEG2000Lossless,
    "JPEG-LS": uid.JPEGLSLossless, "JPEG lossless SV1": uid.JPEGLosslessSV1, "JPEG lossless": uid.JPEGLossless,
    "JPEG baseline": uid.JPEGBaseline8Bit,
}  # fmt: skip
NATIVE = list(SYNTAXES)[:4]
FILES = {"PNG": "a.png", "JPEG": "a.jpg", "TIFF": "a.tif", "MHD": "a.mhd", "MHA": "a.mha", "NIfTI": "a.nii",
         "NIfTI gz": "a.nii.gz", "NRRD": "a.nrrd", "CSV": "a.csv", "xlsx": "a.xlsx"}
KINDS = [*SYNTAXES, *FILES]
NUMBERS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
OTHERS = (0, 1, 2, 3, 7, 8, 12, 16, 32, 33, 47, 63, 65, 96, 255, 4096, 65535)


class Mutant(NamedTuple):
    """One file that was changed."""

    path: Path
    how: str
    harmless: bool  # Its pixels must come out as they were


def sound(kind: str, folder: Path) -> Path:
    """The file that mutants of ``kind`` are made from."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind in FILES:
        return _plain_file(folder / FILES[kind])
    syntax = SYNTAXES[kind]
    pixels = scene(bits=8 if kind == "JPEG baseline" else 12)
    data = pixels.byteswap() if kind == "big endian" else pixels
    path = make_dicom(folder / "1.2.3.dcm", data, syntax=syntax if kind in NATIVE else uid.ExplicitVRLittleEndian,
                      StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1")
    return path if kind in NATIVE else compress(path, syntax)


def _plain_file(path: Path) -> Path:
    if path.suffix in (".png", ".jpg", ".tif"):
        assert cv2.imwrite(str(path), scene((64, 80), 8))
    elif path.suffix == ".xlsx":
        rows = [{"Date": f"2014-03-{row % 28 + 1:02}", "Serial": f"{row:04}", "R": f"R{row % 7 + 5}", "U": f"U{row % 6 + 4}",
                 "Child": f"c{row}", "Age": row / 2} for row in range(40)]
        pd.DataFrame(rows).to_excel(path, index=False)
        path.write_bytes(_zipped({name: re.sub(rb"20\d\d-\d\d-\d\dT[\d:]+Z", b"2020-01-01T00:00:00Z", data)
                                  for name, data in _members(path.read_bytes()).items()}))
    elif path.suffix == ".csv":
        path.write_text("id,age,sex\n" + "".join(f"p{row},{row}.5,M\n" for row in range(40)))
    else:
        image = sitk.GetImageFromArray(np.stack([scene((24, 20), seed=seed).astype(np.int16) for seed in range(6)]))
        image.SetSpacing([0.5, 0.6, 4.0])
        sitk.WriteImage(image, str(path))
    return path


def mutant(kind: str, number: int, whole: Path, path: Path) -> Mutant:
    """Mutant ``number`` of ``kind``, made from the sound file ``whole`` and written to ``path``."""
    rng = np.random.default_rng([KINDS.index(kind), number])
    if kind in FILES:
        ways: dict[str, tuple[float, Callable[..., bytes]]] = {"flip": (5, _flip), "head": (2, _flip_head), "cut": (1, _cut),
                                                               "insert": (1, _insert), "drop": (1, _drop)}
        if kind == "xlsx":
            ways |= {f"{how} in a member": (2, _in_member(way)) for how, (_, way) in list(ways.items())}
        how, parts = _choose(rng, ways), sorted(whole.parent.iterdir())
        hit = int(rng.integers(len(parts)))  # of a header and its voxels, one of both
        for number, part in enumerate(parts):
            data = part.read_bytes()
            (path.parent / part.name).write_bytes(ways[how][1](rng, data) if number == hit else data)
        return Mutant(path, how, False)
    how = _choose(rng, HARMLESS if number % 10 == 0 else NATIVE_WAYS if kind in NATIVE else STREAM_WAYS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        {**HARMLESS, **NATIVE_WAYS, **STREAM_WAYS}[how][1](rng, whole, path)
    return Mutant(path, how, how in HARMLESS)


def _choose(rng: Rng, ways: dict) -> str:
    weights = np.array([weight for weight, _ in ways.values()], float)
    return str(rng.choice(list(ways), p=weights / weights.sum()))


# -- bytes -----------------------------------------------------------------------------------------------------------


def _flip(rng: Rng, data: bytes, start: int = 0, end: int | None = None) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        changed[rng.integers(start, len(data) if end is None else min(end, len(data)))] = rng.integers(256)
    return bytes(changed)


def _flip_head(rng: Rng, data: bytes) -> bytes:
    return _flip(rng, data, 0, 400)


def _cut(rng: Rng, data: bytes) -> bytes:
    return data[:rng.integers(len(data))]


def _insert(rng: Rng, data: bytes) -> bytes:
    at = rng.integers(len(data))
    return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]


def _drop(rng: Rng, data: bytes) -> bytes:
    at = rng.integers(len(data))
    return data[:at] + data[at + int(rng.integers(1, 9)):]


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _zipped(members: dict[str, bytes]) -> bytes:
    """An archive that is the same whenever it is made."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _in_member(change: Callable[[Rng, bytes], bytes]) -> Callable[[Rng, bytes], bytes]:
    """A way that changes one file of an archive, whose check sums are right again."""

    def way(rng: Rng, data: bytes) -> bytes:
        members = _members(data)
        name = str(rng.choice(list(members)))
        return _zipped(members | {name: change(rng, members[name])})

    return way


# -- DICOM -----------------------------------------------------------------------------------------------------------


def _saved(dataset: pydicom.Dataset, path: Path) -> None:
    dataset.save_as(path)


def _pixels(rng: Rng, whole: Path, path: Path) -> None:
    """Other bytes where the pixels are: of a native file, other pixels."""
    data = whole.read_bytes()
    path.write_bytes(_flip(rng, data, max(200, len(data) - 6000)))


def _header(rng: Rng, whole: Path, path: Path) -> None:
    path.write_bytes(_flip(rng, whole.read_bytes(), 128, 900))


def _number(rng: Rng, whole: Path, path: Path) -> None:
    dataset = pydicom.dcmread(whole)
    setattr(dataset, str(rng.choice(NUMBERS)), int(rng.choice(OTHERS)))
    _saved(dataset, path)


def _syntax(rng: Rng, whole: Path, path: Path) -> None:
    """The name of another transfer syntax, of the same length or shorter."""
    data = whole.read_bytes()
    at = data.index(struct.pack("<HH", 2, 0x10)) + 8
    length = struct.unpack_from("<H", data, at - 2)[0]
    other = str(rng.choice(list(SYNTAXES.values()))).encode()[:length].ljust(length, b"\0")
    path.write_bytes(data[:at] + other + data[at + length:])


def _file_cut(rng: Rng, whole: Path, path: Path) -> None:
    path.write_bytes(_cut(rng, whole.read_bytes()))


def _frame(change: Callable[[Rng, bytes], bytes]) -> Callable[[Rng, Path, Path], None]:
    """A way that changes the codestream and wraps it again."""

    def way(rng: Rng, whole: Path, path: Path) -> None:
        dataset = pydicom.dcmread(whole)
        frame = stream.frame_of(whole.read_bytes(), read_header(whole).pixel_offset, True)
        dataset.PixelData = encapsulate([change(rng, frame)])
        _saved(dataset, path)

    return way


def _flip_coded(rng: Rng, frame: bytes) -> bytes:
    return _flip(rng, frame, min(200, len(frame) // 2))


def _flip_start(rng: Rng, frame: bytes) -> bytes:
    return _flip(rng, frame, 0, 96)


def _item(rng: Rng, whole: Path, path: Path) -> None:
    """Another length of an item of pixels, or no end of the sequence."""
    data = bytearray(whole.read_bytes())
    at = int(rng.choice([found.start() for found in re.finditer(re.escape(stream.ITEM), bytes(data))]))
    if rng.random() < 0.7:
        data[at + 4:at + 8] = struct.pack("<I", int(rng.integers(1 << 32)) >> int(rng.integers(28)))
    else:
        del data[-8:]
    path.write_bytes(bytes(data))


def _private(rng: Rng, whole: Path, path: Path) -> None:
    dataset = pydicom.dcmread(whole)
    for group in (0x0009, 0x0029, 0x0043):
        block = dataset.private_block(group, f"FUZZ {group}", create=True)
        block.add_new(int(rng.integers(1, 200)), "UN", rng.bytes(2 * int(rng.integers(1, 3000))))
        block.add_new(200, "LO", "text")
    _saved(dataset, path)


def _padded(rng: Rng, whole: Path, path: Path) -> None:
    """The element that is there for padding, behind the pixels."""
    dataset = pydicom.dcmread(whole)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(2 * int(rng.integers(1, 2000))))
    _saved(dataset, path)


def _optional(rng: Rng, whole: Path, path: Path) -> None:
    """Optional fields more, and some less."""
    dataset = pydicom.dcmread(whole)
    dataset.ImageComments, dataset.PatientName, dataset.StudyDate = "x" * int(rng.integers(5000)), "Doe^J", "20200101"
    for name in ("WindowCenter", "WindowWidth", "StudyID", "Modality", "ImagePositionPatient"):
        if name in dataset and rng.random() < 0.5:
            delattr(dataset, name)
    _saved(dataset, path)


def _preamble(rng: Rng, whole: Path, path: Path) -> None:
    path.write_bytes(rng.bytes(128) + whole.read_bytes()[128:])


HARMLESS = {"private tags": (1, _private), "padding": (1, _padded), "optional fields": (1, _optional),
            "preamble": (1, _preamble)}
NATIVE_WAYS = {"pixels": (6, _pixels), "header": (2, _header), "number": (1, _number), "other syntax": (0.5, _syntax),
               "file cut": (0.5, _file_cut)}
STREAM_WAYS = {
    "coded bytes": (10, _frame(_flip_coded)), "start of the stream": (1.5, _frame(_flip_start)),
    "stream cut": (0.5, _frame(_cut)), "stream insert": (1, _frame(_insert)), "stream drop": (1, _frame(_drop)),
    "header": (0.5, _header), "number": (0.5, _number), "other syntax": (0.5, _syntax), "file cut": (0.5, _file_cut),
    "item": (0.5, _item),
}  # fmt: skip
