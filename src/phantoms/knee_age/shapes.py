"""Solids by the depth below their surface in mm (negative outside), on any arrays of coordinates that broadcast.

Knee frame of a right knee: x to the patient's left (medial), y to the back, z to the head, mm of a knee of mean size;
z = 0 is the joint line, x = y = 0 the middle of the tibial plateau.
"""

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]
Profile = tuple[tuple[float, ...], ...]
"""Rows of height, half width across, half width front to back, center across, center front to back; heights ascend."""


@dataclass(frozen=True)
class Grid:
    """Knee coordinates of one slice, drawn as thinner ones that are averaged into it."""

    x: np.ndarray
    """float32 [sub, 1, w] mm."""
    y: np.ndarray
    """float32 [sub, 1, w] mm."""
    z: np.ndarray
    """float32 [1, h, 1] mm, or [sub, h, w] in the frame of a flexed bone."""
    pixel: float
    """Side of a pixel in mm: edges are softened over this width."""

    def near(self, front: float, back: float) -> bool:
        """Whether the slice comes between ``front`` and ``back`` (y in mm)."""
        return bool(self.y.max() > front and self.y.min() < back)


def cover(depth: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a voxel that lies inside: a ramp one ``pixel`` (mm) wide around depth 0."""
    return np.clip(depth * np.float32(1 / pixel) + np.float32(0.5), 0, 1)


def slab(away: np.ndarray, thickness: float, pixel: float) -> np.ndarray:
    """Share of a voxel inside a sheet, ``away`` mm from its middle: right for sheets thinner than a pixel too."""
    return cover(away + np.float32(thickness / 2), pixel) - cover(away - np.float32(thickness / 2), pixel)


def ellipsoid(grid: Grid, center: Point, axes: Point) -> np.ndarray:
    """Rough depth below an ellipsoid: exact at the surface, too large in the middle."""
    u, v, w = ((place - np.float32(middle)) * np.float32(1 / axis)
               for place, middle, axis in zip((grid.x, grid.y, grid.z), center, axes))
    total = (u * u + v * v) + w * w
    return (1 - total) * np.float32(0.5 * min(axes))


def block(grid: Grid, center: Point, axes: Point) -> np.ndarray:
    """Depth to first order below a rounded block, sum of |t / axis|^3 = 1: flatter than an ellipsoid, as condyles are."""
    total: np.ndarray = np.zeros(1, np.float32)
    slope: np.ndarray = np.full(1, 1e-6, np.float32)  # never 0
    for place, middle, axis in zip((grid.x, grid.y, grid.z), center, axes):
        t = np.abs(place - np.float32(middle)) * np.float32(1 / axis)
        square = t * t
        total, slope = total + square * t, slope + square * square * np.float32(1 / axis**2)
    return (1 - total) / (3 * np.sqrt(slope))


def column(grid: Grid, profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Depth below the wall of an upright solid of elliptic sections, and the radius, 0 axis to 1 wall."""
    heights, *rows = (np.array(row, np.float32) for row in zip(*profile))
    across, along, middle_x, middle_y = (np.interp(grid.z, heights, row).astype(np.float32) for row in rows)
    u, v = (grid.x - middle_x) / across, (grid.y - middle_y) / along
    u2, v2 = u * u, v * v
    radius = np.sqrt(u2 + v2)
    slope = np.sqrt(u2 / across**2 + v2 / along**2) + np.float32(1e-6)
    return (radius - radius * radius) / slope, radius


def cord(grid: Grid, start: Point, stop: Point, radius: float) -> np.ndarray:
    """Depth below a round cord between two points."""
    vector = np.subtract(stop, start).astype(np.float32)
    x, y, z = (place - np.float32(first) for place, first in zip((grid.x, grid.y, grid.z), start))
    share = np.clip((x * vector[0] + y * vector[1] + z * vector[2]) / (vector @ vector), 0, 1)
    dx, dy, dz = x - share * vector[0], y - share * vector[1], z - share * vector[2]
    return np.float32(radius) - np.sqrt(dx * dx + dy * dy + dz * dz)


def union(one: np.ndarray, other: np.ndarray, blend: float) -> np.ndarray:
    """Depth below two solids whose seam is rounded over ``blend`` mm (polynomial smooth maximum, Quilez)."""
    share = np.maximum(np.float32(blend) - np.abs(one - other), 0)
    return np.maximum(one, other) + share * share * np.float32(0.25 / blend)


def intersection(one: np.ndarray, other: np.ndarray, blend: float) -> np.ndarray:
    """Depth below what two solids share, its edge rounded over ``blend`` mm."""
    return -union(-one, -other, blend)
