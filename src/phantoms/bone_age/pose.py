"""How the hand lies on the plate: size of the picture, scale, turn, place, and the collimated field."""

from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.bone_age.anatomy import ADULT_LENGTH
from phantoms.bone_age.skeleton import Skeleton

TURN = 12.0, 35.0
"""SD and limit of the turn in degrees."""
LANDSCAPE = 0.08
"""Share of pictures that are wider than high."""
ARM = 30.0, 75.0
"""Visible forearm in mm below the wrist, of an adult."""
MARGIN = 14.0
"""Least distance of the skin from the border of the field, in mm of bone coordinates beyond joints and tips."""


@dataclass(frozen=True)
class Pose:
    """From mm around the capitate to pixels (x right, y down, pixel centers at integers), before mirroring."""

    height: int
    width: int
    scale: float
    """Pixels a mm of the adult-sized hand of anatomy.py."""
    turn: float
    """Degrees, clockwise in the picture."""
    shift: np.ndarray
    """[2]: pixel of the capitate."""
    field: np.ndarray
    """[4, 2]: corners of the collimated field in pixels."""

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """[..., 2] mm -> [..., 2] pixels."""
        return self.scale * points @ axes(self.turn) + self.shift


def axes(turn: float) -> np.ndarray:
    """[2, 2]: directions in the picture of the hand's x and y; y points up in the hand and down in the picture."""
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return np.array([[cosine, sine], [sine, -cosine]])


def draw_pose(rng: np.random.Generator, skeleton: Skeleton, length: float, size: int) -> Pose:
    """Place a hand of ``length`` mm in a picture whose long side is about ``size`` pixels.

    Small hands fill less of the picture, since fields are not made to measure: size remains a sign of age and sex.
    """
    turn = float(np.clip(rng.normal(0, TURN[0]), -TURN[1], TURN[1]))
    high = round(size * rng.uniform(0.9, 1.08))
    wide = round(high * rng.uniform(0.76, 0.92))
    height, width = (wide, high) if rng.random() < LANDSCAPE else (high, wide)
    low, top = _extent(skeleton, turn, rng.uniform(*ARM))
    fill = 0.97 * min((length / ADULT_LENGTH) ** 0.35, 1.0) * rng.uniform(0.86, 1.0)
    scale = fill * min(height / (top - low)[1], width / (top - low)[0])
    free = np.array([width, height]) - scale * (top - low)
    corner = free * (rng.uniform(0.25, 0.75), rng.uniform(0.4, 0.95))
    return Pose(height, width, float(scale), turn, corner - scale * low,
                _field(rng, corner, scale * (top - low), scale, (width, height)))


def field_mask(pose: Pose) -> np.ndarray:
    """Mask [height, width], uint8 0/1, of what the beam reaches."""
    mask = np.zeros((pose.height, pose.width), np.uint8)
    return cv2.fillConvexPoly(mask, np.rint(pose.field * 16).astype(np.int32), 1, shift=4)


def _extent(skeleton: Skeleton, turn: float, arm: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper left and lower right corner in mm of the turned hand, as far as the forearm is to be seen."""
    points = np.concatenate([*skeleton.joints.values(), skeleton.forearm[:1]]) @ axes(turn)
    low, top = points.min(0) - MARGIN, points.max(0) + MARGIN
    top[1] = max(top[1], points[-1, 1] + arm)
    return low, top


def _field(rng: np.random.Generator, corner: np.ndarray, extent: np.ndarray, scale: float,
           picture: tuple[int, int]) -> np.ndarray:
    """A box around the hand, a little askew, or (in a quarter) the whole picture."""
    margin = scale * rng.uniform(2, 22, 4)
    tilt = np.radians(rng.normal(0, 2.5))
    if rng.random() < 0.25:
        return np.array([[-1, -1], [picture[0], -1], [picture[0], picture[1]], [-1, picture[1]]], float)
    center, half = corner + extent / 2, extent / 2
    box = np.array([[-half[0] - margin[0], -half[1] - margin[1]], [half[0] + margin[2], -half[1] - margin[1]],
                    [half[0] + margin[2], half[1] + margin[3]], [-half[0] - margin[0], half[1] + margin[3]]])
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    return box @ turn + center
