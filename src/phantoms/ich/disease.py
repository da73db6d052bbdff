"""What an exam shows: a scenario from the joint law, and lesions with drawn places and sizes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from phantoms.ich.head import Head, on_table
from phantoms.ich.lesions import (
    NO_CLASS,
    Air,
    Clot,
    Epidural,
    Intraparenchymal,
    Intraventricular,
    Lesion,
    Sheet,
    Subarachnoid,
    Subdural,
    within,
)
from phantoms.solids import Grid, Point

UNIFORM = -9.0
"""Clot threshold at which all of it is clotted."""
ISODENSE, HYPERACUTE, ANEMIC, MIXED = 0.08, 0.08, 0.06, 0.35
"""Shares: subacute clots as dense as brain; clots with swirls; patients with thin blood; subdurals of two ages."""
SECTORS = {"frontal": (0.14, 0.90), "temporal": (0.90, 2.20), "occipital": (2.20, 3.00)}
"""Azimuths from the front, radians, between midline, coronal and lambdoid suture; the temporal one holds the parietal."""
Draw = Callable[[np.random.Generator, Head, bool], list[Lesion]]


@dataclass(frozen=True)
class Exam:
    """The findings of one study."""

    lesions: tuple[Lesion, ...]
    sinus: float
    """HU of the venous sinuses; a dense one (60-70) mimics blood."""
    streaks: bool
    """Whether beam hardening draws bright streaks between the petrous bones."""
    metal: bool
    """Whether a clip or tooth throws streaks."""


def draw_exam(rng: np.random.Generator, head: Head, parts: tuple[str, ...]) -> Exam:
    """Draw the lesions named by ``parts`` and the mimics: 25 % of the exams without blood have one on purpose."""
    anemic = bool(rng.random() < ANEMIC)
    lesions = tuple(lesion for part in parts for lesion in PARTS[part](rng, head, anemic))
    mimic = rng.random() < 0.25 and not any(lesion.target != NO_CLASS for lesion in lesions)
    dense = mimic and rng.random() < 0.5
    sinus = float(rng.uniform(60, 70) if dense else rng.uniform(42, 54))
    return Exam(lesions, sinus, streaks=bool(rng.random() < 0.3 or (mimic and not dense)), metal=bool(rng.random() < 0.03))


def draw_clot(rng: np.random.Generator, anemic: bool) -> Clot:
    """Acute N(65, 7) HU in 50-80, less in anemia; some isodense (30-40), some with fresh swirls (35-45)."""
    factor, kind = 0.75 if anemic else 1.0, rng.random()
    density = float(np.clip(rng.normal(65, 7), 50, 80)) * factor
    if kind < ISODENSE:
        return Clot(float(rng.uniform(30, 40)), 35.0, UNIFORM)
    if kind < ISODENSE + HYPERACUTE:
        return Clot(density, float(rng.uniform(35, 45)), float(rng.uniform(-0.5, 0.5)))
    return Clot(density, density, UNIFORM)


def _epidural(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    name = str(rng.choice(list(SECTORS), p=(0.15, 0.75, 0.10)))
    low, high = SECTORS[name]
    side, azimuth = float(rng.choice((-1, 1))), rng.uniform(low + 0.3 * (high - low), high - 0.3 * (high - low))
    direction = (side * float(np.sin(azimuth)), -float(np.cos(azimuth)), float(rng.uniform(-0.15, 0.45)))
    center = on_table(head, direction)
    borders = within(Grid.at(center), side, (low, high)).item()
    half = min(float(rng.uniform(15, 45)), borders + 4)
    thickness = float(np.clip(half * rng.uniform(0.35, 0.75), 6, 35))
    return [Epidural(draw_clot(rng, anemic), center, thickness, half, side, (low, high),
                     fracture=bool(rng.random() < 0.8), swelling=float(rng.uniform(2, 9)) * (rng.random() < 0.8))]


def _subdural(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    clot = draw_clot(rng, anemic)
    if rng.random() < MIXED:
        clot = Clot(clot.density, float(rng.uniform(15, 30)), float(rng.uniform(-0.8, 0.4)), counts=False)
    if rng.random() < 0.25:
        return [_sheet(rng, clot)]
    return [_crescent(rng, clot, float(np.exp(rng.uniform(np.log(2), np.log(20)))))]


def _crescent(rng: np.random.Generator, clot: Clot, thickness: float) -> Subdural:
    """A crescent of 60-180 degrees over 40-100 mm of height."""
    arc, half = float(np.radians(rng.uniform(30, 90))), float(rng.uniform(20, 50))
    return Subdural(clot, float(rng.choice((-1, 1))), float(rng.uniform(0.9, 2.2)), arc, float(rng.uniform(10, 45)), half,
                    thickness)


def _sheet(rng: np.random.Generator, clot: Clot) -> Sheet:
    """Along the falx, or on the tentorium."""
    side, thickness = float(rng.choice((-1, 1))), float(rng.uniform(2.5, 7))
    if rng.random() < 0.6:
        middle = (0.0, float(rng.choice((-50, 55))), float(rng.uniform(30, 50)))
        return Sheet(clot, side, True, middle, (1.0, float(rng.uniform(20, 35)), float(rng.uniform(15, 35))), thickness)
    middle = (side * float(rng.uniform(20, 40)), float(rng.uniform(40, 60)), 0.0)
    return Sheet(clot, side, False, middle, (float(rng.uniform(15, 25)), float(rng.uniform(15, 25)), 1.0), thickness)


def _traumatic(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    azimuth, side = rng.uniform(0.3, 2.8), float(rng.choice((-1, 1)))
    direction = (side * float(np.sin(azimuth)), -float(np.cos(azimuth)), float(rng.uniform(-0.1, 0.8)))
    return [Subarachnoid(_thin(rng, anemic), False, on_table(head, direction), float(rng.uniform(15, 42)),
                         float(rng.uniform(0.6, 1.8)), float(rng.uniform(-1.3, 0.5)))]


def _aneurysm(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    center = (float(rng.choice((-1, 0, 1))) * 22.0, float(rng.uniform(-20, 0)), float(rng.uniform(-5, 5)))
    return [Subarachnoid(_thin(rng, anemic), True, center, float(rng.uniform(22, 60)), float(rng.uniform(0.3, 1.6)),
                         float(rng.uniform(-1.3, 0.5)))]


def _thin(rng: np.random.Generator, anemic: bool) -> Clot:
    """Blood mixed with fluid: 45-65 HU."""
    density = float(rng.uniform(45, 65)) * (0.75 if anemic else 1.0)
    return Clot(density, density, UNIFORM)


def _ventricles(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    if rng.random() < 0.45:
        return [Intraventricular(draw_clot(rng, anemic), float(rng.uniform(18, 40)), (-90.0, 90.0), UNIFORM)]
    sides = ((-90.0, -3.0), (3.0, 90.0), (-90.0, 90.0))[int(rng.integers(3))]
    return [Intraventricular(draw_clot(rng, anemic), -90.0, sides, float(rng.uniform(-2.5, -0.3)))]


def _deep(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    if rng.random() < 0.15:
        x, y, z = rng.uniform((-30, 32, -34), (30, 56, -16))
    else:
        x, y, z = rng.uniform((9, -20, 2), (34, 14, 18)) * (float(rng.choice((-1, 1))), 1, 1)
    return [_hematoma(rng, (float(x), float(y), float(z)), anemic, largest=50)]


def _lobar(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    azimuth, side = rng.uniform(0.2, 2.9), float(rng.choice((-1, 1)))
    edge = on_table(head, (side * float(np.sin(azimuth)), -float(np.cos(azimuth)), float(rng.uniform(0, 0.8))))
    share = float(rng.uniform(0.6, 0.85))
    return [_hematoma(rng, (edge[0] * share, edge[1] * share, 12 + (edge[2] - 12) * share), anemic, largest=60)]


def _hematoma(rng: np.random.Generator, center: Point, anemic: bool, largest: float) -> Intraparenchymal:
    """One to three blobs of 10 mm to ``largest`` mm across, small ones more often."""
    count = int(rng.choice((1, 2, 3), p=(0.5, 0.3, 0.2)))
    half = float(np.exp(rng.uniform(np.log(5), np.log(largest / 2))))
    centers, axes = [center], [_axes(rng, half)]
    for _ in range(count - 1):
        x, y, z = np.asarray(center) + rng.normal(0, half + 6, 3)
        centers.append((float(x), float(y), float(z)))
        axes.append(_axes(rng, max(4.0, half * rng.uniform(0.4, 0.9))))
    return Intraparenchymal(draw_clot(rng, anemic), tuple(centers), tuple(axes), ragged=0.15 * half,
                            rim=float(rng.uniform(3, 6 + 0.3 * half)))


def _axes(rng: np.random.Generator, half: float) -> Point:
    x, y, z = half * rng.uniform(0.75, 1.25, 3)
    return float(x), float(y), float(z)


def _chronic(rng: np.random.Generator, head: Head, anemic: bool) -> list[Lesion]:
    old = float(rng.uniform(9, 25))
    return [replace(_crescent(rng, Clot(old, old, UNIFORM), float(rng.uniform(4, 16))), target=NO_CLASS)]


PARTS: dict[str, Draw] = {
    "edh": _epidural, "sdh": _subdural, "sah": _traumatic, "aneurysm": _aneurysm, "ivh": _ventricles,
    "deep": _deep, "lobar": _lobar, "chronic": _chronic,
    "air": lambda rng, head, anemic: [Air(float(rng.uniform(3, 8)))],
}
"""Name of a finding -> its draw."""
