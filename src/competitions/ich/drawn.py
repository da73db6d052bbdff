"""Hemorrhages drawn on healthy slices: what a network starts from that will meet few real ones.

Of some dozens of patients each type has a handful. Drawn ones are as many as wanted, of every size and at every place, on
the training patients' own healthy slices. They follow what is taught of each type: fresh blood has 50 to 80 HU; an epidural
collection is a lens against the skull, a subdural one a crescent, thinner and longer, that may be old and dark; blood in
the brain is a blotch with a darker rim; ventricles and the spaces around the brain fill up and turn from dark to bright.
The ranges were set by eye, on some forty slices, and none by a score. What such a network knows of real heads is measured
in ``benchmarks/real.md``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from radstack.core.errors import UserError
from radstack.images.views import SlicesReader

BONE, SOFT = 85, (-15, 85)
"""HU from which a pixel is bone, and between which blood may cover it."""

LEAST_INSIDE = 0.06
"""Share of the picture that the inside of the skull must have, else nothing is drawn: slices of the base, of the vertex."""

SIDE = 128
"""Lengths below are pixels of a picture of this side, cut to the head: about 1.6 mm."""


class Brain(NamedTuple):
    """What lies inside the skull of a slice; arrays [side, side]."""

    inside: np.ndarray  # uint8, 0 or 1
    depth: np.ndarray  # float32, distance to the skull, in pixels
    smooth: np.ndarray  # float32, HU without noise
    y: np.ndarray
    x: np.ndarray
    unit: float  # Pixels of this picture in one of :data:`SIDE`

    def noise(self, rng: np.random.Generator, scale: float) -> np.ndarray:
        """Smooth noise of deviation about 1, float32 [side, side]; ``scale`` is the distance of its knots."""
        side = len(self.inside)
        knots = max(2, round(side / (scale * self.unit)))
        return cv2.resize(rng.normal(size=(knots, knots)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)


class Blood(NamedTuple):
    """A hemorrhage before it is drawn; arrays [side, side]."""

    kind: str
    cover: np.ndarray  # float32, 0 to 1
    level: np.ndarray  # float32, HU
    edema: np.ndarray  # float32, HU that the brain around it lost


class Shape(NamedTuple):
    """What one kind's function answers with."""

    mask: np.ndarray  # float32, 0 to 1
    level: float  # HU
    edema: np.ndarray | None = None


@dataclass(frozen=True)
class DrawnHemorrhages:
    """The recipe: one hemorrhage, of a type by chance, on a share of the training slices that have none."""

    share: float = 0.6
    """Of them; where the skull is open or small, none is drawn, which is so in a third."""

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 < self.share <= 1:
            raise UserError(f"drawn.share is {self.share}; take a share above 0, up to 1")

    @property
    def code_at(self) -> str:
        """Where the code stands, for :func:`radstack.core.code.code_of`."""
        return "competitions.ich.drawn:paint"

    def painter(self, reader: object, targets: tuple[str, ...]) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """``(row, picture, label, seed) -> (picture, label)``, for a network that predicts ``targets``.

        A UserError for a view that has no slices, or a network that does not predict all types.
        """
        if not isinstance(reader, SlicesReader):
            raise UserError("hemorrhages are drawn on slices; take a view of slices, or drawn=None")
        if missing := {*SHAPES, "any"} - set(targets):
            raise UserError(f"hemorrhages of all types are drawn, and targets has no {min(missing)}; leave targets empty")
        return partial(paint, self.share, reader, targets)


def paint(share: float, reader: SlicesReader, targets: tuple[str, ...], row: int, picture: np.ndarray, label: np.ndarray,
          seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw on ``picture`` of ``row`` by chance, and say so in ``label`` [targets]; both as they are where not.

    Neighbors in the picture have as much of it as chance says.
    """
    rng = np.random.default_rng((seed, 1))
    if rng.random() >= share or np.nan_to_num(label, nan=1).any():
        return picture, label
    blood = hemorrhage(reader.slice(row), rng)
    if blood is None:
        return picture, label
    above, below = np.clip(rng.uniform(-0.3, 1.2, 2), 0, 1)
    label = label.copy()
    label[[targets.index(blood.kind), targets.index("any")]] = 1
    return reader.picture(row, lambda hu, offset: draw(hu, blood, above if offset < 0 else below if offset else 1.0)), label


def draw(hu: np.ndarray, blood: Blood, share: float = 1.0) -> np.ndarray:
    """Draw ``blood``, or a share of it, on a slice: HU int16 [side, side] -> the same. Bone and air are left as they are."""
    values = hu.astype(np.float32)
    grain = np.clip(values - cv2.GaussianBlur(values, (0, 0), len(hu) / SIDE), -6, 6)
    soft = share * ((hu > SOFT[0]) & (hu < SOFT[1]))
    cover = blood.cover * soft
    drawn = (values - blood.edema * soft) * (1 - cover) + cover * (blood.level + 0.8 * grain)
    return np.rint(drawn).astype(np.int16)


def hemorrhage(hu: np.ndarray, rng: np.random.Generator, kind: str = "") -> Blood | None:
    """One hemorrhage for a slice, HU int16 [side, side], of ``kind`` or of any; None where none can be drawn.

    A kind that finds no place in this slice (there is no ventricle) makes room for blood in the brain.
    """
    brain = brain_of(hu)
    if brain is None:
        return None
    kind = kind or tuple(SHAPES)[rng.integers(len(SHAPES))]
    shape = SHAPES[kind](brain, rng)
    if shape is None:
        kind, shape = "intraparenchymal", _blotch(brain, rng)
    unit = brain.unit
    if (shape.mask * brain.inside).sum() < 8 * unit**2:
        return None
    cover = cv2.GaussianBlur(shape.mask, (0, 0), rng.uniform(0.5, 0.9) * unit) * rng.uniform(0.85, 1) * brain.inside
    level = shape.level + rng.uniform(1, 5) * brain.noise(rng, 6)
    edema = np.zeros_like(cover) if shape.edema is None else shape.edema * brain.inside
    return Blood(kind, cover, level, edema)


def brain_of(hu: np.ndarray) -> Brain | None:
    """What a closed ring of bone surrounds; None where there is none."""
    side = len(hu)
    bone = _largest((hu >= BONE).astype(np.uint8), 8)
    ring = cv2.morphologyEx(bone, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    around = cv2.copyMakeBorder(ring, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(around, None, (0, 0), 2)
    inside = _largest(((around[1:-1, 1:-1] == 0) & (hu < BONE)).astype(np.uint8), 4)
    if inside.sum() < LEAST_INSIDE * side**2:
        return None
    y, x = np.mgrid[:side, :side].astype(np.float32)
    unit = side / SIDE
    smooth = cv2.GaussianBlur(hu.astype(np.float32), (0, 0), 1.2 * unit)
    return Brain(inside, cv2.distanceTransform(inside, cv2.DIST_L2, 5), smooth, y, x, unit)


def _largest(mask: np.ndarray, neighbors: int) -> np.ndarray:
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=neighbors)
    return (parts == 1 + np.argmax(facts[1:, cv2.CC_STAT_AREA])).astype(np.uint8) if count > 1 else np.zeros_like(mask)


def _place(where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the pixels of a mask, y and x."""
    found = np.argwhere(where)
    return found[rng.integers(len(found))]


def _lens(brain: Brain, rng: np.random.Generator) -> Shape:
    thick = rng.uniform(3, 15) * brain.unit
    return Shape(_against_skull(brain, rng, thick, thick * rng.uniform(1.1, 2.2) + 3 * brain.unit, 2), rng.uniform(52, 78))


def _crescent(brain: Brain, rng: np.random.Generator) -> Shape:
    thick = rng.uniform(2, 9) * brain.unit
    half = min(max(thick * rng.uniform(3, 8), 16 * brain.unit), 1.35 * _radius(brain))
    level = rng.choice((rng.uniform(52, 78), rng.uniform(38, 55), rng.uniform(12, 26)), p=(0.62, 0.3, 0.08))
    return Shape(_against_skull(brain, rng, thick, half, rng.uniform(2.5, 6)), float(level))


def _radius(brain: Brain) -> float:
    return float(np.sqrt(brain.inside.sum() / np.pi))


def _against_skull(brain: Brain, rng: np.random.Generator, thick: float, half: float, power: float) -> np.ndarray:
    """``thick`` at its middle, at a random angle, down to nothing ``half`` further along the skull on both sides."""
    ys, xs = np.nonzero(brain.inside)
    angle = np.arctan2(brain.y - ys.mean(), brain.x - xs.mean()) - rng.uniform(-np.pi, np.pi)
    along = ((angle + np.pi) % (2 * np.pi) - np.pi) * _radius(brain)
    profile = np.maximum(1 - np.abs(along / half) ** power, 0) * thick * (1 + 0.12 * brain.noise(rng, 14))
    # Bone belongs to it, so that its edge against the skull stays bright when it is smoothed.
    return ((brain.depth <= profile) & (profile > 0.5)).astype(np.float32)


def _blotch(brain: Brain, rng: np.random.Generator) -> Shape:
    unit, deepest = brain.unit, brain.depth.max()
    radius = float(np.clip(rng.lognormal(np.log(6), 0.55), 2.2, 17)) * unit
    y, x = _place(brain.depth > min(0.7 * radius, 0.6 * deepest), rng)
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.55, 1)
    dx, dy = brain.x - x, brain.y - y
    along, across = dx * np.cos(turn) + dy * np.sin(turn), (dy * np.cos(turn) - dx * np.sin(turn)) / flat
    field = 1 - np.hypot(along, across) / radius + 0.35 * brain.noise(rng, max(3.0, 0.8 * radius / unit))
    edema = None
    if rng.random() < 0.7:
        swollen = (field > -rng.uniform(0.2, 0.7)).astype(np.float32) * brain.inside
        edema = cv2.GaussianBlur(swollen, (0, 0), 1.5 * unit) * rng.uniform(4, 14)
    level = rng.uniform(42, 55) if rng.random() < 0.2 else rng.uniform(52, 78)
    return Shape(((field > 0) & (brain.inside > 0)).astype(np.float32), level, edema)


def _in_ventricles(brain: Brain, rng: np.random.Generator) -> Shape | None:
    """Dark spaces deep inside, whole or the lower part of each, since blood settles in a patient who lies."""
    dark = (brain.smooth < 22) & (brain.depth > 0.35 * brain.depth.max())
    opened = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    count, parts, facts, _ = cv2.connectedComponentsWithStats(opened)
    large = [part for part in range(1, count) if facts[part, cv2.CC_STAT_AREA] >= 12 * brain.unit**2]
    if not large:
        return None
    mask = np.zeros(parts.shape, np.uint8)
    for part in [one for one in large if rng.random() < 0.6] or [large[rng.integers(len(large))]]:
        filled = parts == part
        if rng.random() < 0.5:
            rows = np.flatnonzero(filled.any(axis=1))
            filled &= brain.y >= rng.uniform(rows[0], rows[-1])
        mask |= filled
    grown = cv2.dilate(mask, np.ones((2, 2), np.uint8)) * brain.inside
    return Shape(grown.astype(np.float32), rng.uniform(52, 78))


def _in_sulci(brain: Brain, rng: np.random.Generator) -> Shape | None:
    """Dark furrows and cisterns near one place, and the brain's rim there; ventricles hardly."""
    unit = brain.unit
    y, x = _place(brain.inside > 0, rng)
    if rng.random() < 0.4:  # the cisterns, around the middle
        ys, xs = np.nonzero(brain.inside)
        y, x = ys.mean() + rng.normal(0, 6) * unit, xs.mean() + rng.normal(0, 6) * unit
    reach = rng.uniform(7, 24) * unit
    near = np.exp(-((brain.x - x) ** 2 + (brain.y - y) ** 2) / (2 * reach**2))
    dark = 1 / (1 + np.exp(np.clip((brain.smooth - rng.uniform(20, 27)) / 2.5, -30, 30)))
    dark *= np.where(brain.depth > 0.55 * brain.depth.max(), 0.3, 1) * brain.inside
    rim = (brain.depth > 0) & (brain.depth < rng.uniform(1.5, 3) * unit) & (brain.noise(rng, 6) > 0.3)
    mask = np.clip(1.2 * dark + 0.8 * rim, 0, 1) * np.clip(2 * near, 0, 1) * np.clip(0.4 * brain.noise(rng, 9) + 1, 0, 1)
    return Shape(mask.astype(np.float32), rng.uniform(50, 72)) if mask.sum() >= 40 * unit**2 else None


SHAPES: dict[str, Callable[[Brain, np.random.Generator], Shape | None]] = {
    "epidural": _lens,
    "intraparenchymal": _blotch,
    "intraventricular": _in_ventricles,
    "subarachnoid": _in_sulci,
    "subdural": _crescent,
}
"""By the name of the target."""
