"""Pictures for people: slices with the bones that were found."""

from pathlib import Path

import cv2
import numpy as np

from competitions.knee_age.localizer import LEVELS, MASKS, THRESHOLD, ZERO, cleaned
from radstack.report.dark import INK, dark, save_png, show_gray

COLORS = {"bone": "#eeeeee", "femur": "#ff922b", "tibia": "#5fb4ff", "fibula": "#7fd34e"}
WINDOW = (ZERO - 2.5 * LEVELS, ZERO + 3 * LEVELS)
"""Gray levels shown as black and white: 2.5 standard deviations below the volume's mean to 3 above."""


def slice_with_bones(picture: np.ndarray, maps: np.ndarray, path: Path, *, note: str) -> None:
    """Draw one slice plain, with the soft mask of all bones, and with the outline of each."""
    figure = dark(9, 3.3, layout="constrained")
    plain, soft, bones = figure.subplots(1, 3)
    show_gray(plain, picture, *WINDOW)
    show_gray(soft, maps[0])
    bones.imshow(outlined(picture, maps, 2 * len(picture)))
    for ax, name in ((plain, "picture"), (soft, "probability of bone"), (bones, ", ".join(MASKS[1:]))):
        ax.axis("off")
        ax.set_title(name, color=INK, fontsize=9)
    figure.suptitle(note, color=INK, fontsize=10)
    save_png(figure, path)


def outlined(picture: np.ndarray, maps: np.ndarray, side: int) -> np.ndarray:
    """A slice (uint8 [s, s]) in :data:`WINDOW` at ``side`` pixels with the outlines of femur, tibia and fibula.

    ``picture`` has gray levels by ``ZERO`` and ``LEVELS``, ``maps`` (uint8 [masks, s, s]) are probabilities of ``MASKS``.
    The result is RGB uint8 [side, side, 3], and outlines are drawn at this size.
    """
    made = cv2.cvtColor(windowed(picture, side), cv2.COLOR_GRAY2RGB)
    for name, probability in zip(MASKS[1:], cleaned(maps)[1:]):
        large = cv2.resize(probability, (side, side), interpolation=cv2.INTER_LINEAR) >= THRESHOLD * 255
        outlines, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(made, outlines, -1, [int(COLORS[name][at:at + 2], 16) for at in (1, 3, 5)], 1, cv2.LINE_AA)
    return made


def windowed(picture: np.ndarray, side: int) -> np.ndarray:
    """A slice (uint8 [s, s]) in :data:`WINDOW` as uint8 [side, side]."""
    low, high = WINDOW
    gray = np.clip((picture.astype(np.float32) - low) / (high - low), 0, 1) * 255
    how = cv2.INTER_AREA if side < len(picture) else cv2.INTER_CUBIC
    return np.clip(np.rint(cv2.resize(gray, (side, side), interpolation=how)), 0, 255).astype(np.uint8)
