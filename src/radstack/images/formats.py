"""What kind of picture a file is, by its first bytes or its name; headers of JPEG and TIFF; pixels of TIFF."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from radstack.images.dicom import Unreadable

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".dcm": "DICOM",
           ".dicom": "DICOM", ".dic": "DICOM"}
"""Endings of radiographs, lower case, and the kind that they promise."""
SIGNS = {"PNG": (b"\x89PNG\r\n\x1a\n",), "JPEG": (b"\xff\xd8\xff",),
         "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")}
"""First bytes of a kind (PNG, W3C 2003, 5.2; ITU-T T.81, B.1.1.3; TIFF 6.0, Adobe 1992, section 2, and BigTIFF)."""
START = 132
"""Bytes that tell the kind: a DICOM file has its mark at byte 128 (PS3.10 7.1)."""
MODES = {"1": (1, 1), "L": (8, 1), "P": (8, 3), "LA": (8, 2), "RGB": (8, 3), "RGBA": (8, 4), "RGBX": (8, 4), "CMYK": (8, 4),
         "YCbCr": (8, 3), "I;16": (16, 1), "I;16B": (16, 1), "I": (32, 1), "F": (32, 1)}
"""Pillow's modes -> bits a channel, and channels."""
PHOTOMETRIC, WHITE_IS_ZERO, SMALLER, TURN = 262, 0, 254, 274
"""TIFF's tag of the polarity, its value for bright zeros; tags of smaller copies of a page and of its turn (TIFF 6.0)."""


class Header(NamedTuple):
    """What the header of a radiograph says."""

    height: int
    width: int
    bits: int  # Per channel, as far as they count
    channels: int


def kind_of(path: Path, start: bytes) -> str:
    """``PNG``, ``JPEG``, ``TIFF`` or ``DICOM`` by the first ``START`` bytes, whatever the ending; "" for another kind.

    A DICOM file may lack the mark; then its ending tells.
    """
    if start[128:START] == b"DICM":
        return "DICOM"
    found = next((kind for kind, signs in SIGNS.items() if start.startswith(signs)), "")
    return found or ("DICOM" if promised(path) == "DICOM" else "")


def promised(path: Path) -> str:
    """The kind that the ending of a name promises, "" for none."""
    return ENDINGS.get(path.suffix.lower(), "")


def is_picture(path: Path) -> bool:
    """Whether a file is one to read as a radiograph: by its ending, or a DICOM file of any name but a ``DICOMDIR``.

    Files that begin with a dot are none: archives packed on a Mac hold a hidden twin of every file.
    """
    if path.name.startswith(".") or path.stem.upper() == "DICOMDIR":
        return False
    return bool(promised(path)) or _has_mark(path)


def stem_of(name: str) -> str:
    """The name of a file without folders and without the ending of a picture, which names of DICOM files often lack."""
    path = Path(name)
    return path.stem if promised(path) else path.name


def usual_name(path: Path) -> str:
    """The name of a file with an ending that fits its first bytes; unchanged where they say nothing."""
    with path.open("rb") as file:
        kind = kind_of(path, file.read(START))
    if not kind or promised(path) == kind:
        return path.name
    return stem_of(path.name).lstrip(".") + next(ending for ending, other in ENDINGS.items() if other == kind)


def _has_mark(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would wait for ever
            return False
        with path.open("rb") as file:
            return file.read(START)[128:] == b"DICM"
    except OSError:
        return False


def jpeg_header(path: Path) -> Header:
    """Size and kind of a JPEG as it is stored; Unreadable as ``undecodable`` (also of 12 bits, which cannot be read)."""
    with _opened(path) as picture:
        return _header(picture)


def tiff_header(path: Path) -> Header:
    """Size and kind of a TIFF, turned as it asks; Unreadable as ``undecodable``, ``truncated``, ``several-pictures``."""
    with _opened(path) as picture:
        return _checked_tiff(path, picture)


def read_tiff(path: Path) -> np.ndarray:
    """The first page of a TIFF, turned as it asks, bright where white is meant; channels in the order of OpenCV.

    [height, width] or [height, width, channels], of the file's number type. Unreadable as :func:`tiff_header`, and as
    ``undecodable``.
    """
    with _opened(path) as picture:
        _checked_tiff(path, picture)
        white_is_zero = picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        if picture.mode in ("P", "CMYK", "YCbCr"):
            picture = picture.convert("RGB")
        pixels = np.array(picture)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if not np.isfinite(pixels).all():
        raise Unreadable("undecodable", "it holds values that are not finite")
    if pixels.dtype != np.uint8 and white_is_zero:  # Pillow turns 8 bits around, and no others
        pixels = pixels.max() - pixels
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        return pixels[..., 0]
    return pixels if pixels.ndim == 2 else np.dstack([pixels[..., 2::-1], pixels[..., 3:]])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture that Pillow has opened; whatever goes wrong while it is open is Unreadable."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("JPEG", "TIFF")) as picture:
                yield picture
    except Unreadable:
        raise
    except Exception as error:  # Pillow meets broken bytes with a dozen kinds
        reason = "truncated" if "truncated" in str(error) else "undecodable"
        raise Unreadable(reason, str(error).partition(" '/")[0] or type(error).__name__) from error


def _header(picture: Any) -> Header:
    if picture.mode not in MODES:
        raise Unreadable("undecodable", f"pixels of the kind {picture.mode} are not read")
    return Header(picture.height, picture.width, *MODES[picture.mode])


def _checked_tiff(path: Path, picture: Any) -> Header:
    """The header of the first page; a file that is cut, or has another picture on a later page, is refused."""
    length, tags = path.stat().st_size, picture.tag_v2
    starts, counts = (tags.get(first) or tags.get(second) or () for first, second in ((273, 324), (279, 325)))
    if any(start + count > length for start, count in zip(starts, counts)):
        raise Unreadable("truncated", f"{length} bytes, its pixels end later: the file was cut, fetch it again")
    if tags.get(TURN, 1) > 4:  # Pillow reads them wrong
        raise Unreadable("undecodable", "it is to be shown turned by a quarter; save it upright")
    header = _header(picture)
    for page in range(1, picture.n_frames):
        picture.seek(page)
        if not picture.tag_v2.get(SMALLER, 0) & 1:
            raise Unreadable("several-pictures", f"it has {picture.n_frames} pages; save the radiograph as its own file")
    picture.seek(0)
    return header
