"""What the networks see of a cached picture: a box of it, at a size, with the mean and deviation of its gray levels."""

from competitions._template.localizer import SIDE
from radstack.images.views import Box

MEAN, STD = 80.0, 40.0  # CHANGE: measured on your pictures, on the scale of 0 to 255
"""Of the gray levels."""


def whole(side: int) -> Box:
    """The whole cached picture, one channel, ``side`` x ``side`` pixels."""
    return Box((0, 0, SIDE, SIDE), (side, side), (MEAN,), (STD,))
