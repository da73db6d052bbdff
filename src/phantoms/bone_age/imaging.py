"""From attenuation to the stored picture: exposure, field, marker, ring, blur, noise, polarity."""

from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.bone_age.render import Hand, add
from phantoms.bone_age.skeleton import Pose, Skeleton, field_mask

MU_BONE, MU_SOFT = 0.075, 0.022
"""Attenuation of compact bone and soft tissue a mm."""
MIRRORED, INVERTED, RINGED, DEEP, COLORED = 0.12, 0.03, 0.01, 0.1, 0.15
"""Shares of pictures that are mirrored, of opposite polarity, show a ring, have 16 bit, have three equal channels."""
REFERENCE = 1300
"""Long side in pixels to which the blur belongs."""


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
