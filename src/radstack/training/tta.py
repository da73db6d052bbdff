"""Test-time views of a batch, by name. Out-of-fold and test tables use the same list; logits are averaged over it."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from radstack.core.registry import pick

Tta = Callable[[torch.Tensor], torch.Tensor]
"""A batch [batch, channels, height, width] to one of the same shape (height and width swapped by transposing)."""


def center_crop(images: torch.Tensor, share: float) -> torch.Tensor:
    """The middle ``share`` of height and width, brought back to the size of ``images`` bilinearly."""
    height, width = images.shape[2:]
    rows, columns = round(height * share), round(width * share)
    top, left = (height - rows) // 2, (width - columns) // 2
    crop = images[:, :, top : top + rows, left : left + columns]
    return functional.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False)


def turn(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turned counterclockwise about the center, bilinearly; what comes in from outside repeats the border."""
    batch, _, height, width = images.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # The grid runs from -1 to 1 on both sides, so that a turn of pixels is stretched by the sides' ratio there.
    matrix = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], device=images.device)
    # In bfloat16 the grid of a picture 500 pixels wide would be rounded to whole pixels.
    with torch.autocast(images.device.type, enabled=False):
        grid = functional.affine_grid(matrix.expand(batch, 2, 3), list(images.shape), align_corners=False)
        turned = functional.grid_sample(images.float(), grid, "bilinear", "border", align_corners=False)
    return turned.to(images.dtype)


TTA: dict[str, Tta] = {
    "plain": lambda images: images,
    "hflip": lambda images: images.flip(3),
    "transpose": lambda images: images.transpose(2, 3),
    "crop90": partial(center_crop, share=0.9),
    # For views whose channels are neighboring slices (SeuTao, RSNA 2019 first place).
    "channel_reverse": lambda images: images.flip(1),
    "turn5": partial(turn, degrees=5),
    "turn-5": partial(turn, degrees=-5),
    "turn10": partial(turn, degrees=10),
    "turn-10": partial(turn, degrees=-10),
}


def tta(names: tuple[str, ...]) -> tuple[Tta, ...]:
    """The functions of ``names``, in that order; an unknown name is a UserError with the nearest."""
    return tuple(pick(TTA, name, "test-time view") for name in names)
