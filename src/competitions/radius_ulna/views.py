"""What a network sees of a cached row: the crop of one bone, or both side by side, by found or by hand-made boxes."""

from competitions.radius_ulna.phases import BONES
from radstack.images.views import Box

CROP = (128, 96)
"""Height and width in pixels of a bone's crop (the HKU-Shenzhen study's, in the order that fits a bone's end)."""
KINDS = ("found", "drawn")
"""Boxes by which the cache holds crops, in its order: those of stage 02, and the hand-made ones (found where none are).

Networks learn from found boxes, each by a detector that had not met the picture, so that they know its errors; crops by
hand-made boxes are there to measure what these errors cost.
"""
STORED = (CROP[0], CROP[1] * len(BONES) * len(KINDS))
"""Height and width of a row of the cache: radius and ulna by found boxes, the same by hand-made boxes."""
GRAY = ((150.0,), (40.0,))
"""About the mean and standard deviation of a crop's gray levels."""


def bone(name: str, kind: str = "found", size: tuple[int, int] = CROP) -> Box:
    """The crop of one bone of ``BONES`` by boxes of ``KINDS``, brought to ``size`` (height, width), one channel."""
    return _view((name,), kind, size)


def both(kind: str = "found", size: tuple[int, int] = (CROP[0], 2 * CROP[1])) -> Box:
    """Radius and ulna side by side."""
    return _view(BONES, kind, size)


def by_hand(view: object) -> Box | None:
    """The same crop by hand-made boxes; None for what is no crop by found ones."""
    drawn = CROP[1] * len(BONES)
    if not isinstance(view, Box) or view.box[1] >= drawn:
        return None
    top, left, height, width = view.box
    return Box((top, left + drawn, height, width), view.size, view.mean, view.std)


def _view(names: tuple[str, ...], kind: str, size: tuple[int, int]) -> Box:
    first = KINDS.index(kind) * len(BONES) + BONES.index(names[0])
    return Box((0, first * CROP[1], CROP[0], len(names) * CROP[1]), size, *GRAY)
