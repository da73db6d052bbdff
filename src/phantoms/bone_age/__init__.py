"""Phantoms of hand radiographs with known bone age and label noise, in the organizer's own layout."""

from phantoms.bone_age.archive import draw, read_truth

__all__ = ["draw", "read_truth"]
