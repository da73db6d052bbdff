"""Radiographs (PNG, JPEG, TIFF, DICOM): the header alone, all pixels, a small square copy for networks that find things."""

import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.errors import Missing
from radstack.core.files import walk
from radstack.core.parallel import mapped_rows
from radstack.images.dicom import Unreadable
from radstack.images.dicom.display import inside, person, radiograph_header, read_display, stretch
from radstack.images.dicom.scan import Found
from radstack.images.formats import (
    START,
    Header,
    is_picture,
    jpeg_header,
    kind_of,
    promised,
    read_tiff,
    stem_of,
    tiff_header,
)
from radstack.images.quarantine import nothing_usable, set_aside
from radstack.images.shards import squared
from radstack.images.unreadable import opened, read_at

HEAD = struct.Struct(">8s4x4sIIBB")
"""Start of the IHDR chunk after the signature (PNG, W3C 2003, 5.2 and 11.2.1): width, height, bits, color type."""
SIGNATURE, IEND = 8, b"IEND"
"""Bytes of the signature of a PNG; name of its closing chunk."""
JPEG_END, JPEG_SCAN = b"\xff\xd9", b"\xda"
"""End of a JPEG file, and the code of the marker before its coded pixels (ITU-T T.81, B.1.1.3)."""
CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # Channels of each color type; a palette counts as color
TAIL = 1024
"""Bytes at the end of the file in which the closing chunk is looked for first: some writers append a few bytes."""
JPEG_HEAD, JPEG_FRAMES = 1 << 20, (0xC0, 0xC1, 0xC2)
"""Bytes in which the size of a JPEG is looked for, and the codes of the markers before it (T.81, table B.1)."""
JPEG_MOST = 4096
"""Pixels for which a byte of a JPEG stands at most: a block of 64 takes two bits, less in runs of blank ones."""
MOST_DEFLATED = 1032
"""Bytes for which one byte of a deflated stream can stand (RFC 1951: 258 by two codes of one bit)."""
SPAN, MEDIAN, POWERS = (0.005, 0.995), 0.4, (0.5, 2.0)
"""Of :func:`even`: quantiles that become black and white, where the median comes to lie, and which powers may bring it."""
NOBODY = {"patient": "", "sex": "", "faulty": ""}
VERSION = 2  # Part of the folder of the parts of a scan; raise it when the columns change
CHUNK = 500  # Pictures in one piece of work


def read_header(path: Path) -> Header:
    """Size and kind of a radiograph without its pixels. What a file is, its first bytes tell.

    Unreadable as ``no-access``, ``not-a-file``, ``empty``, ``truncated`` (no closing chunk), ``wrong-size`` (more pixels
    than the file can hold), ``not-png``, ``not-jpeg`` and so on by the ending where it is no picture, ``undecodable``, and
    as :func:`tiff_header` and :func:`radiograph_header` say.
    """
    return _open(path)[1]


def _open(path: Path) -> tuple[str, Header]:
    """The kind of a file and its header."""
    head, tail, length = _ends(path)
    if not length:
        raise Unreadable("empty", "the file has no bytes")
    kind = kind_of(path, head)
    if kind == "DICOM":
        header = radiograph_header(path)
        return kind, Header(header.rows, header.columns, header.bits_stored, header.samples)
    if kind == "TIFF":
        return kind, tiff_header(path)
    if kind == "JPEG":
        _check_end(path, JPEG_END, tail, length)
        _check_jpeg_size(path, length)
        return kind, jpeg_header(path)
    if not kind or len(head) < HEAD.size:
        raise Unreadable(f"not-{promised(path).lower() or 'a-picture'}", f"it starts with {head[:8]!r}")
    _check_end(path, IEND, tail, length)
    return kind, _png_header(head, length)


def _png_header(head: bytes, length: int) -> Header:
    _, kind, width, height, bits, color = HEAD.unpack_from(head)
    if kind != b"IHDR" or color not in CHANNELS or not width * height:
        raise Unreadable("not-png", "its first chunk is not a header")
    if height * width * bits * CHANNELS[color] > 8 * MOST_DEFLATED * length:
        raise Unreadable("wrong-size", f"{height} x {width} pixels cannot be in {length} bytes")
    return Header(height, width, bits, CHANNELS[color])


def owner(path: Path) -> dict[str, str]:
    """``patient``, ``sex`` (M, F, O) and ``faulty`` fields of a readable DICOM file, else ""."""
    with path.open("rb") as file:
        if kind_of(path, file.read(START)) != "DICOM":
            return NOBODY
    header = radiograph_header(path)
    return {"patient": person(header), "sex": header.sex, "faulty": header.faulty}


def scan(folder: Path, workers: int, parts_folder: Path) -> pd.DataFrame:
    """Read the header of every radiograph below ``folder`` but those in ``annotations`` and hidden ones.

    The parts are kept as :func:`radstack.core.parallel.mapped_rows` does. One row a file sorted by ``path`` (below the
    folder): ``path``, ``bytes``, the fields of :class:`Header` (0 where unreadable), those of :func:`owner`, ``reason``
    and ``detail`` ("" if readable). UserError where there is none.
    """
    found = _list(folder)
    if not found:
        raise Missing(folder, f"{folder} holds no radiograph (PNG, JPEG, TIFF or DICOM)")
    return mapped_rows(partial(_headers, folder), found, parts_folder / f"headers-v{VERSION}", workers, "headers", CHUNK)


def index_new(folder: Path, workers: int, parts_folder: Path, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index a folder of radiographs as test rows, each a picture of its own: :class:`radstack.recipes.competition.IndexNew`.

    Further columns of ``given`` are those of the row with its ``id``.

    Raises:
        UserError: no picture is usable.
    """
    files = scan(folder, workers, parts_folder)
    name = pd.Series([stem_of(path) for path in files["path"]], files.index, dtype="str")
    files = files.assign(id=name.where(~name.duplicated(), files["path"].str.replace("/", "_")), split="test")
    usable = files["reason"] == ""
    if not usable.any():
        raise nothing_usable("picture", folder, set_aside(files))
    index = files.loc[usable, ["id", "split", "path"]].assign(
        group=files["patient"].where(files["patient"] != "", files["id"]), series=files["id"], position=0)
    if "id" in given:
        index = index.merge(given.drop_duplicates("id"), on="id", how="left", suffixes=("", "_given"))
    return index.reset_index(drop=True), set_aside(files)


def read(path: Path) -> np.ndarray:
    """Gray values of a radiograph of any bits and one to four channels, uint8 [height, width].

    Equal channels collapse, color becomes luminance (ITU-R BT.601), transparency is dropped, more than 8 bits are
    stretched (:func:`radstack.images.dicom.display.stretch`) by what lies inside of a burned border. Exposure and polarity
    stay as they are, but a DICOM file is shown by :func:`read_display`. A turn that a JPEG's metadata ask for is not made,
    since boxes are drawn on stored pixels. Unreadable as :func:`read_header` says, and as ``undecodable``.
    """
    kind = _open(path)[0]
    if kind == "DICOM":
        return read_display(path)
    if kind == "PNG":
        _check_chunks(path)
    gray = _gray(read_tiff(path) if kind == "TIFF" else _decoded(path))
    if gray.dtype == np.uint8:
        return gray
    counted = np.zeros(gray.shape, bool)
    counted[inside(gray)] = True
    return stretch(gray, counted)


def read_picture(path: Path) -> tuple[np.ndarray, int]:
    """Gray values of a radiograph as :func:`read` makes them, and the channels of the file (1 to 4)."""
    return read(path), read_header(path).channels


def _ends(path: Path) -> tuple[bytes, bytes, int]:
    """The first and the last bytes of a file, and its length."""
    with opened(path) as (handle, length):
        return read_at(handle, START), read_at(handle, TAIL, max(0, length - TAIL)), length


def _check_end(path: Path, end: bytes, tail: bytes, length: int) -> None:
    """``truncated`` where the closing mark is neither in the ``tail`` nor, behind more of foreign bytes, further before."""
    if end in tail:
        return
    with opened(path) as (handle, _):
        if not (_png_ends(handle) if end == IEND else _jpeg_ends(read_at(handle, length))):
            raise Unreadable("truncated", f"{length} bytes without an end: the file was cut, fetch it again")


def _check_chunks(path: Path) -> None:
    """``truncated`` where a chunk's length leads behind the file: a decoder would believe it, and make room for it."""
    with opened(path) as (handle, length):
        if not _png_ends(handle):
            raise Unreadable("truncated", f"a part of the PNG is said to end behind its {length} bytes: fetch it again")


def _png_ends(handle: int) -> bool:
    """Whether the chunks of a PNG, gone through by their lengths, come to the closing one."""
    at = SIGNATURE
    while len(chunk := read_at(handle, 8, at)) == 8:
        if chunk[4:] == IEND:
            return True
        at += 12 + int.from_bytes(chunk[:4], "big")
    return False


def _check_jpeg_size(path: Path, length: int) -> None:
    """``wrong-size`` where a JPEG says far more pixels than its bytes can hold: a decoder would fill them in."""
    with opened(path) as (handle, _):
        data, at = read_at(handle, JPEG_HEAD), 2
    while data[at:at + 1] == b"\xff" and at + 9 <= len(data) and data[at + 1:at + 2] != JPEG_SCAN:
        if data[at + 1] in JPEG_FRAMES:
            height, width = int.from_bytes(data[at + 5:at + 7], "big"), int.from_bytes(data[at + 7:at + 9], "big")
            if height * width > JPEG_MOST * length:
                raise Unreadable("wrong-size", f"{height} x {width} pixels cannot be in {length} bytes")
            return
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end follows the start of the picture's own scan; a preview in the metadata has one, too."""
    at = 2
    while data[at:at + 1] == b"\xff" and data[at + 1:at + 2] != JPEG_SCAN:
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return JPEG_END in data[at:]


def _decoded(path: Path) -> np.ndarray:
    """The pixels as they are stored."""
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Unreadable("undecodable", str(error)) from error
    if pixels is None:
        raise Unreadable("undecodable", "the pixels cannot be decoded, fetch it again")
    return pixels


def prepare(path: Path, side: int) -> tuple[np.ndarray, dict[str, float]]:
    """A square copy of a radiograph, zero padded, the picture in the middle, its aspect ratio kept.

    Padding comes before shrinking, so that both axes have exactly one scale, whatever the size. Gives uint8 [side, side],
    and ``scale``, ``offset_x``, ``offset_y`` with raw x = (small x - offset_x) / scale, raw y alike, centers at integers.
    """
    raw = read(path)
    longest = max(raw.shape)
    top, left = ((longest - length) // 2 for length in raw.shape)
    scale = side / longest
    # Edges scale from -0.5, not from 0: the first pixel reaches from -0.5 to 0.5.
    places = {"scale": scale, "offset_x": (left + 0.5) * scale - 0.5, "offset_y": (top + 0.5) * scale - 0.5}
    return squared(raw, top, left, longest, side, 0), places


def even(film: np.ndarray) -> np.ndarray:
    """A film with its contrast made even, uint8 [height, width] as given: dark and pale exposures come out alike.

    Gray levels between the quantiles ``SPAN`` are stretched, a power brings the median near ``MEDIAN``, and the contrast of
    each part is equalized within limits (CLAHE, Zuiderveld 1994). Exact 0 and 255 are collimation or padding and do not
    count, unless nothing else is there.
    """
    counts = np.bincount(film.ravel(), minlength=256).astype(float)
    if counts[1:-1].any():
        counts[[0, -1]] = 0
    low, middle, high = np.searchsorted(counts.cumsum() / counts.sum(), (SPAN[0], 0.5, SPAN[1]))
    if low == high:
        return film
    gray = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    power = np.clip(np.log(MEDIAN) / np.log(np.clip(gray[middle], 0.02, 0.98)), *POWERS)
    stretched = cv2.LUT(np.ascontiguousarray(film), np.rint(255 * gray**power).astype(np.uint8))
    return cv2.createCLAHE(2.0, (8, 8)).apply(stretched)


def content_crc(path: Path) -> int:
    """CRC-32 of a file's bytes: equal for copies under another name."""
    return zlib.crc32(path.read_bytes())


def _list(folder: Path) -> list[Found]:
    found = []
    for name, size, time in walk(folder):
        path = Path(name)
        if path.parts[0] == "annotations":
            continue
        if is_picture(folder / path) or (not size and (folder / path).is_dir()):  # a folder that cannot be listed
            # A name that is not UTF-8 fits no table; written out like this it is quarantined as no-access.
            found.append((name.encode("utf-8", "backslashreplace").decode(), size, time))
    return sorted(found)


def _headers(folder: Path, chunk: list[Found]) -> pd.DataFrame:
    """A row a file; nothing about one raises."""
    return pd.DataFrame([{"path": path, "bytes": size, **_header_row(folder / path)} for path, size, _ in chunk])


def _header_row(path: Path) -> dict[str, Any]:
    try:
        return {"reason": "", "detail": "", **read_header(path)._asdict(), **owner(path)}
    except Unreadable as error:
        return {"reason": error.reason, "detail": error.detail, **dict.fromkeys(Header._fields, 0), **NOBODY}


def _gray(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    color = pixels[..., :3]
    if (color[..., 0] == color[..., 1]).all() and (color[..., 0] == color[..., 2]).all():
        return np.ascontiguousarray(color[..., 0])
    return cv2.cvtColor(np.ascontiguousarray(color), cv2.COLOR_BGR2GRAY)
