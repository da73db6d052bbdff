"""Everything around the bones: skin, fat, muscles, vessels, cartilage, menisci, ligaments."""

import numpy as np

from phantoms.knee_age.bones import Bone
from phantoms.knee_age.people import Person
from phantoms.knee_age.shapes import Grid, Point, cord, cover, ellipsoid

AIR, SKIN, FAT, MUSCLE, VESSEL, CARTILAGE, MENISCUS, LIGAMENT, FLUID = 0.0, 0.5, 0.95, 0.4, 0.2, 0.45, 0.15, 0.12, 0.35
"""T1 signals, yellow marrow = 1."""
SKIN_THICK = 1.8
"""mm."""
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


def leg(grid: Grid, person: Person, grain: np.ndarray) -> np.ndarray:
    """Signal [sub, h, w] of the leg without its bones and its joint; ``grain`` [h, w] is texture of unit variance."""
    heights, across, along = (np.array(row, np.float32) for row in zip(*LEG))
    half = np.interp(grid.z, heights, across).astype(np.float32)
    radius = np.hypot(grid.x / half, grid.y / np.interp(grid.z, heights, along).astype(np.float32))
    depth = (1 - radius) * half
    inner = cover(depth - np.float32(SKIN_THICK + person.fat), grid.pixel)
    streak = np.clip(np.abs(grain) * np.float32(-12) + 1, 0, 1)  # septa where the texture crosses zero
    picture = FAT - np.float32(0.25) * np.clip(0.3 - np.abs(grain), 0, 1) + np.zeros_like(depth)
    flesh = MUSCLE * (1 + np.float32(0.1) * grain) + np.float32(0.25) * streak
    for center, axes in MUSCLES.values():
        if grid.near(center[1] - axes[1], center[1] + axes[1]):
            picture += cover(ellipsoid(grid, center, axes), 1.5 * grid.pixel) * inner * (flesh - picture)
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
