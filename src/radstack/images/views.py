"""Views: what a network sees of a row, as a recipe: windows of neighboring slices, or a box of a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.images import windows
from radstack.images.shards import Shards, is_turn, resize, scaling, turned, warp

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and deviation of the colors, 0 to 255, that networks pretrained on ImageNet know."""


Edit = Callable[[np.ndarray, int], np.ndarray]
"""A slice, int16 [side, side], and its offset -> the same, changed."""


@dataclass(frozen=True)
class Channel:
    """One channel of the picture: a window over the mean of some slices."""

    window: tuple[float, float]  # Center and width, in the units of the cache
    offsets: tuple[int, ...] = (0,)
    """Slices averaged, relative to this one; (-1, 0, 1) is a mean of three. The ends of a series repeat."""


@dataclass(frozen=True)
class Slices:
    """Windows and neighbors as channels of slices, resized first: augmentation takes 3.5 times as long on larger ones.

    Where that enlarges them, training does both at once (``training/warp.py``).
    """

    channels: tuple[Channel, ...]
    side: int  # Height and width the network sees, in pixels
    mean: tuple[float, ...]  # Per channel, on the 0-255 scale
    std: tuple[float, ...]  # Per channel, on the 0-255 scale

    def __post_init__(self) -> None:
        """Refuse channels without statistics of their own."""
        if not len(self.channels) == len(self.mean) == len(self.std) or not self.channels:
            raise UserError(f"a view of {len(self.channels)} channels has {len(self.mean)} means and {len(self.std)} "
                            "deviations; set view.channels, view.mean and view.std together, one of each a channel")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.side, self.side

    def reader(self, cache: Shards, index: pd.DataFrame) -> "SlicesReader":
        """Bind to a cache and a row table sorted by series and position."""
        return SlicesReader(self, cache, index)


class SlicesReader:
    """Row number -> uint8 [side, side, channels]."""

    def __init__(self, view: Slices, cache: Shards, rows: pd.DataFrame) -> None:
        """Look up once where every row's pixels and its series' ends are."""
        self.view, self.cache = view, cache
        self.shard, self.slot = rows["shard"].to_numpy(), rows["slot"].to_numpy()
        self.first, self.last = series_ends(rows)
        self.groups: dict[tuple[int, ...], list[tuple[float, float]]] = {}
        """Offsets -> the windows that are applied to the mean of those slices, so that each mean is read once."""
        for channel in view.channels:
            self.groups.setdefault(channel.offsets, []).append(channel.window)
        grouped = [(offsets, window) for offsets, found in self.groups.items() for window in found]
        self.order = [grouped.index((channel.offsets, channel.window)) for channel in view.channels]
        """Where each channel of the recipe lies among the grouped ones."""

    def __call__(self, row: int) -> np.ndarray:
        """Return the picture of row ``row``."""
        return self.picture(row)

    def picture(self, row: int, edit: Edit | None = None) -> np.ndarray:
        """The same, of slices that ``edit`` has changed."""
        def read(other: int, offset: int) -> np.ndarray:
            return self.slice(other) if edit is None else edit(self.slice(other), offset)

        return self._windowed(lambda offsets: self._mean(row, offsets, read))

    def slice(self, row: int) -> np.ndarray:
        """The slice of row ``row`` before any window, int16 [side, side]."""
        return resize(self._cached(row), self.view.side)

    @property
    def enlarges(self) -> bool:
        """Whether the view is larger than the cache, so that slices are interpolated to its size."""
        return bool(len(self.shard)) and len(self._cached(0)) < self.view.side

    def moved(self, row: int, matrix: np.ndarray) -> np.ndarray:
        """The picture of row ``row`` moved by ``matrix``, interpolated once; only for views that enlarge.

        ``matrix``, float [3, 3], takes centers of pixels (x, y, 1) of the view to their new place; what comes from outside
        lies below every window.
        """
        side = self.view.side

        def read(offsets: tuple[int, ...]) -> np.ndarray:
            values = self._mean(row, offsets, lambda other, _: self._cached(other))
            if is_turn(matrix, side):  # a fifth of the time of a warp
                return turned(resize(values, side), matrix)
            return warp(values, matrix @ scaling(side / len(values)), side)

        return self._windowed(read)

    def _cached(self, row: int) -> np.ndarray:
        return self.cache(self.shard[row], self.slot[row])

    def _windowed(self, read: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Channels in the recipe's order, of what ``read`` gives for the offsets of each group."""
        parts = [windows.apply(read(offsets), which) for offsets, which in self.groups.items()]
        picture = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        in_order = self.order == sorted(self.order)
        return picture if in_order else np.ascontiguousarray(picture[..., self.order])

    def _mean(self, row: int, offsets: tuple[int, ...], read: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """Mean of what ``read`` gives for each neighbor's row number and offset."""
        rows = [min(max(row + offset, self.first[row]), self.last[row]) for offset in offsets]
        slices = [read(other, offset) for other, offset in zip(rows, offsets)]
        if len(rows) == 1:
            return slices[0]
        return np.rint(np.stack(slices).mean(axis=0, dtype=np.float32)).astype(np.int16)


@dataclass(frozen=True)
class Box:
    """A box of the cached picture, the same for every row."""

    box: tuple[int, int, int, int]  # Top, left, height, width in pixels of the cache
    size: tuple[int, int]  # Height and width that the network sees
    mean: tuple[float, ...]  # Per channel, on the 0-255 scale; with more than one, the picture is repeated
    std: tuple[float, ...]  # Per channel, on the 0-255 scale

    def in_color(self, size: tuple[int, int]) -> "Box":
        """The same box at ``size``, repeated into three channels of ImageNet's statistics."""
        return Box(self.box, size, *IMAGENET)

    def reader(self, cache: Shards, index: pd.DataFrame) -> Callable[[int], np.ndarray]:
        """Bind to a cache and a row table: row number -> uint8 [height, width, channels]."""
        return partial(_box, self, cache, index["shard"].to_numpy(), index["slot"].to_numpy())


def _box(view: Box, cache: Shards, shard: np.ndarray, slot: np.ndarray, row: int) -> np.ndarray:
    top, left, height, width = view.box
    picture = resized(cache(shard[row], slot[row])[top:top + height, left:left + width], view.size)
    return np.repeat(picture[..., None], len(view.mean), axis=2)


@dataclass(frozen=True)
class Whole:
    """A whole small picture, as localizers see it; the cache is an array uint8 [rows, height, width]."""

    size: tuple[int, int]  # Height and width that the network sees; larger pictures are shrunk
    mean: tuple[float, ...] = (127.5,)  # On the 0-255 scale
    std: tuple[float, ...] = (127.5,)  # On the 0-255 scale

    def reader(self, cache: np.ndarray, index: pd.DataFrame) -> Callable[[int], np.ndarray]:
        """Bind to the pictures of the row table: row number -> uint8 [height, width, channels]."""
        return partial(_whole, cache, self.size, len(self.mean))


def _whole(cache: np.ndarray, size: tuple[int, int], channels: int, row: int) -> np.ndarray:
    return np.repeat(resized(cache[row], size)[..., None], channels, axis=2)


@dataclass(frozen=True)
class Film:
    """The whole picture as it was taken: the small square of stage 02 (``prepared/``) without its padding.

    Its aspect ratio is kept; what is left of ``size`` is 0.
    """

    size: tuple[int, int]  # Height and width that the network sees
    mean: tuple[float, ...]  # Per channel, on the 0-255 scale; with more than one, the picture is repeated
    std: tuple[float, ...]  # Per channel, on the 0-255 scale

    def reader(self, cache: Shards, index: pd.DataFrame) -> Callable[[int], np.ndarray]:
        """Bind to a cache and a row table of a chain's rows: row number -> uint8 [height, width, channels].

        Its columns ``map_shard`` and ``map_slot`` say where the small picture lies, ``height`` and ``width`` the raw shape.
        """
        columns = (index[name].to_numpy() for name in ("map_shard", "map_slot", "height", "width"))
        return partial(_film, self, cache.below("prepared"), *columns)


def _film(view: Film, small: Shards, shard: np.ndarray, slot: np.ndarray, height: np.ndarray, width: np.ndarray,
          row: int) -> np.ndarray:
    picture = middle(small(shard[row], slot[row]), (int(height[row]), int(width[row])))
    scale = min(view.size[0] / picture.shape[0], view.size[1] / picture.shape[1])
    tall, wide = (min(max(round(side * scale), 1), most) for side, most in zip(picture.shape, view.size))
    top, left = (view.size[0] - tall) // 2, (view.size[1] - wide) // 2
    canvas = np.zeros(view.size, np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top:top + tall, left:left + wide] = cv2.resize(picture, (wide, tall), interpolation=how)
    return np.repeat(canvas[..., None], len(view.mean), axis=2)


def middle(square: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The middle part of a padded square [side, side], which a picture of ``shape`` (height, width) fills."""
    side = len(square)
    tall, wide = (max(round(side * one / max(shape)), 1) for one in shape)
    top, left = (side - tall) // 2, (side - wide) // 2
    return square[top:top + tall, left:left + wide]


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture shrunk to ``size`` (height, width) by pixel areas; the picture itself where it has that size."""
    return picture if picture.shape == tuple(size) else cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def series_ends(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """First and last row number of each row's series; series are contiguous in ``rows``."""
    number = np.arange(len(rows))
    grouped = pd.Series(number).groupby(rows["series"].to_numpy(), sort=False)
    return grouped.transform("min").to_numpy(), grouped.transform("max").to_numpy()
