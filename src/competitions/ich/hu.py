"""Stored CT values to Hounsfield units, with the repairs the RSNA 2019 archive needs, and its customary windows."""

from functools import lru_cache

import cv2
import numpy as np

from radstack.images.dicom import Header
from radstack.images.windows import Window

LOWEST, HIGHEST = -1024, 3071
"""Range of 12 bits at intercept -1024, which nearly all slices have. The few 16-bit ones reach above only in metal and
below only outside the reconstruction circle (-2000, -3024); no window of use tells either from the bound."""

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
    intercept (:func:`wrong_intercept`) is repaired. A MONOCHROME1 slice is turned around only when that makes its
    border the darker: by the standard the polarity is for display and HU stand as they are, but there are files whose
    stored values were inverted too, and around a head is air.
    """
    key = (header.bits_stored, stored.dtype.kind == "i", header.slope, header.intercept, header.padding,
           header.padding_limit)
    hu = _look_up(stored, _table(*key, False))
    if header.photometric == "MONOCHROME1":
        turned = _look_up(stored, _table(*key, True))
        return turned if _border(turned) < _border(hu) else hu
    return hu


def wrong_intercept(bits_stored: int, pixel_representation: int, intercept: float) -> bool:
    """Whether a header is one of those whose 12-bit unsigned values wrapped around and lost their intercept.

    Condition and repair (add 1000, wrap at 4096, intercept -1000) are the eleventh place's (appian42, RSNA 2019).
    """
    return bits_stored == 12 and pixel_representation == 0 and intercept > -100


@lru_cache(maxsize=256)
def _table(bits: int, signed: bool, slope: float, intercept: float, padding: int | None, limit: int | None,
           inverted: bool) -> np.ndarray:
    """HU of every possible stored value, int16 [1, 65536], indexed by its bits read as uint16."""
    index = np.arange(65536, dtype=np.uint16)
    stored = (index.view(np.int16) if signed else index).astype(np.int64)
    pad = np.zeros(65536, bool) if padding is None else _between(stored, padding, padding if limit is None else limit)
    if inverted:
        stored = -1 - stored if signed else (1 << bits) - 1 - stored
    if wrong_intercept(bits, int(signed), intercept):
        stored = stored + 1000
        stored[stored >= 4096] -= 4096
        intercept = -1000.0
    hu = np.clip(np.rint(stored * slope + intercept), LOWEST, HIGHEST)
    return np.where(pad, LOWEST, hu).astype(np.int16).reshape(1, -1)


def _between(stored: np.ndarray, one: int, other: int) -> np.ndarray:
    return (stored >= min(one, other)) & (stored <= max(one, other))


def _look_up(stored: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(np.ascontiguousarray(stored).view(np.uint16), table)


def _border(hu: np.ndarray) -> float:
    """Median HU of the outermost pixels: air around a head."""
    return float(np.median(np.concatenate([hu[0], hu[-1], hu[:, 0], hu[:, -1]])))
