"""A study and a series become pictures and the measures that the law needs; what the scanner adds.

Of the scanner are noise, beam hardening, streaks, rings, motion and the head rest. Pictures are HU, float32.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from phantoms.ich.anatomy import (
    Fields,
    calvaria,
    cavity,
    draw_fields,
    paint_brain,
    paint_calcium,
    paint_dura,
    paint_skull,
    patch,
)
from phantoms.ich.disease import Exam, draw_exam
from phantoms.ich.head import Head, Pose, Slices, depth, draw_head, draw_pose, draw_slices, grid_of, head_window
from phantoms.ich.law import draw_findings
from phantoms.ich.lesions import NO_CLASS, Epidural, Lesion, Scene, displace
from phantoms.solids import Grid, Point

BLUR, OUTSIDE = 0.6, 0.4
"""Sigma in pixels of the Gaussian that correlates the noise; noise in air as a share of that in the head."""
BRAIN_RANGE = (30.0, 45.0)
"""HU to which the background of blood is limited: a reader compares it with brain, also where it lies in fluid."""
BRIGHTEST = 80.0
"""HU to which blood is limited in the contrast: what is brighter in a pixel of blood is bone at its edge."""


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
    if scanner.ring:  # two concentric circles of a badly calibrated detector
        axis = np.arange(size, dtype=np.float32) - size / 2
        away = np.sqrt(axis[:, None] ** 2 + axis**2)
        picture += 10 * np.exp(-((away - scanner.ring) ** 2)) - 10 * np.exp(-((away - scanner.ring - 3) ** 2))
    return np.clip(np.rint(picture), -1024, 3071).astype(np.int16)


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


@dataclass(frozen=True)
class Study:
    """One visit to the scanner; its series share everything but the planes and the noise."""

    head: Head
    pose: Pose
    exam: Exam
    fields: Fields


@dataclass(frozen=True)
class Series:
    """A drawn series, slices from bottom to top."""

    slices: Slices
    pixels: np.ndarray
    """HU, int16 [n, size, size]."""
    area: np.ndarray
    """Visible acute blood by class in mm2, float64 [n, 5]."""
    contrast: np.ndarray
    """Mean HU of that blood above its surroundings, float64 [n, 5]; 0 where there is none."""


def draw_study(seed: int, patient: int, visit: int, findings: tuple[str, ...] | None = None) -> Study:
    """Draw study ``visit`` of a patient; ``findings`` overrides the scenario that the law gives the patient."""
    person = np.random.default_rng((seed, 1, patient))
    head, given = draw_head(person), draw_findings(person)
    rng = np.random.default_rng((seed, 2, patient, visit))
    return Study(head, draw_pose(rng), draw_exam(rng, head, given if findings is None else findings), draw_fields(rng))


def draw_series(study: Study, rng: np.random.Generator, size: int) -> Series:
    """Draw one series of ``study`` on ``size`` x ``size`` pixels."""
    slices = draw_slices(rng, study.head, study.pose, size)
    scanner = draw_scanner(rng, study.exam, study.head, study.pose, slices)
    window = head_window(slices, study.pose, study.head)
    table = calvaria(study.head, slices.pixel)
    pixels, seen = [], []
    for number, thickness in enumerate(slices.thickness):
        grid = grid_of(slices, study.pose, number, window)
        picture, shares, plain = draw_slice(study, slices, number, window, grid, table)
        harden(scanner, grid, picture)
        pixels.append(record(scanner, rng, picture, window, thickness))
        seen.append(measure(picture, shares, plain, slices.pixel))
    area, contrast = np.stack(seen, axis=1)
    return Series(slices, np.stack(pixels), area, contrast)


def draw_slice(study: Study, slices: Slices, number: int, window: tuple[slice, slice], grid: Grid,
               table: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray]:
    """One slice without noise: HU [h, w], the acute share [h, w] of each class that is there, and HU before blood."""
    head, exam = study.head, study.exam
    height = slices.positions[number, 2] - slices.positions[0, 2]
    corner = tuple(part.start * slices.pixel + slices.positions[0, axis] - study.pose.center[axis]
                   for part, axis in zip(window, (1, 0)))
    field = patch(study.fields, height, corner, slices.pixel, grid.x.shape[1:])
    cranium = cavity(head, grid, depth(head, grid))
    hu = paint_skull(head, grid, cranium, table, field)
    if not cranium.inside.any():
        flat = hu.mean(0)
        return flat, {}, flat
    moved = displace(grid, cranium, exam.lesions)
    brain = paint_brain(head, moved, cranium, field, hu)
    paint_dura(head, grid, cranium, hu, exam.sinus)
    paint_calcium(head, moved, hu)
    plain = hu.mean(0)
    shares = bleed(exam.lesions, Scene(head, grid, moved, cranium, brain, field), hu)
    return hu.mean(0), {target: share.mean(0) for target, share in shares.items()}, plain


def bleed(lesions: tuple[Lesion, ...], scene: Scene, hu: np.ndarray) -> dict[int, np.ndarray]:
    """Paint the lesions into ``hu``, in place, from the inside out; the acute share [sub, h, w] of each class.

    What is painted later replaces what lies below it, so no voxel is counted for more than it holds.
    """
    shares: dict[int, np.ndarray] = {}
    for lesion in sorted(lesions, key=lambda item: isinstance(item, Epidural)):
        share = lesion.paint(scene, hu)
        if lesion.target == NO_CLASS or not share.any():
            continue
        for other in shares:
            shares[other] *= 1 - share
        shares[lesion.target] = np.maximum(shares.get(lesion.target, 0), share)
    return shares


def measure(hu: np.ndarray, shares: dict[int, np.ndarray], plain: np.ndarray, pixel: float) -> np.ndarray:
    """Area in mm2 and contrast in HU of the visible blood, float64 [2, 5]; ``hu`` and ``plain`` are without noise."""
    seen = np.zeros((2, 5))
    around = np.clip(plain, *BRAIN_RANGE)
    for target, share in shares.items():
        visible = share >= 0.5
        if visible.any():
            seen[:, target] = visible.sum() * pixel**2, (np.minimum(hu, BRIGHTEST) - around)[visible].mean()
    return seen
