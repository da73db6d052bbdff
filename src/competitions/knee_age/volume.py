"""From a raw volume to what a network sees: crop, bias field, normalization, masks, central slices (Pietz 2018)."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from radstack.images.dicom import Unreadable
from radstack.images.volumes import Grid, read_volume, same_geometry

BONES = ("femur", "tibia", "fibula")
"""Channels of a decoded mask."""
SHARE = {"jopp": 256 / 512, "epi": 560 / 800}
"""Side of the crop as a share of the frame's shorter side, by source."""
FIXED = {"epi": 120 / 800}
"""Sources whose crop does not follow the joint: where it starts, as a share of the frame. These were scanned prospectively
with the joint in the middle."""
BOX, ENDS, FRAME = 20, 100, 512
"""Rows of the smoothing box, rows left out at each end, and the frame that both are meant for."""
OTSU_BINS = 200
"""Of the histogram that N4's mask is made from."""
KERNEL = 7
"""Side of the square that erodes the soft mask, pixels of a crop of 224."""
CENTRAL = 18
"""Slices an age is read from; the outer ones show no bone."""
MATRIX = {24: 4, 41: 12}
"""Slices of a source's volume and the first central one: 4..-2 of 24 (Jopp), 12..-11 of 41 (Epi)."""
DEPTH, THICK = 24, 32
"""Slices that a network of volumes sees, and how many are so many that it sees every second one."""
FEWEST, MOST = 19, 48
"""Slices of a volume of these protocols; the sources have 20, 24, 26 and 41."""


class Box(NamedTuple):
    """A square of a slice, pixels of the frame."""

    top: int
    left: int
    side: int


def joint_center(pixels: np.ndarray) -> int:
    """Row of the joint space of [slices, rows, columns]: a dark line between two bright bones.

    Intensities are summed over each row of the whole volume and smoothed; the row with the largest second derivative is the
    joint (shipped code of Pietz 2017). The box of 20 rows and the 100 rows left out at each end scale with the frame.
    """
    from scipy.ndimage import uniform_filter1d  # slow to import

    scale = pixels.shape[1] / FRAME
    profile = uniform_filter1d(pixels.sum(axis=(0, 2), dtype=np.float64), max(1, round(BOX * scale)), mode="nearest")
    ends = round(ENDS * scale)
    bend = np.gradient(np.gradient(profile))
    return ends + int(bend[ends:len(bend) - ends].argmax())


def crop_box(pixels: np.ndarray, source: str) -> Box:
    """The square around the joint in [slices, rows, columns], centered from left to right and inside the frame.

    Pietz 2018 cropped volumes with hand-made masks by the box of the mask. Here one rule holds for all volumes of a source,
    annotated or not, train or test: a crop that follows the mask tells a network the length of the bones, which it will
    not be told of a new knee. Sources other than Epi are cropped like Jopp.
    """
    height, width = pixels.shape[1:]
    side = round(SHARE.get(source, SHARE["jopp"]) * min(height, width))
    top = round(FIXED[source] * height) if source in FIXED else joint_center(pixels) - side // 2
    return Box(int(np.clip(top, 0, height - side)), (width - side) // 2, side)


def crop(pixels: np.ndarray, source: str, side: int) -> tuple[np.ndarray, Box]:
    """The joint as float32 [slices, side, side], and the square of :func:`crop_box` it was cut from."""
    box = crop_box(pixels, source)
    return cut(pixels, box, side), box


def cut(pixels: np.ndarray, box: Box, side: int) -> np.ndarray:
    """The ``box`` of [slices, rows, columns], slice by slice resized to ``side``: float32 [slices, side, side]."""
    how = cv2.INTER_AREA if box.side > side else cv2.INTER_LINEAR
    inside = pixels[:, box.top:box.top + box.side, box.left:box.left + box.side].astype(np.float32)
    return np.stack([cv2.resize(picture, (side, side), interpolation=how) for picture in inside])


def cut_masks(masks: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Bool [bones, slices, rows, columns] -> bool [bones, slices, side, side]: what the bone covers at least half of."""
    return np.stack([cut(mask, box, side) >= 0.5 for mask in masks])


def n4(pixels: np.ndarray, spacing: tuple[float, float, float], shrink: int = 4) -> np.ndarray:
    """Divide by the bias field of N4 (Tustison 2010, SimpleITK's defaults) within Otsu's mask.

    ``pixels`` and the result are float32 [slices, rows, columns], ``spacing`` is mm of a slice, row and column. The field is
    found on every ``shrink``-th row and column (slices are few and thick: all stay), and applied at full size. CPU seconds
    at 24 x 224 x 224: 17 with 2, 4.4 with 4, 1.2 with 8.
    """
    import SimpleITK as sitk

    # Volumes are shared out among processes, and sums over threads are rounded otherwise. Filters within N4 heed this alone.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels, np.float32))
    image.SetSpacing([float(value) for value in spacing[::-1]])
    mask = sitk.OtsuThreshold(image, 0, 1, OTSU_BINS)
    steps = [shrink, shrink, 1]
    correct = sitk.N4BiasFieldCorrectionImageFilter()
    correct.Execute(sitk.Shrink(image, steps), sitk.Shrink(mask, steps))
    field = sitk.GetArrayFromImage(correct.GetLogBiasFieldAsImage(image))
    return pixels / np.exp(field)


def normalize(pixels: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the volume given, not the training set: float32; a flat volume becomes 0.

    It comes before masking, so that what is masked out has the mean of the volume.
    """
    spread = pixels.std(dtype=np.float64)
    return ((pixels - pixels.mean(dtype=np.float64)) / (spread or 1.0)).astype(np.float32)


def central(count: int) -> np.ndarray:
    """Numbers of the ``CENTRAL`` central slices of a volume of ``count``, int64 [18].

    24 slices give 4..21 and 41 give 12..29. Pietz 2018 pads 20 slices by two at each end and drops the first and last of
    26; so both have the 24's middle, and the slices are 2..19 and 5..22. Other counts go by the nearer of 24 and 41; beyond
    ``FEWEST``..``MOST`` they are Unreadable as ``slice-count``.
    """
    if not FEWEST <= count <= MOST:
        raise Unreadable("slice-count", f"{count} slices, not {FEWEST}..{MOST}")
    nominal = min(MATRIX, key=lambda slices: abs(slices - count))
    return np.arange(CENTRAL) + MATRIX[nominal] + (count - nominal) // 2


def thinned(count: int) -> np.ndarray:
    """Numbers of the ``DEPTH`` slices that a network of volumes sees of a volume of ``count``, int64 [24].

    All of 24, and every second one of 41, as in Pietz 2018; beyond the ends the last slice is repeated.
    """
    every = 2 if count > THICK else 1
    numbers = np.floor((count - 1) / 2 + every * (np.arange(DEPTH) - (DEPTH - 1) / 2))
    return np.clip(numbers, 0, count - 1).astype(np.int64)


def decode_mask(labels: np.ndarray) -> np.ndarray:
    """Label volume [slices, rows, columns] -> bool [3, slices, rows, columns]: femur, tibia, fibula.

    Each bone has one intensity, in descending order fibula, tibia, femur; 0 is background. With another number of
    intensities it is Unreadable as ``mask-labels``.
    """
    values = np.unique(labels)
    values = values[values != 0]
    if len(values) != len(BONES):
        shown = ", ".join(f"{value:g}" for value in values[:8])
        raise Unreadable("mask-labels", f"{len(values)} intensities ({shown}), not one for each of {', '.join(BONES)}")
    return np.stack([labels == value for value in values])


def read_masks(path: Path, grid: Grid) -> np.ndarray:
    """The bones of a label file as :func:`decode_mask` gives them, on the voxels of ``grid``.

    Unreadable as :func:`radstack.images.volumes.read_volume` and :func:`decode_mask` say, and as ``mask-geometry``.
    """
    labels = read_volume(path)
    if not same_geometry(labels, grid):
        raise Unreadable("mask-geometry", f"{path.name} lies on another grid: {_told(labels)}; the volume is {_told(grid)}")
    return decode_mask(labels.pixels)


def _told(grid: Grid) -> str:
    spacing, origin = (" x ".join(f"{value:.4g}" for value in triple) for triple in (grid.spacing, grid.origin))
    return f"{' x '.join(map(str, grid.size))} voxels of {spacing} mm from {origin}"
