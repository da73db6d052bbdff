"""The voxels of one slice in the coordinates of a body, and the solids that are drawn on them.

A body's frame is right-handed: x to the patient's left, y to the back, z to the head, in mm. Solids are given by the depth
below their surface in mm, negative outside, float32 [sub, height, width]: ``sub`` thin slices are averaged into one picture.
"""

from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]
Profile = tuple[tuple[float, ...], ...]
"""Rows of height, half width across, half width front to back, center across, center front to back; heights ascend."""


@dataclass(frozen=True)
class Grid:
    """Coordinates of the voxels in one slice, or in a box of it; arrays that broadcast to [sub, h, w] do as well."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    """All [sub, h, w] in mm."""
    pixel: float
    """Side of a pixel in mm: edges are softened over this width."""

    @classmethod
    def at(cls, point: Point) -> "Grid":
        """A grid of one voxel of 1 mm."""
        x, y, z = (np.full((1, 1, 1), place, np.float32) for place in point)
        return cls(x, y, z, 1.0)

    def cut(self, box: Box) -> "Grid":
        """The part of the grid in ``box`` (views)."""
        return Grid(self.x[box], self.y[box], self.z[box], self.pixel)

    def box(self, center: Point, radius: float) -> Box | None:
        """The rows and columns within ``radius`` mm of ``center``, or None when the slice does not come near it."""
        mid = self.x.shape[0] // 2
        rows = np.flatnonzero(np.abs(self.y[mid, :, 0] - center[1]) < radius + 30)
        cols = np.flatnonzero(np.abs(self.x[mid, 0, :] - center[0]) < radius + 30)
        if not len(rows) or not len(cols):
            return None
        rough = (mid, slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        x, y, z = self.x[rough] - center[0], self.y[rough] - center[1], self.z[rough] - center[2]
        near = x * x + y * y + z * z < (radius + 4) ** 2
        down, across = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if not len(down):
            return None
        top, left = rows[0] + down[0], cols[0] + across[0]
        return (slice(None), slice(top, top + down[-1] - down[0] + 1), slice(left, left + across[-1] - across[0] + 1))

    def near(self, front: float, back: float) -> bool:
        """Whether the slice comes between ``front`` and ``back`` (y in mm)."""
        return bool(self.y.max() > front and self.y.min() < back)


def cover(depth: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a voxel that lies inside, from the depth in mm below a surface: a ramp one ``pixel`` (mm) wide."""
    return np.clip(depth * float(1 / pixel) + 0.5, 0, 1)


def slab(away: np.ndarray, thickness: float, pixel: float) -> np.ndarray:
    """Share of a voxel inside a sheet, ``away`` mm from its middle: right for sheets thinner than a pixel too."""
    return cover(away + np.float32(thickness / 2), pixel) - cover(away - np.float32(thickness / 2), pixel)


def ellipsoid(grid: Grid, center: Point, axes: Point) -> np.ndarray:
    """Approximate distance in mm [sub, h, w] below the surface of an ellipsoid (Quilez' bound); negative outside."""
    total, slope = np.zeros((2, *grid.x.shape), np.float32)
    for place, middle, axis in zip((grid.x, grid.y, grid.z), center, axes):
        part = (place - middle) * (1 / axis)
        part *= part
        total += part
        slope += part * (1 / axis**2)
    return (np.sqrt(total) - total) / np.sqrt(slope + 1e-9)


def rough_ellipsoid(grid: Grid, center: Point, axes: Point) -> np.ndarray:
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
