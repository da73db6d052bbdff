"""The look of the ends of radius and ulna by maturity: knots at whole stages, straight lines between.

Lengths are mm of an adult-sized hand; medial is the side of the little finger.
"""

from dataclasses import dataclass

import numpy as np

RADIUS_STAGES = (5, 6, 7, 8, 9, 10, 11, 12)
RADIUS = {
    "width": (0.92, 1.04, 1.08, 1.10, 1.08, 1.03, 1.0, 1.0),
    "height": (7, 8, 9, 9.5, 10, 10, 10, 10),
    "gap": (2.6, 2.2, 1.9, 1.5, 0.8, 0.15, 0, 0),
    "contrast": (1, 1, 1, 0.95, 0.55, 0.15, 0, 0),
    "medial_cap": (0, 0.1, 0.7, 1, 1, 0.4, 0, 0),
    "lateral_cap": (0, 0, 0.2, 0.8, 1, 0.4, 0, 0),
    "line": (0.8, 0.7, 0.5, 0.4, 0.8, 0.6, 0.25, 0.1),
    "notches": (0, 0, 0, 0, 0.2, 1, 0.2, 0.1),
    "breadth": (1.3, 1.1, 0.9, 0.8, 1.9, 1.0, 0.7, 0.7),
    "dots": (0, 0, 0, 0, 0, 0.8, 0.2, 0),
}
"""At R5 to R11 the signs of each stage as numbers, and a fading scar at the end of R11. The last two rows: breadth of the
white line in mm, which at R9 is the sclerosis of the plate, and how much of it is dotted."""

ULNA_STAGES = (4, 5, 6, 7, 8, 9, 10)
ULNA = {
    "width": (0.74, 0.88, 1.0, 1.03, 1.02, 1.0, 1.0),
    "height": (4.8, 6, 7, 7.4, 7.7, 8, 8),
    "styloid": (0.3, 0.36, 0.4, 0.42, 0.44, 0.45, 0.45),
    "density": (1.0, 1.15, 1.12, 1.08, 1.04, 1.0, 1.0),
    "flat": (0, 1, 1, 0.7, 0.5, 0.5, 0.5),
    "overlap": (0, 0, 1, 0.6, 0, 0, 0),
    "gap": (2.6, 2.1, 1.5, 0.8, 0.7, 0.3, 0),
    "fused_medial": (0, 0, 0, 0.5, 0.4, 1.2, 1.2),
    "fused_lateral": (0, 0, 0, 0.5, 1.2, 1.2, 1.2),
    "line": (0.2, 0.6, 0.5, 0.4, 0.5, 0.4, 0.1),
}
"""Signs at U4 to U9: the styloid is .3 of the head's width at U4, the head 1.15 times as dense as it at U5, the end
of the shaft overlaps the head's middle third at U6, the middle half is fused at U7, and .3 of the plate is left at U8,
under the styloid. What lies between was set by eye."""


@dataclass(frozen=True)
class RadiusLook:
    """The signs of a radius; shares are 0 to 1."""

    width: float
    """Of the epiphysis as a share of the metaphysis'."""
    height: float
    """Of the epiphysis in mm, in its middle."""
    gap: float
    """Thickness of the plate in mm."""
    contrast: float
    """How much of the plate is still free of bone."""
    medial_cap: float
    lateral_cap: float
    """How far the epiphysis' rims reach around the metaphysis."""
    line: float
    """Strength of the white line at the plate."""
    notches: float
    """Depth of the dents where the closed plate ends."""
    breadth: float
    """Of the line in mm."""
    dots: float
    """How much of the line is broken into dots."""


@dataclass(frozen=True)
class UlnaLook:
    """The signs of an ulna; shares are 0 to 1."""

    width: float
    """Of the head as a share of the metaphysis'."""
    height: float
    """Of the head in mm."""
    styloid: float
    """Length of the styloid process as a share of the head's width."""
    density: float
    """Of the head as a multiple of the styloid's."""
    flat: float
    """0 for an oval head to 1 for a flat border at the plate."""
    overlap: float
    """How far the metaphysis' middle third bulges over the head."""
    gap: float
    """Thickness of the plate in mm."""
    fused_medial: float
    fused_lateral: float
    """How far to either side of the middle the plate is closed, in half-widths."""
    line: float
    """Strength of the white line at the plate."""


def radius_look(maturity: float) -> RadiusLook:
    """The signs of a radius of maturity 5 to 12."""
    return RadiusLook(**{sign: float(np.interp(maturity, RADIUS_STAGES, values)) for sign, values in RADIUS.items()})


def ulna_look(maturity: float) -> UlnaLook:
    """The signs of an ulna of maturity 4 to 10."""
    return UlnaLook(**{sign: float(np.interp(maturity, ULNA_STAGES, values)) for sign, values in ULNA.items()})
