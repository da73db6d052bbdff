"""The canonical frame: where a hand is brought by three landmarks, and the regions that the networks see of it.

Frame and landmarks are those of Iglovikov et al. 2018 and their later code. Points
are (x, y) in pixels, y down. After registration every hand is a left hand seen from the back: the thumb is on the right.
"""

from typing import NamedTuple

import cv2
import numpy as np

from radstack.images.masks import Cleaned, equalize
from radstack.images.similarity import Similarity, from_points, resized, warp

FRAME = (2080, 1600)
"""Height and width."""
TIP, CAPITATE = (800, 100), (800, 1600)
"""Where the tip of the third distal phalanx and the center of the capitate come to lie."""


class Region(NamedTuple):
    """A part of the frame: its size, and row and column of its center."""

    height: int
    width: int
    row: int
    column: int


REGIONS = {
    "A": Region(2000, 1500, 1040, 800),
    # In the radiographs of the RSNA the carpus begins about row 1400 and the growth plate of the radius ends by row 1900,
    # in small children as in adolescents; the authors' wrist example lies 50 pixels higher.
    "B": Region(750, 750, 1650, 800),
    "C": Region(600, 1400, 1050, 800),
    "D": Region(800, 1300, 470, 800),
}
"""A the whole hand, B the carpus with the ends of radius and ulna, C metacarpals and proximal phalanges, as the source has
them. D, the fingers from the proximal phalanges up, is not from the source: on real hands it errs least like the others."""

NO_HAND = 0.01
"""An infant's hand fills 4 % of a 24 x 30 cm cassette made square; less than a quarter of that is no hand."""
NO_AIR = 0.85
"""A hand with spread fingers fills three fifths of its bounding box; a mask of more than this is everything."""
TWO_HANDS = 0.5
"""Second component over the first. A forearm cut off by a bracelet stays below; the other hand is as large."""
SLACK = 0.01
"""How far beyond the edge a landmark may lie, as a share of the longer side: a tip at the very edge, found with an error."""
SHORTEST = 0.1
"""Fingertip to capitate over the longer side of the picture: an infant on a 35 x 43 cm cassette has 0.14."""
THUMB = (0.5, 0.82)
"""Thumb tip to capitate over fingertip to capitate: 0.65 to 0.79 in 100 real hands of all ages that people annotated, 0.55
where a thumb is folded, 0.83 where the little finger was taken for the thumb."""
ON_AXIS, BACKWARD = 22.0, 100.0
"""Degrees between thumb and third finger as seen from the capitate: 30 to 82 in 100 real hands, 19 where the little finger
was taken for the thumb."""
TWO_LOOKS = 0.2
"""How far apart the two landmark networks may see the fingertip, over fingertip to capitate: below 0.17 in 899 real hands,
0.25 where they saw two fingers."""

DEEPEST = 93.0
"""Pixels of the frame between a tip and the edge of the hand: 10 mm where fingertip and capitate are 162 mm apart (men).
No finger is 20 mm wide at its tip; a thumb found in the palm is farther in."""
SHALLOW = 0.1
"""Capitate to the nearest edge of the hand over fingertip to capitate: 0.17 to 0.25 in 100 real hands. Less is a mask that
lost the palm, or a capitate that is none."""
APART = (0.02, 0.05)
"""How far outside the hand the tips of finger and thumb may lie, likewise: those of bones are 0.01 to 0.04 inside. Farther
out, the mask lost the finger, or the landmark is beside the hand; masks lose the very end of a thumb more often."""
BEYOND = 0.05
"""Share of the hand above or beside the frame: 1 % in phantoms of wrong pose, 16 % where a finger was taken for the hand."""


class Registration(NamedTuple):
    """A hand's way into the frame."""

    transform: Similarity
    """From raw pixels."""
    mirrored: bool
    """Whether it is reflected."""
    reason: str
    """Why it is not to be trusted, or ""."""


def register(points: np.ndarray, raw_size: tuple[int, int]) -> Registration:
    """Similarity that brings fingertip and capitate to their places, reflected if the thumb would be on the left.

    ``points`` are float [3, 2], raw pixels: tip of the third distal phalanx, tip of the thumb, center of the capitate;
    ``raw_size`` is height and width. How far the hand is turned is no reason for distrust: a radiograph filed upside down
    registers as well as any.
    """
    tip, thumb, capitate = np.asarray(points, float)
    if not np.isfinite(points).all() or np.array_equal(tip, capitate):
        return Registration(unregistered(None, raw_size), False, "no landmarks")
    finger, thumb = tip - capitate, thumb - capitate
    mirrored = bool(finger[0] * thumb[1] - finger[1] * thumb[0] < 0)
    transform = from_points(np.array([tip, capitate]), np.array([TIP, CAPITATE]), reflect=mirrored)
    return Registration(transform, mirrored, _outside(np.asarray(points), raw_size) or _implausible(finger, thumb, raw_size))


def unregistered(mask: np.ndarray | None, raw_size: tuple[int, int]) -> Similarity:
    """Place a hand without landmarks: the bounding box of its mask fills region A, upright.

    ``mask`` is bool [height, width] in raw pixels; where it is None or empty, the whole picture of ``raw_size`` (height,
    width) fills the region.
    """
    left, top, width, height = 0, 0, *raw_size[::-1]
    if mask is not None and mask.any():
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    hand = REGIONS["A"]
    scale = min(hand.height / height, hand.width / width)
    center = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
    shift = np.array([hand.column, hand.row]) - 0.5 - scale * center
    return Similarity(np.column_stack([scale * np.eye(2), shift]))


def judge(cleaned: Cleaned) -> str:
    """What is wrong with a mask: ``no hand found``, ``two hands``, ``no background``, or ""."""
    if cleaned.share < NO_HAND:
        return "no hand found"
    if cleaned.second > TWO_HANDS:
        return "two hands"
    return "no background" if cleaned.share > NO_AIR else ""


def misfit(mask: np.ndarray, points: np.ndarray, way: Similarity) -> str:
    """What is wrong with landmarks (float [3, 2]: fingertip, thumb, capitate) beside their ``mask``, or "".

    The mask is bool [height, width] and not empty; ``way`` leads from its pixels to the frame at scale 1.
    """
    depth = _depths(mask, points) * way.scale
    length = np.linalg.norm(points[0] - points[2]) * way.scale
    if (depth[:2] > DEEPEST).any():
        return "thumb inside the hand" if depth[1] > DEEPEST else "fingertip inside the hand"
    outside = depth[:2] < -length * np.array(APART)
    if outside.any():
        return "thumb outside the hand" if outside[1] else "fingertip outside the hand"
    if depth[2] < SHALLOW * length:
        return "capitate at the edge of the hand"
    x, y = way.apply(np.argwhere(mask)[:, ::-1]).T
    beyond = (y < 0) | (x < 0) | (x > FRAME[1] - 1)
    return "hand beyond the frame" if beyond.mean() > BEYOND else ""


def disagree(first: np.ndarray, points: np.ndarray) -> str:
    """What is wrong with landmarks (float [3, 2]) beside those of the ``first`` look, in the same pixels, or ""."""
    apart = np.linalg.norm(first[0] - points[0])
    return "two fingers taken for the third" if apart > TWO_LOOKS * np.linalg.norm(points[0] - points[2]) else ""


def _depths(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How deep points [n, 2] lie in a mask, pixels, negative outside of it; one beside the picture counts at its edge."""
    inside = mask.astype(np.uint8)
    signed = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    columns, rows = np.rint(points).astype(int).T
    return signed[np.clip(rows, 0, mask.shape[0] - 1), np.clip(columns, 0, mask.shape[1] - 1)]


def place(raw: np.ndarray, mask: np.ndarray, inverted: bool, transform: Similarity, scale: float) -> np.ndarray:
    """The hand in the frame at ``scale``, bones bright, contrast equal, background 0: uint8 [height, width].

    ``raw`` is uint8 and ``mask`` bool, both [height, width]; ``inverted`` says that bones are dark; ``transform`` leads from
    raw pixels to the frame at scale 1; ``scale`` is 1/4 in Iglovikov et al. 2018. Contrast is equalized in the frame and not
    before, so that the length of forearm in the picture has no part in it.
    """
    way, size = resized(scale).after(transform), frame_size(scale)
    hand = warp(255 - raw if inverted else raw, way, size)
    return equalize(hand, warp(mask.astype(np.uint8) * 255, way, size) > 127)


def frame_size(scale: float) -> tuple[int, int]:
    """Height and width of the frame at ``scale``."""
    return _rounded(FRAME[0] * scale), _rounded(FRAME[1] * scale)


def region_box(name: str, scale: float) -> tuple[int, int, int, int]:
    """``top``, ``left``, ``height``, ``width`` of a region of ``REGIONS`` in the frame at ``scale``, inside it."""
    region, (rows, columns) = REGIONS[name], frame_size(scale)
    height, width = _rounded(region.height * scale), _rounded(region.width * scale)
    top, left = _rounded(region.row * scale - height / 2), _rounded(region.column * scale - width / 2)
    return min(max(top, 0), rows - height), min(max(left, 0), columns - width), height, width


def cut(registered: np.ndarray, scale: float) -> dict[str, np.ndarray]:
    """All regions of a hand in the frame at ``scale``, by name."""
    boxes = {name: region_box(name, scale) for name in REGIONS}
    return {name: registered[top:top + height, left:left + width] for name, (top, left, height, width) in boxes.items()}


def _outside(points: np.ndarray, raw_size: tuple[int, int]) -> str:
    edge, slack = np.array(raw_size[::-1]) - 0.5, SLACK * max(raw_size)
    inside = (points >= -0.5 - slack) & (points <= edge + slack)
    return "" if inside.all() else "landmark outside the picture"


def _implausible(finger: np.ndarray, thumb: np.ndarray, raw_size: tuple[int, int]) -> str:
    """What is wrong with the hand's proportions; ``finger`` and ``thumb`` are tips as seen from the capitate."""
    length, ratio = np.linalg.norm(finger), np.linalg.norm(thumb) / np.linalg.norm(finger)
    if length < SHORTEST * max(raw_size):
        return "fingertip and capitate too close"
    if not THUMB[0] < ratio < THUMB[1]:
        return "thumb too short" if ratio < 1 else "thumb too long"
    angle = np.degrees(np.arctan2(abs(finger[0] * thumb[1] - finger[1] * thumb[0]), finger @ thumb))
    if angle < ON_AXIS:
        return "thumb on the axis"
    return "thumb points backward" if angle > BACKWARD else ""


def _rounded(value: float) -> int:
    """The nearest integer, halves up."""
    return int(np.floor(value + 0.5))
