"""Phantoms of head CT with known label noise, in the organizer's own layout, defects included (specification §9)."""

from competitions.ich.phantom.archive import draw, read_truth
from competitions.ich.phantom.law import oracle

__all__ = ["draw", "oracle", "read_truth"]
