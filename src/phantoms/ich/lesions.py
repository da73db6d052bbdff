"""Blood in one slice: between skull and brain, in the brain and its fluid; what it is made of, and how it pushes.

A lesion paints itself into a slice and returns the acute share of every voxel, float32 [sub, height, width] in 0..1.
"""

from dataclasses import dataclass, replace

import numpy as np

from phantoms.ich.anatomy import MUSCLE, Brain, Cranium, Fields
from phantoms.ich.head import Head
from phantoms.solids import Grid, Point, cover, ellipsoid

EPIDURAL, INTRAPARENCHYMAL, INTRAVENTRICULAR, SUBARACHNOID, SUBDURAL = range(5)
NO_CLASS = -1
"""For what no reader should call: chronic collections, air."""
EDEMA = 17.0
"""Density in HU of the rim around a hematoma, of 12 to 20."""


@dataclass(frozen=True)
class Scene:
    """One slice while it is drawn."""

    head: Head
    grid: Grid
    """Head coordinates."""
    moved: Grid
    """The same after mass effect: where the brain that is seen here came from."""
    cranium: Cranium
    brain: Brain
    patch: Fields


@dataclass(frozen=True)
class Clot:
    """What a hemorrhage is made of."""

    density: float
    """HU of the clot."""
    rest: float
    """HU of the part that is not clotted (serum, old blood)."""
    clotted: float
    """Threshold on the grain field below which blood is ``rest``; -9 for a uniform clot."""
    counts: bool = True
    """Whether the unclotted part is acute as well (swirls of fresh blood) or not (acute on chronic)."""

    def fill(self, scene: Scene, hu: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Paint ``share`` into ``hu``, in place; return the acute share."""
        clot = np.clip(scene.patch.grain - self.clotted + 0.5, 0, 1)
        hu += share * (self.rest + clot * (self.density - self.rest) - hu)
        return share if self.counts else share * clot


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
        if box := scene.grid.box(self.center, self.half + self.thickness + 10):
            part, deep = scene.grid.cut(box), scene.cranium.depth[box]
            inward = -np.asarray(self.center) / np.linalg.norm(self.center)
            x, y, z = part.x - self.center[0], part.y - self.center[1], part.z - self.center[2]
            along = x * float(inward[0]) + y * float(inward[1]) + z * float(inward[2])
            away = x * x + y * y + z * z - along * along  # squared distance from the axis through the center
            hu[box] += self._wound(scene.head, part, deep, away, hu[box])
            lens = self.thickness * (1 - away * (1 / self.half**2))
            share[box] = cover(np.minimum(deep, lens - deep), part.pixel) * np.clip(lens, 0, 1)
            share[box] *= (within(part, self.side, self.sector) > 0) * scene.cranium.inside[box] * (along > -20)
        return self.clot.fill(scene, hu, share)

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
        for axis in (1, 2) if self.falx else (0, 1):
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
        share = np.zeros_like(hu)
        if box := scene.grid.box(self.center, self.radius):
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
            if box := scene.grid.box(center, max(axes) + self.rim + 2 * self.ragged):
                part = scene.grid.cut(box)
                rough = self.ragged * (scene.patch.lump + 0.5 * scene.patch.grain)[box[1:]]
                deep = ellipsoid(part, center, axes) + np.minimum(rough, 0.4 * min(axes))
                tissue = scene.cranium.inside[box] * (1 - scene.brain.ventricles[box]) * (scene.cranium.depth[box] > 2.5)
                rim = np.clip(2 * deep / self.rim + 2, 0, 1) * tissue * (scene.brain.sulci[box] < 0)
                hu[box] += rim * (EDEMA - hu[box])
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
