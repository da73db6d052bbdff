"""One examination of a man's knee: the scanner, the picture, bone masks by eye and by truth, drawn slice by slice."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from competitions.knee_age.volume import BONES
from phantoms.knee_age import anatomy
from phantoms.knee_age.anatomy import DRAWN, REACH, Bone, flexed, signal
from phantoms.knee_age.law import CELL, LATTICE, Person, Plate, plate
from phantoms.solids import Grid, block, cover

NOISE, BIAS = 0.03, 0.3
"""SD of each channel of the Rician noise as a share of yellow marrow; SD of the field's logarithm at its strongest place."""
BLUR = (0.5, 0.9)
"""Sigma of the point spread in pixels of the real matrix."""
GHOST, GHOST_SIGNAL = 0.1, 0.06
"""Chance and strength of a second picture, shifted across by half a frame."""
SUB = 3
"""Thin slices that are averaged into one."""
JITTER, JITTER_SIDE = 0.35, 5.0
"""SD in mm and correlation in mm of the annotators' outlines: one pixel of a Jopp volume."""
END_ERROR = 0.05
"""Chance that an end slice of a bone is missed, and that one too many is outlined."""
REDNESS, YELLOWING = 0.75, 0.09
"""Share of the metaphysis that is red at 14 years of maturity, and the share that turns yellow in a year."""


@dataclass(frozen=True)
class Protocol:
    """What the volumes of a source have in common."""

    matrix: int
    """Rows and columns of the real frame."""
    window: int
    """Side in pixels of the square around the joint that was annotated."""
    pixel: float
    """Side of a pixel in mm."""
    slices: dict[int, float]
    """Counts and their chances."""
    spacing: tuple[float, float]
    """Least and most mm from slice to slice."""
    gain: float
    """Stored value of yellow marrow."""
    wander: float
    """SD in pixels of the joint's row around the middle of the frame."""


PROTOCOLS = {
    "jopp": Protocol(512, 256, 0.35, {24: 0.8, 20: 0.1, 26: 0.1}, (4.0, 4.5), 1000.0, 18.0),
    "epi": Protocol(800, 560, 0.27, {41: 1.0}, (2.4, 3.0), 200.0, 4.0),
}


@dataclass(frozen=True)
class Scan:
    """One examination."""

    frame: int
    """Rows and columns drawn."""
    pixel: float
    """mm."""
    window: int
    """Side of the annotated square in pixels drawn."""
    slices: int
    spacing: float
    """mm from slice to slice."""
    joint: tuple[float, float]
    """Row and column of the joint's center."""
    front: float
    """y in mm of the first slice's middle, joint = 0."""
    rotation: float
    """Degrees around the long axis."""
    flexion: float
    """Degrees."""
    gain: float
    blur: float
    """Sigma in pixels drawn."""
    ghost: bool
    bias: np.ndarray
    """Coefficients of the field's logarithm: z, y, x, z², y², x², zx."""


def draw_scan(rng: np.random.Generator, source: str, size: int) -> Scan:
    """Draw an examination whose annotated window has ``size`` pixels: frame 2 x ``size`` (Jopp) or 10/7 x ``size`` (Epi)."""
    protocol = PROTOCOLS[source]
    ratio = size / protocol.window
    frame = round(protocol.matrix * ratio)
    pixel = protocol.pixel * protocol.matrix / frame
    slices = int(rng.choice(list(protocol.slices), p=list(protocol.slices.values())))
    spacing = float(rng.uniform(*protocol.spacing))
    row, column = np.clip(rng.standard_normal(2), -2.2, 2.2) * protocol.wander * ratio * (1, 0.3) + (frame - 1) / 2
    return Scan(
        frame, pixel, size, slices, spacing, (float(row), float(column)),
        front=-spacing * (slices - 1) / 2 + float(rng.normal(0, 1.5)), rotation=float(rng.uniform(-8, 8)),
        flexion=float(rng.uniform(-6, 6)), gain=protocol.gain * float(np.exp(rng.normal(0, 0.12))),
        blur=float(rng.uniform(*BLUR)) * ratio, ghost=bool(rng.random() < GHOST), bias=rng.normal(0, 1, 7))


def record(scan: Scan, rng: np.random.Generator, signal: np.ndarray) -> np.ndarray:
    """What is stored, int16 [slices, frame, frame], of float32 signals: ghost, blur, coil, Rician noise, gain.

    The noise has the SD of one real pixel whatever the size drawn, although a larger pixel would average it.
    """
    if scan.ghost:
        signal = signal + np.float32(GHOST_SIGNAL) * np.roll(signal, scan.frame // 2, axis=2)
    if scan.blur > 0.25:  # a narrower one changes nothing
        signal = gaussian_filter(signal, (0, scan.blur, scan.blur))
    noise = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(NOISE)
    return np.rint(np.hypot(signal * field(scan, signal.shape) + noise[0], noise[1]) * scan.gain).astype(np.int16)


def field(scan: Scan, shape: tuple[int, ...]) -> np.ndarray:
    """The coil's sensitivity, float32 [slices, h, w]: exp of a polynomial of second order whose extremes reach 30 %."""
    y, z, x = np.meshgrid(*(np.linspace(-1, 1, count, dtype=np.float32) for count in shape), indexing="ij", sparse=True)
    log = np.zeros(shape, np.float32)
    for weight, term in zip(scan.bias, (z, y, x, z * z, y * y, x * x, z * x)):
        log += np.float32(weight) * term
    log -= log.mean()
    return np.exp(log * np.float32(BIAS / np.abs(log).max()))


@dataclass(frozen=True)
class Drawn:
    """One volume, before it is written."""

    pixels: np.ndarray
    """int16 [slices, frame, frame], coronal, front to back, head to feet, the patient's right on the left."""
    masks: np.ndarray
    """bool [3, slices, frame, frame]: true bones of ``BONES``, within the annotated window."""
    outlined: np.ndarray
    """The same as annotators draw them."""
    scan: Scan


def draw_volume(rng: np.random.Generator, person: Person, visit: int, source: str, size: int) -> Drawn:
    """Draw the knee of ``person`` at ``visit`` as ``source`` scans it, ``size`` pixels to the window around the joint."""
    scan = draw_scan(rng, source, size)
    maturity = person.maturity(visit)
    plates = dict(zip(BONES, map(plate, maturity)))
    threshold = _threshold(maturity.mean(), person.red)
    depths = np.full((len(BONES), scan.slices, scan.frame, scan.frame), -9, np.float32)
    signals = np.stack([_slice(scan, person, plates, threshold, number, depths[:, number]) for number in range(scan.slices)])
    allowed = np.zeros(depths.shape, bool)
    top, left = round(scan.joint[0] - scan.window / 2), round((scan.frame - scan.window) / 2)
    window = np.s_[..., max(top, 0):top + scan.window, left:left + scan.window]  # that annotators see, centered across
    allowed[window] = (depths.argmax(0) == np.arange(len(BONES))[:, None, None, None])[window]  # bones share no pixel
    masks = (depths > 0) & allowed
    jitter = gaussian_filter(rng.standard_normal(signals.shape, np.float32), (0, *[JITTER_SIDE / scan.pixel] * 2))
    outlined = (depths > jitter * np.float32(JITTER / jitter.std())) & allowed
    for bone in outlined:
        _wrong_ends(rng, bone)
    return Drawn(record(scan, rng, signals), masks, outlined, scan)


def _slice(scan: Scan, person: Person, plates: dict[str, Plate], threshold: float, number: int,
           depths: np.ndarray) -> np.ndarray:
    """Signal [frame, frame] of one slice; the bones' depths in mm are put into ``depths`` [3, frame, frame]."""
    grid = slice_grid(scan, person, number)
    bent = flexed(grid, scan.flexion)
    marrow, grain = (_texture(lattice, grid) for lattice in (person.marrow, person.grain))
    red = np.clip((marrow - np.float32(threshold)) * np.float32(2) + 0.5, 0, 1)
    picture = anatomy.leg(grid, person, grain)
    drawn: dict[str, Bone] = {name: DRAWN[name](bent if name == "femur" else grid, person)
                              for name in BONES if grid.near(*REACH[name])}
    if "femur" in drawn and "tibia" in drawn:
        anatomy.joint(grid, picture, drawn["femur"], drawn["tibia"], bent)
    anatomy.cords(grid, picture)
    if grid.near(-52, -32):  # only the front slices show the patella, and no mask has it
        kneecap = block(grid, (-2, -42, 20), (22, 9, 21))
        inside = 0.08 + cover(kneecap - np.float32(1.3), grid.pixel) * np.float32(0.9)
        picture += cover(kneecap, grid.pixel) * (inside - picture)
    for place, name in enumerate(BONES):
        if name in drawn:
            picture += cover(drawn[name].depth, grid.pixel) * (signal(drawn[name], plates[name], red, grid.pixel) - picture)
            depths[place] = drawn[name].depth.mean(0) * person.scale
    return picture.mean(0)


def slice_grid(scan: Scan, person: Person, number: int) -> Grid:
    """Knee coordinates in slice ``number``, in mm of a knee of mean size."""
    mm = 1 / person.scale
    turn = np.radians(scan.rotation)
    x = (np.arange(scan.frame) - scan.joint[1]) * scan.pixel * mm
    z = (scan.joint[0] - np.arange(scan.frame)) * scan.pixel * mm
    y = (scan.front + scan.spacing * (number + (np.arange(SUB) + 0.5) / SUB - 0.5)) * mm
    across = x * np.cos(turn) + y[:, None] * np.sin(turn)
    along = y[:, None] * np.cos(turn) - x * np.sin(turn)
    return Grid(across[:, None].astype(np.float32), along[:, None].astype(np.float32), z[None, :, None].astype(np.float32),
                scan.pixel * mm)


def _texture(lattice: np.ndarray, grid: Grid) -> np.ndarray:
    """The lattice in the middle of a slice, float32 [h, w]; the knee's rotation is neglected."""
    planes, rows, columns = LATTICE
    low, part = divmod(float(np.clip(grid.y.mean() / CELL + planes / 2, 0, planes - 1.001)), 1)
    plane = (1 - part) * lattice[int(low)] + part * lattice[int(low) + 1]
    step = np.float32(grid.pixel / CELL)
    matrix = np.array([[step, 0, grid.x.mean(0).min() / CELL + columns / 2], [0, step, -grid.z.max() / CELL + rows / 2]])
    return cv2.warpAffine(plane.astype(np.float32) / np.float32(np.hypot(1 - part, part)), matrix,
                          (grid.x.shape[2], grid.z.shape[1]), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REFLECT)


def _threshold(maturity: float, red: float) -> float:
    """Value of the marrow's lattice above which it is red: the weak second sign of maturity."""
    return float(norm.isf(np.clip(REDNESS - YELLOWING * (maturity - 14) + red, 0.02, 0.98)))


def _wrong_ends(rng: np.random.Generator, bone: np.ndarray) -> None:
    """Miss the first and last slice of a bone [slices, h, w] at times, or outline one too many, in place."""
    shown = np.flatnonzero(bone.any((1, 2)))
    for end, step in ((shown[0], -1), (shown[-1], 1)):
        missed, added = rng.random(2) < END_ERROR
        if added and 0 <= end + step < len(bone):
            bone[end + step] = bone[end]
        elif missed and len(shown) > 3:
            bone[end] = False
