"""Pixels decoded once: pictures of one size in memory-mapped ``.npy`` shards."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from radstack.core.files import replacing


def shard_path(folder: Path, shard: int) -> Path:
    """File of one shard."""
    return folder / f"shard-{shard:05d}.npy"


def write_shard(path: Path, pictures: Sequence[Callable[[], np.ndarray]], size: tuple[int, ...],
                dtype: str = "int16") -> None:
    """Write [n, height, width] (or [n, maps, height, width]), one picture at a time, atomically.

    Args:
        path: the ``.npy`` file.
        pictures: each gives an array of ``size`` and ``dtype`` when called.
        size: height and width in pixels, of maps their number before.
        dtype: ``int16`` for physical units, ``uint8`` for gray levels.
    """
    with replacing(path) as part:
        array = np.lib.format.open_memmap(part, "w+", np.dtype(dtype), (len(pictures), *size))
        for slot, picture in enumerate(pictures):
            array[slot] = picture()
        array.flush()


def crop_square(image: np.ndarray, top: int, left: int, side: int, out: int, fill: int) -> np.ndarray:
    """Cut a square that may reach outside the picture, and bring it to ``out`` pixels.

    Args:
        image: int16 [height, width].
        top: first row of the square, may be negative.
        left: first column of the square, may be negative.
        side: its side in pixels of ``image``.
        out: side of the result.
        fill: value outside ``image``.

    Returns:
        int16 [out, out]; shrinking averages pixel areas, enlarging is bilinear.
    """
    height, width = image.shape
    square = np.full((side, side), fill, np.int16)
    rows = slice(max(top, 0), min(top + side, height))
    cols = slice(max(left, 0), min(left + side, width))
    if rows.start < rows.stop and cols.start < cols.stop:
        square[rows.start - top:rows.stop - top, cols.start - left:cols.stop - left] = image[rows, cols]
    return resize(square, out)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """Resize int16 [s, s] to [side, side]: area average when shrinking, bilinear when enlarging."""
    if image.shape[0] == side:
        return image
    how = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=how)


class Shards:
    """Read pictures by (shard, slot). Maps are opened on first use, so the object travels to workers cheaply."""

    def __init__(self, folder: Path) -> None:
        """Point at ``cache/<comp>``."""
        self.folder = folder
        self._maps: dict[int, np.ndarray] = {}

    def __call__(self, shard: int, slot: int) -> np.ndarray:
        """Return [height, width] or [maps, height, width], a view into the map."""
        if shard not in self._maps:
            self._maps[shard] = np.load(shard_path(self.folder, shard), mmap_mode="r", allow_pickle=False)
        return self._maps[shard][slot]

    def __getstate__(self) -> dict[str, object]:
        """Leave the maps behind: a worker opens its own."""
        return {"folder": self.folder, "_maps": {}}
