"""What an age network sees of a cached slice: the picture, the picture within the bones, or each bone apart."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import pandas as pd

from competitions.knee_age.localizer import LEVELS, MASKS, ZERO
from competitions.knee_age.volume import KERNEL
from radstack.images.shards import Shards


@dataclass(frozen=True)
class Knee:
    """A slice, one channel for each of ``masks``: the picture times that soft mask; the plain picture where it is ``""``."""

    side: int
    """Of the cached pictures."""
    masks: tuple[str, ...] = ("bone",)
    """Names of :data:`competitions.knee_age.localizer.MASKS`, or ``""``."""
    kernel: int = KERNEL
    """Side of the square that erodes the masks, in pixels; 1 for none."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.side, self.side

    @property
    def mean(self) -> tuple[float, ...]:
        """Gray level of the volume's mean, which is also that of everything outside a mask."""
        return (float(ZERO),) * len(self.masks)

    @property
    def std(self) -> tuple[float, ...]:
        """Gray levels a standard deviation."""
        return (float(LEVELS),) * len(self.masks)

    def reader(self, cache: Shards, index: pd.DataFrame) -> Callable[[int], np.ndarray]:
        """Bind to a cache and a row table: row number -> uint8 [side, side, masks]."""
        return partial(_read, self, cache, index["shard"].to_numpy(), index["slot"].to_numpy())


def _read(view: Knee, cache: Shards, shard: np.ndarray, slot: np.ndarray, row: int) -> np.ndarray:
    planes = cache(int(shard[row]), int(slot[row])).reshape(view.side, len(MASKS) + 1, view.side)
    picture = planes[:, 0]
    return np.stack([within(picture, planes[:, 1 + MASKS.index(mask)], view.kernel) if mask else picture
                     for mask in view.masks], axis=2)


def within(picture: np.ndarray, probability: np.ndarray, kernel: int) -> np.ndarray:
    """A picture faded to the volume's mean outside the bone, uint8 [side, side].

    The soft mask is eroded (gray erosion by a square), which takes off the soft tissue that it includes. A frame's edge is
    no edge of the bone.
    """
    soft = cv2.erode(np.ascontiguousarray(probability), np.ones((kernel, kernel), np.uint8)).astype(np.float32) / 255
    return np.rint(ZERO + (picture.astype(np.float32) - ZERO) * soft).astype(np.uint8)
