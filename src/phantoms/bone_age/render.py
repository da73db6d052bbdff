"""Bone and soft tissue of one hand along the rays, in pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phantoms.bone_age import shapes, skin
from phantoms.bone_age.anatomy import CARPALS, SESAMOID, TUBULAR, Carpal, Tubular
from phantoms.bone_age.growth import STUBBY, Stage, carpal_shape, carpal_size, stage
from phantoms.bone_age.latents import Person
from phantoms.bone_age.pose import Pose
from phantoms.bone_age.skeleton import Lying, Skeleton

FLAT, HEAD = 0.27, 0.58
"""Half-thickness of a ripe epiphysis as a share of half the shaft's width: discs at bases, round heads of metacarpals."""
OVAL = 0.65
"""Depth of the forearm's bones as a share of their width; those of the hand are as deep as wide."""
PLUMP = 0.7
"""Power of the bones' stubbiness by which the soft tissue is thicker in the young."""

Local = Callable[[np.ndarray, np.ndarray], np.ndarray]


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
        look = stage(tubular, person.maturity[name])
        stubby.append(look.stubby)
        add(bone, pose, skeleton.bones[name], _tubular(name, tubular, skeleton.bones[name].length, look, person.robust),
            (0, skeleton.bones[name].length, 1.15 * look.stubby * max(tubular.epiphysis, tubular.end)))
    for name, carpal in (CARPALS | {"sesamoid": SESAMOID}).items():
        size = carpal_size(carpal, person.maturity[name])
        if size > 0:
            reach = 1.25 * size * max(carpal.radii)
            add(bone, pose, skeleton.bones[name], _carpal(carpal, size, carpal_shape(carpal, person.maturity[name])),
                (-reach, reach, reach))
    mask = skin.outline(skeleton, float(np.mean(stubby)) ** PLUMP, pose)
    return Hand(bone, skin.depth(mask, pose.scale), mask)


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

    def widths(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = np.clip(u / length, 0, 1)
        waist = 4 * share * (1 - share)
        half = middle + (base - middle) * (1 - share) ** 4 + (end - middle) * share**4
        return half, robust * look.stubby**0.5 * bone.middle * (0.1 + 0.4 * waist)

    def draw(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        half, cortex = widths(u)
        bone_mm = shapes.shaft(u, v, (begins, ends), half, cortex, (0.35 * base, 0.9 * end))
        if look.ossified > 0:
            wide = base * look.ossified * (0.97 + look.capping)
            bent = u - center - 2.2 * look.capping * thick * np.abs(v / base) ** 3  # the rim grips the shaft
            flat = 2.0 if is_head else 2 + look.ossified
            bone_mm += shapes.disc(bent, v, thick * look.ossified**0.6, wide, 0.85 * wide, flat)
        if look.fused > 0:
            bone_mm = np.maximum(bone_mm, _closure(u, v, half, cortex, (center, begins + 0.4 * base), look, base))
            bone_mm += _scar(u - begins + gap / 2, v, half, look.scar)
        return bone_mm * (1 if bone.ray else OVAL)

    return draw


def _closure(u: np.ndarray, v: np.ndarray, half: np.ndarray, cortex: np.ndarray, ends: tuple[float, float], look: Stage,
             base: float) -> np.ndarray:
    """Bone in the gap: first in its center."""
    closed = np.clip((1.6 * look.fused - np.abs(v) / base) / 0.6, 0, 1)
    return closed * shapes.shaft(u, v, ends, half, cortex, (0.3, 0.3))


def _scar(u: np.ndarray, v: np.ndarray, half: np.ndarray, seen: float) -> np.ndarray:
    """The line of the closed plate, dense and half a mm thin."""
    return 3.0 * seen * np.exp(-((u / 0.5) ** 2)) * (np.abs(v) < 0.92 * half)


def _carpal(bone: Carpal, size: float, shape: float) -> Local:
    """An ossification center that is round at first and takes the adult's outline."""
    round_ = np.sqrt(bone.radii[0] * bone.radii[1])
    radii = (size * (round_ + shape * (bone.radii[0] - round_)), size * (round_ + shape * (bone.radii[1] - round_)))
    return lambda u, v: shapes.blob(v, u, radii, (shape * bone.triangle, shape * bone.square))
