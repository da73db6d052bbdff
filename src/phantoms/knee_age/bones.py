"""Femur, tibia, fibula and patella with their growth plates, in the frame of shapes.py."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phantoms.knee_age.law import Plate
from phantoms.knee_age.people import Person
from phantoms.knee_age.shapes import Grid, block, column, ellipsoid, intersection, slab, union

CORTEX, YELLOW, OPEN, SCAR = 0.08, 1.0, 0.28, 0.62
"""T1 signals of compact bone, marrow, an open and a closed growth plate; yellow marrow = 1."""
RED = 0.3
"""Signal that red marrow lacks: .65-.8 where it is mixed with yellow."""
SCAR_THICK = 1.0
"""Thickness in mm of a closed plate's line."""
FRONT_BLUR = 0.08
"""Width of the front of closure, a share of the radius."""
FEMUR_SHAFT = ((16, 39, 26, 0, 0), (24, 39, 26, 0, 0), (34, 32, 22, 0, -2), (46, 24, 18.5, 0, -4), (62, 18, 16.5, 0, -5),
               (85, 15.5, 15.5, 0, -5))  # fmt: skip
TIBIA_SHAFT = ((-110, 13, 13.5, 2, -2), (-72, 14.5, 15.5, 2, -3), (-50, 20, 20.5, 1, -3), (-35, 28, 24.5, 0, -1),
               (-24, 34, 26, 0, 1), (-14, 37.5, 27, 0, 2), (-2, 37.5, 27, 0, 3))  # fmt: skip
FIBULA_SHAFT = ((-110, 6.6, 6.6, -29, 18), (-50, 7, 7, -32, 21), (-34, 8, 8, -35, 24), (-24, 9.5, 9.5, -36, 25))
"""Profiles in mm: condyles 80 x 60 mm, plateau 75 x 54 mm, shaft radii 16, 13 and 6.8 mm."""
FIBULA_PLATE = -22.0
PIVOT = (6.0, 26.0)
"""y and z of the axis on which the femur bends, through the condyles."""


@dataclass(frozen=True)
class Bone:
    """One bone in one slice, all arrays float32 [sub, h, w]."""

    depth: np.ndarray
    """Below its surface, mm."""
    cortex: np.ndarray | float
    """Thickness of the compact bone, mm."""
    plate_height: np.ndarray
    """Above the growth plate, mm; the shaft's side is positive."""
    radius: np.ndarray
    """Within the plate: 0 center, 1 rim."""


def flexed(grid: Grid, degrees: float) -> Grid:
    """The frame of a femur bent by ``degrees``."""
    sine, cosine = np.float32(np.sin(np.radians(degrees))), np.float32(np.cos(np.radians(degrees)))
    y, z = grid.y - np.float32(PIVOT[0]), grid.z - np.float32(PIVOT[1])
    return Grid(grid.x, PIVOT[0] + y * cosine + z * sine, PIVOT[1] - y * sine + z * cosine, grid.pixel)


def femur(grid: Grid, person: Person) -> Bone:
    """Shaft flaring to two condyles with the notch between them; ``grid`` is flexed. Its plate undulates."""
    shaft, radius = column(grid, FEMUR_SHAFT)
    depth = intersection(shaft, grid.z - 17, 4.0)
    for side in (-1, 1):
        depth = union(depth, block(grid, (side * 21.2, 6, 25.5 - 0.5 * side), (19.5, 30, 23)), 4.0)
    across, along = np.float32(2 * np.pi / 42), np.float32(2 * np.pi / 60)
    wave = np.cos(grid.x * across) * np.cos(grid.y * along + np.float32(0.2 * np.sin(person.phase)))
    height = grid.z - (np.float32(21) + np.float32(person.undulation / 2) * wave)
    height += 99 * (radius > 1.08)  # the condyles behind the shaft have no plate
    return Bone(depth, np.clip(1.3 + (grid.z - 28) * np.float32(0.04), 1.3, 3.0), height, radius)


def tibia(grid: Grid, person: Person) -> Bone:
    """Plateau with the spines, shaft and tuberosity; its plate dips at the tuberosity."""
    shaft, radius = column(grid, TIBIA_SHAFT)
    depth = intersection(shaft, -2.2 - grid.z, 5.0)
    for side in (-1, 1):
        depth = union(depth, ellipsoid(grid, (side * 6.0, 3, -5), (5, 9, 10)), 2.0)
    depth = union(depth, ellipsoid(grid, (-2, -24, -36), (9, 9, 13)), 5.0)
    dip = 14 * np.exp(-((grid.x + 2) * np.float32(1 / 11)) ** 2) * np.clip((-12 - grid.y) * np.float32(1 / 12), 0, 1)
    wave = np.cos(grid.x * np.float32(2 * np.pi / 55) + np.float32(0.3 * np.cos(person.phase)))
    height = -(grid.z - (np.float32(-16.5) + wave - dip))
    return Bone(depth, np.clip(1.2 - (grid.z + 24) * np.float32(0.04), 1.2, 2.8), height, radius)


def fibula(grid: Grid, person: Person) -> Bone:
    """Head and shaft behind and lateral of the tibia."""
    shaft, radius = column(grid, FIBULA_SHAFT)
    depth = union(intersection(shaft, -20 - grid.z, 3.0), ellipsoid(grid, (-36, 25, -22), (10.5, 12, 12)), 3.0)
    height = -(grid.z - np.float32(FIBULA_PLATE)) + 0 * radius
    return Bone(depth, 1.3, height, radius)


def patella(grid: Grid) -> np.ndarray:
    """Depth in mm [sub, h, w] below its surface: only the front slices show it, and no mask has it."""
    return block(grid, (-2, -42, 20), (22, 9, 21))


DRAWN: dict[str, Callable[[Grid, Person], Bone]] = {"femur": femur, "tibia": tibia, "fibula": fibula}
REACH = {"femur": (-34.0, 42.0), "tibia": (-36.0, 32.0), "fibula": (12.0, 38.0)}
"""Front and back end in mm."""


def signal(bone: Bone, plate: Plate, red: np.ndarray, pixel: float) -> np.ndarray:
    """T1 signal [sub, h, w] inside a bone: cortex, marrow, and the plate, dark where open, a scar where closed.

    ``red`` [h, w] is the share of red marrow, 0..1; it lies on the shaft's side of the plate alone.
    """
    inner = np.clip((bone.depth - bone.cortex) * np.float32(1 / pixel) + 0.5, 0, 1)
    height = bone.plate_height
    metaphysis = np.clip(height * np.float32(1 / 6), 0, 1) * np.clip((48 - height) * np.float32(1 / 16), 0, 1)
    marrow = YELLOW - RED * red * metaphysis
    still_open = np.clip((np.minimum(bone.radius, 1) - np.float32(plate.front)) * np.float32(1 / FRONT_BLUR) + 0.5, 0, 1)
    if plate.front == 0:
        still_open = np.ones_like(still_open)
    dark = slab(height, plate.thickness, pixel) * still_open
    line = slab(height, SCAR_THICK, pixel) * (1 - still_open) * np.float32(plate.scar)
    marrow = marrow + dark * (OPEN - marrow) + line * (SCAR - marrow)
    return CORTEX + inner * (marrow - CORTEX)
