"""The voxels of a slice in head coordinates, and the shapes that are drawn on them.

Head frame: x to the patient's left, y to the back, z to the top (the DICOM patient axes, turned with the head), in mm;
z = 0 lies at the suprasellar cistern. All arrays are float32 [sub, height, width], ``sub`` being the thin slices that are
averaged into one picture.
"""

from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Head coordinates of the voxels in a box of one slice."""

    x: np.ndarray
    """[sub, h, w] mm."""
    y: np.ndarray
    """[sub, h, w] mm."""
    z: np.ndarray
    """[sub, h, w] mm."""
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


def ellipsoid(grid: Grid, center: Point, axes: Point) -> np.ndarray:
    """Approximate distance in mm [sub, h, w] below the surface of an ellipsoid (Quilez' bound); negative outside."""
    total, slope = np.zeros((2, *grid.x.shape), np.float32)
    for place, middle, axis in zip((grid.x, grid.y, grid.z), center, axes):
        part = (place - middle) * (1 / axis)
        part *= part
        total += part
        slope += part * (1 / axis**2)
    return (np.sqrt(total) - total) / np.sqrt(slope + 1e-9)


def cover(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a voxel that lies inside, from the distance in mm below a surface: a ramp one pixel wide."""
    return np.clip(distance * (1 / pixel) + 0.5, 0, 1)
