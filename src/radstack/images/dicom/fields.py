"""The header fields that are read, and how their bytes become Python values (DICOM PS3.5 section 6.2, PS3.6)."""

import math
import struct
from dataclasses import dataclass
from typing import Any

PIXEL_DATA = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
EXPLICIT = "1.2.840.10008.1.2.1"
"""Explicit VR little endian."""
IMPLICIT = "1.2.840.10008.1.2"
"""Implicit VR little endian."""

FIELDS: dict[int, tuple[str, tuple[bytes, ...]]] = {
    TRANSFER_SYNTAX: ("transfer_syntax", (b"UI",)),
    0x00080018: ("sop", (b"UI",)),
    0x00100020: ("patient", (b"LO",)),
    0x0020000D: ("study", (b"UI",)),
    0x0020000E: ("series", (b"UI",)),
    0x00200032: ("position", (b"DS",)),
    0x00200037: ("orientation", (b"DS",)),
    0x00280002: ("samples", (b"US",)),
    0x00280004: ("photometric", (b"CS",)),
    0x00280008: ("frames", (b"IS",)),
    0x00280010: ("rows", (b"US",)),
    0x00280011: ("columns", (b"US",)),
    0x00280030: ("spacing", (b"DS",)),
    0x00280100: ("bits_allocated", (b"US",)),
    0x00280101: ("bits_stored", (b"US",)),
    0x00280103: ("pixel_representation", (b"US",)),
    0x00280120: ("padding", (b"US", b"SS")),
    0x00280121: ("padding_limit", (b"US", b"SS")),
    0x00281050: ("window_center", (b"DS",)),
    0x00281051: ("window_width", (b"DS",)),
    0x00281052: ("intercept", (b"DS",)),
    0x00281053: ("slope", (b"DS",)),
}
"""Tag -> name, and the value representations it may have."""


class Unreadable(Exception):
    """A file that cannot be used.

    ``reason`` is one of a few fixed words (``empty``, ``not-dicom``, ``bad-header``, ``no-pixels``, ``truncated``,
    ``wrong-size``, ``unsupported-transfer-syntax``, ``not-gray``, ``undecodable``, ``no-access``, ``odd-name``);
    ``detail`` is a line for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """Line breaks in ``detail`` become spaces, so that it fits a table."""
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail.replace("\n", " ")[:300]

    def __str__(self) -> str:
        """Reason and detail."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class Header:
    """What is kept of a DICOM header. Absent texts are "", absent number lists are ()."""

    sop: str = ""
    """SOPInstanceUID."""
    patient: str = ""
    """PatientID."""
    study: str = ""
    """StudyInstanceUID."""
    series: str = ""
    """SeriesInstanceUID."""
    position: tuple[float, ...] = ()
    """ImagePositionPatient, mm: center of the first pixel in patient coordinates."""
    orientation: tuple[float, ...] = ()
    """ImageOrientationPatient: unit vectors along a row, then down a column."""
    rows: int = 0
    """Height in pixels."""
    columns: int = 0
    """Width in pixels."""
    spacing: tuple[float, ...] = ()
    """PixelSpacing, mm: between rows, then between columns."""
    samples: int = 1
    """SamplesPerPixel."""
    frames: int = 1
    """NumberOfFrames."""
    photometric: str = ""
    """PhotometricInterpretation."""
    bits_allocated: int = 0
    """Bits a sample takes up."""
    bits_stored: int = 0
    """Bits of a sample that count."""
    pixel_representation: int = 0
    """0 unsigned, 1 two's complement."""
    padding: int | None = None
    """PixelPaddingValue, as a stored value of the file's own sign."""
    padding_limit: int | None = None
    """PixelPaddingRangeLimit: every value between it and ``padding`` is padding."""
    intercept: float = 0.0
    """RescaleIntercept."""
    slope: float = 1.0
    """RescaleSlope."""
    window_center: tuple[float, ...] = ()
    """WindowCenter, one or several."""
    window_width: tuple[float, ...] = ()
    """WindowWidth, one or several."""
    transfer_syntax: str = ""
    """TransferSyntaxUID."""
    pixel_offset: int = 0
    """Byte at which the value of PixelData starts; 0 if it has none or the file is deflated."""
    pixel_length: int = 0
    """Declared bytes of PixelData; 0 if absent, 0xFFFFFFFF (undefined length) if encapsulated or deflated."""
    size: int = 0
    """Bytes of the file."""


def from_bytes(name: str, vr: bytes, raw: bytes) -> Any:
    """Decode one element of ``FIELDS``: DS and IS -> tuple of float, US and SS -> int or None if empty, else text.

    Raises:
        Unreadable: ``bad-header``, the bytes do not parse as their value representation.
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

    Raises:
        Unreadable: ``bad-header``, a number that must be finite is not, or a vector has the wrong length.
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
        if name in given:
            given[name] = _signed(given[name], given.get("pixel_representation", 0))
    return Header(**(given | where))


def _signed(value: int, representation: int) -> int:
    """PixelPaddingValue is written as US or SS, whatever the sign of the pixels; read it with their sign."""
    value &= 0xFFFF
    return value - 0x10000 if representation and value >= 0x8000 else value
