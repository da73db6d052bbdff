"""The two scanners: matrix, field, slices, gain; position of the knee; bias, ghosts and noise."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

NOISE, BIAS = 0.03, 0.3
"""SD of each channel of the Rician noise as a share of yellow marrow; SD of the field's logarithm at its strongest place."""
BLUR = (0.5, 0.9)
"""Sigma of the point spread in pixels of the real matrix."""
GHOST, GHOST_SIGNAL = 0.1, 0.06
"""Chance and strength of a second picture, shifted across by half a frame."""


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
    seen = signal
    if scan.ghost:
        seen = seen + np.float32(GHOST_SIGNAL) * np.roll(signal, scan.frame // 2, axis=2)
    if scan.blur > 0.25:  # a narrower one changes nothing
        seen = gaussian_filter(seen, (0, scan.blur, scan.blur))
    seen = seen * field(scan, seen.shape)
    noise = rng.standard_normal((2, *seen.shape), np.float32) * np.float32(NOISE)
    return np.rint(np.hypot(seen + noise[0], noise[1]) * scan.gain).astype(np.int16)


def field(scan: Scan, shape: tuple[int, ...]) -> np.ndarray:
    """The coil's sensitivity, float32 [slices, h, w]: exp of a polynomial of second order whose extremes reach 30 %."""
    y, z, x = np.meshgrid(*(np.linspace(-1, 1, count, dtype=np.float32) for count in shape), indexing="ij", sparse=True)
    terms = (z, y, x, z * z, y * y, x * x, z * x)
    log = np.zeros(shape, np.float32)
    for weight, term in zip(scan.bias, terms):
        log += np.float32(weight) * term
    log -= log.mean()
    return np.exp(log * np.float32(BIAS / np.abs(log).max()))
