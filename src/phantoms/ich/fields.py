"""Smooth random fields that give tissue its folds and blood its ragged edges, made coarse and enlarged slice by slice."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

CELL = 4.0
"""In-plane spacing of the lattice in mm."""
LAYER = 6.0
"""Spacing of its planes in mm."""
FOLD = 5.5
"""Mean distance in mm from one standard deviation of the fold field to its zero line, for :func:`folds`."""


@dataclass(frozen=True)
class Fields:
    """Three lattices [plane, row, column] of unit variance, fixed in the scanner's frame, one set for a study."""

    fold: np.ndarray
    """Band-pass noise whose zero lines are the sulci, about 14 mm apart."""
    lump: np.ndarray
    """Low-pass noise of about 25 mm: outlines of hematomas, texture of the tissue."""
    grain: np.ndarray
    """Low-pass noise of about 9 mm: clots, swirls, patches."""


@dataclass(frozen=True)
class Patch:
    """The fields in one slice, float32 [height, width]."""

    fold: np.ndarray
    lump: np.ndarray
    grain: np.ndarray


def draw_fields(rng: np.random.Generator) -> Fields:
    """Draw the lattices: 36 planes of 72 x 72 cells cover 21 x 29 x 29 cm."""
    noise = rng.standard_normal((3, 36, 72, 72), np.float32)
    fold = gaussian_filter(noise[0], (1.3, 0.75, 0.75)) - gaussian_filter(noise[0], (1.3, 1.5, 1.5))
    lump, grain = gaussian_filter(noise[1], (1.2, 1.8, 1.8)), gaussian_filter(noise[2], (0.5, 0.6, 0.6))
    return Fields(*(field / field.std() for field in (fold, lump, grain)))


def patch(fields: Fields, height: float, corner: tuple[float, float], pixel: float, shape: tuple[int, int]) -> Patch:
    """The fields in a slice ``height`` mm above the lowest plane.

    ``corner`` is the row and column position in mm of the first pixel from the middle of the lattice, ``shape`` the
    height and width in pixels of side ``pixel`` mm.
    """
    count, rows, cols = fields.fold.shape
    low, part = divmod(float(np.clip(height / LAYER, 0, count - 1.001)), 1)
    matrix = np.array([[pixel / CELL, 0, corner[1] / CELL + cols / 2], [0, pixel / CELL, corner[0] / CELL + rows / 2]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    norm = np.float32(1 / np.hypot(1 - part, part))
    planes = ((1 - part) * field[int(low)] + part * field[int(low) + 1] for field in
              (fields.fold, fields.lump, fields.grain))
    return Patch(*(cv2.warpAffine(plane.astype(np.float32) * norm, matrix, shape[::-1], flags=how,
                                  borderMode=cv2.BORDER_REFLECT) for plane in planes))


def folds(patch: Patch) -> np.ndarray:
    """Rough distance in mm [height, width] to the middle of the nearest sulcus."""
    return np.abs(patch.fold) * FOLD
