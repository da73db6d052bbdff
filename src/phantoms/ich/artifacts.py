"""What the scanner adds: noise, beam hardening, streaks, rings, motion, the head rest. Pictures are HU, float32."""

from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.ich.disease import Exam
from phantoms.ich.head import Head, Pose, Slices
from phantoms.solids import Grid, Point

BLUR = 0.6
"""Correlation of the noise: sigma of a Gaussian in pixels."""
OUTSIDE = 0.4
"""Noise in air as a share of that in the head."""


@dataclass(frozen=True)
class Scanner:
    """The artifacts of one series."""

    sigma: float
    """Noise in HU of a 5 mm slice."""
    noise: np.ndarray
    """Correlated noise of unit variance, larger than a picture; each slice takes another part of it."""
    rest: np.ndarray
    """The head rest [size, size]: HU, air elsewhere."""
    hardening: float
    """HU lost between the petrous bones."""
    streaks: tuple[tuple[float, float, float], ...]
    """Offset in mm, slope and HU of the streaks between the petrous bones."""
    metal: Point | None
    """Where a clip sits, in mm of the head."""
    ring: float
    """Radius in pixels of a ring around the center; 0 for none."""
    shaken: float
    """Share of slices blurred by motion."""


def draw_scanner(rng: np.random.Generator, exam: Exam, head: Head, pose: Pose, slices: Slices) -> Scanner:
    """Draw noise SD U(3, 6) HU, hardening 5-10 HU, streaks as the exam says, rings and motion in 5 % each."""
    side = slices.size + slices.size // 4
    noise = cv2.GaussianBlur(rng.standard_normal((side, side), np.float32), (0, 0), BLUR)
    lines = zip(rng.normal(18, 6, 4), rng.normal(0, 0.12, 4), rng.uniform(8, 16, 4) * (1, -1, 1, -1))
    return Scanner(
        sigma=float(rng.uniform(3, 6)), noise=noise / noise.std(), rest=_rest(rng, head, pose, slices),
        hardening=float(rng.uniform(5, 10)),
        streaks=tuple((float(o), float(s), float(h)) for o, s, h in lines) if exam.streaks else (),
        metal=(float(rng.choice((-1, 1))) * 30.0, float(rng.uniform(-40, 0)), float(rng.uniform(-45, 5)))
        if exam.metal else None,
        ring=float(rng.uniform(0.08, 0.3)) * slices.size if rng.random() < 0.05 else 0.0,
        shaken=0.25 if rng.random() < 0.05 else 0.0)


def harden(scanner: Scanner, grid: Grid, hu: np.ndarray) -> None:
    """Dark band and streaks between the petrous bones, and metal, into the head's part ``hu`` [h, w], in place."""
    middle = grid.x.shape[0] // 2
    x, y, z = grid.x[middle], grid.y[middle], grid.z[middle]
    level = float(np.median(z))
    if -50 < level < 5:
        strength = np.exp(-(((z + 24) / 10) ** 2)) * (np.abs(x) < 45) * (hu > -50) * (hu < 150)
        hu -= scanner.hardening * strength * np.exp(-(((y - 16) / 10) ** 2))
        for offset, slope, density in scanner.streaks:
            hu += density * strength * np.exp(-(((y - offset - slope * x) / 2.5) ** 2))
    if scanner.metal is not None and abs(level - scanner.metal[2]) < 5:
        dx, dy = x - scanner.metal[0], y - scanner.metal[1]
        away = np.sqrt(dx * dx + dy * dy)
        hu += 60 * np.cos(9 * np.arctan2(dy, dx)) * np.exp(-away / 35)
        hu[away < 2.5] = 2500


def record(scanner: Scanner, rng: np.random.Generator, head_part: np.ndarray, window: tuple[slice, slice],
           thickness: float) -> np.ndarray:
    """The picture as stored, int16 [size, size] in HU from -1024 to 3071: head on its rest, motion, ring, noise."""
    size = len(scanner.rest)
    picture = scanner.rest.copy()
    picture[window] = np.maximum(picture[window], head_part)
    if scanner.shaken and rng.random() < scanner.shaken:
        shift = np.array([[1, 0, rng.uniform(-0.012, 0.012) * size], [0, 1, rng.uniform(-0.012, 0.012) * size]])
        picture = (picture + cv2.warpAffine(picture, shift, (size, size), borderValue=-1000)) / 2
    top, left = rng.integers(0, size // 4, 2)
    grain = scanner.noise[top:top + size, left:left + size]
    sigma = scanner.sigma * float(np.sqrt(min(1.6, 5 / thickness)))
    picture += grain * np.where(picture > -600, sigma, OUTSIDE * sigma)
    if scanner.ring:
        _ring(picture, scanner.ring)
    return np.clip(np.rint(picture), -1024, 3071).astype(np.int16)


def _ring(picture: np.ndarray, radius: float) -> None:
    """Two concentric circles of a badly calibrated detector, in place."""
    axis = np.arange(len(picture), dtype=np.float32) - len(picture) / 2
    away = np.sqrt(axis[:, None] ** 2 + axis**2)
    picture += 10 * np.exp(-((away - radius) ** 2)) - 10 * np.exp(-((away - radius - 3) ** 2))


def _rest(rng: np.random.Generator, head: Head, pose: Pose, slices: Slices) -> np.ndarray:
    """A curved band of 2-4 mm and 100-400 HU below the head, with a pad of -700 HU inside it."""
    middle = pose.center - slices.positions[0]
    rows, cols = np.indices((slices.size, slices.size), np.float32) * np.float32(slices.pixel)
    back = middle[1] / slices.columns[1] + (head.b + head.skull + head.scalp) / slices.columns[1] + rng.uniform(9, 15)
    radius, wide = rng.uniform(95, 120), rng.uniform(2, 4)
    away = np.hypot(cols - np.float32(middle[0]), rows - np.float32(back - radius)) - np.float32(radius)
    below = (rows > back - rng.uniform(30, 60)) & (np.abs(cols - middle[0]) < 95)
    rest = np.full(rows.shape, -1000, np.float32)
    rest[below & (away > -5) & (away <= 0)] = -700
    band = np.clip(np.minimum(away, wide - away) / slices.pixel + 0.5, 0, 1) * below
    return rest + band * (np.float32(rng.uniform(100, 400)) - rest)
