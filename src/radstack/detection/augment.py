"""Training-time augmentation of a detector's pictures: one move that resizes, shifts, zooms and turns, boxes included."""

import cv2
import numpy as np

from radstack.images.similarity import Similarity, resized, warp
from radstack.recipes.detector import Detector, Jitter

KEPT = 0.5
"""A box of which the augmentation leaves less than this share in the picture is no longer a label."""


def shrunk(shape: tuple[int, ...], recipe: Detector) -> tuple[float, tuple[int, int]]:
    """Scale, and height and width after it, that bring a picture of ``shape`` (height, width) to the recipe's sides."""
    scale = min(recipe.short_side / min(shape), recipe.long_side / max(shape))
    return scale, (max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1))


def augmented(picture: np.ndarray, boxes: np.ndarray, recipe: Detector, rng: np.random.Generator
              ) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [height, width] and its boxes [classes, 4], resized and jittered; a box that left is NaN."""
    scale, size = shrunk(picture.shape, recipe)
    move = drawn(recipe.jitter, size, rng).after(resized(scale))
    exponent = np.exp(rng.uniform(-recipe.jitter.gamma, recipe.jitter.gamma))
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return cv2.LUT(warp(picture, move, size), table), moved(boxes, move, size)


def drawn(jitter: Jitter, size: tuple[int, int], rng: np.random.Generator) -> Similarity:
    """A random move of a picture of ``size`` (height, width) about its center."""
    center = (np.array(size[::-1]) - 1) / 2
    angle, zoom = np.radians(rng.uniform(-jitter.angle, jitter.angle)), 1 + rng.uniform(-jitter.scale, jitter.scale)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < jitter.flip:
        linear = linear * (-1, 1)
    shift = rng.uniform(-jitter.shift, jitter.shift, 2) * size[::-1]
    return Similarity(np.column_stack([linear, center + shift - linear @ center]))


def moved(boxes: np.ndarray, move: Similarity, size: tuple[int, int]) -> np.ndarray:
    """Boxes [n, 4] after ``move``, cut to a picture of ``size`` (height, width); NaN where too little is left.

    The new box bounds the old one's inscribed ellipse: the corners of what is boxed are empty as a rule, and bounding them
    too would make every label of a turned picture too large.
    """
    boxes = np.asarray(boxes, float)
    # Points lie half a pixel off the edges: see radstack.images.similarity and radstack.images.boxes.
    center = move.apply((boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5) + 0.5
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ move.matrix[:, :2].T ** 2)
    whole = np.concatenate([center - half, center + half], axis=1)
    cut = np.clip(whole, 0, [*size[::-1], *size[::-1]])
    left = (cut[:, 2:] - cut[:, :2]).prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)
    return np.where((left >= KEPT)[:, None], cut, np.nan)
