"""Blood between skull and brain: epidural lens, subdural crescent and sheet, and air.

A lesion paints itself into a slice and returns the acute share of every voxel, float32 [sub, height, width] in 0..1.
"""

from dataclasses import dataclass

import numpy as np

from phantoms.ich.grid import Grid, Point, cover
from phantoms.ich.head import Head
from phantoms.ich.scene import EPIDURAL, NO_CLASS, SUBDURAL, Clot, Scene
from phantoms.ich.skull import MUSCLE


@dataclass(frozen=True)
class Epidural:
    """A biconvex lens between inner table and dura, kept within one bone by the sutures."""

    clot: Clot
    center: Point
    """On the inner table, mm."""
    thickness: float
    """Deepest point, mm."""
    half: float
    """Half chord, mm."""
    side: float
    """1 left, -1 right."""
    sector: tuple[float, float]
    """Azimuths from the front in radians between which the bone lies."""
    fracture: bool
    swelling: float
    """Scalp hematoma above it, mm."""
    target: int = EPIDURAL

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw lens, fracture line and scalp swelling into ``hu``."""
        share = np.zeros_like(hu)
        box = scene.grid.box(self.center, self.half + self.thickness + 10)
        if box is not None:
            part, deep = scene.grid.cut(box), scene.cranium.depth[box]
            away, inward = self._polar(part)
            swell = self._wound(scene.head, part, deep, away, hu[box])
            hu[box] += swell
            lens = self.thickness * (1 - away * (1 / self.half**2))
            share[box] = cover(np.minimum(deep, lens - deep), part.pixel) * np.clip(lens, 0, 1)
            share[box] *= (within(part, self.side, self.sector) > 0) * scene.cranium.inside[box] * (inward > -20)
        return self.clot.fill(scene, hu, share)

    def _polar(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance from the axis through the center, and distance along it."""
        inward = -np.asarray(self.center) / np.linalg.norm(self.center)
        x, y, z = grid.x - self.center[0], grid.y - self.center[1], grid.z - self.center[2]
        along = x * float(inward[0]) + y * float(inward[1]) + z * float(inward[2])
        return x * x + y * y + z * z - along * along, along

    def _wound(self, head: Head, grid: Grid, deep: np.ndarray, away: np.ndarray, hu: np.ndarray) -> np.ndarray:
        """What the broken bone and the swollen scalp add to ``hu``."""
        near = np.clip(1 - away / 30**2, 0, 1)
        crack = cover(0.6 - np.abs(grid.y - self.center[1] - 0.2 * (grid.z - self.center[2])), grid.pixel)
        crack *= (deep < 0) & (deep > -head.skull) & (near > 0) & self.fracture
        added = crack * (300 - hu)
        puffed = cover(deep + head.skull + head.scalp + self.swelling * near, grid.pixel) * (deep < -head.skull - 1)
        return np.where(puffed * near * self.swelling > 0.05, np.minimum(puffed, 1) * (MUSCLE + 10 - hu), added)


@dataclass(frozen=True)
class Subdural:
    """A crescent along the inner table that crosses sutures and stops at the falx."""

    clot: Clot
    side: float
    azimuth: float
    """Middle of the arc from the front, radians."""
    arc: float
    """Half arc, radians."""
    level: float
    """Height of its middle, mm."""
    half: float
    """Half height, mm."""
    thickness: float
    target: int = SUBDURAL

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw the crescent into ``hu``."""
        grid, deep = scene.grid, scene.cranium.depth
        if grid.z.max() < self.level - self.half or grid.z.min() > self.level + self.half:
            return np.zeros_like(hu)
        toward = grid.x * (self.side * np.sin(self.azimuth)) - grid.y * np.cos(self.azimuth)
        toward /= np.sqrt(grid.x * grid.x + grid.y * grid.y + 1)
        around = (toward - np.cos(self.arc)) * (1 / (1 - np.cos(self.arc)))
        upright = 1 - ((grid.z - self.level) * (1 / self.half)) ** 2
        thick = self.thickness * np.sqrt(np.clip(around, 0, 1) * np.clip(upright, 0, 1))
        share = cover(np.minimum(np.minimum(deep - 0.3, thick - deep), self.side * grid.x - 1), grid.pixel)
        return self.clot.fill(scene, hu, share * np.clip(thick, 0, 1) * scene.cranium.inside)


@dataclass(frozen=True)
class Sheet:
    """A subdural along the falx, or lying on the tentorium."""

    clot: Clot
    side: float
    falx: bool
    middle: Point
    """Its thickest point, mm."""
    half: Point
    """Half extents, mm."""
    thickness: float
    target: int = SUBDURAL

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw the sheet into ``hu``."""
        grid = scene.grid
        roof = 12 - 0.35 * np.abs(grid.x) + 0.1 * (grid.y - 20)
        off = self.side * grid.x if self.falx else grid.z - roof
        fade = np.ones_like(off)
        axes = (1, 2) if self.falx else (0, 1)
        for axis in axes:
            place = (grid.x, grid.y, grid.z)[axis]
            fade *= np.clip(1 - ((place - self.middle[axis]) * (1 / self.half[axis])) ** 2, 0, 1)
        thick = self.thickness * np.sqrt(fade)
        share = cover(np.minimum(off - 0.3, thick - off), grid.pixel) * np.clip(thick, 0, 1) * scene.cranium.inside
        return self.clot.fill(scene, hu, share)


@dataclass(frozen=True)
class Air:
    """Air left under the forehead by an operation."""

    thickness: float
    target: int = NO_CLASS

    def paint(self, scene: Scene, hu: np.ndarray) -> np.ndarray:
        """Draw the air into ``hu``."""
        deep = scene.cranium.depth
        thick = self.thickness * np.clip((-scene.grid.y - 40) / 40, 0, 1)
        share = cover(np.minimum(deep - 0.3, thick - deep), scene.grid.pixel) * np.clip(thick, 0, 1)
        hu += share * scene.cranium.inside * (-950 - hu)
        return np.zeros_like(hu)


def within(grid: Grid, side: float, sector: tuple[float, float]) -> np.ndarray:
    """Distance in mm [sub, h, w] to the nearer border of a sector of azimuths (radians from the front); positive inside."""
    first, last = ((side * np.cos(edge), np.sin(edge)) for edge in sector)
    return np.minimum(first[0] * grid.x + first[1] * grid.y, -last[0] * grid.x - last[1] * grid.y)
