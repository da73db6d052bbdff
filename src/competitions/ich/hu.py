"""Stored CT values to Hounsfield units, with the repairs the RSNA 2019 archive needs, and its customary windows."""

from functools import lru_cache

import cv2
import numpy as np
import pandas as pd

from radstack.images.dicom import Header
from radstack.images.dicom.series import joined
from radstack.images.windows import Window

LOWEST, HIGHEST = -1024, 3071
"""Range of 12 bits at intercept -1024, which nearly all slices have. The few 16-bit ones reach above only in metal and
below only outside the reconstruction circle (-2000, -3024); no window of use tells either from the bound."""

WRAPPED_AIR, LEAST_AIR = (4096 - 1100, 4096 - 500), 0.01
"""Stored values of air in a slice that has lost its intercept; the share of pixels that tells it from a piece of metal."""

AIR, NEAR = -1000.0, 200.0
"""HU of air, and how far the measured level (:func:`air_level`) may lie from it: that of real series is -1005 to -1021."""

WINDOWS = {
    "brain": Window(40, 80),
    "subdural": Window(80, 200),
    "bone": Window(600, 2800),
    "soft_tissue": Window(40, 380),
}
"""Center and width in HU, as the first and second places used them (RSNA 2019). The four-network write-up's ranges are
brain 40/80, subdural 50-100/130-300, bone 600/2800, soft tissue 20-60/350-400."""


def to_hu(stored: np.ndarray, header: Header) -> np.ndarray:
    """Stored values [rows, columns] (uint16 or int16) -> HU int16, clamped to ``LOWEST..HIGHEST``.

    Padding (PixelPaddingValue and its range, or values below ``LOWEST``) becomes ``LOWEST``. A slice with the wrong
    intercept (:func:`wrong_intercept`) is repaired where its pixels are wrapped. A MONOCHROME1 slice is turned around only
    when that makes its border the darker: by the standard the polarity is for display and HU stand as they are, but there
    are files whose stored values were inverted too, and around a head is air.
    """
    key = (header.bits_stored, stored.dtype.kind == "i", header.slope, header.intercept, header.padding,
           header.padding_limit)
    suspect = wrong_intercept(header.bits_stored, int(stored.dtype.kind == "i"), header.intercept, header.slope)
    if not suspect and _is_shift(header, stored.dtype):
        hu = _shifted(stored, int(header.intercept))
    else:
        hu = _look_up(stored, _table(*key, False, suspect and _is_wrapped(stored)))
    if header.photometric == "MONOCHROME1":
        turned = _look_up(stored, _table(*key, True, suspect and _is_wrapped(4095 - stored)))
        return turned if _border(turned) < _border(hu) else hu
    return hu


def wrong_intercept(bits_stored: int, pixel_representation: int, intercept: float, slope: float = 1.0) -> bool:
    """Whether a header may be one of those whose 12-bit unsigned values wrapped around and lost their intercept.

    Condition and repair (add 1000, wrap at 4096, intercept -1000) are the eleventh place's (appian42, RSNA 2019). With
    another slope than 1 the values are no wrapped HU.
    """
    return bits_stored == 12 and pixel_representation == 0 and intercept > -100 and slope == 1


def _is_wrapped(stored: np.ndarray) -> bool:
    """Whether HU modulo 4096 is stored: then air stands high up. Else a high value is metal, which must stay bright."""
    low, high = WRAPPED_AIR
    return float(np.mean((stored >= low) & (stored <= high))) >= LEAST_AIR


@lru_cache(maxsize=256)
def _table(bits: int, signed: bool, slope: float, intercept: float, padding: int | None, limit: int | None,
           inverted: bool, wrapped: bool) -> np.ndarray:
    """HU of every possible stored value, int16 [1, 65536], indexed by its bits read as uint16."""
    index = np.arange(65536, dtype=np.uint16)
    stored = (index.view(np.int16) if signed else index).astype(np.int64)
    pad = np.zeros(65536, bool) if padding is None else _between(stored, padding, padding if limit is None else limit)
    if inverted:
        stored = -1 - stored if signed else (1 << bits) - 1 - stored
    if wrapped:
        stored = stored + 1000
        stored[stored >= 4096] -= 4096
        intercept = -1000.0
    hu = np.clip(np.rint(stored * slope + intercept), LOWEST, HIGHEST)
    return np.where(pad, LOWEST, hu).astype(np.int16).reshape(1, -1)


def _between(stored: np.ndarray, one: int, other: int) -> np.ndarray:
    return (stored >= min(one, other)) & (stored <= max(one, other))


def _is_shift(header: Header, kind: np.dtype) -> bool:
    """Whether adding the intercept and clamping does what the table does, as in nearly all files; it takes half the time."""
    if header.slope != 1 or not float(header.intercept).is_integer():
        return False
    lowest, highest = LOWEST - header.intercept, HIGHEST - header.intercept
    padding = [limit for limit in (header.padding, header.padding_limit) if limit is not None]
    return np.iinfo(kind).min <= highest <= 32767 and lowest >= -32768 and all(limit <= lowest for limit in padding)


def _shifted(stored: np.ndarray, intercept: int) -> np.ndarray:
    kind = stored.dtype.type  # limits of another type would be compared pixel by pixel after a cast, twice as slowly
    least, most = kind(max(LOWEST - intercept, int(np.iinfo(kind).min))), kind(HIGHEST - intercept)
    hu = np.clip(stored, least, most, out=np.empty(stored.shape, kind)).view(np.int16)
    hu += np.int16(intercept)
    return hu


def _look_up(stored: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(np.ascontiguousarray(stored).view(np.uint16), table)


def _border(hu: np.ndarray) -> float:
    """Median HU of the outermost pixels: air around a head."""
    return float(np.median(np.concatenate([hu[0], hu[-1], hu[:, 0], hu[:, -1]])))


def air_level(hu: np.ndarray) -> int:
    """HU below which the darkest fiftieth of a slice lies, near -1000 where its HU are right; int16 [rows, columns].

    Of the inscribed circle alone, where reconstruction reaches: outside lies padding, dark whatever the intercept. Every
    fourth pixel of every fourth row will do.
    """
    values = hu[::4, ::4][_inside(hu.shape)]
    return int(_percentile(values if values.size else hu.ravel(), 0.02))


@lru_cache(maxsize=16)
def _inside(shape: tuple[int, int]) -> np.ndarray:
    """The circle of :func:`air_level` among every fourth pixel of every fourth row of a picture of ``shape``, bool."""
    y, x = (np.arange(0, side, 4) - (side - 1) / 2 for side in shape)
    return np.add.outer(y**2, x**2) <= (0.45 * min(shape)) ** 2


def _percentile(values: np.ndarray, share: float) -> float:
    """``np.percentile(values, 100 * share)`` of int16 [n], its rounding included, in a quarter of the time."""
    ordered, place = np.sort(values), (values.size - 1) * share
    low, high = (int(ordered[min(int(place) + step, values.size - 1)]) for step in (0, 1))
    part = place - int(place)
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def doubts(table: pd.DataFrame) -> pd.Series:
    """What makes the HU of each slice doubtful, comma-joined, "" for nothing; rows of the localization table.

    ``bad-slope``: RescaleSlope is not above 0, so that the slice is of one gray, or upside down. ``no-intercept``: signed
    values without a RescaleIntercept. ``not-ct``: another modality, whose values are no HU (unnamed, it is taken for CT).
    ``odd-air``: the air of the slice (column ``air``) is not near -1000.
    """
    return joined({
        "bad-slope": table["slope"] <= 0,
        "no-intercept": (table["pixel_representation"] == 1) & ~table["has_intercept"].astype(bool),
        "not-ct": ~table["modality"].isin(["", "CT"]),
        "odd-air": (table["air"] - AIR).abs() > NEAR,
    }, table.index)
