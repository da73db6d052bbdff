"""Everything that is not brain: calvaria, scalp, skull base, sinuses, orbits. Densities in HU."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from phantoms.ich.fields import Patch
from phantoms.ich.grid import Grid, Point, cover, ellipsoid
from phantoms.ich.head import Head

AIR, FAT, MUSCLE, FLUID, TABLE, DIPLOE, DURA = -1000.0, -90.0, 45.0, 6.0, 1100.0, 450.0, 50.0
STEP = 0.1
"""Resolution in mm of the tables that turn a depth into a density."""
DEEP, HIGH = 12.0, 34.0
"""Range in mm of the table, inside and outside of the inner table of the skull."""
FLOOR_STEP, FLOOR_HALF = 2.0, (110, 90)
"""Cell of the skull base map and its half extent (y, x), mm."""


@dataclass(frozen=True)
class Cranium:
    """The cavity in one slice."""

    depth: np.ndarray
    """Distance in mm [sub, h, w] below the inner table."""
    inside: np.ndarray
    """Share of the voxel that lies in the cavity, above the skull base [sub, h, w]."""
    above: np.ndarray
    """Height in mm above the skull base [sub, h, w]."""


def calvaria(head: Head, pixel: float) -> np.ndarray:
    """Density by depth below the inner table, from ``-HIGH`` to ``DEEP`` mm in steps of ``STEP``, softened by the pixel."""
    places = np.arange(-HIGH, DEEP, STEP)
    outside = -places
    table = max(1.5, 0.28 * head.skull)
    edges = [0, table, head.skull - table, head.skull, head.skull + 1.5, head.skull + head.scalp - 1.8,
             head.skull + head.scalp]
    densities = [TABLE, DIPLOE, TABLE, MUSCLE, FAT, MUSCLE, AIR]
    layers = np.full(len(places), FLUID)
    layers[places < 0.7] = DURA
    for edge, density in zip(edges, densities):
        layers[outside > edge] = density
    return gaussian_filter(layers, 0.35 * pixel / STEP).astype(np.float32)


def look_up(table: np.ndarray, distance: np.ndarray, start: float) -> np.ndarray:
    """Densities [sub, h, w] of a table whose first entry belongs to ``start`` mm."""
    place = np.clip((distance - start) * (1 / STEP), 0, len(table) - 1).astype(np.int32)
    return table.take(place)


@cache
def floor_map() -> np.ndarray:
    """Height in mm of the skull base over the head's (y, x), float32, cells of ``FLOOR_STEP``: the three fossae."""
    y, x = np.meshgrid(*(np.arange(-half, half + 1, FLOOR_STEP) for half in FLOOR_HALF), indexing="ij")
    side = np.abs(x)
    floor = np.where(y < -32, -18.0 - 0.4 * (y + 32), np.where(y > 12, -44.0, -28.0))
    floor[(side < 16) & (y > -32) & (y < 4)] = -12
    floor += 5 * np.exp(-((side - 28) ** 2 + (y + 58) ** 2) / 300)
    for start, stop, top, width in (((14, -30), (56, -42), -6, 5), ((16, 6), (64, 26), -16, 7)):
        floor = np.maximum(floor, top - 40 * (1 - np.exp(-(_to_line(side, y, start, stop) / width) ** 2)))
    floor[side**2 + (y - 42) ** 2 < 14**2] = -90
    return gaussian_filter(floor, 1.2).astype(np.float32)


def cavity(head: Head, grid: Grid, depth: np.ndarray) -> Cranium:
    """Bound the cavity by the skull base."""
    if grid.z.min() > 8:
        return Cranium(depth, cover(depth, grid.pixel), grid.z + 60)
    middle = grid.x.shape[0] // 2
    across = (grid.x[middle] + FLOOR_HALF[1]) * (1 / FLOOR_STEP)
    along = (grid.y[middle] + FLOOR_HALF[0]) * (1 / FLOOR_STEP)
    above = grid.z - cv2.remap(floor_map(), across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return Cranium(depth, np.minimum(cover(depth, grid.pixel), cover(above, 1.5)), above)


def paint_skull(head: Head, grid: Grid, cranium: Cranium, table: np.ndarray, patch: Patch) -> np.ndarray:
    """Densities [sub, h, w] of everything outside the cavity; the cavity itself is filled with fluid."""
    wavy = cranium.depth + (0.5 * patch.lump) * (cranium.depth < -1)
    hu = look_up(table, wavy, -HIGH)
    if grid.z.min() < 8:
        _paint_base(head, grid, cranium, hu, patch)
    return hu


def _paint_base(head: Head, grid: Grid, cranium: Cranium, hu: np.ndarray, patch: Patch) -> None:
    """Bone floor, flesh below it, petrous pyramids, air sinuses and eyes."""
    flesh = MUSCLE + (FAT - MUSCLE) * np.clip(2 * patch.grain - 1.5, 0, 1) + 4 * patch.lump
    skin = cover(cranium.depth + head.skull + head.scalp - 2, grid.pixel)
    below = cover(-2.0 - cranium.above, 2.0) * skin
    hu += below * (flesh - hu)
    rind = cover(1.8 - np.abs(cranium.above + 1.8), 1.5) * cover(cranium.depth + 3, grid.pixel)
    hu += rind * (850.0 - hu)
    for side in (-1, 1):
        _solid(grid, hu, (side * 46.0, 22.0, -27.0), (27.0, 11.0, 15.0), 950.0)
        _solid(grid, hu, (side * 60.0, 34.0, -34.0), (9.0, 12.0, 15.0), np.where(patch.grain > -0.2, -800.0, 500.0))
        _solid(grid, hu, (side * 31.0, -62.0, -24.0), (21.0, 22.0, 15.0), FAT)
        _solid(grid, hu, (side * 31.0, -70.0, -24.0), (12.0, 12.0, 12.0), 15.0)
        _solid(grid, hu, (side * 31.0, -80.5, -24.0), (4.5, 2.5, 4.5), 70.0)
        _solid(grid, hu, (side * 26.0, -58.0, -54.0), (14.0, 16.0, 14.0), AIR)
    _solid(grid, hu, (0.0, -62.0, -32.0), (9.0, 22.0, 18.0), np.where(np.abs(patch.grain) > 0.25, AIR, 200.0))
    _solid(grid, hu, (0.0, -18.0, -26.0), (12.0, 12.0, 9.0), AIR)


def _solid(grid: Grid, hu: np.ndarray, center: Point, axes: Point, density: float | np.ndarray) -> None:
    """Fill an ellipsoid, in place."""
    box = grid.box(center, max(axes))
    if box is None:
        return
    part = grid.cut(box)
    filled = density[box[1:]] if isinstance(density, np.ndarray) else density
    hu[box] += cover(ellipsoid(part, center, axes), grid.pixel) * (filled - hu[box])


def _to_line(x: np.ndarray, y: np.ndarray, start: tuple[float, float], stop: tuple[float, float]) -> np.ndarray:
    """Distance in mm to a line segment."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    share = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - start[0] - share * dx, y - start[1] - share * dy)
