"""Outline of the soft tissue around a skeleton: tubes around the fingers, hulls for palm, thenar and forearm."""

import cv2
import numpy as np

from phantoms.bone_age.pose import Pose
from phantoms.bone_age.skeleton import SKIN, Skeleton

FINGER = (9.8, 9.0, 7.9, 6.5)
"""Radius in mm at knuckle, two joints and tip of a finger: 1.9 times the bone."""
THUMB = (10.5, 9.6, 7.4)
SLENDER = {1: 1.0, 2: 1.0, 3: 1.02, 4: 0.96, 5: 0.84}
"""Factor on a ray's radii."""
THICK, EDGE = 26.0, 20.0
"""Depth of the palm in mm, and the distance from the outline over which it is reached."""
FRACTION = 4
"""Bits below the pixel in OpenCV's coordinates."""
CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)

Disc = tuple[np.ndarray, float]


def outline(skeleton: Skeleton, plump: float, pose: Pose) -> np.ndarray:
    """Mask [height, width], uint8 0/1, of the hand and forearm; ``plump`` scales the radii (young hands are rounder)."""
    mask = np.zeros((pose.height, pose.width), np.uint8)
    for part in [*_fingers(skeleton, plump), *_palm(skeleton, plump)]:
        discs = np.concatenate([pose.to_pixels(center) + radius * pose.scale * CIRCLE for center, radius in part])
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(discs * 2**FRACTION).astype(np.int32)), 1, shift=FRACTION)
    # Blurring and cutting at one half rounds the webs between the fingers.
    smooth = cv2.GaussianBlur(mask * np.float32(1), (0, 0), max(1.6 * pose.scale, 0.5))
    return (smooth > 0.5).astype(np.uint8)


def depth(mask: np.ndarray, scale: float) -> np.ndarray:
    """Soft tissue in mm along the ray [height, width]: an edge like a circle's, then flat; ``scale`` is pixels a mm."""
    away = cv2.distanceTransform(mask, cv2.DIST_L2, 5) / scale
    back = 1 - np.minimum(away / EDGE, 1)
    return cv2.GaussianBlur(THICK * np.sqrt(1 - back * back), (0, 0), max(1.2 * scale, 0.5))


def _fingers(skeleton: Skeleton, plump: float) -> list[list[Disc]]:
    parts = []
    for ray, joints in skeleton.joints.items():
        radii = [radius * SLENDER[ray] * plump for radius in (THUMB if ray == 1 else FINGER)]
        points = list(joints[1:])
        tip = points[-1] - points[-2]
        points[-1] = points[-1] + (SKIN - radii[-1]) * tip / np.linalg.norm(tip)
        parts += [list(zip(points[place:place + 2], radii[place:place + 2])) for place in range(len(points) - 1)]
    return parts


def _palm(skeleton: Skeleton, plump: float) -> list[list[Disc]]:
    joints = skeleton.joints
    wrist, elbow = skeleton.forearm
    side = np.array([wrist[1] - elbow[1], elbow[0] - wrist[0]]) / np.linalg.norm(wrist - elbow)
    knuckles = [(joints[ray][1], FINGER[0] * SLENDER[ray] * plump) for ray in range(2, 6)]
    heel = [(np.array([14.0, -14.0]), 10.0 * plump), (np.array([-16.0, -12.0]), 10.0 * plump)]
    base, head = joints[1][:2]
    thenar = [(head, THUMB[0] * plump), (base, 9.0 * plump), (0.5 * joints[2][0] + 0.5 * joints[2][1], 5.0),
              (np.array([12.0, -12.0]), 11.0 * plump)]
    waist = [(wrist + x * side, 11.0 * plump**0.5) for x in (-17.0, 19.0)]
    return [knuckles + heel, thenar, heel + waist, waist + [(elbow + x * side, 17.0 * plump) for x in (-20.0, 22.0)]]
