"""The bones of an adult left hand seen from the back, how they look at a maturity, where they lie in a hand and a picture.

Lengths are mm of an adult male hand; x to the thumb, y to the fingertips, the origin is the center of the capitate.
Maturities are months on the boys' scale, for both sexes. Growth gives plain numbers, so that it is tested without a picture.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

Point = tuple[float, float]
ADULT_LENGTH = 189.0
"""Of the male hand in mm: the size to which the lengths below belong."""
METACARPAL_BASES: dict[int, Point] = {1: (27.5, 7.0), 2: (13.5, 14.5), 3: (1.0, 13.5), 4: (-9.5, 11.5), 5: (-18.0, 9.0)}
METACARPAL_ANGLES = {1: 40.0, 2: 9.0, 3: 0.0, 4: -9.5, 5: -20.0}
"""Degrees from the third metacarpal towards the thumb."""
FINGER_ANGLES = {1: 34.0, 2: 10.0, 3: 0.5, 4: -8.0, 5: -21.0}
"""Of the first phalanx, a relaxed spread."""
FOREARM: dict[str, Point] = {"radius": (7.5, -26.5), "ulna": (-17.5, -29.0)}
"""Where the distal ends begin."""
FULL = 0.6
"""Share of the time from appearance to fusion after which the epiphysis is as wide as the shaft."""
CAPPING_FROM, CAPPING = 150.0, 0.12
"""Maturity at which the epiphysis begins to overhang the shaft, and the share of width it reaches at fusion."""
CLOSING, SCAR = 15.0, 24.0
"""Months that fusion takes, about the middle of 12 to 18, and for which the line of the closed plate remains."""
CARPAL_GROWTH, MORPHING, TOUCHING = 40.0, 110.0, 140.0
"""Time constant of carpal radii, months from a circle to the adult outline, maturity at which carpals begin to overlap."""
STUBBY = 0.62
"""By how much wider, for its length, a newborn's shaft is than an adult's: metacarpals 4 to 7 widths long."""
OLDEST = 228.0
"""Months at which nothing is left to grow."""
SPREAD, BEND, PROPORTION = 4.0, 5.0, 0.025
"""SD in degrees of the angle of each finger and of the wrist to either side; SD of a bone's length as a share."""
LOOSE, PROXIMAL = 0.7, -8.0
"""SD in mm of a carpal's place, and the height below which carpals belong to the proximal row."""
JOINT, SKIN = 1.3, 4.0
"""Space between two bones of a finger, and soft tissue beyond the last phalanx, in mm."""
TURN = 12.0, 35.0
"""SD and limit of the turn in degrees."""
LANDSCAPE = 0.08
"""Share of pictures that are wider than high."""
ARM, MARGIN = (30.0, 75.0), 14.0
"""Visible forearm below the wrist, and least distance of joints and tips from the border of the field, in mm of an adult."""


@dataclass(frozen=True)
class Tubular:
    """A long bone with one epiphysis."""

    ray: int
    """1 thumb to 5 little finger; 0 for the forearm."""
    length: float
    epiphysis: float
    """Half the width of the shaft where the epiphysis is, in mm."""
    middle: float
    """Half the width in the middle of the shaft."""
    end: float
    """Half the width at the other end."""
    appears: float
    fuses: float


@dataclass(frozen=True)
class Carpal:
    """A carpal bone, or the sesamoid of the thumb: an ellipse with two humps."""

    center: Point
    radii: Point
    """Half-axes; the second lies along ``turn``."""
    turn: float
    """Degrees from the fingertips to the thumb."""
    triangle: float
    """Third harmonic of the outline: positive points to the fingertips (before the turn)."""
    square: float
    """Fourth harmonic: negative makes it a box, its corners stand out."""
    appears: float


def _ray(prefix: str, lengths: tuple[float, ...], shape: tuple[float, float, float], appears: tuple[float, ...],
         fuses: float) -> dict[str, Tubular]:
    """One bone a ray from 2 to 5; widths go with the root of the length, as short bones are stubby."""
    bones = {}
    for ray, length, when in zip(range(2, 6), lengths, appears):
        base, middle, end = (half * (length / max(lengths)) ** 0.5 for half in shape)
        bones[f"{prefix}{ray}"] = Tubular(ray, length, base, middle, end, when, fuses)
    return bones


TUBULAR = (
    _ray("MC", (66, 64, 57, 52), (7.4, 4.5, 6.6), (19, 20, 24, 26), 196)
    | _ray("PP", (40, 44.5, 41, 33), (7.8, 4.9, 5.8), (17, 16, 17, 22), 195)
    | _ray("MP", (24, 29, 27.5, 20), (6.6, 4.2, 5.1), (26, 24, 25, 41), 200)
    | _ray("DP", (18, 19, 19, 17), (5.6, 2.8, 4.0), (39, 29, 29, 39), 186)
    | {"MC1": Tubular(1, 46, 8.0, 5.2, 7.2, 31, 195), "PP1": Tubular(1, 32, 7.6, 4.8, 6.0, 32, 195),
       "DP1": Tubular(1, 23, 6.4, 3.6, 4.6, 18, 186)}
    | {"radius": Tubular(0, 120, 15.5, 7.0, 8.0, 13, 219), "ulna": Tubular(0, 116, 8.2, 5.8, 8.0, 85, 210)}
)  # fmt: skip
"""Lengths and widths are about those of Garn et al. 1972; months of appearance are about those of Garn et al. 1967."""

CARPALS = {
    "capitate": Carpal((0, 0), (7.6, 11.0), -4, -0.04, -0.03, 3),
    "hamate": Carpal((-13.0, -0.5), (8.6, 9.4), 15, 0.10, -0.02, 4),
    "triquetrum": Carpal((-14.5, -14.0), (7.4, 6.8), 35, 0.07, -0.02, 29),
    "lunate": Carpal((-1.5, -17.5), (7.6, 7.0), 10, -0.06, -0.04, 49),
    "scaphoid": Carpal((13.2, -12.0), (6.6, 10.6), 38, 0.05, -0.02, 68),
    "trapezium": Carpal((21.0, 1.0), (7.4, 8.2), 40, -0.05, -0.06, 70),
    "trapezoid": Carpal((11.4, 6.4), (5.6, 6.4), 10, 0.06, -0.06, 75),
    "pisiform": Carpal((-18.0, -12.5), (4.6, 5.4), 0, 0.0, 0.0, 132),
}
SESAMOID = Carpal((0, 0), (2.4, 3.2), 0, 0.0, 0.0, 153)
"""Adductor sesamoid; lies beside the head of the first metacarpal."""

REGIONS = {"carpus": tuple(CARPALS), "tubular": tuple(name for name, bone in TUBULAR.items() if bone.ray),
           "forearm": ("radius", "ulna")}  # fmt: skip
"""Bones by the region whose maturity they share."""


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


@dataclass(frozen=True)
class Lying:
    """A bone in its place."""

    start: np.ndarray
    """[2]: where its coordinate u is 0: the end with the epiphysis; a carpal's center."""
    along: np.ndarray
    """[2], unit: direction of u; of a carpal, of its second half-axis."""
    length: float
    """0 for a carpal."""


@dataclass(frozen=True)
class Skeleton:
    """All bones, and what skin and landmarks need."""

    bones: dict[str, Lying]
    joints: dict[int, np.ndarray]
    """Of rays 1-5, [k, 2]: base of the metacarpal, the joints, the tip of the last phalanx."""
    forearm: np.ndarray
    """[2, 2]: middle of the wrist and of the forearm at its far end."""
    landmarks: np.ndarray
    """[3, 2]: tips of the third and first distal phalanges, center of the capitate."""


def direction(degrees: float) -> np.ndarray:
    """Unit vector [2] turned from the fingertips towards the thumb."""
    return np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])


def lay(rng: np.random.Generator) -> Skeleton:
    """Draw the angles and proportions of one hand."""
    bones: dict[str, Lying] = {}
    joints = {ray: _lay_ray(rng, ray, bones) for ray in range(1, 6)}
    wrist = np.array([-4.5, -27.0])
    bend = rng.normal(0, BEND)
    arm = direction(bend)
    for name, start in FOREARM.items():
        along = -arm if name == "radius" else -_turned(arm, -1.5)
        bones[name] = Lying(np.array(start), along, TUBULAR[name].length)
    bones |= {name: _lay_carpal(rng, name, bend) for name in CARPALS}
    thumb = bones["MC1"]  # the sesamoid lies beside its head, on the side of the second metacarpal
    side = np.array([-thumb.along[1], thumb.along[0]])
    head = thumb.start + (thumb.length - 1.0) * thumb.along
    bones["sesamoid"] = Lying(head + (TUBULAR["MC1"].end + SESAMOID.radii[0] - 2.0) * side, thumb.along, 0.0)
    landmarks = np.array([joints[3][-1], joints[1][-1], [0.0, 0.0]])
    return Skeleton(bones, joints, np.array([wrist, wrist - 190 * arm]), landmarks)


def _lay_ray(rng: np.random.Generator, ray: int, bones: dict[str, Lying]) -> np.ndarray:
    """Place metacarpal and phalanges of one ray; return its joints."""
    place = np.array(METACARPAL_BASES[ray])
    metacarpal = METACARPAL_ANGLES[ray] + rng.normal(0, 1.5 if ray > 1 else SPREAD)
    finger = FINGER_ANGLES[ray] + rng.normal(0, SPREAD)
    joints = [place]
    for prefix in ("MC", "PP", "MP", "DP"):
        bone = TUBULAR.get(f"{prefix}{ray}")
        if bone is None:
            continue
        along = direction(metacarpal if prefix == "MC" else finger)
        length = bone.length * (1 + rng.normal(0, PROPORTION))
        far = place + length * along
        distal = prefix == "MC" and ray > 1
        bones[f"{prefix}{ray}"] = Lying(far if distal else place, -along if distal else along, length)
        joints.append(far)
        place = far + JOINT * along
        finger += rng.normal(0, 1.0)
    return np.array(joints)


def _lay_carpal(rng: np.random.Generator, name: str, bend: float) -> Lying:
    """Where a carpal lies when the wrist bends by ``bend`` degrees; half of that happens between the two rows."""
    carpal = CARPALS[name]
    turn = bend / 2 if carpal.center[1] < PROXIMAL else 0.0
    center = _turned(np.array(carpal.center), -turn) + (name != "capitate") * rng.normal(0, LOOSE, 2)
    return Lying(center, direction(carpal.turn + turn + rng.normal(0, 3)), 0.0)


def _turned(vector: np.ndarray, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([cosine * vector[0] - sine * vector[1], sine * vector[0] + cosine * vector[1]])


@dataclass(frozen=True)
class Pose:
    """From mm around the capitate to pixels (x right, y down, pixel centers at integers), before mirroring."""

    height: int
    width: int
    scale: float
    """Pixels a mm of the adult-sized hand."""
    turn: float
    """Degrees, clockwise in the picture."""
    shift: np.ndarray
    """[2]: pixel of the capitate."""
    field: np.ndarray
    """[4, 2]: corners of the collimated field in pixels."""

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """[..., 2] mm -> [..., 2] pixels."""
        return self.scale * points @ axes(self.turn) + self.shift


def axes(turn: float) -> np.ndarray:
    """[2, 2]: directions in the picture of the hand's x and y; y points up in the hand and down in the picture."""
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return np.array([[cosine, sine], [sine, -cosine]])


def draw_pose(rng: np.random.Generator, skeleton: Skeleton, length: float, size: int) -> Pose:
    """Place a hand of ``length`` mm in a picture whose long side is about ``size`` pixels.

    Small hands fill less of the picture, since fields are not made to measure: size remains a sign of age and sex.
    """
    turn = float(np.clip(rng.normal(0, TURN[0]), -TURN[1], TURN[1]))
    high = round(size * rng.uniform(0.9, 1.08))
    wide = round(high * rng.uniform(0.76, 0.92))
    height, width = (wide, high) if rng.random() < LANDSCAPE else (high, wide)
    low, top, wrist = extent(skeleton, turn)
    top[1] = max(top[1], wrist + rng.uniform(*ARM))
    fill = 0.97 * min((length / ADULT_LENGTH) ** 0.35, 1.0) * rng.uniform(0.86, 1.0)
    scale = fill * min(height / (top - low)[1], width / (top - low)[0])
    free = np.array([width, height]) - scale * (top - low)
    corner = free * (rng.uniform(0.25, 0.75), rng.uniform(0.4, 0.95))
    return Pose(height, width, float(scale), turn, corner - scale * low,
                _field(rng, corner, scale * (top - low), scale, (width, height)))


def field_mask(pose: Pose) -> np.ndarray:
    """Mask [height, width], uint8 0/1, of what the beam reaches."""
    mask = np.zeros((pose.height, pose.width), np.uint8)
    return cv2.fillConvexPoly(mask, np.rint(pose.field * 16).astype(np.int32), 1, shift=4)


def extent(skeleton: Skeleton, turn: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Upper left and lower right corner in mm of the hand turned by degrees, and how low its wrist is; y points down."""
    points = np.concatenate([*skeleton.joints.values(), skeleton.forearm[:1]]) @ axes(turn)
    return points.min(0) - MARGIN, points.max(0) + MARGIN, points[-1, 1]


def _field(rng: np.random.Generator, corner: np.ndarray, extent: np.ndarray, scale: float,
           picture: tuple[int, int]) -> np.ndarray:
    """A box around the hand, a little askew, or (in a quarter) the whole picture."""
    margin = scale * rng.uniform(2, 22, 4)
    tilt = np.radians(rng.normal(0, 2.5))
    if rng.random() < 0.25:
        return np.array([[-1, -1], [picture[0], -1], [picture[0], picture[1]], [-1, picture[1]]], float)
    low, high = -extent / 2 - margin[:2], extent / 2 + margin[2:]
    box = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return box @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]) + (corner + extent / 2)
