"""Phantoms of head CT with known label noise, in the organizer's own layout, defects included."""

from phantoms.ich.archive import draw, read_truth
from phantoms.ich.law import oracle

__all__ = ["draw", "oracle", "read_truth"]
