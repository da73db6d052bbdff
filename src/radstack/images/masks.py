"""Masks of a body part: clean-up of a network's map, polarity, contrast, overlap."""

from typing import NamedTuple

import cv2
import numpy as np

RANGE = (0.01, 0.99)
"""Quantiles inside the mask that become black and white: a lead marker or a dead pixel does not set the scale."""
MIDDLE = 0.45  # Where the median inside the mask comes to lie between black and white
GAMMAS = (-50.0, 50.0)
"""Exponents that are tried. Flat pictures far from black need large ones, of either sign."""
GAP, REACH = 0.006, 0.03
"""From how far inside and outside the outline polarity is read, as shares of the longer side: beyond blur and small errors
of the mask, and near enough to be in the same exposure field."""
UNCLIPPED = 0.25
"""Share of the surroundings that must be neither 0 nor 255 for these to be left out as collimation or padding."""


class Cleaned(NamedTuple):
    """What :func:`clean` leaves of a map."""

    mask: np.ndarray  # Bool [height, width]
    parts: int  # Components that were kept; 0 if nothing was found
    second: float  # Area of the second largest component as a share of the largest, before holes are filled
    share: float  # Area of the mask as a share of the picture


def clean(probability: np.ndarray, threshold: int = 128, keep: float = 0.05) -> Cleaned:
    """Components of more than ``keep`` of the largest (1 keeps that alone), holes filled (Iglovikov 2017).

    ``probability`` is uint8 [height, width], 255 where the body part is certain, ``threshold`` the least value inside.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((probability >= threshold).astype(np.uint8), ltype=cv2.CV_16U)
    if count == 1:
        return Cleaned(np.zeros(probability.shape, bool), 0, 0.0, 0.0)
    areas = stats[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0  # the background
    first, second = areas.max(), np.sort(areas)[-2]
    kept = (areas == first) | (areas > keep * first)
    whole = kept.astype(np.uint8)[labels]
    outlines, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = cv2.drawContours(np.zeros_like(whole), outlines, -1, 1, cv2.FILLED).astype(bool)
    return Cleaned(mask, int(kept.sum()), float(second / first), float(mask.mean()))


def is_inverted(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the body is darker than what lies just outside it, which in a radiograph with bright bones it never is.

    The median well inside is compared with the median of a ring outside. Exact 0 and 255 in the ring are collimation or
    padding and do not count, unless nearly all of it is so: then they are saturated air. ``image`` is uint8 [height, width],
    ``mask`` bool of that shape; with an empty or a full one the answer is False.
    """
    gap, reach = (max(1, round(share * max(mask.shape))) for share in (GAP, REACH))
    body = mask.astype(np.uint8)
    inside = cv2.erode(body, _disc(gap)) > 0
    ring = cv2.dilate(body, _disc(gap + reach)) > cv2.dilate(body, _disc(gap))
    if not mask.any() or not ring.any():
        return False
    outside = image[ring]
    exposed = outside[(outside > 0) & (outside < 255)]
    air = exposed if exposed.size >= UNCLIPPED * outside.size else outside
    return bool(np.median(image[inside if inside.any() else mask]) < np.median(air))


def equalize(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give the inside of the mask a fixed contrast, the outside 0, so that exposure no longer matters.

    The gray levels are raised to a power (negative ones and the logarithm included) and stretched so that the ``RANGE``
    becomes black and white and the median ``MIDDLE``. Power and stretch are found together: a gamma that the picture has
    been through drops out, which it does not if the stretch comes first. Dark bones are turned by the caller.

    From uint8 and bool [height, width] to uint8; all 0 if the mask is empty or the inside has a single gray level.
    """
    inside = mask.astype(np.uint8)
    counts = cv2.calcHist([np.ascontiguousarray(image)], [0], inside, [256], [0, 256]).ravel().cumsum(dtype=float)
    # Quantiles are gray levels that occur (no interpolation), so they follow every increasing curve.
    low, middle, high = np.searchsorted(counts, np.array([RANGE[0], 0.5, RANGE[1]]) * counts[-1])
    if counts[-1] == 0 or low == high:
        return np.zeros(image.shape, np.uint8)
    gray = _curve(np.arange(256), low, high, _gamma(low, middle, high))
    return cv2.LUT(image, np.rint(255 * np.clip(gray, 0, 1)).astype(np.uint8)) * inside


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the overlap of two bool masks over the sum of their areas (Dice 1945); 1 if both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two bool masks over their union (Jaccard 1901); 1 if both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _curve(levels: np.ndarray, low: float, high: float, gamma: float) -> np.ndarray:
    """Gray levels on the curve of Box and Cox (1964) through 0 at ``low`` and 1 at ``high``."""
    black = np.log(np.maximum(low, 0.5))  # no logarithm at 0
    places = (np.log(np.maximum(levels, 0.5)) - black) / (np.log(high) - black)
    power = (gamma or 1e-9) * (np.log(high) - black)  # the logarithm, gamma 0, is the limit
    return np.expm1(power * places) / np.expm1(power)


def _gamma(low: float, middle: float, high: float) -> float:
    """The power that brings the median to ``MIDDLE``, or the end of ``GAMMAS`` that comes nearest."""
    from scipy.optimize import brentq  # slow to import

    def excess(gamma: float) -> float:
        return float(_curve(np.array(middle), low, high, gamma)) - MIDDLE

    if excess(GAMMAS[0]) * excess(GAMMAS[1]) < 0:
        return float(brentq(excess, *GAMMAS))
    return GAMMAS[0] if excess(GAMMAS[0]) <= 0 else GAMMAS[1]  # the median falls as the power rises
