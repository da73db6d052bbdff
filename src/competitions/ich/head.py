"""The head in a slice: head rest removed, a box around what is left, one square crop for a whole series."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from competitions.ich.hu import LOWEST

BODY = -300
"""HU above which a pixel is body, rest or table and not air, foam or lung. The code behind the four-network
write-up thresholds the maximum over the windowed channels; windows rise with HU, so that is one threshold in HU."""
KERNEL = 1 / 15
"""Side of the minimum filter as a share of the picture's width (second place, RSNA 2019): 17 mm in a 250 mm field.
What is thinner, as the bands of a head rest, vanishes."""
SMOOTH = 5
"""Slices over which the edges of the boxes are a running median: one stray object does not widen a crop."""
MARGIN = 0.02
"""Added on each side of the series crop, as a share of its side."""
EDGES = ["top", "left", "bottom", "right"]
"""Of a box: pixels, bottom and right exclusive."""


def head_mask(hu: np.ndarray) -> np.ndarray:
    """Where the head is: int16 [rows, columns] -> bool, all False if there is none.

    A minimum filter wipes out what is thin, the largest piece left is the head, and grown back by the same kernel it
    has its outline again, less what was thinner than the kernel.
    """
    place, part = _head(hu)
    mask = np.zeros(hu.shape, bool)
    mask[place] = part
    return mask


def _head(hu: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """Rows and columns around the head, and :func:`head_mask` there, uint8 0/1: the fewer pixels, the less work on them.

    None of either if there is no head.
    """
    body = np.greater(hu, BODY).view(np.uint8)
    side = max(3, round(hu.shape[1] * KERNEL) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (side, side))
    core = cv2.erode(body, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    # Outlines find the largest piece six times as fast as labeled components.
    outlines, _ = cv2.findContours(core, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.s_[0:0, 0:0], body[:0, :0]
    largest = max(outlines, key=cv2.contourArea)
    left, top, width, height = cv2.boundingRect(largest)
    row, column = max(top - side // 2, 0), max(left - side // 2, 0)
    place = np.s_[row:top + height + side // 2, column:left + width + side // 2]
    head = _fill([largest], body[place].shape, (-column, -row))
    return place, cv2.bitwise_and(cv2.dilate(head, kernel), body[place])


def remove_head_rest(hu: np.ndarray) -> np.ndarray:
    """Blank everything outside the head with ``LOWEST``; a slice without a head is returned as it is.

    The gaps inside the head's outline (sinuses, ear canals) keep their values.
    """
    place, mask = _head(hu)
    if not mask.any():
        return hu
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    clean = np.full(hu.shape, LOWEST, np.int16)
    cv2.copyTo(hu[place], _fill(outlines, mask.shape), clean[place])
    return clean


def measure(hu: np.ndarray) -> dict[str, Any]:
    """One slice [rows, columns] HU as a row of the localization table.

    ``rows``, ``columns``; ``EDGES`` (int, the whole picture if there is no head); ``head_share``: the mask as a share of the
    picture; ``brain_range`` (int, 0..80): the range of the head's HU clipped to the brain window, of which at most 60 means
    hardly any brain (eleventh place, RSNA 2019); ``brain_ratio``: pixels of the head with 0 < HU < 80 as a share of the
    picture; ``head_flag``: "" or ``no-head``.
    """
    rows, columns = hu.shape
    place, mask = _head(hu)
    if not mask.any():
        return {"rows": rows, "columns": columns, "top": 0, "left": 0, "bottom": rows, "right": columns, "head_share": 0.0,
                "brain_range": 0, "brain_ratio": 0.0, "head_flag": "no-head"}
    left, top, width, height = cv2.boundingRect(mask)
    left, top = left + place[1].start, top + place[0].start
    lowest, highest, _, _ = cv2.minMaxLoc(hu[place], mask)
    brain = cv2.bitwise_and(cv2.inRange(hu[place], 1, 79), mask)
    return {"rows": rows, "columns": columns, "top": top, "left": left, "bottom": top + height, "right": left + width,
            "head_share": cv2.countNonZero(mask) / hu.size,
            "brain_range": int(np.clip(highest, 0, 80) - np.clip(lowest, 0, 80)),
            "brain_ratio": cv2.countNonZero(brain) / hu.size,
            "head_flag": ""}


def series_boxes(table: pd.DataFrame) -> pd.DataFrame:
    """One square crop for each series, so that neighboring slices stay aligned as channels.

    The edges are medians over ``SMOOTH`` neighbors (slices without a head aside), their union is made square about its
    center, and moved into the picture as far as it fits.

    ``table`` has rows of :func:`measure` with ``series`` and ``position``; the result one row for each series and picture
    size: ``series``, ``rows``, ``columns``, ``top``, ``left``, ``side`` (int) and ``box_flag`` (comma-joined): ``no-head``
    (no slice has one: the whole picture), ``mixed-size`` (pictures of several sizes, each with its own crop).
    """
    keys = ["series", "rows", "columns"]
    table = table.sort_values([*keys, "position"])
    found = table[table["head_flag"] == ""]
    smooth = found.groupby(keys)[EDGES].rolling(SMOOTH, center=True, min_periods=1).median()
    union = smooth.groupby(level=keys).agg({"top": "min", "left": "min", "bottom": "max", "right": "max"})
    boxes = table[keys].drop_duplicates().merge(union.reset_index(), on=keys, how="left")
    none, mixed = boxes["top"].isna(), boxes["series"].duplicated(keep=False)
    boxes = boxes.fillna({"top": 0, "left": 0, "bottom": boxes["rows"], "right": boxes["columns"]})
    boxes["box_flag"] = [",".join(name for name, on in (("no-head", a), ("mixed-size", b)) if on)
                         for a, b in zip(none, mixed)]
    return _square(boxes)[[*keys, "top", "left", "side", "box_flag"]].reset_index(drop=True)


def _fill(outlines: Sequence[np.ndarray], shape: tuple[int, ...], offset: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The inside of the outlines, moved by ``offset`` (x, y), as uint8 0/1 [rows, columns]."""
    return cv2.drawContours(np.zeros(shape, np.uint8), outlines, -1, 1, cv2.FILLED, offset=offset)


def _square(boxes: pd.DataFrame) -> pd.DataFrame:
    """Replace the edges by a square with margin, inside the picture where it fits, else centered on it."""
    high, wide = boxes["bottom"] - boxes["top"], boxes["right"] - boxes["left"]
    side = np.ceil(np.maximum(high, wide) * (1 + 2 * MARGIN))
    side = np.minimum(side, np.maximum(boxes["rows"], boxes["columns"])).astype(int)
    corners = {}
    for name, start, extent, room in (("top", boxes["top"], high, boxes["rows"]),
                                      ("left", boxes["left"], wide, boxes["columns"])):
        free = room - side
        wanted = np.round(start + (extent - side) / 2)
        corners[name] = np.where(free >= 0, np.clip(wanted, 0, np.maximum(free, 0)), np.round(free / 2)).astype(int)
    return boxes.assign(side=side, **corners)
