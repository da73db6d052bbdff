"""One patient's head, how it lies in the scanner, and the planes of a series. Lengths are millimeters.

The head's frame turns with it; z = 0 lies at the suprasellar cistern.
"""

from dataclasses import dataclass

import numpy as np

from phantoms.solids import Grid, Point

SPACINGS = {5.0: 0.55, 4.0: 0.20, 3.0: 0.12, 2.5: 0.08, 0.0: 0.05}
"""Slice spacing in mm -> share of series; 0 stands for 5 mm in the lower half of the head and 2.5 mm above it."""
SUB_SLICES = 3
"""Thin slices averaged into one picture: the partial volume effect of a thick slice."""
WIDEST = 12.0
"""Height in mm at which the cranium is widest (the bodies of the lateral ventricles lie just above)."""


@dataclass(frozen=True)
class Head:
    """The measures of one patient's head, all in mm unless said."""

    a: float
    """Half width of the cranial cavity, left to right."""
    b: float
    """Half length, front to back."""
    c: float
    """Height of the vertex above z = 0."""
    taper: float
    """How much narrower the forehead is, as a share of the width."""
    skull: float
    """Thickness of the calvaria."""
    scalp: float
    """Thickness of the scalp."""
    gap: float
    """Width of the fluid between dura and cortex."""
    sulcus: float
    """Half width of a sulcus."""
    ventricle: float
    """Scale of the ventricles, 1 in the average adult."""
    calcified: tuple[float, ...]
    """Radii of the calcifications: pineal gland, left and right choroid plexus; 0 for none."""
    calcium: float
    """Their density in HU."""


@dataclass(frozen=True)
class Pose:
    """How the head lies in the scanner."""

    turn: np.ndarray
    """Rotation [3, 3]; columns are the head's axes in patient coordinates."""
    center: np.ndarray
    """Patient coordinates [3] of the head's origin in mm."""
    tilt: float
    """Gantry tilt in radians."""


@dataclass(frozen=True)
class Slices:
    """The planes of one series, bottom to top."""

    positions: np.ndarray
    """Patient coordinates [n, 3] of the center of each first pixel, mm (DICOM ImagePositionPatient)."""
    columns: np.ndarray
    """Direction [3] down the rows (the second half of ImageOrientationPatient); the first half is always 1\\0\\0."""
    thickness: np.ndarray
    """Millimeters [n] averaged into each picture."""
    pixel: float
    """PixelSpacing in mm."""
    size: int
    """Rows and columns."""


def draw_head(rng: np.random.Generator) -> Head:
    """Draw an adult head (outer half axes N(72, 4) and N(92, 5) mm, height N(75, 5) mm; 40 % calcified)."""
    skull, atrophy = float(rng.uniform(5, 8)), float(rng.beta(2, 3))
    calcified = rng.uniform(0.8, 2.2, 3) * (rng.random(3) < (0.7, 0.5, 0.5)) * (rng.random() < 0.4)
    return Head(a=float(rng.normal(72, 4)) - skull, b=float(rng.normal(92, 5)) - skull, c=float(rng.normal(75, 5)),
                taper=float(rng.uniform(0.06, 0.14)), skull=skull, scalp=float(rng.uniform(5, 8)),
                gap=0.6 + 2.0 * atrophy, sulcus=0.35 + 1.1 * atrophy,
                ventricle=0.8 + 0.6 * atrophy + float(rng.uniform(-0.08, 0.08)),
                calcified=tuple(float(radius) for radius in calcified), calcium=float(rng.uniform(80, 250)))


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw roll and yaw N(0, 4), pitch N(0, 6) degrees and a gantry tilt: none in 60 %, else U(8, 20) degrees."""
    yaw, roll, pitch = np.radians(rng.normal(0, (4, 4, 6)))
    tilt = float(np.radians(rng.uniform(8, 20))) if rng.random() < 0.4 else 0.0
    center = np.array([*rng.normal(0, 4, 2), rng.uniform(100, 300)])
    return Pose(_about(2, yaw) @ _about(1, roll) @ _about(0, pitch), center, tilt)


def draw_slices(rng: np.random.Generator, head: Head, pose: Pose, size: int) -> Slices:
    """Draw 20-60 parallel planes from below the skull base to above the vertex.

    As in a real tilted series, only the third coordinate of the position moves, by alternately rounded steps.
    """
    spacing = float(rng.choice(list(SPACINGS), p=list(SPACINGS.values())))
    bottom, top = -rng.uniform(46, 60), head.c + head.skull + head.scalp + rng.uniform(2, 14)
    low, high = (5.0, 2.5) if spacing == 0 else (spacing, spacing)
    steps = [0.0]
    while steps[-1] < top - bottom and len(steps) < 60:
        steps.append(steps[-1] + round((low if bottom + steps[-1] < 20 else high) / np.cos(pose.tilt), 1))
    pixel = float(np.round(rng.uniform(0.43, 0.53), 6)) * 512 / size
    columns = np.array([0.0, np.cos(pose.tilt), -np.sin(pose.tilt)])
    middle = pose.center + rng.normal(0, (4, 4, 0)) + np.array([0.0, 4.0, 0.0])
    corner = middle - pixel * (size - 1) / 2 * (columns + np.array([1.0, 0.0, 0.0]))
    rounding = 0.00125 * np.where(np.arange(len(steps)) % 2, 1, -1)
    positions = np.tile(corner, (len(steps), 1))
    positions[:, 2] += bottom + np.array(steps) + rounding
    gaps = np.diff(steps, append=steps[-1] + steps[-1] - steps[-2]) * np.cos(pose.tilt)
    return Slices(positions.round(6), columns, gaps, pixel, size)


def head_window(slices: Slices, pose: Pose, head: Head) -> tuple[slice, slice]:
    """The rows and columns that can hold the head in any slice."""
    center = pose.center - slices.positions[0]
    margin = head.skull + head.scalp + 16
    middle = center[1] / slices.columns[1], center[0]
    reach = (head.b / slices.columns[1] + margin, head.a + margin)
    low = [max(0, int((m - r) / slices.pixel)) for m, r in zip(middle, reach)]
    high = [min(slices.size, int((m + r) / slices.pixel) + 1) for m, r in zip(middle, reach)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def grid_of(slices: Slices, pose: Pose, number: int, window: tuple[slice, slice]) -> Grid:
    """Head coordinates of the voxels of slice ``number`` in the rows and columns of ``window``."""
    to_head = pose.turn.T
    normal = np.cross((1.0, 0.0, 0.0), slices.columns)
    origin = to_head @ (slices.positions[number] - pose.center)
    offsets = (np.arange(SUB_SLICES) - (SUB_SLICES - 1) / 2) / SUB_SLICES * slices.thickness[number]
    rows, cols = (np.arange(slices.size)[part] * slices.pixel for part in window)
    axes = []
    for start, right, down, through in zip(origin, to_head[:, 0], to_head @ slices.columns, to_head @ normal):
        line = (start + through * offsets).astype(np.float32)[:, None, None]
        axes.append(line + (down * rows).astype(np.float32)[:, None] + (right * cols).astype(np.float32))
    return Grid(axes[0], axes[1], axes[2], slices.pixel)


def depth(head: Head, grid: Grid) -> np.ndarray:
    """Distance in mm [sub, h, w] below the inner table along the ray from the middle of the head; negative outside.

    The cavity is a superellipsoid (bulging corners by the mixed term) with a narrower forehead and a narrower base.
    """
    up = grid.z - WIDEST
    across = grid.x * (1 / head.a) * (1 - (head.taper / head.b) * grid.y)
    along = grid.y * (1 / head.b)
    across, along = across * across, along * along
    height = up * up
    level = across + along - 0.25 * across * along
    level += height * np.where(up > 0, np.float32(1 / (head.c - WIDEST) ** 2), np.float32(1 / 125.0**2))
    ray = np.sqrt(grid.x * grid.x + grid.y * grid.y + height)
    return ray / np.sqrt(level + 1e-4) - ray


def on_table(head: Head, direction: Point) -> Point:
    """The point of the inner table in ``direction`` (head axes) from the middle of the head."""
    unit = np.asarray(direction) / np.linalg.norm(direction)
    length = 30.0
    for _ in range(4):
        x, y, z = (length * unit).tolist()
        length += depth(head, Grid.at((x, y, z + WIDEST))).item()
    return x, y, z + WIDEST


def _about(axis: int, angle: float) -> np.ndarray:
    """Rotation [3, 3] by ``angle`` radians about one axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn
