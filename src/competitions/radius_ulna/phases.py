"""Stages of the distal radius and ulna, the phases of growth they belong to, and what a pair of phases means for a brace.

Stages: Luk et al. 2014 (distal radius and ulna classification), R1..R11 and U1..U9; phases: the HKU-Shenzhen study.
"""

import re

import numpy as np
import pandas as pd

from radstack.core.errors import UserError

BONES = ("radius", "ulna")
PHASES: dict[str, dict[str, tuple[int, ...]]] = {
    "radius": {"pre": (1, 2, 3, 4, 5, 6), "peak": (7,), "stagnation": (8, 9), "mature": (10, 11)},
    "ulna": {"pre": (1, 2, 3), "peak": (4, 5), "stagnation": (6, 7), "mature": (8, 9)},
}
"""Bone -> phase -> its stages, in the order of growth."""
LETTER = {"radius": "R", "ulna": "U"}
"""First letter of a bone's stages."""
LEARNED = {"radius": tuple(range(5, 12)), "ulna": tuple(range(4, 10))}
"""Stages that occur in the HKU-Shenzhen pictures. There are none of R1..R4 and U1..U3, so that no network can learn them."""
TARGETS = {bone: tuple(f"{LETTER[bone]}{stage}" for stage in stages) for bone, stages in LEARNED.items()}
"""Bone -> its target columns, R5..R11 and U4..U9."""
ALL_TARGETS = (*TARGETS["radius"], *TARGETS["ulna"])
"""All thirteen, the radius first."""
LEARNED_PHASES = {bone: tuple(phase for phase, stages in phases.items() if set(stages) & set(LEARNED[bone]))
                  for bone, phases in PHASES.items()}
"""Bone -> the phases that can be told: four of the radius; three of the ulna, which has no stage before the peak."""
PHASE_COLUMNS = tuple(f"{bone}_{phase}" for bone, phases in LEARNED_PHASES.items() for phase in phases)
"""``radius_pre`` .. ``ulna_mature``: seven."""
SUMS = np.array([[float(bone == owner and stage in stages)
                  for owner, phases in PHASES.items() for phase, stages in phases.items() if phase in LEARNED_PHASES[owner]]
                 for bone in LEARNED for stage in LEARNED[bone]])  # fmt: skip
"""Stages to phases, float64 [13, 7]: 1 where the stage belongs to the phase."""

APART = "the phases of the two bones are two or more apart, which is rare: have the picture read again"
BEFORE = "before the peak of growth: no brace yet, look again at the next visit"
HINTS = {
    ("peak", "peak"): "both bones are at the peak of growth: start bracing",
    ("mature", "mature"): "both bones are mature, growth has ended: decide about fusion surgery",
    ("pre", "pre"): BEFORE,
    ("pre", "peak"): BEFORE,
    ("peak", "pre"): "the radius alone is at the peak of growth: bracing starts when the ulna is, look again soon",
    ("peak", "stagnation"): "the radius is still at the peak of growth: a brace stays until the radius stagnates",
    ("mature", "stagnation"): "past the need for a brace; decide about fusion surgery once the ulna is mature, too",
} | {("stagnation", ulna): "the radius stagnates, growth slows: stop bracing" for ulna in PHASES["ulna"]}
"""(phase of the radius, of the ulna) -> hint. The HKU-Shenzhen study has three rules: both at the peak, the radius stagnates
(whatever the ulna does), both mature. The others only say what those three leave open."""


def stage_number(bone: str, text: str) -> int:
    """``R7`` (or ``r 7``, or the number alone) as 7, by the scale of ``bone``; 0 for anything that is no stage of it."""
    found = re.fullmatch(rf"{LETTER[bone]}?\s*0*(\d+)(?:\.0)?", text.strip(), re.IGNORECASE)
    stage = int(found[1]) if found else 0
    return stage if any(stage in stages for stages in PHASES[bone].values()) else 0


def phase_of(bone: str, stage: int) -> str:
    """The phase a stage belongs to, e.g. 7 of the radius: ``peak``; a UserError where the bone has no such stage."""
    phase = next((phase for phase, stages in PHASES[bone].items() if stage in stages), None)
    if phase is None:
        last = max(PHASES[bone]["mature"])
        raise UserError(f"{LETTER[bone]}{stage} is no stage; the {bone} has {LETTER[bone]}1 to {LETTER[bone]}{last}")
    return phase


def one_hot(bone: str, stages: np.ndarray) -> np.ndarray:
    """Stage numbers [rows] as float64 [rows, stages of ``LEARNED``]; NaN where the number is not positive (no label)."""
    stages = np.asarray(stages)
    hot = (stages[:, None] == np.array(LEARNED[bone])).astype(np.float64)
    hot[stages <= 0] = np.nan
    return hot


def phase_probabilities(stages: np.ndarray) -> np.ndarray:
    """Sum the stages of each phase: [rows, 13] of ``ALL_TARGETS`` (else a UserError) -> float64 [rows, 7] of phases."""
    stages = np.asarray(stages, dtype=np.float64)
    if stages.ndim != 2 or stages.shape[1] != len(SUMS):
        raise UserError(f"stage probabilities of shape {stages.shape}: give one column each for {', '.join(ALL_TARGETS)}")
    return stages @ SUMS


def most_probable(phases: np.ndarray) -> pd.DataFrame:
    """Probabilities [rows, 7] of ``PHASE_COLUMNS`` -> ``radius_phase``, ``ulna_phase``: each bone's most probable phase.

    "" for a bone that no model answers (NaN).
    """
    parts = dict(zip(LEARNED_PHASES, np.split(phases, [len(LEARNED_PHASES["radius"])], axis=1)))
    return pd.DataFrame({f"{bone}_phase": np.where(np.isfinite(part).all(axis=1), np.array(LEARNED_PHASES[bone])[
        part.argmax(axis=1)], "") for bone, part in parts.items()}, dtype="str")


def hint(radius: str, ulna: str) -> str:
    """What a pair of phases means for a child with scoliosis (``HINTS``); "" where one is not known ("").

    A UserError for a name that is no phase.
    """
    if not radius or not ulna:
        return ""
    for bone, phase in (("radius", radius), ("ulna", ulna)):
        if phase not in PHASES[bone]:
            raise UserError(f"{phase!r} is no phase of the {bone}; take one of {', '.join(PHASES[bone])}")
    return HINTS.get((radius, ulna), APART)
