"""Where the body lies in a slice of CT or MR: what stands on an empty background, without the table that it lies on."""

import cv2
import numpy as np

SIDE = 256
"""Pixels of the longest side of the picture that is looked at."""
DARK, SEEN = 8, 25
"""Gray levels above the darkest: up to the first a pixel is empty, JPEG spoils that many; above the second it is seen."""
THREAD, GAP, RIM = 3, 9, 9
"""Pixels: what is thinner first goes (noise, wires), gaps up to that are closed (the bones of a face), and what is thinner
then goes, too (a head rest)."""
MARGIN = 0.04
"""Share of the body's longer side that is left around it."""


def empty_share(picture: np.ndarray) -> float:
    """The share of ``picture``, uint8 [height, width], that is empty background."""
    small = _small(picture)
    return float((small <= int(small.min()) + DARK).mean())


def body(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest thing in ``picture``, uint8 [height, width], in its pixels.

    The whole picture where nothing is seen.
    """
    small = _small(picture)
    seen: np.ndarray = (small > int(small.min()) + SEEN).astype(np.uint8)
    for step, size in ((cv2.MORPH_OPEN, THREAD), (cv2.MORPH_CLOSE, GAP), (cv2.MORPH_OPEN, RIM)):
        seen = cv2.morphologyEx(seen, step, np.ones((size, size), np.uint8))
    count, _, boxes, _ = cv2.connectedComponentsWithStats(seen)
    if count < 2:
        return 0, 0, picture.shape[0], picture.shape[1]
    left, top, width, height = boxes[1 + int(np.argmax(boxes[1:, cv2.CC_STAT_AREA])), :4]
    margin, scale = MARGIN * max(width, height), np.array(picture.shape) / small.shape
    start = np.clip(np.floor((np.array([top, left]) - margin) * scale), 0, None).astype(int)
    end = np.minimum(np.ceil((np.array([top + height, left + width]) + margin) * scale), picture.shape).astype(int)
    height, width = end - start
    return int(start[0]), int(start[1]), int(height), int(width)


def _small(picture: np.ndarray) -> np.ndarray:
    scale = SIDE / max(picture.shape)
    size = [max(1, round(length * scale)) for length in picture.shape[::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
