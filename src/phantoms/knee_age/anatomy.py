"""The knee in one slice: femur, tibia, fibula and patella with their growth plates, and everything around them.

Skin, fat, muscles, vessels, cartilage, menisci, ligaments; coordinates are mm of a right knee of mean size, z = 0 is the
joint line, x = y = 0 the middle of the tibial plateau.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phantoms.knee_age.law import Person, Plate
from phantoms.solids import Grid, Point, block, column, cord, cover, intersection, rough_ellipsoid, slab, union

CORTEX, YELLOW, OPEN, SCAR = 0.08, 1.0, 0.28, 0.62
"""T1 signals of compact bone, marrow, an open and a closed growth plate; yellow marrow = 1."""
RED, FRONT_BLUR = 0.3, 0.08
"""Signal that red marrow lacks: .65-.8 where mixed with yellow; width of the front of closure, a share of the radius."""
SCAR_THICK, SKIN_THICK = 1.0, 1.8
"""Thickness in mm of a closed plate's line and of the skin."""
FEMUR_SHAFT = ((16, 39, 26, 0, 0), (24, 39, 26, 0, 0), (34, 32, 22, 0, -2), (46, 24, 18.5, 0, -4), (62, 18, 16.5, 0, -5),
               (85, 15.5, 15.5, 0, -5))  # fmt: skip
TIBIA_SHAFT = ((-110, 13, 13.5, 2, -2), (-72, 14.5, 15.5, 2, -3), (-50, 20, 20.5, 1, -3), (-35, 28, 24.5, 0, -1),
               (-24, 34, 26, 0, 1), (-14, 37.5, 27, 0, 2), (-2, 37.5, 27, 0, 3))  # fmt: skip
FIBULA_SHAFT = ((-110, 6.6, 6.6, -29, 18), (-50, 7, 7, -32, 21), (-34, 8, 8, -35, 24), (-24, 9.5, 9.5, -36, 25))
"""Profiles in mm: condyles 80 x 60 mm, plateau 75 x 54 mm, shaft radii 16, 13 and 6.8 mm."""
FIBULA_PLATE = -22.0
PIVOT = (6.0, 26.0)
"""y and z of the axis on which the femur bends, through the condyles."""
REACH = {"femur": (-34.0, 42.0), "tibia": (-36.0, 32.0), "fibula": (12.0, 38.0)}
"""Front and back end in mm."""
AIR, SKIN, FAT, MUSCLE, VESSEL, CARTILAGE, MENISCUS, LIGAMENT, FLUID = 0.0, 0.5, 0.95, 0.4, 0.2, 0.45, 0.15, 0.12, 0.35
"""T1 signals, yellow marrow = 1."""
LEG = ((-115, 51, 58), (-70, 57, 61), (-35, 57, 61), (0, 56, 59), (30, 58, 60), (70, 64, 65), (115, 70, 70))
"""Height, half width across and half width front to back in mm."""
MUSCLES: dict[str, tuple[Point, Point]] = {
    "vastus medialis": ((38, -16, 72), (21, 30, 52)), "vastus lateralis": ((-38, -12, 84), (20, 34, 54)),
    "quadriceps": ((0, -36, 90), (34, 17, 50)), "biceps femoris": ((-36, 30, 70), (17, 20, 68)),
    "sartorius": ((44, 24, 40), (7, 13, 90)), "semimembranosus": ((26, 40, 66), (20, 18, 66)),
    "gastrocnemius, medial": ((21, 42, -36), (19, 16, 70)), "gastrocnemius, lateral": ((-19, 42, -34), (17, 15, 68)),
    "soleus": ((2, 27, -82), (38, 19, 60)), "tibialis anterior": ((-30, -10, -82), (18, 22, 60)),
    "peroneus": ((-44, 10, -88), (12, 18, 64)), "popliteus": ((4, 29, -32), (28, 8, 22)),
}  # fmt: skip
"""Center and half axes in mm."""
CORDS: dict[str, tuple[Point, Point, float, float]] = {
    "medial collateral ligament": ((41.5, 2, 26), (33, -2, -38), 1.6, LIGAMENT),
    "lateral collateral ligament": ((-42, 4, 24), (-37, 23, -12), 1.8, LIGAMENT),
    "anterior cruciate ligament": ((-5, 16, 17), (3, -10, -1), 3.2, 0.25),
    "posterior cruciate ligament": ((6, 0, 14), (0, 25, -8), 3.6, LIGAMENT),
    "patellar tendon": ((-2, -45, 4), (-2, -34, -34), 4.0, LIGAMENT),
    "quadriceps tendon": ((-2, -44, 38), (0, -38, 75), 4.5, LIGAMENT),
    "popliteal artery": ((1, 37, 90), (-1, 36, -40), 3.6, VESSEL),
    "popliteal vein": ((-4, 42, 90), (-5, 41, -40), 4.2, VESSEL),
    "great saphenous vein": ((47, 30, 90), (43, 30, -90), 2.0, VESSEL),
}  # fmt: skip
"""Ends and radius in mm, signal."""


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
        depth = union(depth, rough_ellipsoid(grid, (side * 6.0, 3, -5), (5, 9, 10)), 2.0)
    depth = union(depth, rough_ellipsoid(grid, (-2, -24, -36), (9, 9, 13)), 5.0)
    dip = 14 * np.exp(-((grid.x + 2) * np.float32(1 / 11)) ** 2) * np.clip((-12 - grid.y) * np.float32(1 / 12), 0, 1)
    wave = np.cos(grid.x * np.float32(2 * np.pi / 55) + np.float32(0.3 * np.cos(person.phase)))
    height = -(grid.z - (np.float32(-16.5) + wave - dip))
    return Bone(depth, np.clip(1.2 - (grid.z + 24) * np.float32(0.04), 1.2, 2.8), height, radius)


def fibula(grid: Grid, person: Person) -> Bone:
    """Head and shaft behind and lateral of the tibia."""
    shaft, radius = column(grid, FIBULA_SHAFT)
    depth = union(intersection(shaft, -20 - grid.z, 3.0), rough_ellipsoid(grid, (-36, 25, -22), (10.5, 12, 12)), 3.0)
    height = -(grid.z - np.float32(FIBULA_PLATE)) + 0 * radius
    return Bone(depth, 1.3, height, radius)


DRAWN: dict[str, Callable[[Grid, Person], Bone]] = {"femur": femur, "tibia": tibia, "fibula": fibula}


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
        still_open[:] = 1
    dark = slab(height, plate.thickness, pixel) * still_open
    line = slab(height, SCAR_THICK, pixel) * (1 - still_open) * np.float32(plate.scar)
    marrow = marrow + dark * (OPEN - marrow) + line * (SCAR - marrow)
    return CORTEX + inner * (marrow - CORTEX)


def leg(grid: Grid, person: Person, grain: np.ndarray) -> np.ndarray:
    """Signal [sub, h, w] of the leg without its bones and its joint; ``grain`` [h, w] is texture of unit variance."""
    heights, *halves = (np.array(row, np.float32) for row in zip(*LEG))
    across, along = (np.interp(grid.z, heights, half).astype(np.float32) for half in halves)
    depth = (1 - np.hypot(grid.x / across, grid.y / along)) * across
    inner = cover(depth - np.float32(SKIN_THICK + person.fat), grid.pixel)
    streak = np.clip(np.abs(grain) * np.float32(-12) + 1, 0, 1)  # septa where the texture crosses zero
    picture = FAT - np.float32(0.25) * np.clip(0.3 - np.abs(grain), 0, 1) + np.zeros_like(depth)
    flesh = MUSCLE * (1 + np.float32(0.1) * grain) + np.float32(0.25) * streak
    for center, axes in MUSCLES.values():
        if grid.near(center[1] - axes[1], center[1] + axes[1]):
            picture += cover(rough_ellipsoid(grid, center, axes), 1.5 * grid.pixel) * inner * (flesh - picture)
    picture += (1 - cover(depth - np.float32(SKIN_THICK), grid.pixel)) * (SKIN - picture)
    return picture * cover(depth, grid.pixel)


def joint(grid: Grid, picture: np.ndarray, femur: Bone, tibia: Bone, bent: Grid) -> None:
    """Paint cartilage, menisci and fluid into the gap between femur and tibia, in place; ``bent`` is the femur's frame."""
    within = cover(1.04 - tibia.radius, 0.06) * cover(grid.z + 4, 1.0)
    gap = within * cover(np.float32(9.0) - grid.z, 2.0)
    picture += gap * (FLUID - picture)
    articular = cover(np.where(bent.y < -18, np.float32(36), np.float32(16)) - bent.z, 3.0)
    picture += cover(femur.depth + np.float32(2.3), grid.pixel) * articular * (CARTILAGE - picture)
    picture += cover(tibia.depth + np.float32(2.2), grid.pixel) * within * (CARTILAGE - picture)
    u, v = (np.abs(grid.x) - 19) * np.float32(1 / 19.5), (grid.y - 3) * np.float32(1 / 27)
    ring = np.sqrt(u * u + v * v)
    wedge = cover(np.float32(-1.6) + 13 * (ring - np.float32(0.42)) - grid.z, grid.pixel) * cover(1 - ring, 0.08)
    wedge = wedge * (np.abs(grid.x) > 9) * cover(grid.z + np.float32(2.0), grid.pixel) * within
    picture += wedge * cover(-femur.depth - np.float32(0.8), grid.pixel) * (MENISCUS - picture)


def cords(grid: Grid, picture: np.ndarray) -> None:
    """Paint ligaments, tendons and vessels, in place."""
    for start, stop, radius, signal in CORDS.values():
        if grid.near(min(start[1], stop[1]) - radius - 2, max(start[1], stop[1]) + radius + 2):
            picture += cover(cord(grid, start, stop, radius), grid.pixel) * (picture > 0) * (signal - picture)
