"""A volume in the report's browser: its slices with the bones that were found, the age of each, and what shows it."""

import cv2
import numpy as np

from competitions.knee_age.localizer import MASKS
from competitions.knee_age.pictures import outlined, windowed
from competitions.knee_age.report import slice_model
from radstack.core.paths import Paths
from radstack.images.shards import Shards
from radstack.recipes.competition import Cases
from radstack.report.blocks import Block, Picture, Slices
from radstack.report.cases import Case
from radstack.report.images import data_uri, overlaid, sheet
from radstack.report.plots import COLORS, INK, curves, legend_above, svg

SIDE, LARGE = 224, 320
"""Of a slice in the stack, and of one that is shown alone, in pixels: a volume takes 0.2 MB."""
FAR = 1.5
"""Years from the label at which a slice counts as far off: twice the error of a slice in Pietz and Proeve 2018, 0.731."""
LABEL = COLORS[1]


def view(case: Case, cases: Cases, paths: Paths) -> list[Block]:
    """The central slices as a stack with the age that each network reads in them, and the middle one with Grad-CAM."""
    planes = [planes_of(Shards(paths.cache)(row.shard, row.slot)) for row in case.rows.itertuples()]
    return [_stack(case, cases, planes), *_middle(case, cases, paths, planes)]


def planes_of(cached: np.ndarray) -> np.ndarray:
    """A cached slice [side, 5 * side] as its picture and the maps of ``MASKS``, [5, side, side]."""
    return cached.reshape(len(cached), len(MASKS) + 1, len(cached)).transpose(1, 0, 2)


def _stack(case: Case, cases: Cases, planes: list[np.ndarray]) -> Slices:
    """All slices with outlines of the bones, and curves of age along them."""
    network = slice_model(cases)
    away = np.nan_to_num(np.abs(case.predicted[network][:, 0] - case.rows["age_years"].to_numpy()))
    frames = [outlined(one[0], one[1:], SIDE) for one in planes]
    across = min(len(frames), 6)
    marks = tuple("wrong" if years > FAR else "" for years in away)
    ends = (f"lines: the volume's combined age and its label. Dashed red: {network} is more than {FAR} years off in that "
            "slice.") if case.labeled else "line: the volume's combined age."
    caption = ("Central slices from the front to the back with what was found: femur orange, tibia blue, fibula green. "
               f"Curves: the age that each network reads in a slice, {network} with dots; {ends}")
    return Slices(data_uri(sheet(frames, across)), len(frames), across, tuple(_captions(case, cases, network)), marks,
                  _curves(case, cases, network), caption, int(away.argmax()) if case.labeled else len(frames) // 2)


def _captions(case: Case, cases: Cases, network: str) -> list[str]:
    """One line a slice: what its networks read in it, against the combined age and the label."""
    combined = _combined(case, cases)
    label = f", label {case.rows['age_years'].iloc[0]:.1f}" if case.labeled else ""
    return [f"Slice {place} (number {row.position} of the volume). {network} {years:.1f} years, {cases.final} of the whole "
            f"volume {combined:.1f}{label}.{f' Localization: {row.flag}.' if row.flag else ''}"
            for place, (row, years) in enumerate(zip(case.rows.itertuples(), case.predicted[network][:, 0]))]


def _combined(case: Case, cases: Cases) -> float:
    """The volume's age by the final model, years."""
    return float(np.nanmean(case.predicted[cases.final]))


def _curves(case: Case, cases: Cases, network: str) -> str:
    combined, label = _combined(case, cases), float(case.rows["age_years"].iloc[0])
    by_network = {one.name: case.predicted[one.name][:, 0] for one in cases.experiments}
    made, ax = curves(len(case.rows), by_network, 2.3, LABEL, dotted=network)
    ax.axhline(combined, color=INK, linewidth=2.2, label=f"{cases.final} {combined:.2f}")
    if case.labeled:
        ax.axhline(label, color=LABEL, linewidth=2.2, linestyle="--", label=f"label {label:.2f}")
    ax.set(ylabel="age, years", xlabel="slice, from the front")
    legend_above(ax)
    return svg(made)


def _middle(case: Case, cases: Cases, paths: Paths, planes: list[np.ndarray]) -> list[Picture]:
    """The middle slice plain, with its bones, and with what speaks for a greater age; nothing where that is not known."""
    from radstack.report.gradcam import best_network, heat

    place, network = len(planes) // 2, slice_model(cases)
    best = best_network([one for one in cases.experiments if one.name == network], paths, case.fold)
    warm = best and heat(best[0], ("age_years",), best[1], case.rows.reset_index(drop=True), place, "age_years",
                         Shards(paths.cache))
    if warm is None:
        return []
    picture, maps = windowed(planes[place][0], LARGE), planes[place][1:]
    panels = [cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), outlined(planes[place][0], maps, LARGE),
              overlaid(picture, cv2.resize(warm, (LARGE, LARGE)), 0.5)]
    return [Picture(data_uri(sheet(panels, 3)), f"Slice {place}, the middle one: plain, with the bones that were found, and "
                    f"with Grad-CAM: what {network} takes for a greater age; it reads "
                    f"{case.predicted[network][place, 0]:.1f} years here. Colors are relative to this slice.", wide=True)]
