"""What is kept of a DICOM header: its fields, and how the bytes of an element become their values (PS3.5 6.2, PS3.6)."""

import math
import struct
import warnings
from dataclasses import dataclass, field, fields
from typing import Any

from radstack.images.unreadable import Unreadable


def _element(keyword: str, tag: int, vr: str, default: Any) -> Any:
    """A field of :class:`Header` that is read from the element of that keyword, tag and value representation (PS3.6)."""
    return field(default=default, metadata={"keyword": keyword, "tag": tag, "vr": vr})


@dataclass(frozen=True)
class Header:
    """What is kept of a DICOM header. Absent texts are "", absent number lists are ()."""

    charset: str = _element("SpecificCharacterSet", 0x00080005, "CS", "")  # of ``patient``
    sop: str = _element("SOPInstanceUID", 0x00080018, "UI", "")
    modality: str = _element("Modality", 0x00080060, "CS", "")  # CT, MR, CR, DX and so on
    patient: str = _element("PatientID", 0x00100020, "LO", "")
    sex: str = _element("PatientSex", 0x00100040, "CS", "")  # M, F, O (other) or absent
    study: str = _element("StudyInstanceUID", 0x0020000D, "UI", "")
    series: str = _element("SeriesInstanceUID", 0x0020000E, "UI", "")
    position: tuple[float, ...] = _element("ImagePositionPatient", 0x00200032, "DS", ())
    """Mm: center of the first pixel, patient coordinates."""
    orientation: tuple[float, ...] = _element("ImageOrientationPatient", 0x00200037, "DS", ())
    """Unit vectors along a row, then down a column."""
    rows: int = _element("Rows", 0x00280010, "US", 0)  # height in pixels
    columns: int = _element("Columns", 0x00280011, "US", 0)  # width in pixels
    spacing: tuple[float, ...] = _element("PixelSpacing", 0x00280030, "DS", ())
    """Mm: between rows, then between columns."""
    samples: int = _element("SamplesPerPixel", 0x00280002, "US", 1)
    frames: int = _element("NumberOfFrames", 0x00280008, "IS", 1)
    photometric: str = _element("PhotometricInterpretation", 0x00280004, "CS", "")
    bits_allocated: int = _element("BitsAllocated", 0x00280100, "US", 0)  # bits a sample takes up
    bits_stored: int = _element("BitsStored", 0x00280101, "US", 0)  # bits of a sample that count
    pixel_representation: int = _element("PixelRepresentation", 0x00280103, "US", -1)
    """0 unsigned, 1 two's complement, -1 absent."""
    padding: int | None = _element("PixelPaddingValue", 0x00280120, "US or SS", None)
    """A stored value of the file's own sign."""
    padding_limit: int | None = _element("PixelPaddingRangeLimit", 0x00280121, "US or SS", None)
    """Every value from it to ``padding`` is padding."""
    intercept: float = _element("RescaleIntercept", 0x00281052, "DS", 0.0)
    slope: float = _element("RescaleSlope", 0x00281053, "DS", 1.0)
    window_center: tuple[float, ...] = _element("WindowCenter", 0x00281050, "DS", ())  # one or several
    window_width: tuple[float, ...] = _element("WindowWidth", 0x00281051, "DS", ())  # one or several
    transfer_syntax: str = _element("TransferSyntaxUID", 0x00020010, "UI", "")
    pixel_offset: int = 0
    """Byte at which the value of PixelData starts, of a deflated file after inflation; 0 if it has none."""
    pixel_length: int = 0
    """Declared bytes of PixelData; 0 if absent, 0xFFFFFFFF (undefined length) if encapsulated."""
    size: int = 0  # bytes of the file
    has_intercept: bool = False  # Whether ``intercept`` was read; 0 is also what an absent one counts as
    faulty: str = ""
    """Comma-joined names of the fields of ``OPTIONAL`` whose value is none; they are as if absent."""


OPTIONAL = {"position": 3, "orientation": 6, "spacing": 2, "window_center": 0, "window_width": 0, "padding": 0,
            "padding_limit": 0}
"""Fields without which the pixels are as good, and how many numbers they have; 0 for any. A faulty one costs no picture."""
NUMBERS = frozenset((b"DS", b"IS", b"US", b"SS"))
"""Value representations of numbers."""
FAULTY = object()
"""The value of an element of ``OPTIONAL`` that does not parse."""
_UNSIGNED, _SIGNED = struct.Struct("<H").unpack, struct.Struct("<h").unpack


FIELDS = {one.metadata["tag"]: (one.name, tuple(one.metadata["vr"].encode().split(b" or ")))
          for one in fields(Header) if one.metadata}
"""Tag -> field of :class:`Header`, and the value representations it may have."""
DEFAULTS = vars(Header())
"""Field -> what it is where it is absent."""


def from_bytes(name: str, vr: bytes, raw: bytes, charset: str = "") -> Any:
    """Decode one element of ``FIELDS``: DS and IS -> tuple of float, US and SS -> int or None if empty, else text.

    ``charset`` is the SpecificCharacterSet of the file. Where the bytes do not parse as their value representation, it is
    ``FAULTY`` for a field of ``OPTIONAL``, else Unreadable (``bad-header``).
    """
    if vr not in NUMBERS:
        if vr == b"LO" and not (raw.isascii() and b"\x1b" not in raw):  # an escape begins a character set of ISO 2022
            return bare(_spelled(raw, charset))
        return bare(raw.decode("latin-1"))  # what other representations hold is ASCII, or wrong
    try:
        if vr in (b"DS", b"IS"):
            text = raw.strip(b" \0")
            return tuple(map(float, text.split(b"\\"))) if text else ()
        return (_UNSIGNED if vr == b"US" else _SIGNED)(raw)[0] if raw else None
    except (ValueError, struct.error) as error:
        if name in OPTIONAL:
            return FAULTY
        raise Unreadable("bad-header", f"{name} is {raw[:32]!r}") from error


def _spelled(raw: bytes, charset: str) -> str:
    """A text in the character sets that the file names (PS3.3 C.12.1.1.2)."""
    from pydicom.charset import convert_encodings, decode_bytes  # a third of a second to import, and most files are ASCII
    from pydicom.valuerep import TEXT_VR_DELIMS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = decode_bytes(raw, convert_encodings(charset.split("\\")), TEXT_VR_DELIMS)
    # Where the file names the wrong set, two people must not become one.
    return raw.decode("latin-1") if "\ufffd" in text else text


def bare(text: str) -> str:
    """A text without the padding around its values."""
    if "\\" not in text:  # as nearly all are
        return text.strip(" \0")
    return "\\".join(value.strip(" \0") for value in text.split("\\"))


def make_header(values: dict[str, Any], **where: int) -> Header:
    """A header of decoded ``values`` by field name (see :func:`settled`) and of what says ``where`` the pixels are."""
    return joined(settled(values), **where)


def settled(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of :class:`Header` from decoded ``values``; None and () count as absent, as do faulty ones of ``OPTIONAL``.

    Unreadable (``bad-header``) where a number that must be finite is not.
    """
    given = {name: value for name, value in values.items() if value or value == 0}
    faulty = [name for name in OPTIONAL if name in given and _is_faulty(name, given[name])]
    for name in faulty:
        del given[name]
    for name in ("intercept", "slope", "frames"):
        if name in given:
            if not all(map(math.isfinite, given[name])):
                raise Unreadable("bad-header", f"{name} is {given[name]}")
            given[name] = given[name][0]
    for name in ("padding", "padding_limit"):
        if name in given:  # written as US or SS, whatever the sign of the pixels; read with theirs
            value = given[name] & 0xFFFF
            given[name] = value - 0x10000 if given.get("pixel_representation") and value >= 0x8000 else value
    if "frames" in given:
        given["frames"] = int(given["frames"])
    given |= {"has_intercept": True} if "intercept" in given else {}
    return given | ({"faulty": ",".join(faulty)} if faulty else {})


def joined(*parts: dict[str, Any], **where: int) -> Header:
    """A header of :func:`settled` parts, and of the fields that say ``where`` the pixels are; others have their defaults."""
    header = object.__new__(Header)  # whose own __init__ sets field by field, which takes 4 us
    known = vars(header)
    known |= DEFAULTS
    for part in parts:
        known |= part
    known |= where
    if known["faulty"]:
        known["faulty"] = ",".join(part["faulty"] for part in parts if "faulty" in part)
    return header


def _is_faulty(name: str, value: Any) -> bool:
    """Whether the value of a field of ``OPTIONAL`` is none: it does not parse, is not finite, or has another length."""
    if not isinstance(value, tuple):
        return value is FAULTY
    return (len(value) != (OPTIONAL[name] or len(value)) or not all(map(math.isfinite, value))
            or (name == "spacing" and min(value) <= 0))
