"""Training-time augmentation: albumentations by name, checked strictly, seeded by the sample."""

import inspect
import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from radstack.core.errors import UserError, reason
from radstack.core.registry import check_name
from radstack.recipes.experiment import Op

Augment = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Picture, uint8 [height, width, channels], its label and a seed -> both, of the same shapes and dtypes."""


def pipeline(ops: tuple[Op, ...], size: tuple[int, int], moves: str = "") -> Augment:
    """Chain ``ops`` for pictures of ``size`` (height, width), which come resized: on larger ones everything is slower.

    ``moves`` says which label moves with the picture: a ``mask`` [height, width], ``points`` (float32, x then y of each, -1
    to 1 between the centers of the outermost pixels), or "" for numbers, which stay.

    The result depends on the picture and the seed alone, not on the worker or on what it did before. A transform that needs
    a ``size`` gets this one unless the recipe names another. A UserError for an unknown transform or argument, with the
    nearest name, or a value that albumentations refuses; on call, for a picture of another size or dtype, or a transform
    that changed either.
    """
    if not ops:
        return lambda image, found, seed: (image, found)
    albumentations = _albumentations()
    to_chain, from_chain, params = _MOVES[moves]
    chain = albumentations.Compose([transform(op, size) for op in ops], **params)

    def augment(image: np.ndarray, found: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        check(image, size, image.shape[2:], "the view delivered")
        # Compose.set_random_seed gives every transform the same stream (flips would go together) and takes 100 us;
        # one stream for all takes 15 us.
        chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = chain(image=image, **to_chain(found, size))
        check(result["image"], size, image.shape[2:], "the augmentation made")
        return np.ascontiguousarray(result["image"]), from_chain(result, found, size)

    return augment


def _to_pixels(points: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    half = (np.array(size[::-1]) - 1) / 2
    return {"keypoints": (points.reshape(-1, 2) + 1) * half}


def _from_pixels(result: dict[str, Any], points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    half = (np.array(size[::-1]) - 1) / 2
    return (np.asarray(result["keypoints"]) / half - 1).astype(points.dtype).reshape(points.shape)


_MOVES: dict[str, tuple[Callable[..., dict[str, Any]], Callable[..., np.ndarray], dict[str, Any]]] = {
    "": (lambda label, size: {}, lambda result, label, size: label, {}),
    "mask": (lambda label, size: {"mask": label}, lambda result, label, size: np.ascontiguousarray(result["mask"]), {}),
    # A point that leaves the picture is still a label: the network must then point outside.
    "points": (_to_pixels, _from_pixels, {"keypoint_params": {"format": "xy", "remove_invisible": False}}),
}
"""What moves -> label to albumentations' arguments, label from its result, arguments of Compose."""


def transform(op: Op, size: tuple[int, int]) -> Any:
    """Make one albumentations transform, refusing what albumentations would only warn about."""
    albumentations = _albumentations()
    kinds = {name: kind for name, kind in vars(albumentations).items()
             if isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)}
    check_name(kinds, op.name, "albumentations transform")
    known = inspect.signature(kinds[op.name]).parameters
    for name in op.args:
        check_name(known, name, f"argument of {op.name},")
    args = dict(op.args)
    if "size" in known and known["size"].default is inspect.Parameter.empty:
        args.setdefault("size", size)
    try:
        return kinds[op.name](**args)
    except (TypeError, ValueError) as error:
        why = reason(error).partition(" For further information")[0]
        spelled = ", ".join(f"{name}={value!r}" for name, value in op.args.items())
        raise UserError(f"albumentations refuses {op.name}({spelled}): {why}") from error


def _albumentations() -> Any:
    # Without this it asks a server for its newest version at every import.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def check(image: np.ndarray, size: tuple[int, int], channels: tuple[int, ...], who: str) -> None:
    """Refuse a picture that is not uint8 [*size, *channels]: a UserError that begins with ``who``."""
    wanted = (*size, *channels)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape != wanted:
        raise UserError(f"{who} {image.dtype} {image.shape}, not uint8 {wanted}; view.size and augment must agree")

