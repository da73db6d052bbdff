"""Pictures of any kind that a table names: their headers, and the small gray squares that networks see."""

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from radstack.core.files import walk
from radstack.core.parallel import mapped_rows
from radstack.images import windows
from radstack.images.dicom import Unreadable
from radstack.images.dicom.display import MODALITIES, person, stretch
from radstack.images.dicom.file import fault, invert, read_stored
from radstack.images.dicom.file import read_header as dicom_header
from radstack.images.formats import START, is_picture, kind_of
from radstack.images.own.body import body
from radstack.images.radiograph import read, read_header
from radstack.images.shards import squared
from radstack.images.unreadable import read_start
from radstack.images.volumes import read_header as volume_header
from radstack.images.volumes import read_volume

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
"""Endings of files that hold a stack of slices."""
VERSION = 1
CHUNK = 200


class Facts(NamedTuple):
    """What the header of a picture says."""

    height: int = 0
    width: int = 0
    bits: int = 0
    modality: str = ""  # As DICOM has it; the kind of file for others
    patient: str = ""
    place: float = 0.0  # Of a slice along its series: DICOM's position, or its number
    slices: int = 0  # Of a volume; 0 for a picture


def is_volume(path: str) -> bool:
    """Whether a file holds a stack of slices, by its ending."""
    return path.lower().endswith(VOLUMES)


def scan(folder: Path, workers: int, parts: Path | None) -> pd.DataFrame:
    """One row a picture or volume below ``folder``, by path: ``path``, :class:`Facts`, ``reason`` and ``detail`` ("")."""
    # A name that is not UTF-8 fits no table; written out like this no file has it, and it is quarantined as no-access.
    found = sorted((entry.name.encode("utf-8", "backslashreplace").decode(), entry.size, entry.time)
                   for entry in walk(folder) if _is_wanted(folder, entry.name))
    if not found:
        return pd.DataFrame(columns=["path", *Facts._fields, "reason", "detail"])
    if parts is None:
        return _headers(folder, found)
    return mapped_rows(partial(_headers, folder), found, parts / f"pictures-v{VERSION}", workers, "headers", CHUNK)


def _is_wanted(folder: Path, name: str) -> bool:
    hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
    return not hidden and (is_volume(name) or is_picture(folder / name))


def _headers(folder: Path, chunk: list[Any]) -> pd.DataFrame:
    return pd.DataFrame([{"path": path, **facts_of(folder / path)} for path, *_ in chunk])


def facts_of(path: Path) -> dict[str, Any]:
    """:class:`Facts` of a file, with ``reason`` and ``detail`` where it cannot be used; nothing raises."""
    try:
        return {**look(path)._asdict(), "reason": "", "detail": ""}
    except Unreadable as error:
        return {**Facts()._asdict(), "reason": error.reason, "detail": error.detail}


def look(path: Path) -> Facts:
    """The header of one file; Unreadable where it has none."""
    if is_volume(path.name):
        grid = volume_header(path)
        axis = thick(grid.spacing)
        height, width = (size for place, size in enumerate(grid.size) if place != axis)
        return Facts(height, width, 16, "volume", "", 0.0, grid.size[axis])
    kind = kind_of(path, read_start(path, START)[0])
    if kind != "DICOM":
        header = read_header(path)
        return Facts(header.height, header.width, header.bits, kind or "picture")
    found = dicom_header(path)
    if found.modality in MODALITIES:
        read_header(path)
    elif wrong := fault(found):
        raise wrong
    return Facts(found.rows, found.columns, found.bits_stored, found.modality or "DICOM", person(found), _place(found))


def _place(header: Any) -> float:
    """Where a slice lies along the normal of its plane, in mm."""
    position, axes = header.position, header.orientation
    if not position or not axes or len(position) != 3 or len(axes) != 6:
        return 0.0
    return float(np.dot(np.cross(axes[:3], axes[3:]), position))


SOFT = (40.0, 400.0)
"""Center and width in HU of a CT window for soft tissue."""


PREPARED = 2
"""Version of :func:`prepare`; raise it when its pictures change."""


def prepare(folder: Path, rows: pd.DataFrame, side: int, window: tuple[float, float] = SOFT, crop: bool = False,
            version: int = PREPARED) -> tuple[np.ndarray, dict[str, Any]]:
    """The picture of each of ``rows`` (of one file), or the planes of a volume, padded to squares: uint8 [rows, side, side].

    ``window`` is center and width in HU by which CT is shown; with ``crop`` each is cut to the :func:`body` that it shows.
    ``version`` is there for keys, which hold what is given here.
    """
    path = folder / rows["path"].iloc[0]
    pictures = planes(path, rows["plane"].tolist()) if is_volume(path.name) else [gray(path, window)]
    made = [_square(cropped(one) if crop else one, side) for one in pictures]
    return np.stack(made if is_volume(path.name) else made * len(rows)), {}


def cropped(picture: np.ndarray) -> np.ndarray:
    """What lies in the box of the :func:`body`."""
    top, left, height, width = body(picture)
    return picture[top:top + height, left:left + width]


def gray(path: Path, window: tuple[float, float]) -> np.ndarray:
    """Gray values uint8 [height, width]: of radiographs as :func:`read` has them, CT by ``window``, others by their
    range, turned around where they are stored inverted (MONOCHROME1).
    """
    if kind_of(path, read_start(path, START)[0]) != "DICOM" or dicom_header(path).modality in MODALITIES:
        return read(path)
    stored, header = read_stored(path)
    if header.photometric == "MONOCHROME1" and header.modality != "CT":  # HU hold whatever the display
        stored = invert(stored, header)
    values = stored.astype(np.float32) * (header.slope or 1) + header.intercept
    if header.modality == "CT":
        return windows.apply(np.clip(np.rint(values), -32768, 32767).astype(np.int16), (window,))[..., 0]
    return stretch(values, np.ones(values.shape, bool))


def planes(path: Path, numbers: list[int]) -> list[np.ndarray]:
    """Slices of a volume across its thickest axis, stretched alike, uint8 [height, width]."""
    volume = read_volume(path)
    pixels = np.moveaxis(volume.pixels, thick(volume.spacing), 0)
    shown = stretch(pixels, np.ones(pixels.shape, bool))
    return [shown[number] for number in numbers]


def thick(spacing: tuple[float, float, float]) -> int:
    """The axis of slices: the one with the largest spacing; of equal ones the second, from head to feet."""
    return max((1, 0, 2), key=lambda axis: spacing[axis])


def central(count: int, most: int) -> list[int]:
    """Numbers of up to ``most`` slices out of ``count``, evenly over the middle 60 %."""
    if count <= most:
        return list(range(count))
    return sorted({round(number) for number in np.linspace(0.2, 0.8, most) * (count - 1)})


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    longest = max(picture.shape)
    top, left = ((longest - length) // 2 for length in picture.shape)
    return squared(picture, top, left, longest, side, 0)
