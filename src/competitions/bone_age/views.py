"""What the age networks see: a region of the registered hand, as the cache holds it at a share of the canonical frame."""

from competitions.bone_age.frame import region_box
from radstack.images.views import Box

GRAY = 127.5
"""Mean and deviation of the gray levels: pictures enter the networks as (x - 127.5) / 127.5 (code of Iglovikov et al.)."""


def region(name: str, scale: float, shrink: int = 1) -> Box:
    """Region ``A`` (whole hand), ``B`` (carpus) or ``C`` (metacarpals and proximal phalanges), one channel.

    ``scale`` is the cache's; the network sees the region ``shrink`` times smaller.
    """
    box = region_box(name, scale)
    return Box(box, (box[2] // shrink, box[3] // shrink), (GRAY,), (GRAY,))
