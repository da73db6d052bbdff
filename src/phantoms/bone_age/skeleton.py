"""Where the bones of one hand lie: rays, joints and carpals from spread and proportions; how the hand lies on the plate.

Coordinates are those of anatomy.py: mm of an adult male hand around the capitate, x to the thumb, y to the fingertips.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.bone_age import anatomy
from phantoms.bone_age.anatomy import ADULT_LENGTH, CARPALS, SESAMOID, TUBULAR

SPREAD = 4.0
"""SD in degrees of the angle of each finger."""
PROPORTION = 0.025
"""SD of a bone's length as a share: hands differ in shape."""
BEND = 5.0
"""SD in degrees of the wrist to either side."""
LOOSE, PROXIMAL = 0.7, -8.0
"""SD in mm of a carpal's place, and the height below which carpals belong to the proximal row."""
JOINT = 1.3
"""Space between two bones of a finger in mm."""
SKIN = 4.0
"""Soft tissue beyond the last phalanx in mm."""


@dataclass(frozen=True)
class Lying:
    """A bone in its place."""

    start: np.ndarray
    """[2]: where its coordinate u is 0: the end with the epiphysis; a carpal's center."""
    along: np.ndarray
    """[2], unit: direction of u; of a carpal, of its second half-axis."""
    length: float
    """0 for a carpal."""


@dataclass(frozen=True)
class Skeleton:
    """All bones, and what skin and landmarks need."""

    bones: dict[str, Lying]
    joints: dict[int, np.ndarray]
    """Of rays 1-5, [k, 2]: base of the metacarpal, the joints, the tip of the last phalanx."""
    forearm: np.ndarray
    """[2, 2]: middle of the wrist and of the forearm at its far end."""
    landmarks: np.ndarray
    """[3, 2]: tips of the third and first distal phalanges, center of the capitate."""


def direction(degrees: float) -> np.ndarray:
    """Unit vector [2] turned from the fingertips towards the thumb."""
    return np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])


def lay(rng: np.random.Generator) -> Skeleton:
    """Draw the angles and proportions of one hand."""
    bones: dict[str, Lying] = {}
    joints = {ray: _lay_ray(rng, ray, bones) for ray in range(1, 6)}
    wrist = np.array([-4.5, -27.0])
    bend = rng.normal(0, BEND)
    arm = direction(bend)
    for name, start in anatomy.FOREARM.items():
        along = -arm if name == "radius" else -_turned(arm, -1.5)
        bones[name] = Lying(np.array(start), along, TUBULAR[name].length)
    bones |= {name: _lay_carpal(rng, name, bend) for name in CARPALS}
    bones["sesamoid"] = _lay_sesamoid(bones["MC1"])
    landmarks = np.array([joints[3][-1], joints[1][-1], [0.0, 0.0]])
    return Skeleton(bones, joints, np.array([wrist, wrist - 190 * arm]), landmarks)


def _lay_ray(rng: np.random.Generator, ray: int, bones: dict[str, Lying]) -> np.ndarray:
    """Place metacarpal and phalanges of one ray; return its joints."""
    place = np.array(anatomy.METACARPAL_BASES[ray])
    metacarpal = anatomy.METACARPAL_ANGLES[ray] + rng.normal(0, 1.5 if ray > 1 else SPREAD)
    finger = anatomy.FINGER_ANGLES[ray] + rng.normal(0, SPREAD)
    joints = [place]
    for prefix in ("MC", "PP", "MP", "DP"):
        bone = TUBULAR.get(f"{prefix}{ray}")
        if bone is None:
            continue
        along = direction(metacarpal if prefix == "MC" else finger)
        length = bone.length * (1 + rng.normal(0, PROPORTION))
        far = place + length * along
        distal = prefix == "MC" and ray > 1
        bones[f"{prefix}{ray}"] = Lying(far if distal else place, -along if distal else along, length)
        joints.append(far)
        place = far + JOINT * along
        finger += rng.normal(0, 1.0)
    return np.array(joints)


def _lay_carpal(rng: np.random.Generator, name: str, bend: float) -> Lying:
    """Where a carpal lies when the wrist bends by ``bend`` degrees; half of that happens between the two rows."""
    carpal = CARPALS[name]
    turn = bend / 2 if carpal.center[1] < PROXIMAL else 0.0
    center = _turned(np.array(carpal.center), -turn) + (name != "capitate") * rng.normal(0, LOOSE, 2)
    return Lying(center, direction(carpal.turn + turn + rng.normal(0, 3)), 0.0)


def _lay_sesamoid(metacarpal: Lying) -> Lying:
    """Beside the head of the first metacarpal, on the side of the second."""
    head = metacarpal.start + (metacarpal.length - 1.0) * metacarpal.along
    side = np.array([-metacarpal.along[1], metacarpal.along[0]])
    return Lying(head + (TUBULAR["MC1"].end + SESAMOID.radii[0] - 2.0) * side, metacarpal.along, 0.0)


def _turned(vector: np.ndarray, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([cosine * vector[0] - sine * vector[1], sine * vector[0] + cosine * vector[1]])


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
    low, top, wrist = extent(skeleton, turn)
    top[1] = max(top[1], wrist + rng.uniform(*ARM))
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


def extent(skeleton: Skeleton, turn: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Upper left and lower right corner in mm of the hand turned by degrees, and how low its wrist is; y points down."""
    points = np.concatenate([*skeleton.joints.values(), skeleton.forearm[:1]]) @ axes(turn)
    return points.min(0) - MARGIN, points.max(0) + MARGIN, points[-1, 1]


def _field(rng: np.random.Generator, corner: np.ndarray, extent: np.ndarray, scale: float,
           picture: tuple[int, int]) -> np.ndarray:
    """A box around the hand, a little askew, or (in a quarter) the whole picture."""
    margin = scale * rng.uniform(2, 22, 4)
    tilt = np.radians(rng.normal(0, 2.5))
    if rng.random() < 0.25:
        return np.array([[-1, -1], [picture[0], -1], [picture[0], picture[1]], [-1, picture[1]]], float)
    low, high = -extent / 2 - margin[:2], extent / 2 + margin[2:]
    box = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return box @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]) + (corner + extent / 2)
