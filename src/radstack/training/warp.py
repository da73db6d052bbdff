"""The moves an augmentation begins with (flips, turns, crops) as one matrix: a picture is then interpolated once.

One warp of a slice before its windows, with the enlargement to the view in it, takes a third of the time that the same takes
step by step on three channels (``benchmarks/loader.py``).
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from radstack.recipes.experiment import Op
from radstack.training.augment import check, transform

Warped = Callable[[int, int], np.ndarray]
"""Row and seed -> augmented picture, uint8 [height, width, channels]."""


def warped(ops: tuple[Op, ...], view: Any, reader: Any) -> Warped | None:
    """Read rows by ``reader`` as ``ops`` change them, with the parameters that :func:`augment.pipeline` draws of a seed.

    None where there is nothing to gain: ``reader`` does not enlarge pictures, or ``ops`` begin with no linear move that
    leaves black outside.
    """
    steps = [transform(op, view.size) for op in ops]
    count = next((number for number, step in enumerate(steps) if not _is_move(step, view.size)), len(steps))
    if not count or not getattr(reader, "enlarges", False):
        return None
    moves, rest = steps[:count], steps[count:]
    for step in moves:
        step.apply_with_params = _leave
    blank = {"image": np.broadcast_to(np.uint8(0), (*view.size, len(view.mean)))}

    def read(row: int, seed: int) -> np.ndarray:
        numbers, draws = np.random.default_rng(seed), random.Random(seed)
        draws.random()  # Compose draws whether it runs at all
        for step in steps:
            step.set_random_state(numbers, draws)
        matrix = np.eye(3)
        for step in moves:
            step(**blank)
            matrix = _matrix(step, view.size) @ matrix
        picture = reader.moved(row, matrix)
        for step in rest:
            picture = step(image=picture)["image"]
        check(picture, view.size, (len(view.mean),), "the augmentation made")
        return picture

    return read


def _leave(params: dict[str, Any], **data: Any) -> dict[str, Any]:
    """In place of a transform's own: what was drawn is kept, the picture stays."""
    return data


def _is_move(step: Any, size: tuple[int, int]) -> bool:
    """Whether all that a transform does is in :func:`_matrix`."""
    usual = {"interpolation": 1, "border_mode": 0, "fill": 0, "crop_border": False, "fit_output": False, "size": size,
             "area_for_downscale": None}
    return type(step).__name__ in _MATRICES and all(
        getattr(step, name, value) == value for name, value in usual.items())


def _matrix(step: Any, size: tuple[int, int]) -> np.ndarray:
    """Where the last call of a transform took the centers of pixels (x, y, 1), float [3, 3]."""
    params = step.get_applied_params()
    return np.asarray(_MATRICES[type(step).__name__](params, size), float) if params else np.eye(3)


def _crop(params: dict[str, Any], size: tuple[int, int]) -> list[list[float]]:
    left, top, right, bottom = params["crop_coords"]
    across, down = size[1] / (right - left), size[0] / (bottom - top)
    # Corners of pixels, not their centers, keep their place when a picture is resized.
    return [[across, 0, (0.5 - left) * across - 0.5], [0, down, (0.5 - top) * down - 0.5], [0, 0, 1]]


_MATRICES: dict[str, Callable[[dict[str, Any], tuple[int, int]], Any]] = {
    "HorizontalFlip": lambda params, size: [[-1, 0, size[1] - 1], [0, 1, 0], [0, 0, 1]],
    "VerticalFlip": lambda params, size: [[1, 0, 0], [0, -1, size[0] - 1], [0, 0, 1]],
    "Transpose": lambda params, size: [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    "Rotate": lambda params, size: params["matrix"],
    "Affine": lambda params, size: params["matrix"],
    "RandomResizedCrop": _crop,
}
