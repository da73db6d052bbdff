"""Bone and soft tissue of one hand along the rays, in pixels, and how they become the stored picture.

Thicknesses are mm of compact bone, weighed by density. A bone is a shell of compact bone around spongy bone; both are as
deep as they are wide. In a bone's own coordinates ``u`` runs from the epiphysis along the shaft and ``v`` across it, in mm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.bone_age import anatomy
from phantoms.bone_age.anatomy import (
    CARPALS,
    SESAMOID,
    SKIN,
    STUBBY,
    TUBULAR,
    Carpal,
    Lying,
    Pose,
    Skeleton,
    Stage,
    Tubular,
    carpal_size,
    field_mask,
    ramp,
)
from phantoms.bone_age.law import Person

SPONGY = 0.45
"""Attenuation of the medulla as a share of that of the cortex."""
END = 0.45
"""Cortex at the ends of bones, where it is a thin plate, in mm."""
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
MU_BONE, MU_SOFT = 0.075, 0.022
"""Attenuation of compact bone and soft tissue a mm."""
MIRRORED, INVERTED, RINGED, DEEP, COLORED = 0.12, 0.03, 0.01, 0.1, 0.15
"""Shares of pictures that are mirrored, of opposite polarity, show a ring, have 16 bit, have three equal channels."""
REFERENCE = 1300
"""Long side in pixels to which the blur belongs."""


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


def outline(skeleton: Skeleton, plump: float, pose: Pose) -> np.ndarray:
    """Mask [height, width], uint8 0/1, of the hand and forearm; ``plump`` scales the radii (young hands are rounder)."""
    mask = np.zeros((pose.height, pose.width), np.uint8)
    for part in [*_fingers(skeleton, plump), *_palm(skeleton, plump)]:
        discs = np.concatenate([pose.to_pixels(center) + radius * pose.scale * CIRCLE for center, radius in part])
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(discs * 2**FRACTION).astype(np.int32)), 1, shift=FRACTION)
    # Blurring and cutting at one half rounds the webs between the fingers.
    smooth = cv2.GaussianBlur(mask * np.float32(1), (0, 0), max(1.6 * pose.scale, 0.5))
    return (smooth > 0.5).astype(np.uint8)


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
    # Soft tissue has an edge like a circle's, then is flat.
    back = 1 - np.minimum(cv2.distanceTransform(mask, cv2.DIST_L2, 5) / pose.scale / EDGE, 1)
    soft = cv2.GaussianBlur(THICK * np.sqrt(1 - back * back), (0, 0), max(1.2 * pose.scale, 0.5))
    return Hand(bone, soft, mask)


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


@dataclass(frozen=True)
class Exposure:
    """How one picture was taken and stored."""

    gamma: float
    base: float
    """Gray level of air, 0-1."""
    top: float
    """Gray level of the densest bone."""
    outside: float
    """Gray level beyond the field."""
    tilt: tuple[float, float]
    """Change of gray level across the picture, from side to side and from top to bottom."""
    blur: float
    """Sigma in pixels of a picture of 1300."""
    noise: float
    texture: float
    """SD of the trabecular pattern as a share of the bone."""
    mirrored: bool
    inverted: bool
    ringed: bool
    deep: bool
    colored: bool


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw the conditions of one picture."""
    chances = rng.random(5) < (MIRRORED, INVERTED, RINGED, DEEP, COLORED)
    base = rng.uniform(0.02, 0.22)
    return Exposure(rng.uniform(0.6, 1.6), base, rng.uniform(max(base + 0.5, 0.72), 1.0),
                    rng.choice([rng.uniform(0, 0.08), rng.uniform(0.1, 0.5)]), tuple(rng.normal(0, 0.03, 2)),
                    rng.uniform(0.6, 1.2), rng.uniform(0.006, 0.018), rng.uniform(0.02, 0.06), *map(bool, chances))


def expose(rng: np.random.Generator, hand: Hand, skeleton: Skeleton, pose: Pose, how: Exposure) -> np.ndarray:
    """The picture [height, width], float32 0-1, mirrored and inverted where the exposure says so."""
    field = field_mask(pose)
    attenuation = MU_BONE * hand.bone * (1 + how.texture * _grain(rng, pose)) + MU_SOFT * hand.soft
    if how.ringed:
        _ring(attenuation, skeleton, pose)
    blur = how.blur * max(max(pose.height, pose.width) / REFERENCE, 0.5)
    passed = 1 - np.exp(-cv2.GaussianBlur(attenuation, (0, 0), blur))
    bright = np.clip(passed / 0.78, 0, 1.15) ** how.gamma
    x, y = (np.linspace(-1, 1, count, dtype=np.float32) for count in (pose.width, pose.height))
    picture = how.base + (how.top - how.base) * bright + (how.tilt[0] * x + how.tilt[1] * y[:, None])
    inside = cv2.GaussianBlur(field * np.float32(1), (0, 0), max(pose.scale, 0.6))  # the field's border is a mm or two wide
    picture = (inside * picture + (1 - inside) * how.outside).astype(np.float32)
    _marker(rng, picture, hand.mask | (1 - field), pose, how.mirrored)
    picture += how.noise * np.sqrt(1.1 - passed) * rng.standard_normal(picture.shape, np.float32)
    picture = np.clip(1 - picture if how.inverted else picture, 0, 1)
    return np.ascontiguousarray(picture[:, ::-1]) if how.mirrored else picture


def stored(picture: np.ndarray, how: Exposure) -> np.ndarray:
    """Gray levels 0-1 -> uint8 or uint16 [height, width] or [height, width, 3]."""
    levels = np.rint(picture * (65535 if how.deep else 255)).astype(np.uint16 if how.deep else np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2) if how.colored else levels


def _grain(rng: np.random.Generator, pose: Pose) -> np.ndarray:
    """Pattern of unit variance with grains of about a mm."""
    small = rng.standard_normal((pose.height // 2 + 1, pose.width // 2 + 1), np.float32)
    grain = cv2.resize(cv2.GaussianBlur(small, (0, 0), max(0.4 * pose.scale, 0.4)), (pose.width, pose.height))
    return grain / grain.std()


def _ring(attenuation: np.ndarray, skeleton: Skeleton, pose: Pose) -> None:
    """A metal ring around the fourth proximal phalanx, in place."""
    place = skeleton.bones["PP4"]
    low, high = 0.3 * place.length, 0.3 * place.length + 3.0
    add(attenuation, pose, place, lambda u, v: 2.5 * ((u > low) & (u < high) & (np.abs(v) < 9.5)), (low, high, 10.0))


def _marker(rng: np.random.Generator, picture: np.ndarray, taken: np.ndarray, pose: Pose, mirrored: bool) -> None:
    """Burn a lead letter into ``picture`` where ``taken`` [height, width] is free; without room there is none.

    The mirrored picture is turned over afterwards; its letter reads R when it was a right hand, or an L from behind.
    """
    letter = "L" if not mirrored or rng.random() < 0.5 else "R"
    size = round(max(pose.height, pose.width) * rng.uniform(0.045, 0.075))
    glyph = np.zeros((size, size), np.uint8)
    cv2.putText(glyph, letter, (round(0.15 * size), round(0.85 * size)), cv2.FONT_HERSHEY_SIMPLEX, size / 30, 255,
                max(size // 12, 1), cv2.LINE_AA)
    glyph = glyph[:, ::-1] if letter == "R" else glyph
    for left, top in rng.uniform(0, 1, (12, 2)) * (pose.width - size, pose.height - size):
        box = np.s_[int(top):int(top) + size, int(left):int(left) + size]
        if not taken[box].any():
            picture[box] = np.maximum(picture[box], np.float32(rng.uniform(0.0033, 0.0039)) * glyph)
            return
