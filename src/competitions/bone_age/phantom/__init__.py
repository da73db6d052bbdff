"""Phantoms of hand radiographs with known bone age and label noise, in the organizer's own layout (specification §7)."""

from competitions.bone_age.phantom.archive import draw, read_truth

__all__ = ["draw", "read_truth"]
