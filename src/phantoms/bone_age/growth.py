"""What a bone of a given maturity looks like: growth, epiphysis, gap, capping, fusion.

All maturities are months on the boys' scale; all results are plain numbers, so that they can be tested without a picture.
"""

import math
from dataclasses import dataclass

from phantoms.bone_age.anatomy import Carpal, Tubular

FULL = 0.6
"""Share of the time from appearance to fusion after which the epiphysis is as wide as the shaft."""
CAPPING_FROM, CAPPING = 150.0, 0.12
"""Maturity at which the epiphysis begins to overhang the shaft, and the share of width it reaches at fusion."""
CLOSING = 15.0
"""Months that fusion takes, about the middle of 12 to 18."""
SCAR = 24.0
"""Months for which the line of the closed plate remains."""
CARPAL_GROWTH, MORPHING, TOUCHING = 40.0, 110.0, 140.0
"""Time constant of carpal radii, months from a circle to the adult outline, maturity at which carpals begin to overlap."""
STUBBY = 0.62
"""By how much wider, for its length, a newborn's shaft is than an adult's: metacarpals 4 to 7 widths long."""
OLDEST = 228.0
"""Months at which nothing is left to grow."""


@dataclass(frozen=True)
class Stage:
    """The look of a tubular bone. Widths are shares of the width of its shaft."""

    stubby: float
    """Factor on the adult's widths, 1 to 1.62."""
    ossified: float
    """Share of the epiphysis' cartilage that is bone yet, as a width: 0 before it appears, 1 from 60 % of the way on."""
    capping: float
    """Overhang of the epiphysis, 0 to 0.12."""
    gap: float
    """Thickness of the growth plate, as a share of half the shaft's width."""
    fused: float
    """0 open, 1 closed; the plate closes from its center."""
    scar: float
    """Visibility of the closed plate's line, 1 fading to 0."""


def ramp(value: float, start: float, length: float) -> float:
    """0 before ``start``, 1 after ``start + length``, straight between."""
    return min(max((value - start) / length, 0.0), 1.0)


def stage(bone: Tubular, maturity: float) -> Stage:
    """How ``bone`` looks at ``maturity`` months."""
    way = (maturity - bone.appears) / (FULL * (bone.fuses - bone.appears))
    ossified = min(max((1 - math.exp(-3 * way)) / (1 - math.exp(-3)), 0.0), 1.0)
    fused = ramp(maturity, bone.fuses - CLOSING, CLOSING)
    thin = ramp(maturity, bone.appears, bone.fuses - CLOSING - bone.appears)
    return Stage(
        stubby=1 + STUBBY * (1 - ramp(maturity, 0, OLDEST)) ** 1.3, ossified=ossified,
        capping=CAPPING * ramp(maturity, CAPPING_FROM, bone.fuses - CAPPING_FROM), gap=0.12 + 0.36 * (1 - thin),
        fused=fused, scar=fused * (1 - ramp(maturity, bone.fuses, SCAR)))


def carpal_size(bone: Carpal, maturity: float) -> float:
    """Radius as a share of the adult's; after 140 months it exceeds the joint space, so that neighbors overlap."""
    if maturity <= bone.appears:
        return 0.0
    return (1 - math.exp(-(maturity - bone.appears) / CARPAL_GROWTH)) * (0.94 + 0.16 * ramp(
        maturity, TOUCHING, OLDEST - TOUCHING))


def carpal_shape(bone: Carpal, maturity: float) -> float:
    """0 for the circle of a young ossification center to 1 for the adult's outline."""
    return ramp(maturity, bone.appears, MORPHING)
