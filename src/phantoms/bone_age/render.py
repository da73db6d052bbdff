"""Bone and soft tissue of one hand along the rays, in pixels; thicknesses are mm of compact bone, weighed by density.

A bone is a shell of compact bone around spongy bone; both are as deep as they are wide. In a bone's own coordinates
``u`` runs from the epiphysis along the shaft and ``v`` across it, in mm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.bone_age import anatomy
from phantoms.bone_age.anatomy import CARPALS, SESAMOID, STUBBY, TUBULAR, Carpal, Stage, Tubular, carpal_size, ramp
from phantoms.bone_age.law import Person
from phantoms.bone_age.skeleton import SKIN, Lying, Pose, Skeleton

SPONGY = 0.45
"""Attenuation of the medulla as a share of that of the cortex."""
END = 0.45
"""Cortex at the ends of bones, where it is a thin plate, in mm."""


def shell(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Squares of the outer and the inner half-depth (negative outside) -> mm of compact bone along the ray."""
    depth = np.sqrt(np.maximum(outer, 0))
    return 2 * (depth - (1 - SPONGY) * np.minimum(np.sqrt(np.maximum(inner, 0)), depth))


def rounded(depth: np.ndarray, radius: float) -> np.ndarray:
    """Share of the full width at ``depth`` behind an end that is rounded over ``radius``; 0 outside."""
    back = 1 - np.clip(depth / radius, 0, 1)
    return np.sqrt(1 - back * back)


def shaft(u: np.ndarray, v: np.ndarray, ends: tuple[float, float], half: np.ndarray, cortex: np.ndarray,
          rounding: tuple[float, float]) -> np.ndarray:
    """A tube of half-width ``half`` and thickness ``cortex`` along ``u``, between ``ends`` rounded over ``rounding``."""
    across = v * v
    outer = half * rounded(u - ends[0], rounding[0]) * rounded(ends[1] - u, rounding[1])
    inner = (half - cortex) * rounded(u - ends[0] - END, rounding[0]) * rounded(ends[1] - END - u, rounding[1])
    return shell(outer * outer - across, inner * np.abs(inner) - across)


def disc(u: np.ndarray, v: np.ndarray, thick: float, half: float, depth: float, flat: float) -> np.ndarray:
    """An epiphysis around the origin: ``thick`` and ``half`` are half-axes; ``flat`` 2 is an ellipse, 4 a rounded box."""
    def square(less: float) -> np.ndarray:
        edge = np.abs(v / max(half - less, 0.05)) ** flat + np.abs(u / max(thick - less, 0.05)) ** flat
        return (depth - less) ** 2 * (1 - edge)

    return shell(square(0.0), square(END))


def blob(x: np.ndarray, y: np.ndarray, radii: tuple[float, float], humps: tuple[float, float]) -> np.ndarray:
    """A carpal bone: an ellipse around the origin; ``humps``, shares of the radius, are its third and fourth harmonics."""
    a, b = x / radii[0], y / radii[1]
    away = np.hypot(a, b) + 1e-6
    cosine = b / away
    edge = 1 + humps[0] * (4 * cosine**3 - 3 * cosine) + humps[1] * (8 * cosine**4 - 8 * cosine**2 + 1)
    ratio = (away / edge) ** 2
    small = min(radii)
    within = 1 - min(0.8 / small, 0.5)
    return shell(small**2 * (1 - ratio**1.5), (small * within) ** 2 * (1 - (ratio / within**2) ** 1.5))


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
FLAT, HEAD = 0.27, 0.58
"""Half-thickness of a ripe epiphysis as a share of half the shaft's width: discs at bases, round heads of metacarpals."""
OVAL = 0.65
"""Depth of the forearm's bones as a share of their width; those of the hand are as deep as wide."""
PLUMP = 0.7
"""Power of the bones' stubbiness by which the soft tissue is thicker in the young."""
Local = Callable[[np.ndarray, np.ndarray], np.ndarray]


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


@dataclass(frozen=True)
class Hand:
    """What the beam passes. All [height, width]."""

    bone: np.ndarray
    """mm of compact bone."""
    soft: np.ndarray
    """mm of soft tissue."""
    mask: np.ndarray
    """uint8 0/1: inside the skin."""


def draw_hand(person: Person, skeleton: Skeleton, pose: Pose) -> Hand:
    """Draw all bones and the skin."""
    bone = np.zeros((pose.height, pose.width), np.float32)
    stubby = []
    for name, tubular in TUBULAR.items():
        look, length = anatomy.stage(tubular, person.maturity[name]), skeleton.bones[name].length
        stubby.append(look.stubby)
        add(bone, pose, skeleton.bones[name], _tubular(name, tubular, length, look, person.robust),
            (0, length, 1.15 * look.stubby * max(tubular.epiphysis, tubular.end)))
    for name, carpal in (CARPALS | {"sesamoid": SESAMOID}).items():
        size = carpal_size(carpal, person.maturity[name])
        if size > 0:
            reach, shape = 1.25 * size * max(carpal.radii), ramp(person.maturity[name], carpal.appears, anatomy.MORPHING)
            add(bone, pose, skeleton.bones[name], _carpal(carpal, size, shape), (-reach, reach, reach))
    mask = outline(skeleton, float(np.mean(stubby)) ** PLUMP, pose)
    return Hand(bone, depth(mask, pose.scale), mask)


def add(picture: np.ndarray, pose: Pose, lying: Lying, draw: Local, reach: tuple[float, float, float]) -> None:
    """Add ``draw(u, v)`` to ``picture`` where u is from ``reach[0]`` to ``reach[1]`` and v within ``reach[2]``, in mm."""
    start = pose.to_pixels(lying.start)
    along = (pose.to_pixels(lying.start + lying.along) - start) / pose.scale
    across = np.array([-along[1], along[0]])
    corners = start + pose.scale * np.array([u * along + v * across for u in reach[:2] for v in (-reach[2], reach[2])])
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (pose.width, pose.height))
    if left >= right or top >= bottom:
        return
    x = (np.arange(left, right, dtype=np.float32) - np.float32(start[0])) / np.float32(pose.scale)
    y = ((np.arange(top, bottom, dtype=np.float32) - np.float32(start[1])) / np.float32(pose.scale))[:, None]
    u, v = (x * np.float32(axis[0]) + y * np.float32(axis[1]) for axis in (along, across))
    picture[top:bottom, left:right] += draw(u, v)


def _tubular(name: str, bone: Tubular, length: float, look: Stage, robust: float) -> Local:
    """The bone's compact mm as a function of u and v: shaft, epiphysis, and what closes the gap between them."""
    base, middle, end = look.stubby * bone.epiphysis, look.stubby * robust * bone.middle, look.stubby**0.5 * bone.end
    is_head = name[:2] == "MC" and bone.ray > 1
    thick = (HEAD if is_head else FLAT) * bone.epiphysis
    gap = look.gap * bone.epiphysis
    cartilage = (look.stubby - 1) / STUBBY
    begins = 2 * thick + gap + 0.2 * (1 - look.ossified) * bone.epiphysis
    ends = length - (0.0 if name[:2] == "DP" else 0.45 * cartilage * bone.end)  # the tuft is bone from birth
    center = begins - gap - thick * look.ossified**0.6

    def draw(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        share = np.clip(u / length, 0, 1)
        half = middle + (base - middle) * (1 - share) ** 4 + (end - middle) * share**4
        cortex = robust * look.stubby**0.5 * bone.middle * (0.1 + 0.4 * (4 * share * (1 - share)))
        bone_mm = shaft(u, v, (begins, ends), half, cortex, (0.35 * base, 0.9 * end))
        if look.ossified > 0:
            wide = base * look.ossified * (0.97 + look.capping)
            bent = u - center - 2.2 * look.capping * thick * np.abs(v / base) ** 3  # the rim grips the shaft
            flat = 2.0 if is_head else 2 + look.ossified
            bone_mm += disc(bent, v, thick * look.ossified**0.6, wide, 0.85 * wide, flat)
        if look.fused > 0:
            closed = np.clip((1.6 * look.fused - np.abs(v) / base) / 0.6, 0, 1)  # first in the center of the gap
            bone_mm = np.maximum(bone_mm, closed * shaft(u, v, (center, begins + 0.4 * base), half, cortex, (0.3, 0.3)))
            line = np.exp(-(((u - begins + gap / 2) / 0.5) ** 2))  # of the closed plate, dense and half a mm thin
            bone_mm += 3.0 * look.scar * line * (np.abs(v) < 0.92 * half)
        return bone_mm * (1 if bone.ray else OVAL)

    return draw


def _carpal(bone: Carpal, size: float, shape: float) -> Local:
    """An ossification center that is round at first and takes the adult's outline."""
    round_ = np.sqrt(bone.radii[0] * bone.radii[1])
    across, along = (size * (round_ + shape * (radius - round_)) for radius in bone.radii)
    return lambda u, v: blob(v, u, (across, along), (shape * bone.triangle, shape * bone.square))
