"""How the hand lies in the picture: both orientations, turn, scale, visible forearm, field."""

import numpy as np

from phantoms.bone_age.pose import MARGIN, Pose, axes
from phantoms.bone_age.skeleton import Skeleton

REFERENCE = 1302.0
"""Long side of an upright picture, to which ``size`` belongs."""
UPRIGHT, ACROSS = (1302, 989), (900, 1400)
"""Height and width of the clinic's pictures."""
LANDSCAPE = 0.25
"""Share of pictures that are wider than high."""
TURN = 12.0
"""Greatest turn in degrees to either side."""
SCALE = 0.88, 1.08
"""Share of the picture that an adult's hand would fill, at most all of it: +-10 %."""
ARM = 46.0, 62.0
"""Visible forearm in mm below the wrist."""
CUT, CUT_ARM = 0.05, (16.0, 26.0)
"""Share of pictures that end just below the wrist, and where."""
WHOLE_FIELD = 0.5
"""Share of pictures without collimation."""


def draw_place(rng: np.random.Generator, skeleton: Skeleton, length: float, size: int) -> Pose:
    """Place a hand whose length is the share ``length`` of an adult's in a picture with a long side of about ``size``."""
    height, width = (round(side * size / REFERENCE) for side in (ACROSS if rng.random() < LANDSCAPE else UPRIGHT))
    turn = float(rng.uniform(-TURN, TURN))
    cut = rng.random() < CUT
    points = np.concatenate([*skeleton.joints.values(), skeleton.forearm[:1]]) @ axes(turn)
    low, top = points.min(0) - MARGIN, points.max(0) + MARGIN
    arm = float(rng.uniform(*(CUT_ARM if cut else ARM)))
    top[1] = points[-1, 1] + arm
    fill = min(rng.uniform(*SCALE) * length**0.25, 1.0)
    scale = float(fill * min(height / (top - low)[1], width / (top - low)[0]))
    free = np.array([width, height]) - scale * (top - low)
    corner = free * (rng.uniform(0.3, 0.7), 1.0 if cut else rng.uniform(0.4, 0.8))
    return Pose(height, width, scale, turn, corner - scale * low, _field(rng, corner, scale * (top - low), scale, cut,
                                                                         (width, height)))


def _field(rng: np.random.Generator, corner: np.ndarray, extent: np.ndarray, scale: float, cut: bool,
           picture: tuple[int, int]) -> np.ndarray:
    """The whole picture, or a box around the hand that leaves the visible forearm inside; [4, 2] pixels."""
    (left, top), (right, bottom) = corner, corner + extent
    if cut or rng.random() < WHOLE_FIELD:
        left, top, right, bottom = -1, -1, *picture
    else:
        margins = scale * rng.uniform(1, 15, 4)
        left, top, right, bottom = left - margins[0], top - margins[1], right + margins[2], bottom + margins[3]
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
