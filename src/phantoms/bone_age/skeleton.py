"""Where the bones of one hand lie: rays, joints and carpals from spread and proportions.

Coordinates are those of anatomy.py: mm of an adult male hand around the capitate, x to the thumb, y to the fingertips.
"""

from dataclasses import dataclass

import numpy as np

from phantoms.bone_age import anatomy
from phantoms.bone_age.anatomy import CARPALS, SESAMOID, TUBULAR

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
