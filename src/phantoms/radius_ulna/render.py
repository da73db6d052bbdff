"""One picture: how the hand lies in it, the hand of the bone-age phantom, and the ends of radius and ulna drawn finely."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from competitions.radius_ulna.phases import BONES
from phantoms.bone_age.anatomy import ADULT_LENGTH, Lying, Pose, Skeleton, extent, lay
from phantoms.bone_age.render import Hand, draw_exposure, draw_hand, expose
from phantoms.radius_ulna.ends import DRAWN, METAPHYSIS, look_at
from phantoms.radius_ulna.law import Child, person_at

REFERENCE = 1302.0
"""Long side of an upright picture, to which ``size`` belongs."""
UPRIGHT, ACROSS = (1302, 989), (900, 1400)
"""Height and width of the clinic's pictures."""
LANDSCAPE, WHOLE_FIELD, MIRRORED, CAST = 0.25, 0.5, 0.08, 0.01
"""Shares of pictures that are wider than high, have no collimation, show a right hand, and a wrist in plaster."""
TURN = 12.0
"""Greatest turn in degrees to either side."""
SCALE = 0.88, 1.08
"""Share of the picture that an adult's hand would fill, at most all of it: +-10 %."""
ARM = 46.0, 62.0
"""Visible forearm in mm below the wrist."""
CUT, CUT_ARM = 0.05, (16.0, 26.0)
"""Share of pictures that end just below the wrist, and where."""
FINE = 7.0
"""Samples a mm at which the ends are drawn, at least; 3 to 4 a pixel of the demo's pictures."""
SEEN, PLASTER = 0.6, 20.0
"""mm of compact bone that count as bone in a box; mm of soft tissue that a cast attenuates like."""
WINDOW = (-12.0, 96.0, 20.0)
"""From where to where up the forearm, and how far to the sides, a bone is drawn, in mm."""
AWAY = np.array([0.0, 1e5])
"""Place beyond any picture, in mm, for the other phantom's own forearm."""


def draw_place(rng: np.random.Generator, skeleton: Skeleton, length: float, size: int) -> Pose:
    """Place a hand whose length is the share ``length`` of an adult's in a picture with a long side of about ``size``."""
    height, width = (round(side * size / REFERENCE) for side in (ACROSS if rng.random() < LANDSCAPE else UPRIGHT))
    turn = float(rng.uniform(-TURN, TURN))
    cut = rng.random() < CUT
    low, top, wrist = extent(skeleton, turn)
    top[1] = wrist + float(rng.uniform(*(CUT_ARM if cut else ARM)))
    fill = min(rng.uniform(*SCALE) * length**0.25, 1.0)
    scale = float(fill * min(height / (top - low)[1], width / (top - low)[0]))
    free = np.array([width, height]) - scale * (top - low)
    corner = free * (rng.uniform(0.3, 0.7), 1.0 if cut else rng.uniform(0.4, 0.8))
    if cut or rng.random() < WHOLE_FIELD:
        x1, y1, x2, y2 = -1, -1, width, height
    else:  # a box around the hand that leaves the visible forearm inside
        x1, y1, x2, y2 = (*corner, *(corner + scale * (top - low))) + scale * rng.uniform(1, 15, 4) * (-1, -1, 1, 1)
    field = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float)
    return Pose(height, width, scale, turn, corner - scale * low, field)


@dataclass(frozen=True)
class Drawn:
    """A picture and what the truth keeps of it."""

    picture: np.ndarray
    """Gray levels [height, width], uint8."""
    boxes: np.ndarray
    """[2, 4]: x1, y1, x2, y2 in pixels of radius and ulna; widths are x2 - x1."""
    mirrored: bool
    cast: bool


def draw_picture(seed: int, number: int, child: Child, visit: int, size: int) -> Drawn:
    """Draw picture ``number`` of ``seed``: ``child`` at a visit, about ``size`` pixels long."""
    rng = np.random.default_rng((seed, 2, number))
    skeleton = lay(np.random.default_rng((seed, 1, child.number)))
    person = person_at(child, visit)
    pose = draw_place(rng, skeleton, person.length / ADULT_LENGTH, size)
    mirrored, cast = rng.random(2) < (MIRRORED, CAST)
    exposure = replace(draw_exposure(rng), mirrored=bool(mirrored), inverted=False, ringed=False, deep=False, colored=False)
    gone = {bone: replace(skeleton.bones[bone], start=AWAY) for bone in BONES}
    hand = draw_hand(person, replace(skeleton, bones=skeleton.bones | gone), pose)
    boxes = np.array([add_end(hand.bone, pose, skeleton.bones[bone], bone, child, visit) for bone in BONES])
    if cast:
        add_cast(rng, hand, skeleton, pose)
    levels = expose(rng, hand, skeleton, pose, exposure)
    if mirrored:
        boxes[:, [0, 2]] = pose.width - boxes[:, [2, 0]]
    return Drawn(np.rint(255 * levels).astype(np.uint8), boxes, bool(mirrored), bool(cast))


def add_end(picture: np.ndarray, pose: Pose, lying: Lying, bone: str, child: Child, visit: int) -> np.ndarray:
    """Add a bone to ``picture`` [height, width] in place; return its tight box [4] of epiphysis and 25 mm of metaphysis."""
    (left, top, right, bottom), fine = _window(pose, lying)
    start = pose.to_pixels(lying.start)
    along = ((pose.to_pixels(lying.start + lying.along) - start) / pose.scale).astype(np.float32)
    places = (((np.arange(fine * (last - first)) + 0.5) / fine - 0.5 + first - origin).astype(np.float32)
              for first, last, origin in ((left, right, start[0]), (top, bottom, start[1])))  # pixel centers are integers
    x, y = (place / np.float32(pose.scale) for place in places)
    y = y[:, None]
    u, v = x * along[0] + y * along[1], y * along[0] - x * along[1]
    thickness, reach = end_at(bone, getattr(child, bone)[visit], child, u, v)
    picture[top:bottom, left:right] += cv2.resize(thickness, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    boxed = (thickness > SEEN) & (u < reach + METAPHYSIS)
    rows, columns = (np.flatnonzero(boxed.any(axis)) for axis in (1, 0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / fine
    return box + (left, top, left, top)


def end_at(bone: str, maturity: float, child: Child, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, float]:
    """Thickness of ``bone`` in mm at ``u``, ``v`` (mm, same shape), and the u in mm where its metaphysis begins."""
    look = look_at(bone, maturity)
    return DRAWN[bone](u, v, look, child.shapes[bone], child.robust), look.height + look.gap


def _window(pose: Pose, lying: Lying) -> tuple[tuple[int, int, int, int], int]:
    """Pixels left, top, right, bottom of the picture that a bone may cover, and the samples along a pixel's side."""
    across = np.array([-lying.along[1], lying.along[0]])
    corners = pose.to_pixels(np.array([lying.start + u * lying.along + side * WINDOW[2] * across
                                       for u in WINDOW[:2] for side in (-1, 1)]))
    left, top = np.clip(np.floor(corners.min(0)), 0, None).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)), (pose.width, pose.height)).astype(int)
    return (int(left), int(top), int(right), int(bottom)), max(int(np.ceil(FINE / pose.scale)), 1)


def add_cast(rng: np.random.Generator, hand: Hand, skeleton: Skeleton, pose: Pose) -> None:
    """Plaster from the knuckles down, with the folds of its bandage, in place."""
    wrist, elbow = skeleton.forearm
    arm = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    side = np.array([arm[1], -arm[0]])
    knuckles = wrist + 45 * arm
    corners = np.array([knuckles - 42 * side, knuckles + 42 * side, elbow + 42 * side, elbow - 42 * side])
    mask = np.zeros((pose.height, pose.width), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(pose.to_pixels(corners)).astype(np.int32), 1)
    rows = np.arange(pose.height, dtype=np.float32)[:, None] / np.float32(pose.scale)
    columns = np.arange(pose.width, dtype=np.float32) / np.float32(pose.scale)
    folds = 1 + 0.25 * np.sin(0.55 * rows + 0.25 * columns + rng.uniform(0, 6)) + 0.15 * np.sin(0.8 * rows - 0.3 * columns)
    hand.soft[:] += PLASTER * cv2.GaussianBlur(mask * np.float32(1), (0, 0), max(pose.scale, 0.5)) * folds
