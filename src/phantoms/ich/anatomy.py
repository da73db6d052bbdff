"""One slice of a head: calvaria, scalp, skull base, sinuses, orbits; the brain, its fluid and its dura. Densities are HU.

Smooth random fields, made coarse and enlarged slice by slice, give tissue its folds and blood its ragged edges.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from phantoms.ich.head import Head
from phantoms.solids import Grid, Point, cover, ellipsoid

CELL, LAYER = 4.0, 6.0
"""Spacing in mm of the lattices of the fields in their planes, and of the planes."""
FOLD = 5.5
"""Mean distance in mm from one standard deviation of the fold field to its zero line, the middle of a sulcus."""
AIR, FAT, MUSCLE, FLUID, TABLE, DIPLOE, DURA = -1000.0, -90.0, 45.0, 6.0, 1100.0, 450.0, 50.0
STEP = 0.1
"""Resolution in mm of the tables that turn a depth into a density."""
DEEP, HIGH = 12.0, 34.0
"""Range in mm of the table, inside and outside of the inner table of the skull."""
FLOOR_STEP, FLOOR_HALF = 2.0, (110, 90)
"""Cell of the skull base map and its half extent (y, x), mm."""
GRAY, WHITE, NUCLEI, SHEET, CORTEX = 38.0, 29.0, 36.0, 48.0, 3.5
"""Grey matter, white matter, deep nuclei, dura folds in HU; thickness of the cortex in mm."""
SULCUS_DEPTH = 18.0
"""How far in mm sulci reach below the surface."""
FAR = -20.0
"""Depth in mm that stands for "nowhere near"."""


@dataclass(frozen=True)
class Fields:
    """Three fields of unit variance, fixed in the scanner's frame, one set for a study.

    They are lattices [plane, row, column], or what these are in one slice, float32 [height, width].
    """

    fold: np.ndarray
    """Band-pass noise whose zero lines are the sulci, about 14 mm apart."""
    lump: np.ndarray
    """Low-pass noise of about 25 mm: outlines of hematomas, texture of the tissue."""
    grain: np.ndarray
    """Low-pass noise of about 9 mm: clots, swirls, patches."""


def draw_fields(rng: np.random.Generator) -> Fields:
    """Draw the lattices: 36 planes of 72 x 72 cells cover 21 x 29 x 29 cm."""
    noise = rng.standard_normal((3, 36, 72, 72), np.float32)
    fold = gaussian_filter(noise[0], (1.3, 0.75, 0.75)) - gaussian_filter(noise[0], (1.3, 1.5, 1.5))
    lump, grain = gaussian_filter(noise[1], (1.2, 1.8, 1.8)), gaussian_filter(noise[2], (0.5, 0.6, 0.6))
    return Fields(*(field / field.std() for field in (fold, lump, grain)))


def patch(fields: Fields, height: float, corner: tuple[float, float], pixel: float, shape: tuple[int, int]) -> Fields:
    """The fields in a slice ``height`` mm above the lowest plane.

    ``corner`` is the row and column position in mm of the first pixel from the middle of the lattice, ``shape`` the
    height and width in pixels of side ``pixel`` mm.
    """
    count, rows, cols = fields.fold.shape
    low, part = divmod(float(np.clip(height / LAYER, 0, count - 1.001)), 1)
    matrix = np.array([[pixel / CELL, 0, corner[1] / CELL + cols / 2], [0, pixel / CELL, corner[0] / CELL + rows / 2]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    norm = np.float32(1 / np.hypot(1 - part, part))
    planes = ((1 - part) * field[int(low)] + part * field[int(low) + 1] for field in
              (fields.fold, fields.lump, fields.grain))
    return Fields(*(cv2.warpAffine(plane.astype(np.float32) * norm, matrix, shape[::-1], flags=how,
                                   borderMode=cv2.BORDER_REFLECT) for plane in planes))


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
    for x0, y0, dx, dy, top, width in ((14, -30, 42, -12, -6, 5), (16, 6, 48, 20, -16, 7)):  # ridges along two lines
        share = np.clip(((side - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        away = np.hypot(side - x0 - share * dx, y - y0 - share * dy)
        floor = np.maximum(floor, top - 40 * (1 - np.exp(-(away / width) ** 2)))
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


def paint_skull(head: Head, grid: Grid, cranium: Cranium, table: np.ndarray, patch: Fields) -> np.ndarray:
    """Densities [sub, h, w] of everything outside the cavity; the cavity itself is filled with fluid."""
    wavy = cranium.depth + (0.5 * patch.lump) * (cranium.depth < -1)
    hu = look_up(table, wavy, -HIGH)
    if grid.z.min() < 8:
        _paint_base(head, grid, cranium, hu, patch)
    return hu


def _paint_base(head: Head, grid: Grid, cranium: Cranium, hu: np.ndarray, patch: Fields) -> None:
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


def _solid(grid: Grid, hu: np.ndarray, center: Point, axes: Point, density: float | np.ndarray,
           inside: np.ndarray | float = 1.0, soft: float = 1.0) -> None:
    """Fill an ellipsoid, in place, where ``inside`` [sub, h, w]; its edge is ``1 / soft`` pixels wide."""
    if box := grid.box(center, max(axes)):
        filled = density[box[1:]] if isinstance(density, np.ndarray) else density
        share = cover(ellipsoid(grid.cut(box), center, axes) * soft, grid.pixel)
        hu[box] += share * (inside[box] if isinstance(inside, np.ndarray) else inside) * (filled - hu[box])


@dataclass(frozen=True)
class Brain:
    """The spaces of one slice in which blood can lie."""

    sulci: np.ndarray
    """Distance in mm [sub, h, w] below the edge of the nearest sulcus or of the convexity; negative in the tissue."""
    cisterns: np.ndarray
    """The same for the basal cisterns and the Sylvian fissures."""
    ventricles: np.ndarray
    """Share of the voxel that is ventricle [sub, h, w]."""


def find_ventricles(head: Head, grid: Grid) -> np.ndarray:
    """Share of each voxel [sub, h, w] that lies in a ventricle; ``grid`` is already displaced by mass effect."""
    found, scale = np.zeros_like(grid.x), head.ventricle
    # Center, half axes and bend (1/mm) of ellipsoids: per side body, occipital and temporal horn; third, fourth.
    parts = [((side * x, y, z), (wide * scale, long, high * scale), side * bend) for side in (-1.0, 1.0)
             for x, y, z, wide, long, high, bend in ((8.5, -6.0, 21.0, 4.6, 32.0, 8.0, 0.006),
                                                     (22.0, 30.0, 13.0, 6.0, 19.0, 9.0, 0.004),
                                                     (33.0, 2.0, -14.0, 2.4, 16.0, 3.0, -0.004))]
    parts += [((0.0, 0.0, 8.0), (2.2 * scale, 14.0, 10.0), 0.0), ((0.0, 35.0, -22.0), (6.0 * scale, 5.0 * scale, 9.0), 0.0)]
    for center, axes, bend in parts:
        if box := grid.box(center, max(axes) + 6):
            part = grid.cut(box)
            curve = bend * (part.y - center[1]) ** 2
            straight = Grid(part.x - curve, part.y, part.z, part.pixel)
            found[box] = np.maximum(found[box], cover(ellipsoid(straight, center, axes), grid.pixel))
    return found


def find_cisterns(head: Head, grid: Grid, patch: Fields) -> np.ndarray:
    """Depth in mm [sub, h, w] below the surface of the basal cisterns and Sylvian fissures, at least ``FAR``."""
    deep = np.full_like(grid.x, FAR)
    if grid.z.min() > 30 or grid.z.max() < -50:
        return deep
    wide = 0.8 + head.sulcus
    for center, axes in (((0.0, -14.0, -4.0), (13.0, 9.0, 6.0)), ((0.0, 27.0, 4.0), (12.0, 4.0 * wide, 6.0)),
                         ((0.0, -5.0, -18.0), (12.0, 3.0 * wide, 10.0)), ((0.0, 66.0, -36.0), (14.0, 5.0, 9.0))):
        if box := grid.box(center, max(axes)):
            deep[box] = np.maximum(deep[box], ellipsoid(grid.cut(box), center, axes))
    if box := grid.box((0.0, 7.0, -2.0), 24):
        part = grid.cut(box)
        ring = ellipsoid(part, (0.0, 7.0, -2.0), (19.0, 18.0, 13.0))
        deep[box] = np.maximum(deep[box], np.where((part.z < 4) & (np.abs(part.x) > 8), 0.5 * wide - np.abs(ring), FAR))
    side = np.abs(grid.x)
    ends = np.minimum(np.minimum(side - 20, grid.z + 9), 20 - grid.z)
    sheet = 0.7 * wide - np.abs(grid.y + (14 - 0.012 * (side - 20) ** 2) - 2 * patch.grain)
    return np.maximum(deep, np.minimum(sheet, ends))


def paint_brain(head: Head, grid: Grid, cranium: Cranium, patch: Fields, hu: np.ndarray) -> Brain:
    """Fill the cavity of ``hu`` [sub, h, w] with brain, in place; ``grid`` is already displaced by mass effect."""
    surface = head.gap - np.minimum(cranium.depth, cranium.above + 1.0)
    fold = np.maximum(head.sulcus - np.abs(patch.fold) * FOLD - np.maximum(-surface - SULCUS_DEPTH, 0), FAR)
    core = 1.25 - (grid.y * (1 / 48)) ** 2 - ((grid.z - 10) * (1 / 27)) ** 2
    midline = 0.9 - np.abs(grid.x) - 40 * np.maximum(core, 0)
    sulci = np.maximum(np.maximum(surface, fold), midline)
    cisterns = find_cisterns(head, grid, patch)
    fluid = np.maximum(sulci, cisterns)
    below = np.arange(-5.0, 12.0, STEP)  # mm below the fluid: a shell of gray matter, then white matter
    gray, white = np.clip(below / grid.pixel + 0.5, 0, 1), np.clip((below - CORTEX) / 2 + 0.5, 0, 1)
    cortex = (FLUID + gray * (GRAY - FLUID) + white * (WHITE - GRAY)).astype(np.float32)
    tissue = look_up(cortex, -fluid, -5.0) + 1.2 * patch.lump
    hu += cranium.inside * (tissue - hu)
    for side in (-1.0, 1.0):  # caudate, lentiform nucleus, thalamus
        for center, axes in (((side * 13.0, -22.0, 14.0), (5.0, 8.0, 10.0)), ((side * 25.0, -6.0, 7.0), (6.0, 16.0, 10.0)),
                             ((side * 10.0, 9.0, 9.0), (8.0, 14.0, 9.0))):
            _solid(grid, hu, center, axes, NUCLEI, cranium.inside, soft=0.5)
    ventricles = find_ventricles(head, grid) * cranium.inside
    hu += ventricles * (FLUID - hu)
    return Brain(sulci, cisterns, ventricles)


def paint_dura(head: Head, grid: Grid, cranium: Cranium, hu: np.ndarray, sinus: float) -> None:
    """Falx, tentorium and the venous sinuses of density ``sinus`` HU (a dense one mimics a subdural), in place."""
    side, roof = np.abs(grid.x), 12 - 0.35 * np.abs(grid.x) + 0.1 * (grid.y - 20)
    falx = np.minimum(0.8 - side, np.maximum(np.minimum(grid.z - 38, 80), np.minimum(-38 - grid.y, grid.z + 2)))
    falx = np.maximum(falx, np.minimum(np.minimum(0.8 - side, grid.y - 42), grid.z - roof))
    tent = np.minimum(np.minimum(0.9 - np.abs(grid.z - roof), grid.y - 24), 60 - side)
    sheet = cover(np.maximum(falx, tent), grid.pixel) * cranium.inside
    hu += sheet * (SHEET - hu)
    sagittal = np.minimum(np.minimum(5.5 - 0.7 * cranium.depth - side, cranium.depth), np.minimum(grid.z - 5, grid.y + 20))
    transverse = np.minimum(np.minimum(5.5 - np.abs(grid.z - roof + 4), 6 - cranium.depth), grid.y - 34)
    vein = cover(np.maximum(sagittal, transverse), grid.pixel) * cranium.inside
    hu += vein * (sinus - hu)


def paint_calcium(head: Head, grid: Grid, hu: np.ndarray) -> None:
    """Calcified pineal gland and choroid plexus, in place: bright, small, harmless."""
    for radius, center in zip(head.calcified, ((0.0, 19.0, 8.0), (-21.0, 27.0, 13.0), (21.0, 27.0, 13.0))):
        if radius:
            _solid(grid, hu, center, (radius, radius, radius), head.calcium)
