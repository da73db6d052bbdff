"""Boxes: one of each class a picture. Overlap, a prior where none was found, flags, and how good they are.

A box is x1, y1, x2, y2 in pixels, x right, y down, edges of the first pixel at 0 and 1, so that x2 - x1 is its width. Arrays
are float [pictures, classes, 4]; a box that is not there is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from radstack.core.errors import UserError

CORNERS = ["x1", "y1", "x2", "y2"]  # Columns of a box in a table, in the order of the arrays
GOOD, FOUND = 0.7, 0.5
"""Overlap of a good box, and of one that counts as found for AP50."""
ON = 0.5  # A box of which another class's covers more than this share is in doubt: neighbors look alike


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [..., 4], pair by pair; NaN where one is not there."""
    shared = _shared(first, second)
    return shared / (_area(first) + _area(second) - shared)


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    corner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    return np.clip(corner, 0, None).prod(-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


@dataclass(frozen=True)
class Prior:
    """Where boxes lie on average."""

    place: np.ndarray  # [classes, 4]: the mean box in shares of the picture's width and height
    relative: np.ndarray
    """[classes, classes, 4], the second class seen from the first: its center less the first's, in the first's width and
    height, and the logarithms of its width and height over the first's. NaN for classes never seen together."""


def fit_prior(boxes: np.ndarray, shapes: np.ndarray) -> Prior:
    """Learn the prior from training boxes [pictures, classes, 4] of pictures of ``shapes`` [pictures, 2] (height, width).

    UserError where a class has no box at all.
    """
    if not np.isfinite(boxes).all(-1).any(0).all():
        raise UserError("a class has no box in the training pictures; box some, or leave the class out of the recipe")
    sides = np.asarray(shapes, float)[:, None, [1, 0, 1, 0]]
    classes = range(boxes.shape[1])
    relative = np.stack([np.stack([_mean(_seen_from(boxes[:, a], boxes[:, b])) for b in classes]) for a in classes])
    return Prior(np.stack([_mean((boxes / sides)[:, one]) for one in classes]), relative)


def complete(boxes: np.ndarray, shapes: np.ndarray, prior: Prior) -> np.ndarray:
    """Put a prior box where one is NaN: by its place relative to the boxes found (their mean), else in the picture.

    Boxes and shapes as in :func:`fit_prior`; the result is float64, within the picture, and whole.
    """
    whole = np.array(boxes, float)
    for picture, (height, width) in enumerate(np.asarray(shapes, float)):
        for missing in np.flatnonzero(np.isnan(boxes[picture]).any(-1)):
            guesses = _guesses(np.asarray(boxes[picture], float), prior.relative[:, missing])
            at_large = prior.place[missing] * (width, height, width, height)
            guess = np.clip(guesses.mean(0), 0, (width, height, width, height)) if len(guesses) else at_large
            # A box found at the edge may push its neighbor out of the picture.
            whole[picture, missing] = guess if (guess[2:] - guess[:2]).min() >= 1 else at_large
    return whole


def flags(boxes: np.ndarray, scores: np.ndarray, classes: Sequence[str], sure: float) -> list[str]:
    """What is wrong with each picture, "" for nothing: classes missing or scored below ``sure``, pairs on one another.

    ``boxes`` [pictures, classes, 4] and ``scores`` [pictures, classes] are NaN where none was found.
    """
    return [_flag(picture, row, classes, sure) for picture, row in zip(boxes, scores)]


def _flag(boxes: np.ndarray, scores: np.ndarray, classes: Sequence[str], sure: float) -> str:
    if np.isnan(scores).all():
        return "no box"
    doubts = [f"{name} {'missing' if np.isnan(score) else 'unsure'}" for name, score in zip(classes, scores)
              if not score >= sure]
    pairs = combinations(range(len(classes)), 2)
    return ", ".join(doubts + [f"{classes[a]} on {classes[b]}" for a, b in pairs if _covered(boxes[a], boxes[b]) > ON])


def _covered(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the smaller of two boxes [4] that the other covers."""
    return _shared(first, second) / np.minimum(_area(first), _area(second))


def score_boxes(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One row a class of ``boxes`` against ``truth``, both [pictures, classes, 4], with ``scores`` [pictures, classes].

    ``class``; ``boxes`` (true ones); mean and median ``iou`` of them, 0 where none was found; ``good``, the share above .7;
    ``ap50``; ``center_px`` and ``center_share``, the median distance of the centers in pixels and in square roots of the
    true box's area. NaN for a class without true boxes.
    """
    return pd.DataFrame([{"class": name, **_score(boxes[:, place], scores[:, place], truth[:, place])}
                         for place, name in enumerate(classes)])


def _score(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    overlap = np.nan_to_num(iou(boxes, truth))
    there = np.isfinite(truth).all(-1)
    distance = center_errors(boxes, truth)
    each = pd.DataFrame({"iou": overlap, "good": overlap > GOOD, "px": distance,
                         "share": distance / np.sqrt(_area(truth))})[there]
    return {"boxes": len(each), "iou": each["iou"].mean(), "iou_median": each["iou"].median(), "good": each["good"].mean(),
            "ap50": average_precision(scores, overlap >= FOUND, len(each)), "center_px": each["px"].median(),
            "center_share": each["share"].median()}


def center_errors(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance in pixels between the centers of boxes [..., 4], pair by pair."""
    return np.hypot(*np.moveaxis((boxes[..., :2] + boxes[..., 2:] - truth[..., :2] - truth[..., 2:]) / 2, -1, 0))


def average_precision(scores: np.ndarray, hits: np.ndarray, boxes: int) -> float:
    """Area under precision over recall, at all points as of PASCAL VOC 2010 (Everingham 2010).

    ``scores`` [pictures] are of the one box a picture, NaN where none was found; ``hits``, bool [pictures], say whether it
    meets the true one. ``boxes`` is how many true ones there are, found or not; NaN comes back where there are none.
    """
    found = np.flatnonzero(~np.isnan(scores))
    hit = hits[found[np.argsort(-scores[found], kind="stable")]]
    precision = hit.cumsum() / np.arange(1, len(hit) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[hit].sum() / boxes) if boxes else float("nan")


def _seen_from(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Boxes ``b`` [n, 4] in the frames of ``a``: see :attr:`Prior.relative`."""
    size, other = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    return np.concatenate([(b[:, :2] + b[:, 2:] - a[:, :2] - a[:, 2:]) / 2 / size, np.log(other / size)], axis=1)


def _guesses(found: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """What each box of ``found`` [classes, 4] says of the missing one: [n, 4], by ``relative`` [classes, 4]."""
    size = found[:, 2:] - found[:, :2]
    center = (found[:, :2] + found[:, 2:]) / 2 + relative[:, :2] * size
    half = np.exp(relative[:, 2:]) * size / 2
    boxes = np.concatenate([center - half, center + half], axis=1)
    return boxes[np.isfinite(boxes).all(1)]


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean of the whole rows of [n, 4]; NaN where there are none."""
    known = rows[np.isfinite(rows).all(1)]
    return known.mean(0) if len(known) else np.full(4, np.nan)
