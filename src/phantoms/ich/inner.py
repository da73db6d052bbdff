"""Blood in the brain and its fluid: subarachnoid, intraventricular, intraparenchymal; and how it pushes.

A lesion paints itself into a slice and returns the acute share of every voxel, float32 [sub, height, width] in 0..1.
"""

from dataclasses import dataclass, replace

import numpy as np

from phantoms.ich.grid import Grid, Point, cover, ellipsoid
from phantoms.ich.outer import Air, Epidural, Sheet, Subdural
from phantoms.ich.scene import INTRAPARENCHYMAL, INTRAVENTRICULAR, SUBARACHNOID, Clot, Scene
from phantoms.ich.skull import Cranium

EDEMA = 17.0
"""Density in HU of the rim around a hematoma, of 12 to 20."""


@dataclass(frozen=True)
class Subarachnoid:
    """Blood in the fluid of one region: sulci of the convexity (trauma) or the cisterns (aneurysm)."""

    clot: Clot
    basal: bool
    center: Point
    radius: float
    """Reach, mm."""
    wide: float
    """How far the blood spreads the space, mm."""
    empty: float
    """Threshold on the grain field below which the fluid stays clear."""
    target: int = SUBARACHNOID

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw the stained fluid into ``hu``."""
        box = scene.grid.box(self.center, self.radius)
        share = np.zeros_like(hu)
        if box is not None:
            part = scene.moved.cut(box)
            space = (scene.brain.cisterns if self.basal else scene.brain.sulci)[box]
            if not self.basal:
                space = np.minimum(space, 20 - scene.cranium.depth[box])
            region = cover(ellipsoid(part, self.center, (self.radius,) * 3), 6.0)
            filled = np.clip((scene.patch.grain[box[1:]] - self.empty) * 1.5 + 0.5, 0, 1)
            share[box] = cover(space + self.wide, part.pixel) * region * filled * scene.cranium.inside[box]
        return self.clot.fill(scene, hu, share)


@dataclass(frozen=True)
class Intraventricular:
    """Blood in the ventricles: a level in the dependent occipital horns, or a cast."""

    clot: Clot
    level: float
    """Everything behind this y (mm) is blood; far forward for a cast."""
    sides: tuple[float, float]
    """Leftmost and rightmost x (mm) of a cast."""
    empty: float
    """Threshold on the grain field below which the fluid stays clear."""
    target: int = INTRAVENTRICULAR

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw the blood into the ventricles of ``hu``."""
        grid = scene.moved
        behind = cover(np.minimum(np.minimum(grid.y - self.level, grid.x - self.sides[0]), self.sides[1] - grid.x), 1.5)
        filled = np.clip((scene.patch.grain - self.empty) * 1.5 + 0.5, 0, 1)
        return self.clot.fill(scene, hu, scene.brain.ventricles * behind * filled)


@dataclass(frozen=True)
class Intraparenchymal:
    """One to three irregular hematomas with a dark rim, which push the brain away."""

    clot: Clot
    centers: tuple[Point, ...]
    axes: tuple[Point, ...]
    ragged: float
    """Amplitude of the outline, mm."""
    rim: float
    """Width of the edema, mm."""
    target: int = INTRAPARENCHYMAL

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw edema, then blood, into ``hu``."""
        share = np.zeros_like(hu)
        for center, axes in zip(self.centers, self.axes):
            box = scene.grid.box(center, max(axes) + self.rim + 2 * self.ragged)
            if box is None:
                continue
            part = scene.grid.cut(box)
            rough = self.ragged * (scene.patch.lump + 0.5 * scene.patch.grain)[box[1:]]
            deep = ellipsoid(part, center, axes) + np.minimum(rough, 0.4 * min(axes))
            tissue = scene.cranium.inside[box] * (1 - scene.brain.ventricles[box]) * (scene.cranium.depth[box] > 2.5)
            hu[box] += np.clip(2 * deep / self.rim + 2, 0, 1) * tissue * (scene.brain.sulci[box] < 0) * (EDEMA - hu[box])
            share[box] = np.maximum(share[box], cover(deep, part.pixel) * tissue)
        return self.clot.fill(scene, hu, share)


Lesion = Epidural | Subdural | Sheet | Subarachnoid | Intraventricular | Intraparenchymal | Air


def displace(grid: Grid, cranium: Cranium, lesions: tuple[Lesion, ...]) -> Grid:
    """Where the brain at each voxel came from: subdurals shift it sideways (0.6 of their thickness), hematomas push."""
    x, y, z = grid.x, grid.y, grid.z
    for lesion in lesions:
        if isinstance(lesion, Subdural):
            deep = np.clip(cranium.depth * (1 / 35), 0, 1) * np.exp(-(((grid.z - lesion.level) / 60) ** 2))
            x = x + (0.6 * lesion.thickness * lesion.side) * deep
        elif isinstance(lesion, Intraparenchymal):
            center, reach = lesion.centers[0], 1.3 * max(lesion.axes[0])
            dx, dy, dz = x - center[0], y - center[1], z - center[2]
            push = 0.45 * np.exp((dx * dx + dy * dy + dz * dz) * (-0.5 / reach**2))
            x, y, z = x - dx * push, y - dy * push, z - dz * push
    return replace(grid, x=x, y=y, z=z)
