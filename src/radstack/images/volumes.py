"""Volumes through SimpleITK: MetaImage, NIfTI, NRRD and DICOM series, turned coronal by their direction cosines."""

import gzip
import itertools
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.files import HEADERS, matching
from radstack.images import itk
from radstack.images.dicom import NATIVE, Unreadable, fault, read_stored
from radstack.images.dicom import read_header as read_dicom_header
from radstack.images.dicom.series import ORIENTATION, POSITION, order
from radstack.images.unreadable import read_start

CORONAL = "LIP"
"""Columns run to the patient's left, rows to the feet, slices to the back: the code of sitk.DICOMOrient."""
PLANES = ("coronal", "axial", "sagittal")
"""What a slice shows when the first, second or third axis of [slices, rows, columns] is the one across the slices."""
ISOTROPIC = 1.01
"""Spacings within this factor count as equal: then the third axis of the file is the one across the slices."""
UNEVEN = 0.1
"""Share by which the distance of neighboring DICOM slices may differ from the median; 0.5 more and one is missing."""

HEAD_BYTES = 1 << 16  # Of a text header
DATA_FILE = re.compile(rb"(?im)^\s*(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$")
"""Where a MetaImage or NRRD header says that its voxels lie."""
IN_OTHERS = (b"LOCAL", b"LIST")
"""What stands there where the voxels follow the header, or lie in files that it lists."""
PACKED = re.compile(rb"(?im)^\s*(?:CompressedData\s*=\s*true|encoding:\s*(?:gz|bz))")
"""Where such a header says that they are compressed."""
AXES_SAID = re.compile(rb"(?im)^\s*NDims\s*=\s*(-?\d+)")
"""Where a MetaImage header says its number of axes; ITK's reader writes beyond its arrays of ten."""
MERGED = re.compile(rb"(?m)^.*=.*?(NDims|BinaryData|BinaryDataByteOrderMSB|CompressedData|TransformMatrix|Offset|DimSize|"
                    rb"CenterOfRotation|AnatomicalOrientation|ElementSpacing|ElementType) = ")
"""A line of such a header that has another one's key in it, as where the end of a line was overwritten."""
MOST_DEFLATED = 1032  # Bytes for which one of a deflated stream can stand (RFC 1951)
NIFTI_FLOATS = {"16": "f4", "64": "f8"}  # Codes of the NIfTI field datatype that can hold NaN


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an oriented volume lie; every triple is in the order slice, row, column."""

    size: tuple[int, int, int]  # Slices, rows, columns
    spacing: tuple[float, float, float]  # Distance of voxel centers, mm
    origin: np.ndarray
    """Center of voxel [0, 0, 0], mm, patient coordinates of DICOM (x to the left, y to the back, z to the head)."""
    direction: np.ndarray
    """[3, 3]: its columns are the unit vectors of the axes, so a voxel lies at origin + direction @ (spacing * index)."""
    plane: str  # One of ``PLANES``: the plane in which it was acquired, known by the coarsest spacing


@dataclass(frozen=True, eq=False)
class Volume(Grid):
    """A volume in memory."""

    pixels: np.ndarray
    """float32 [slices, rows, columns]: coronal, front to back, head to feet, the patient's right on the picture's left."""


def read_volume(path: Path, echo: int | None = None) -> Volume:
    """Read a .mhd, .mha, .nii, .nii.gz or .nrrd file, or a folder that holds one DICOM series.

    Axes are permuted and flipped, never resampled: an oblique volume keeps its tilt in ``direction``. A sagittal or axial
    series is turned likewise, and ``plane`` says so. ``echo`` is, of a DICOM folder with several echoes, the EchoNumbers
    (0018,0086) to read.

    Raises:
        Unreadable: the reasons of :func:`read_header`, and ``truncated`` (the header is whole, the voxels are not),
            ``undecodable`` (ITK died of the voxels), ``nan-voxels`` (NaN or infinite).
    """
    read, grid = _opened(path, echo)
    pixels = read()
    _check_finite(path, pixels)
    return Volume(**vars(grid), pixels=pixels)


def read_header(path: Path, echo: int | None = None) -> Grid:
    """The grid that :func:`read_volume` gives, without reading voxels; of a DICOM folder every header is read.

    Raises:
        Unreadable: ``no-access``, ``bad-header``, ``no-orientation`` (NIfTI without qform and sform),
            ``not-3d``, ``not-gray`` (several values a voxel); for a folder those of
            :func:`radstack.images.dicom.fault` and ``not-dicom``, ``two-series``, ``two-echoes``, ``no-such-echo``,
            ``mixed-size``, ``no-spacing``, ``mixed-spacing``, ``uneven-slices`` and the flags of
            :func:`radstack.images.dicom.series.order`.
    """
    return _opened(path, echo)[1]


def same_geometry(a: Grid, b: Grid) -> bool:
    """Whether two oriented grids have the same voxels: one size, and corners less than half a voxel apart.

    Files that store the same volume with other axes first are the same. A mask on another grid is to be refused, not
    resampled: with slices of 4 mm the nearest voxel can be a bone's width away, and nobody would notice.
    """
    return a.size == b.size and bool(np.abs(_corners(a) - _corners(b)).max() < min(*a.spacing, *b.spacing) / 2)


def _corners(grid: Grid) -> np.ndarray:
    """Centers of the eight corner voxels [8, 3], mm."""
    index = np.array(list(itertools.product(*((0, count - 1) for count in grid.size))))
    return grid.origin + index * np.array(grid.spacing) @ grid.direction.T


def _opened(path: Path, echo: int | None) -> tuple[Callable[[], np.ndarray], Grid]:
    """What reads the voxels of :class:`Volume`, and the oriented grid, for which only headers were read."""
    if not path.exists():
        raise Unreadable("no-access", f"{path.name} does not exist")
    return _open_series(path, echo) if path.is_dir() else _open_file(path)


def _open_file(path: Path) -> tuple[Callable[[], np.ndarray], Grid]:
    """:func:`_opened` for one file, which ITK reads in a process of its own (``itk``)."""
    _check_files(path)
    said = itk.header(path)
    if len(said["size"]) != 3:
        raise Unreadable("not-3d", f"{path.name} has {len(said['size'])} dimensions, not 3")
    if said["components"] != 1:
        raise Unreadable("not-gray", f"{path.name} has {said['components']} values a voxel")
    size, spacing = said["size"], said["spacing"]
    origin, direction = np.array(said["origin"]), np.array(said["direction"]).reshape(3, 3)
    if not all(spacing):
        raise Unreadable("bad-header", f"{path.name} has a spacing of 0")
    if not _is_nifti(path):
        direction = direction * np.sign(spacing)  # an axis of negative spacing runs the other way, as ITK reads it
    elif said["noted"]["qform_code"] == "0" and said["noted"]["sform_code"] == "0":
        raise Unreadable("no-orientation", f"{path.name} has neither qform nor sform: left and right cannot be told")
    return partial(_read_file, path, said), _oriented(size, [abs(step) for step in spacing], origin, direction)


def _read_file(path: Path, said: dict[str, Any]) -> np.ndarray:
    """The oriented voxels of a file of the header ``said``."""
    _check_size(path, said)
    _check_nifti(path, said)
    return itk.voxels(path, CORONAL, said, _is_nifti(path))  # ITK turns an axis of negative pixdim against the sform


def _open_series(folder: Path, echo: int | None) -> tuple[Callable[[], np.ndarray], Grid]:
    """:func:`_opened` for a folder with one DICOM series."""
    import SimpleITK as sitk

    files = _series(folder, echo)
    reader = sitk.ImageFileReader()
    reader.SetFileName(files["file"].iloc[0])
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise Unreadable("bad-header", f"{folder.name}: {itk.last_line(error)}") from error
    size, spacing = list(reader.GetSize()), list(reader.GetSpacing())
    origin, direction = np.array(reader.GetOrigin()), np.array(reader.GetDirection()).reshape(3, 3)
    _check_axes(files.iloc[0], direction, spacing)
    if len(files) > 1:  # as ITK has it: the slice axis leads from the first position to the last
        step = (files[POSITION].iloc[-1] - files[POSITION].iloc[0]).to_numpy(float) / (len(files) - 1)
        size[2], spacing[2] = len(files), float(np.linalg.norm(step))
        direction[:, 2] = step / spacing[2]
    names = files["file"].tolist()
    slices = (_Decoded(names, spacing, origin, direction) if files["compressed"].any() else _native(names))
    return partial(_read_series, folder, slices), _oriented(size, spacing, origin, direction)


def _native(names: list[str]) -> Any:
    """ITK's reader of a series of slices that are not compressed."""
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader()
    series.SetFileNames(names)
    series.SetSpacingWarningRelThreshold(UNEVEN)  # judged already; ITK would print a warning over micrometers
    series.SetOutputPixelType(sitk.sitkFloat32)
    return series


def _read_series(folder: Path, slices: Any) -> np.ndarray:
    """The oriented voxels of a series."""
    import SimpleITK as sitk

    try:
        return sitk.GetArrayFromImage(sitk.DICOMOrient(slices.Execute(), CORONAL))
    except RuntimeError as error:
        said = f"{folder.name}: the voxels are missing or cut off ({itk.last_line(error)})"
        raise Unreadable("truncated", said) from error


@dataclass(frozen=True)
class _Decoded:
    """What stands for ITK's reader of a series where slices are compressed: its decoders would die in this process."""

    files: list[str]  # In order along the normal
    spacing: list[float]
    origin: np.ndarray
    direction: np.ndarray

    def Execute(self) -> Any:
        """The slices as one image of float32; Unreadable with the name of the slice that is damaged."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(np.stack([self._slice(Path(file)) for file in self.files]))
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin.tolist())
        image.SetDirection(self.direction.ravel().tolist())
        return image

    def _slice(self, file: Path) -> np.ndarray:
        try:
            stored, header = read_stored(file)
        except Unreadable as error:
            raise Unreadable(error.reason, f"{file.name}: {error.detail}") from error
        return (stored * header.slope + header.intercept).astype(np.float32)


def _check_files(path: Path) -> None:
    """Refuse what ITK would wait for, a pipe, or voxels said to be in one; and headers that it would write astray by."""
    for file in _files_of(path):
        if file == path or file.exists():  # voxels that are not there are told by ITK
            read_start(file, 1)
    if path.suffix not in (".mhd", ".mha"):
        return
    head = read_start(path, HEAD_BYTES)[0]
    axes, merged = AXES_SAID.search(head), MERGED.search(head[:head.find(b"ElementDataFile")])
    if axes and len(axes[1]) > 1:
        raise Unreadable("bad-header", f"{path.name} has {axes[1][:9].decode()} dimensions")
    if merged:
        raise Unreadable("bad-header", f"{path.name}: its header has {merged[1].decode()} in the middle of a line")


def _files_of(path: Path) -> set[Path]:
    """A file, those of its name where it is a header, and the one that the header names."""
    if path.suffix not in HEADERS:
        return {path}
    named = DATA_FILE.search(read_start(path, HEAD_BYTES)[0])
    own = {path.parent / named[1].decode("utf-8", "replace").strip()} if named and named[1] not in IN_OTHERS else set()
    return own | set(path.parent.glob(f"{escape(path.name.partition('.')[0])}.*"))


def _check_size(path: Path, said: dict[str, Any]) -> None:
    """Refuse a header that says more voxels than its files can hold, before ITK makes room for them."""
    head = read_start(path, HEAD_BYTES)[0]
    named = DATA_FILE.search(head) if path.suffix in HEADERS else None
    if named and (named[1] == b"LIST" or b"%" in named[1]):  # a file a slice
        return
    bits = re.search(r"(\d+)-bit", said["kind"])
    needed = math.prod(said["size"]) * (int(bits[1]) if bits else 8) // 8
    there = sum(file.stat().st_size for file in _files_of(path) if file.is_file())
    packed = path.name.endswith((".gz", ".zraw")) or PACKED.search(head)
    if needed > there * (MOST_DEFLATED if packed else 1):
        raise Unreadable("truncated", f"{path.name}: the header says {needed:,} bytes of voxels, the files hold {there:,}")


def _check_axes(first: pd.Series, direction: np.ndarray, spacing: list[float]) -> None:
    """Refuse a series whose first slice ITK places otherwise than its header says: of some kinds it ignores the place."""
    said = first[ORIENTATION].to_numpy(float).reshape(2, 3).T
    steps = [float(step) for step in first["spacing"].removesuffix(" mm").split(" x ")][::-1]
    if not (np.allclose(direction[:, :2], said, atol=1e-2) and np.allclose(spacing[:2], steps, rtol=1e-3)):
        raise Unreadable("bad-header", f"{first['id']}: ITK reads other axes or spacings than its header has, as of a file "
                         "without SOPClassUID")


def _oriented(size: list[int], spacing: list[float], origin: np.ndarray, direction: np.ndarray) -> Grid:
    """The grid of a file (x, y, z order) after sitk.DICOMOrient, which is asked with a single voxel."""
    import SimpleITK as sitk

    voxel = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    try:
        voxel.SetDirection(direction.ravel().tolist())
    except RuntimeError as error:
        raise Unreadable("bad-header", f"the direction cosines are no axes ({itk.last_line(error)})") from error
    turn = sitk.DICOMOrientImageFilter()
    turn.SetDesiredCoordinateOrientation(CORONAL)
    turn.Execute(voxel)
    # DICOMOrient permutes first, so flips count the new axes; the array's axes are SimpleITK's in reverse.
    axes, flips = list(turn.GetPermuteOrder())[::-1], np.array(turn.GetFlipAxes())[::-1]
    count, step = np.array(size)[axes], np.array(spacing)[axes]
    start = origin + direction[:, axes] @ (np.where(flips, count - 1, 0) * step)
    across = axes.index(2) if step.max() < ISOTROPIC * step.min() else int(step.argmax())
    return Grid(tuple(count.tolist()), tuple(step.tolist()), start, direction[:, axes] * np.where(flips, -1.0, 1.0),
                PLANES[across])


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _check_nifti(path: Path, said: dict[str, Any]) -> None:
    """Refuse a NIfTI file that ends early or holds NaN: ITK makes both into zeros and says nothing."""
    if not _is_nifti(path):
        return
    start, count = int(float(said["noted"]["vox_offset"])), math.prod(said["size"])
    needed = start + count * int(said["noted"]["bitpix"]) // 8
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(needed)
            while file.read(HEAD_BYTES):  # to the end, where the check sum is
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise Unreadable("truncated", f"{path.name}: {error}") from error
    if len(data) < needed:
        raise Unreadable("truncated", f"{path.name} holds {len(data)} bytes, {needed} are declared")
    if kind := NIFTI_FLOATS.get(said["noted"]["datatype"]):
        byte_order = "<" if int.from_bytes(data[:4], "little") == 348 else ">"  # sizeof_hdr
        _check_finite(path, np.frombuffer(data, byte_order + kind, count, start))


def _check_finite(path: Path, pixels: np.ndarray) -> None:
    if bad := pixels.size - int(np.isfinite(pixels).sum()):
        raise Unreadable("nan-voxels", f"{path.name}: {bad} of {pixels.size} voxels are NaN or infinite")


def _series(folder: Path, echo: int | None) -> pd.DataFrame:
    """The slices of the one series of a folder in order along its normal: ``file`` and the columns of ``order``."""
    rows = [row for path in matching(folder, "*") if path.is_file() for row in _slice(path)]
    if not rows:
        raise Unreadable("not-dicom", f"{folder.name} holds no DICOM file")
    table = pd.DataFrame(rows)
    if table["series"].nunique() > 1:
        names = ", ".join(sorted(table["series"].unique())[:3])
        raise Unreadable("two-series", f"{folder.name} holds {table['series'].nunique()} series ({names}); split it")
    table = order(_one_echo(table, folder, echo))
    _check_order(table, folder)
    return table


def _slice(path: Path) -> list[dict[str, Any]]:
    """One DICOM file as a row, in a list that is empty for another kind of file."""
    import pydicom  # a third of a second

    try:
        header = read_dicom_header(path)
    except Unreadable as error:
        if error.reason == "not-dicom":
            return []
        raise Unreadable(error.reason, f"{path.name}: {error.detail}") from error
    if found := fault(header):
        if found.reason == "no-pixels" and _is_directory(path):
            return []
        raise Unreadable(found.reason, f"{path.name}: {found.detail}")
    if not header.spacing:  # ITK would take it for 1 mm
        raise Unreadable("no-spacing", f"{path.name}: its PixelSpacing is absent or faulty")
    echo = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["EchoNumbers", "EchoTime"], force=True)
    return [{"id": path.name, "file": str(path), "compressed": header.transfer_syntax not in NATIVE,
             "series": header.series, "shape": f"{header.rows} x {header.columns}",
             "spacing": f"{header.spacing[0]:g} x {header.spacing[1]:g} mm",
             "echo": echo.get("EchoNumbers"), "time": echo.get("EchoTime"),
             **dict(zip(POSITION, header.position or (np.nan,) * 3)),
             **dict(zip(ORIENTATION, header.orientation or (np.nan,) * 6))}]


def _is_directory(path: Path) -> bool:
    """Whether a DICOM file is a DICOMDIR: the table of contents that lies beside the slices on a disk from a hospital."""
    import pydicom
    from pydicom.uid import MediaStorageDirectoryStorage

    return pydicom.filereader.read_file_meta_info(path).get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _one_echo(table: pd.DataFrame, folder: Path, echo: int | None) -> pd.DataFrame:
    """The slices of one echo; without EchoNumbers echoes are numbered from 1 by their EchoTime."""
    time = pd.to_numeric(table["time"], errors="coerce")
    number = pd.to_numeric(table["echo"], errors="coerce").fillna(time.rank(method="dense")).fillna(1).astype(int)
    known = ", ".join(f"{key} ({time[number == key].iloc[0]:g} ms)" for key in sorted(number.unique()))
    if echo is None and number.nunique() > 1:
        raise Unreadable("two-echoes", f"{folder.name} holds the echoes {known}; name one, or move the other out")
    if echo is not None and echo not in set(number):
        raise Unreadable("no-such-echo", f"{folder.name} has no echo {echo}, only {known}")
    return table[number == (number.iloc[0] if echo is None else echo)]


def _check_order(table: pd.DataFrame, folder: Path) -> None:
    """Refuse slices that are not evenly spaced pictures of one stack."""
    if len(flagged := table[~table["order_flag"].isin(["", "missing-slice"])]):  # what is missing is told below
        raise Unreadable(flagged["order_flag"].iloc[0].split(",")[0], f"{folder.name}/{flagged['id'].iloc[0]}")
    for name, reason in (("shape", "mixed-size"), ("spacing", "mixed-spacing")):
        if table[name].nunique() > 1:
            raise Unreadable(reason, f"{folder.name} holds pictures of {' and '.join(table[name].unique()[:2])}")
    step = np.diff(table["z"])
    if not len(step):
        return
    worst = int(np.abs(step - np.median(step)).argmax())
    ratio = step[worst] / np.median(step)
    if abs(ratio - 1) > UNEVEN:
        raise Unreadable("missing-slice" if ratio > 1.5 else "uneven-slices",
                         f"{folder.name}: {step[worst]:.4g} mm between {table['id'].iloc[worst]} and "
                         f"{table['id'].iloc[worst + 1]}, {np.median(step):.4g} mm elsewhere")
