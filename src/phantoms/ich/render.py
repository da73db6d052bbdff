"""A study and a series become pictures and the measures that the law needs."""

from dataclasses import dataclass

import numpy as np

from phantoms.ich import artifacts
from phantoms.ich.anatomy import calvaria, cavity, paint_brain, paint_calcium, paint_dura, paint_skull
from phantoms.ich.disease import Exam, draw_exam
from phantoms.ich.fields import Fields, draw_fields, patch
from phantoms.ich.head import Head, Pose, Slices, depth, draw_head, draw_pose, draw_slices, grid_of, head_window
from phantoms.ich.law import draw_findings
from phantoms.ich.lesions import NO_CLASS, Epidural, Lesion, Scene, displace
from phantoms.solids import Grid

BRAIN_RANGE = (30.0, 45.0)
"""HU to which the background of blood is limited: a reader compares it with brain, also where it lies in fluid."""
BRIGHTEST = 80.0
"""HU to which blood is limited in the contrast: what is brighter in a pixel of blood is bone at its edge."""


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
    scanner = artifacts.draw_scanner(rng, study.exam, study.head, study.pose, slices)
    window = head_window(slices, study.pose, study.head)
    table = calvaria(study.head, slices.pixel)
    pixels, area, contrast = [], [], []
    for number, thickness in enumerate(slices.thickness):
        grid = grid_of(slices, study.pose, number, window)
        picture, shares, plain = draw_slice(study, slices, number, window, grid, table)
        artifacts.harden(scanner, grid, picture)
        pixels.append(artifacts.record(scanner, rng, picture, window, thickness))
        seen = measure(picture, shares, plain, slices.pixel)
        area.append(seen[0])
        contrast.append(seen[1])
    return Series(slices, np.stack(pixels), np.array(area), np.array(contrast))


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
