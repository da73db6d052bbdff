"""DICOM headers: a short walker for plain little-endian files, pydicom for every other.

The archives of competitions are hundreds of thousands of small uncompressed files. One read of 4 KB and a walk over
some thirty elements takes a tenth of the time of a general parser. The walker gives up (and pydicom is asked) at
anything it does not know: another transfer syntax, an unknown or unexpected value representation, tags out of order,
undefined lengths, a header longer than what was read. Bytes become values by DICOM PS3.5 section 6.2 and PS3.6.
"""

import math
import os
import struct
import warnings
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

PIXEL_DATA = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
EXPLICIT = "1.2.840.10008.1.2.1"  # Explicit VR little endian
IMPLICIT = "1.2.840.10008.1.2"  # Implicit VR little endian
HEAD_BYTES = 4096  # Read at once for a header; those of the RSNA 2019 archive end before byte 700
UNDEFINED = 0xFFFFFFFF  # The length that means "until the delimiter"
SHORT_VRS, LONG_VRS = (frozenset(vr.value.encode() for vr in vrs) for vrs in (EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32))
"""Value representations with a 16-bit length, and with two reserved bytes and a 32-bit one (PS3.5 section 7.1.2)."""
_EXPLICIT_ELEMENT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<I")
_NATIVE = (EXPLICIT, IMPLICIT, str(ExplicitVRBigEndian))


class Unreadable(Exception):
    """A file that cannot be used.

    ``reason`` is one of a few fixed words (``empty``, ``not-dicom``, ``bad-header``, ``no-pixels``, ``truncated``,
    ``wrong-size``, ``unsupported-transfer-syntax``, ``not-gray``, ``undecodable``, ``no-access``, ``odd-name``);
    ``detail`` is a line for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail.replace("\n", " ")[:300]  # it fits a table

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def _element(keyword: str, default: Any) -> Any:
    """A field of :class:`Header` that is read from the element of that keyword (PS3.6)."""
    return field(default=default, metadata={"keyword": keyword})


@dataclass(frozen=True, slots=True)
class Header:
    """What is kept of a DICOM header. Absent texts are "", absent number lists are ()."""

    sop: str = _element("SOPInstanceUID", "")
    patient: str = _element("PatientID", "")
    study: str = _element("StudyInstanceUID", "")
    series: str = _element("SeriesInstanceUID", "")
    position: tuple[float, ...] = _element("ImagePositionPatient", ())  # mm: center of the first pixel, patient coordinates
    orientation: tuple[float, ...] = _element("ImageOrientationPatient", ())  # unit vectors along a row, then down a column
    rows: int = _element("Rows", 0)  # height in pixels
    columns: int = _element("Columns", 0)  # width in pixels
    spacing: tuple[float, ...] = _element("PixelSpacing", ())  # mm: between rows, then between columns
    samples: int = _element("SamplesPerPixel", 1)
    frames: int = _element("NumberOfFrames", 1)
    photometric: str = _element("PhotometricInterpretation", "")
    bits_allocated: int = _element("BitsAllocated", 0)  # bits a sample takes up
    bits_stored: int = _element("BitsStored", 0)  # bits of a sample that count
    pixel_representation: int = _element("PixelRepresentation", 0)  # 0 unsigned, 1 two's complement
    padding: int | None = _element("PixelPaddingValue", None)  # a stored value of the file's own sign
    padding_limit: int | None = _element("PixelPaddingRangeLimit", None)  # every value from it to ``padding`` is padding
    intercept: float = _element("RescaleIntercept", 0.0)
    slope: float = _element("RescaleSlope", 1.0)
    window_center: tuple[float, ...] = _element("WindowCenter", ())  # one or several
    window_width: tuple[float, ...] = _element("WindowWidth", ())  # one or several
    transfer_syntax: str = _element("TransferSyntaxUID", "")
    pixel_offset: int = 0
    """Byte at which the value of PixelData starts; 0 if it has none or the file is deflated."""
    pixel_length: int = 0
    """Declared bytes of PixelData; 0 if absent, 0xFFFFFFFF (undefined length) if encapsulated or deflated."""
    size: int = 0  # bytes of the file


_TAGS = {int(Tag(one.metadata["keyword"])): one.name for one in fields(Header) if one.metadata}
FIELDS = {tag: (name, tuple(dictionary_VR(tag).encode().split(b" or "))) for tag, name in _TAGS.items()}
"""Tag -> field of :class:`Header`, and the value representations it may have."""


def from_bytes(name: str, vr: bytes, raw: bytes) -> Any:
    """Decode one element of ``FIELDS``: DS and IS -> tuple of float, US and SS -> int or None if empty, else text.

    Unreadable (``bad-header``) where the bytes do not parse as their value representation.
    """
    try:
        if vr in (b"DS", b"IS"):
            text = raw.strip(b" \0")
            return tuple(map(float, text.split(b"\\"))) if text else ()
        if vr in (b"US", b"SS"):
            return struct.unpack("<H" if vr == b"US" else "<h", raw)[0] if raw else None
    except (ValueError, struct.error) as error:
        raise Unreadable("bad-header", f"{name} is {raw[:32]!r}") from error
    return raw.decode("ascii", "replace").strip(" \0")


def make_header(values: dict[str, Any], **where: int) -> Header:
    """Build a header from decoded ``values`` by field name; None and () count as absent.

    Unreadable (``bad-header``) where a number that must be finite is not, or a vector has the wrong length.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ()}
    for name, length in (("position", 3), ("orientation", 6), ("spacing", 2)):
        if name in given and len(given[name]) != length:
            raise Unreadable("bad-header", f"{name} has {len(given[name])} values, not {length}")
    for name, value in given.items():
        if isinstance(value, tuple) and not all(map(math.isfinite, value)):
            raise Unreadable("bad-header", f"{name} is {value}")
    for name in ("intercept", "slope", "frames"):
        if name in given:
            given[name] = given[name][0]
    given["frames"] = int(given.get("frames", 1))
    for name in ("padding", "padding_limit"):
        if name in given:  # written as US or SS, whatever the sign of the pixels; read with theirs
            value = given[name] & 0xFFFF
            given[name] = value - 0x10000 if given.get("pixel_representation") and value >= 0x8000 else value
    return Header(**(given | where))


def read_header(path: Path | str) -> Header:
    """Read the header of ``path``; Unreadable as ``no-access``, ``empty``, ``not-dicom`` or ``bad-header``.

    Whether the pixels are all there and can be decoded is asked of :func:`fault`.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(handle).st_size
            head = os.pread(handle, HEAD_BYTES, 0)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        raise Unreadable("no-access", str(error)) from error
    return walk(head, size) or ask_pydicom(path, size)


def walk(data: bytes, size: int) -> Header | None:
    """Parse a plain little-endian header from the first bytes of a file of ``size`` bytes; None: ask pydicom.

    Unreadable as ``empty``, or ``bad-header`` for a value that does not parse.
    """
    if size == 0:
        raise Unreadable("empty", "the file has no bytes")
    values: dict[str, Any] = {}
    at, last, meta, explicit = 132, 0, True, True
    end = len(data) - 12 if data[128:132] == b"DICM" else 0
    while at <= end:
        group, element, vr, length = _EXPLICIT_ELEMENT.unpack_from(data, at)
        tag = group << 16 | element
        if meta and group != 2:
            meta, syntax = False, values.get("transfer_syntax")
            explicit = syntax == EXPLICIT
            if syntax not in (EXPLICIT, IMPLICIT):
                return None
        name, vrs = FIELDS.get(tag, ("", ()))
        if tag <= last or (explicit and name and vr not in vrs):
            return None
        if not explicit:
            at, vr, length = at + 8, vrs[0] if vrs else b"", _LONG.unpack_from(data, at + 4)[0]
        elif vr in SHORT_VRS:
            at += 8
        elif vr in LONG_VRS:
            at, length = at + 12, _LONG.unpack_from(data, at + 8)[0]
        else:
            return None
        if tag == PIXEL_DATA:
            plain = length != UNDEFINED and (vr == b"OW" or not explicit)
            return make_header(values, pixel_offset=at, pixel_length=length, size=size) if plain else None
        if tag > PIXEL_DATA or at + length > len(data):
            return None
        if name:
            values[name] = from_bytes(name, vr, data[at : at + length])
        at, last = at + length, tag
    return None


def ask_pydicom(path: Path | str, size: int) -> Header:
    """Read the header with pydicom, stopping before the pixels; Unreadable as ``not-dicom`` or ``bad-header``."""
    try:
        with warnings.catch_warnings(), Path(path).open("rb") as file:
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            at, element = file.tell(), file.read(12)
            values = {name: _value(dataset, tag) for tag, (name, _) in FIELDS.items() if tag != TRANSFER_SYNTAX}
            values["transfer_syntax"] = str(dataset.file_meta.get("TransferSyntaxUID", ""))
            return make_header(values, **_pixel_place(dataset, at, element), size=size)
    except Unreadable:
        raise
    except InvalidDicomError as error:
        raise Unreadable("not-dicom", "no DICM mark at byte 128") from error
    except Exception as error:  # pydicom meets broken bytes with whatever the parsing step happened to raise
        raise Unreadable("bad-header", f"{type(error).__name__}: {error}") from error


def _value(dataset: pydicom.Dataset, tag: int) -> Any:
    """One field of a pydicom data set in the types of :func:`from_bytes`."""
    value, vr = dataset[tag].value if tag in dataset else None, FIELDS[tag][1][0]
    if value in (None, ""):
        return None
    if vr in (b"DS", b"IS"):
        return tuple(map(float, value)) if isinstance(value, (list, pydicom.multival.MultiValue)) else (float(value),)
    return int(value) if vr == b"US" else str(value).strip(" \0")


def _pixel_place(dataset: pydicom.Dataset, at: int, element: bytes) -> dict[str, int]:
    """Offset and declared length of PixelData from the 12 bytes at which pydicom stopped."""
    implicit, little = dataset.original_encoding
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return {"pixel_offset": 0, "pixel_length": UNDEFINED}
    order = "<" if little else ">"
    if len(element) < 12 or struct.unpack(order + "HH", element[:4]) != (PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF):
        return {"pixel_offset": 0, "pixel_length": 0}
    length = struct.unpack(order + "I", element[4:8] if implicit else element[8:12])[0]
    return {"pixel_offset": at + (8 if implicit else 12), "pixel_length": length}


def fault(header: Header) -> Unreadable | None:
    """What keeps the pixels of a well-formed header from being read, as far as the header and the file size tell.

    None, or ``no-pixels``, ``bad-header``, ``unsupported-transfer-syntax``, ``not-gray``, ``wrong-size`` (the declared
    length is not that of the picture) or ``truncated`` (the file ends before the declared length).
    """
    if not header.pixel_length:
        return Unreadable("no-pixels", "the header has no PixelData after it")
    for name in ("rows", "columns", "bits_allocated", "bits_stored", "photometric", "transfer_syntax"):
        if not getattr(header, name):
            return Unreadable("bad-header", f"{name} is missing")
    if not decodable(header.transfer_syntax):
        return _no_decoder(header.transfer_syntax)
    if (header.samples, header.frames) != (1, 1) or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return Unreadable("not-gray", f"{header.frames} frames, {header.samples} samples, {header.photometric}")
    if header.transfer_syntax not in _NATIVE:
        return None
    needed = (header.rows * header.columns * header.bits_allocated + 7) // 8
    if header.pixel_length not in (needed, needed + needed % 2):
        return Unreadable("wrong-size", f"PixelData has {header.pixel_length} bytes, "
                          f"{header.rows} x {header.columns} x {header.bits_allocated} bit needs {needed}")
    if header.pixel_offset + header.pixel_length > header.size:
        return Unreadable("truncated", f"the file has {header.size} bytes, {header.pixel_offset + header.pixel_length} "
                          "are declared")
    return None


@cache
def decodable(transfer_syntax: str) -> bool:
    """Whether pydicom has a decoder for this transfer syntax UID whose packages are installed."""
    try:
        return bool(get_decoder(UID(transfer_syntax)).is_available)
    except NotImplementedError:
        return transfer_syntax in _NATIVE or transfer_syntax == DeflatedExplicitVRLittleEndian


def _no_decoder(transfer_syntax: str) -> Unreadable:
    """Whether nobody decodes this transfer syntax, or only nobody here: then it is the machine that wants mending."""
    try:
        missing = get_decoder(UID(transfer_syntax)).missing_dependencies
    except NotImplementedError:
        return Unreadable("unsupported-transfer-syntax", transfer_syntax)
    return Unreadable("no-decoder", f"{UID(transfer_syntax).name}: {'; '.join(missing)}")


def read_stored(path: Path | str) -> tuple[np.ndarray, Header]:
    """Read the stored values of ``path``: [rows, columns], uint16, or int16 for two's complement; and its header.

    Plain 16-bit little-endian files are a view (read-only) of the bytes read; the rest is decoded by pydicom with
    pylibjpeg and gdcm. The values are those of ``pydicom.dcmread(path).pixel_array`` bit for bit, in whatever way
    they were reached. MONOCHROME1 is *not* inverted here: the rescale of a CT holds whatever the polarity of the
    display (PS3.3 C.7.6.3.1.2), and a radiograph is turned around with :func:`invert`. Raises nothing but Unreadable.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (twice as fast as Path.open on small files)
            data = file.read()
    except (OSError, ValueError) as error:
        raise Unreadable("no-access", str(error)) from error
    header = walk(data, len(data))
    plain = header is not None
    header = header or ask_pydicom(path, len(data))
    if found := fault(header):
        raise found
    return (_view(data, header) if plain and _is_plain(header) else _decode(path)), header


def invert(stored: np.ndarray, header: Header) -> np.ndarray:
    """Turn stored values around within their bits, so that MONOCHROME1 reads like MONOCHROME2: brighter is denser.

    Unsigned values v become ``2^bits - 1 - v``, signed ones ``-1 - v``: the lowest and the highest trade places.
    Apply it to radiographs with ``header.photometric == "MONOCHROME1"``. Same shape and dtype.
    """
    top = -1 if header.pixel_representation else (1 << header.bits_stored) - 1
    return np.asarray(top - stored.astype(np.int32), dtype=stored.dtype)


def _is_plain(header: Header) -> bool:
    """Whether the bytes of PixelData are the 16-bit picture itself."""
    return (header.transfer_syntax in (EXPLICIT, IMPLICIT) and header.bits_allocated == 16
            and 1 <= header.bits_stored <= 16 and header.pixel_representation in (0, 1))


def _view(data: bytes, header: Header) -> np.ndarray:
    """PixelData as a picture; bits above BitsStored are cleared, or filled with the sign, only if any is set."""
    dtype = "<i2" if header.pixel_representation else "<u2"
    count = header.rows * header.columns
    stored = np.frombuffer(data, dtype, count, header.pixel_offset).reshape(header.rows, header.columns)
    spare = 16 - header.bits_stored
    if spare and (header.pixel_representation or int(stored.max()) >> header.bits_stored):
        stored = (stored << spare) >> spare
    return stored


def _decode(path: Path | str) -> np.ndarray:
    """Let pydicom and its plugins decode the picture; ``not-gray`` is what is not one 8- or 16-bit gray frame."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = pydicom.dcmread(path).pixel_array
    except Exception as error:  # decoders raise what they like on broken streams
        raise Unreadable("undecodable", f"{type(error).__name__}: {error}") from error
    if stored.ndim != 2 or stored.dtype.itemsize > 2:
        raise Unreadable("not-gray", f"decoded to {stored.dtype} {stored.shape}")
    return stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16, copy=False)
