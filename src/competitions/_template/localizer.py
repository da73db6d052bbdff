"""From a raw file to the cached crop: how a file is read, where the anatomy is in it, and what is kept of it.

Here a rule finds the anatomy. Networks that find it are a ``Chain`` (see ``bone_age``) or a ``Detection`` (``radius_ulna``).
"""

from typing import Any

import cv2
import numpy as np

from radstack.core.paths import Paths
from radstack.images.radiograph import read
from radstack.images.shards import crop_square
from radstack.recipes.competition import CacheRecipe
from radstack.recipes.localizer import Classical

SIDE = 32
"""Pixels (1 mm each) of the square around a nodule; the largest nodule is 20 mm."""
SMOOTH = 3.0
"""Standard deviation in pixels of the smoothing that leaves nodules and takes vessels away."""


def nodule(pixels: np.ndarray) -> dict[str, Any]:
    """``top`` and ``left`` of the square around the brightest place of a smoothed picture, uint8 [height, width]."""
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), SMOOTH)
    row, column = np.unravel_index(smooth.argmax(), smooth.shape)
    return {"top": int(row) - SIDE // 2, "left": int(column) - SIDE // 2}


def crop(paths: Paths, row: Any, recipe: CacheRecipe) -> np.ndarray:
    """The square of one picture at the size of the cache, uint8; ``row`` has the columns of :func:`nodule`."""
    pixels = read(paths.input / row.path)
    return crop_square(pixels, row.top, row.left, SIDE, recipe.size[0], recipe.fill).astype(np.uint8)


LOCALIZER = Classical(read, nodule)  # CHANGE: ``Classical(read)`` finds nothing, and the whole picture can be cached
