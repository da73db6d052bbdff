"""Phantoms of hand radiographs whose distal radius and ulna have a known maturity, and raters of known noise."""

from phantoms.radius_ulna.archive import draw, read_truth

__all__ = ["draw", "read_truth"]
