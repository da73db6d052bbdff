"""The ends of radius and ulna: their signs by maturity, and the thickness of bone in their own coordinates.

``u`` runs from the joint up the forearm, ``v`` across it to the medial side (little finger); both mm of an adult-sized hand.
Signs are knots at whole stages with straight lines between. Thicknesses are mm of compact bone along the ray.
"""

import numpy as np

from phantoms.bone_age.render import OVAL, disc, shaft
from phantoms.radius_ulna.law import EndShape

RADIUS: dict[str, tuple[float, ...]] = {
    "width": (0.92, 1.04, 1.08, 1.10, 1.08, 1.03, 1.0, 1.0),  # of the epiphysis as a share of the metaphysis'
    "height": (7, 8, 9, 9.5, 10, 10, 10, 10),  # of the epiphysis in mm, in its middle
    "gap": (2.6, 2.2, 1.9, 1.5, 0.8, 0.15, 0, 0),  # thickness of the plate in mm
    "contrast": (1, 1, 1, 0.95, 0.55, 0.15, 0, 0),  # how much of the plate is still free of bone
    "medial_cap": (0, 0.1, 0.7, 1, 1, 0.4, 0, 0),  # how far the epiphysis' rims reach around the metaphysis
    "lateral_cap": (0, 0, 0.2, 0.8, 1, 0.4, 0, 0),
    "line": (0.8, 0.7, 0.5, 0.4, 0.8, 0.6, 0.25, 0.1),  # strength of the white line at the plate
    "notches": (0, 0, 0, 0, 0.2, 1, 0.2, 0.1),  # depth of the dents where the closed plate ends
    "breadth": (1.3, 1.1, 0.9, 0.8, 1.9, 1.0, 0.7, 0.7),  # of the line in mm; at R9 it is the sclerosis of the plate
    "dots": (0, 0, 0, 0, 0, 0.8, 0.2, 0),  # how much of the line is broken into dots
}
ULNA: dict[str, tuple[float, ...]] = {
    "width": (0.74, 0.88, 1.0, 1.03, 1.02, 1.0, 1.0),  # of the head as a share of the metaphysis'
    "height": (4.8, 6, 7, 7.4, 7.7, 8, 8),  # of the head in mm
    "styloid": (0.3, 0.36, 0.4, 0.42, 0.44, 0.45, 0.45),  # length of the process as a share of the head's width
    "density": (1.0, 1.15, 1.12, 1.08, 1.04, 1.0, 1.0),  # of the head as a multiple of the styloid's
    "flat": (0, 1, 1, 0.7, 0.5, 0.5, 0.5),  # 0 for an oval head to 1 for a flat border at the plate
    "overlap": (0, 0, 1, 0.6, 0, 0, 0),  # how far the metaphysis' middle third bulges over the head
    "gap": (2.6, 2.1, 1.5, 0.8, 0.7, 0.3, 0),  # thickness of the plate in mm
    "fused_medial": (0, 0, 0, 0.5, 0.4, 1.2, 1.2),  # how far from its middle the plate is closed, in half-widths
    "fused_lateral": (0, 0, 0, 0.5, 1.2, 1.2, 1.2),
    "line": (0.2, 0.6, 0.5, 0.4, 0.5, 0.4, 0.1),  # strength of the white line at the plate
}
SIGNS = {"radius": ((5, 6, 7, 8, 9, 10, 11, 12), RADIUS), "ulna": ((4, 5, 6, 7, 8, 9, 10), ULNA)}
"""Stages, and the signs of each as numbers, at R5 to R11 and U4 to U9, with a fading scar at the end of R11. The styloid is
.3 of the head's width at U4, the head 1.15 times as dense as it at U5, the end of the shaft overlaps the head's middle third
at U6, the middle half is fused at U7, .3 of the plate is left at U8, under the styloid. The rest was set by eye."""
FAR = 112.0
"""Length of the bones in mm; pictures end before."""
SHAFT = {"radius": (6.6, 46.0, 2.2), "ulna": (5.2, 34.0, 2.0)}
"""Half-width of the shaft, the length over which it widens to the metaphysis, and the thickness of its cortex, mm."""
LINE = 6.0
"""mm of compact bone in a white line of strength 1."""
DORSAL = 1.2
"""mm of compact bone in the second line along the joint: the dorsal rim behind the palmar one."""
STRAIGHT = 5.0
"""mm behind the plate over which the metaphysis keeps its width, about."""
RIM = 2.8
"""mm by which a full cap reaches over the metaphysis."""
METAPHYSIS = 25.0
"""mm of it that belong to the box."""


class Look(dict[str, float]):
    """The signs of an end by name, read as attributes; shares are 0 to 1."""

    def __getattr__(self, sign: str) -> float:
        return self[sign]


def look_at(bone: str, maturity: float) -> Look:
    """The signs of a radius of maturity 5 to 12, or of an ulna of 4 to 10."""
    stages, signs = SIGNS[bone]
    return Look({sign: float(np.interp(maturity, stages, values)) for sign, values in signs.items()})


def radius_end(u: np.ndarray, v: np.ndarray, look: Look, own: EndShape, robust: float) -> np.ndarray:
    """Thickness of the radius at ``u``, ``v`` (same shape, float32)."""
    half = own.half * look.width
    x = v / half
    # The joint's surface: the styloid, lateral, reaches farthest, and grows.
    top = look.height / 10 * (3.6 * x - 2.6 * x * x) + 0.5 - 0.5 * np.exp(-(((x - 0.1) / 0.18) ** 2))
    # The epiphysis' border at the plate: concave and uneven in the young, smoother later.
    waves = np.sin(0.42 * v + own.ripple[0]) + 0.6 * np.sin(0.9 * v + own.ripple[1])
    plate = look.height + 0.9 * (v / own.half) ** 2 + 0.4 * (0.25 + 0.5 * look.line * look.contrast) * waves
    rim = look.medial_cap * step(x, 0.62, 0.88) + look.lateral_cap * step(-x, 0.62, 0.88)
    separate = _epiphysis(u, v, top, plate + RIM * rim, half, look.height / 2, 4.2)
    corner = step(np.abs(v) / own.half, 0.72, 1.0)
    rounding = (0.4 + 1.6 * max(look.medial_cap, look.lateral_cap)) * corner
    begins = plate + look.gap + rounding + 0.5 * look.gap * rim
    separate += _shaft(u, v, begins, "radius", own.half, robust, plate)
    notch = 1 - 0.14 * look.notches * np.exp(-(((u - plate - 1) / 1.5) ** 2))
    whole = _shaft(u, v, top + 0.3 * look.height * np.abs(x) ** 6, "radius", half * notch, robust, plate)
    separate += DORSAL * _ridge(u - top - 2.2, 0.9) * (separate > 0.5)
    center = plate - 0.4 + (1 - look.contrast) * (0.4 + look.gap / 2)
    medial = 1 + 0.45 * x * look.contrast
    beads = 1 - look.dots * (0.5 + 0.5 * np.sin(2.1 * v + 0.8 * np.sin(0.7 * v) + own.ripple[1]))  # 3 mm apart
    line = look.line * LINE * medial * beads * _ridge(u - center, look.breadth) * (np.abs(x) < 0.94)
    return OVAL * (look.contrast * separate + (1 - look.contrast) * whole) + line * (separate > 0.5)


def ulna_end(u: np.ndarray, v: np.ndarray, look: Look, own: EndShape, robust: float) -> np.ndarray:
    """Thickness of the ulna at ``u``, ``v`` (same shape, float32)."""
    half = own.half * look.width
    x = v / half
    top = 0.4 + 1.2 * x**4
    # The head's border at the plate: round at first, then flat, at last a common curve with the shaft.
    out = v / own.half
    plate = look.height + 0.15 * np.sin(0.8 * v + own.ripple[0]) - (1 - look.flat) * 0.9 * out * out
    separate = look.density * _epiphysis(u, v, top, plate, half, look.height / 2, 2.4 + 1.8 * look.flat)
    bulge = look.overlap * (look.gap + 1.3) * np.exp(-((x / 0.36) ** 4))
    begins = plate + look.gap - bulge + 0.9 * step(np.abs(out), 0.7, 1.0)
    separate += _shaft(u, v, begins, "ulna", own.half, robust, plate)
    whole = _shaft(u, v, top + 1.5 * np.abs(x) ** 6, "ulna", half, robust, plate)
    closed = np.clip((look.fused_medial - x) / 0.2, 0, 1) * np.clip((x + look.fused_lateral) / 0.2, 0, 1)
    bone = (1 - closed) * separate + closed * whole
    line = look.line * LINE * _ridge(u - plate + 0.3 - closed * look.gap / 2, 0.9) * (np.abs(x) < 0.92)
    return OVAL * np.maximum(bone, _styloid(u, v, look, own)) + 0.7 * line * (bone > 0.5)


def _styloid(u: np.ndarray, v: np.ndarray, look: Look, own: EndShape) -> np.ndarray:
    """A peg on the medial end of the head."""
    length = look.styloid * own.styloid * 2 * own.half * look.width
    base, tip = 5.0, -length
    center, long = (base + tip) / 2, (base - tip) / 2
    wide = 2.0 + 0.7 * np.clip((u - center) / long, -1, 1)
    place = own.half * look.width - 2.2
    return disc(u - center, (v - place) / wide * 2, long, 2.0, 4.2, 2.4)


def _epiphysis(u: np.ndarray, v: np.ndarray, top: np.ndarray, bottom: np.ndarray, half: float, thick: float,
               flat: float) -> np.ndarray:
    """A disc between the curves ``top`` and ``bottom``, about 2 ``thick`` apart; ``flat`` as in :func:`disc`."""
    stretch = thick / np.maximum((bottom - top) / 2, 0.5)
    return disc(stretch * (u - (top + bottom) / 2), v, thick, half, 0.92 * half, flat)


def _shaft(u: np.ndarray, v: np.ndarray, begins: np.ndarray, bone: str, half: float | np.ndarray, robust: float,
           plate: np.ndarray) -> np.ndarray:
    """Metaphysis and shaft from ``begins`` on, ``half`` wide at the plate."""
    middle, flare, cortex = SHAFT[bone]
    way = np.clip((np.hypot(np.maximum(u - plate, 0), STRAIGHT) - STRAIGHT) / flare, 0, 1)
    width = middle + (half - middle) * (1 - way) ** 2.3
    return shaft(u - begins, v, (0.0, FAR), width, robust * (0.5 + (cortex - 0.5) * way), (1.2, 1.0))


def step(value: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before ``start``, 1 after ``end``, smooth between (Hermite)."""
    share = np.clip((value - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def _ridge(away: np.ndarray, breadth: float) -> np.ndarray:
    return np.exp(-((away / (0.6 * breadth)) ** 2))


DRAWN = {"radius": radius_end, "ulna": ulna_end}
