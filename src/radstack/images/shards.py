"""Pixels decoded once: pictures of one size in memory-mapped ``.npy`` shards."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from radstack.core.files import new_array, replacing
from radstack.core.limits import open_files

APART = 100_000
"""Between the shard numbers of two folders that are read as one."""
LARGEST, SPARE = 12_000**2, 4
"""Pixels of a square that is made in any case, and times the pixels of the picture in it."""


def shard_path(folder: Path, shard: int) -> Path:
    """File of one shard."""
    return folder / f"shard-{shard:05d}.npy"


def write_shard(path: Path, pictures: Sequence[Callable[[], np.ndarray]], size: tuple[int, ...],
                dtype: str = "int16") -> None:
    """Write [n, height, width] (or [n, maps, height, width]), one picture at a time, atomically.

    Each of ``pictures`` gives an array of ``size`` (of maps their number first) and ``dtype`` when called.
    """
    shape = (len(pictures), *size)
    with replacing(path, math.prod(shape) * np.dtype(dtype).itemsize) as part:
        start = new_array(part, dtype, shape).offset
        pixels = np.empty(size, dtype)
        with part.open("r+b") as file:  # written through the map, each page would be asked of the system by itself
            file.seek(start)
            for picture in pictures:
                pixels[...] = picture()
                file.write(pixels.data)


def crop_square(image: np.ndarray, top: int, left: int, side: int, out: int, fill: int) -> np.ndarray:
    """Cut the square of ``side`` pixels from int16 [height, width] whose first row and column are ``top`` and ``left``.

    It may reach outside the picture, where it gets ``fill``. It is brought to ``out`` pixels as by :func:`resize`.
    """
    inside = image[max(top, 0):max(top + side, 0), max(left, 0):max(left + side, 0)]
    return squared(inside, max(-top, 0), max(-left, 0), side, out, fill)


def squared(image: np.ndarray, row: int, column: int, side: int, out: int, fill: int) -> np.ndarray:
    """``image``, int16 or uint8, at ``row`` and ``column`` of a square of ``side`` pixels, brought to [out, out].

    The square is made, so that both axes have exactly one scale. A strip of 40,000 x 3 pixels alone is shrunk first, to the
    nearest pixel of the result: its square would take gigabytes.
    """
    if side * side > max(LARGEST, SPARE * image.size):
        scale = out / side
        size = [max(1, round(length * scale)) for length in image.shape[::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if image.size else image
        row, column, side = min(round(row * scale), out - 1), min(round(column * scale), out - 1), out
        image = image[:out - row, :out - column]
    square = np.full((side, side), fill, image.dtype)
    if image.size:
        square[row:row + image.shape[0], column:column + image.shape[1]] = image
    return resize(square, out)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """Resize int16 or uint8 [s, s] to [side, side]: area average when shrinking, bilinear when enlarging."""
    if image.shape[0] == side:
        return image
    how = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=how)


def scaling(factor: float) -> np.ndarray:
    """How resizing by ``factor`` takes centers of pixels (x, y, 1), float [3, 3]; corners of pixels keep their place."""
    shift = (factor - 1) / 2
    return np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])


def warp(image: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Move int16 [s, s] by ``matrix``, float [3, 3], into [side, side], bilinear; -32768 comes from outside.

    ``matrix`` takes centers of pixels (x, y, 1) to their new place and does not shrink much: pixels are not averaged.
    """
    # OpenCV warps uint16 three times as fast as int16. Turning the sign bit keeps the order.
    values = np.bitwise_xor(image, np.int16(-32768)).view(np.uint16)
    moved = cv2.warpAffine(values, matrix[:2], (side, side), flags=cv2.INTER_LINEAR, borderValue=0).view(np.int16)
    return np.bitwise_xor(moved, np.int16(-32768), out=moved)


def turned(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Flip and transpose [s, s] as ``matrix`` says, for which :func:`is_turn` holds."""
    if matrix[0, 1]:
        image = cv2.transpose(image)
    across, down = matrix[:2, :2].sum(axis=1) < 0
    return cv2.flip(image, -1 if across and down else int(across)) if across or down else image


def is_turn(matrix: np.ndarray, side: int) -> bool:
    """Whether ``matrix``, float [3, 3], takes each pixel of [side, side] onto a pixel: flips and transposes alone."""
    signs = matrix[:2, :2].sum(axis=1)
    return bool((np.sort(np.abs(matrix[:2, :2]).ravel()) == (0, 0, 1, 1)).all() and (np.abs(signs) == 1).all()
                and (matrix[:2, 2] == np.where(signs < 0, side - 1, 0)).all())


class Shards:
    """Read pictures of ``cache/<comp>`` by (shard, slot). Maps are opened on first use; a worker opens its own.

    A map holds an open file. Where these are fewer than shards (macOS allows 256), the one that was used longest ago closes.
    Shards from ``APART`` on are those of the first of ``others``, further folders of pictures, and so on.
    """

    def __init__(self, folder: Path, others: tuple[Path, ...] = ()) -> None:
        self.folder, self.others = folder, others
        self._maps: dict[int, np.ndarray] = {}
        self._most = open_files()

    def __call__(self, shard: int, slot: int) -> np.ndarray:
        """[height, width] or [maps, height, width], a view into the map."""
        pictures = self._maps.pop(shard, None)
        if pictures is None:
            if len(self._maps) >= self._most:
                del self._maps[next(iter(self._maps))]
            place, number = divmod(shard, APART)
            folder = self.others[place - 1] if place else self.folder
            pictures = np.load(shard_path(folder, number), mmap_mode="r", allow_pickle=False)
        self._maps[shard] = pictures  # the last one: dicts keep the order
        return pictures[slot]

    def below(self, name: str) -> "Shards":
        """The shards in the folder ``name`` of each folder."""
        return Shards(self.folder / name, tuple(other / name for other in self.others))

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "others": self.others}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
