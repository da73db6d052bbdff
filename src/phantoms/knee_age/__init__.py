"""Phantoms of coronal T1 knees of young men, in the layout of Pietz and Proeve 2018, defects included."""

from phantoms.knee_age.archive import draw, read_masks, read_truth
from phantoms.knee_age.law import oracle

__all__ = ["draw", "oracle", "read_masks", "read_truth"]
