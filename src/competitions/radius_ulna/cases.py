"""One wrist on the report's page: the radiograph with boxes, phases and stages, both crops, the phases by every model."""

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from competitions.radius_ulna.index import BOX_COLUMNS
from competitions.radius_ulna.localizer import read
from competitions.radius_ulna.phases import ALL_TARGETS, BONES, LEARNED_PHASES, PHASES, TARGETS, phase_of
from competitions.radius_ulna.pictures import marked
from competitions.radius_ulna.report import findings_of
from competitions.radius_ulna.views import CROP
from radstack.core.paths import Paths
from radstack.images.dicom import Unreadable
from radstack.images.shards import Shards, shard_path
from radstack.recipes.competition import Cases
from radstack.report.blocks import Block, Picture, Plot
from radstack.report.cases import Case
from radstack.report.images import data_uri, drawn, sheet
from radstack.report.plots import COLORS, INK, figure, svg

if TYPE_CHECKING:  # half a second to import, and only the report needs it
    from matplotlib.axes import Axes

LONGEST = 880
"""Pixels of the longer side of an annotated radiograph."""
ENLARGED = 2.5
"""Of the crops, whose pixels are few."""
GAP = 3
"""Black pixels around a crop."""
HUES = dict(zip(PHASES["radius"], COLORS))
"""Of the phases, the same for both bones."""


def view(case: Case, cases: Cases | None, paths: Paths) -> list[Block]:
    """The blocks of one picture; what cannot be read, or needs the final model before it is there, is left out."""
    seen = crops(case.rows.iloc[0], paths)
    blocks = [radiograph(case, cases.final, paths), seen, phases(case, cases.final)] if cases else [seen]
    return [block for block in blocks if block]


def radiograph(case: Case, final: str, paths: Paths) -> Picture | None:
    """The radiograph with its boxes and what the model ``final`` says of it, beside the label."""
    row = case.rows.iloc[0]
    try:
        picture = read(paths.input / row["path"])
    except Unreadable:
        return None
    findings = findings_of(row, pd.Series(case.predicted[final][0], ALL_TARGETS))
    labels = tuple(label(row, bone) for bone in BONES) if case.labeled else ()
    by_hand = row.reindex(BOX_COLUMNS)  # pictures that nobody labeled come without
    made = marked(picture, replace(findings, labels=labels), str(row["id"]), by_hand.to_numpy(float).reshape(len(BONES), 4))
    dotted = ", dotted those drawn by hand" if by_hand.notna().any() else ""
    return Picture(data_uri(drawn(made, int(LONGEST / made.get_size_inches().max()))), f"Boxes as found{dotted}; at the "
                   f"right the likeliest phase of each bone{', its label,' * case.labeled} and the probability of each "
                   "stage.", wide=True)


def label(row: pd.Series, bone: str) -> str:
    """The label of a bone with its phase, e.g. ``R7 (peak)``; ``none`` for a bone without one."""
    held = row[list(TARGETS[bone])].to_numpy(float)
    if not np.isfinite(held).all():
        return "none"
    stage = TARGETS[bone][int(held.argmax())]
    return f"{stage} ({phase_of(bone, int(stage[1:]))})"


def crops(row: pd.Series, paths: Paths) -> Picture | None:
    """Both crops as the networks see them, by found boxes, and below by drawn ones where there are any."""
    if not shard_path(paths.cache, int(row["shard"])).exists():
        return None
    stored = Shards(paths.cache)(int(row["shard"]), int(row["slot"]))
    size = (round(CROP[1] * ENLARGED), round(CROP[0] * ENLARGED))
    by_hand = bool(row.reindex(BOX_COLUMNS).notna().all())
    shown = np.split(stored, stored.shape[1] // CROP[1], axis=1)[:len(BONES) * (1 + by_hand)]
    large = [np.pad(cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC), GAP) for crop in shown]
    below = "; below by the boxes drawn by hand" if by_hand else ""
    return Picture(data_uri(sheet(large, len(BONES))), f"Radius and ulna as the networks see them ({CROP[0]} x {CROP[1]} "
                   f"pixels each, the ulna always on one side), by the found boxes{below}.")


def phases(case: Case, final: str) -> Plot:
    """The probability of each phase by every model that answers the bone, as bars of length 1."""
    row = case.rows.iloc[0]
    made, axes = figure(5.2, 0.9 + 0.2 * len(case.predicted), across=len(BONES))
    models = [*(name for name in case.predicted if name != final), final]
    for ax, bone in zip(axes, BONES):
        columns = [ALL_TARGETS.index(name) for name in TARGETS[bone]]
        said = {name: case.predicted[name][0, columns] for name in models}
        said = {name: values for name, values in said.items() if np.isfinite(values).all()}
        _bars(ax, bone, said, label(row, bone) if case.labeled else "")
    return Plot(svg(made), "The phase by every model: each bar is split by the probabilities of the phases, in the order of "
                "growth.")


def _bars(ax: "Axes", bone: str, said: dict[str, np.ndarray], truth: str) -> None:
    """Stacked bars of the phases of ``said``: model -> probabilities of the bone's stages."""
    owner = [phase_of(bone, int(stage[1:])) for stage in TARGETS[bone]]
    left = np.zeros(len(said))
    for phase in LEARNED_PHASES[bone]:
        share = np.array([values[[name == phase for name in owner]].sum() for values in said.values()])
        ax.barh(list(said), share, left=left, height=0.75, color=HUES[phase], label=phase)
        left += share
    ax.set(xlim=(0, 1), ylim=(len(said) - 0.5, -0.5), xticks=(0, 0.5, 1))
    ax.set_title(f"{bone}, label {truth}" if truth else bone, color=INK, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, fontsize=7)
