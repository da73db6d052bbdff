"""One hand on the report's page: registered with what each region says, what localization found, the age by every model."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from competitions.bone_age.localizer import FINE, found_mask
from competitions.bone_age.pictures import NAMES, found, hand
from competitions.bone_age.report import half_widths, region_ages
from radstack.core.paths import Paths
from radstack.images.dicom import Unreadable
from radstack.images.radiograph import read
from radstack.images.shards import Shards, shard_path
from radstack.recipes.competition import Cases
from radstack.report.blocks import Block, Picture, Plot
from radstack.report.cases import Case
from radstack.report.images import data_uri, drawn, fitted
from radstack.report.plots import COLORS, INK, SOFT, figure, svg

if TYPE_CHECKING:  # half a second to import, and only the report needs it
    from matplotlib.axes import Axes

SMALL = 480
"""Pixels of the longer side of a radiograph as it was filed."""
HUES = {"A": COLORS[2], "B": COLORS[1], "C": COLORS[0], "D": COLORS[4]}
"""Of the regions, as their boxes have them; what pools regions has the next color."""
ALONE = ("_male", "_female")
"""How networks of one sex end; the child's own one is in the model ``<name>_own``."""


def view(case: Case, cases: Cases | None, paths: Paths) -> list[Block]:
    """The blocks of one hand; what cannot be read, or needs the final model before it is there, is left out."""
    row = case.rows.iloc[0]
    if cases is None:
        return [block for block in (localized(row, paths),) if block]
    ages = {name: float(predicted[0, 0]) for name, predicted in case.predicted.items() if np.isfinite(predicted[0, 0])}
    tables = {name: pd.DataFrame({"id": [row["id"]], "boneage": [age]}) for name, age in ages.items()}
    regions = region_ages(cases, tables, case.rows).set_index("id").reindex([row["id"]]).iloc[0].to_dict()
    half = half_widths(cases).get(int(row["male"]), float("nan"))
    blocks = [registered(row, regions, (ages[cases.final], half), paths), dots(row, ages, cases.final, half),
              localized(row, paths)]
    return [block for block in blocks if block]


def registered(row: pd.Series, regions: dict[str, float], answer: tuple[float, float], paths: Paths) -> Picture | None:
    """The hand as the networks see it with each region's age; ``answer``: the age and half its interval's width, months."""
    if not shard_path(paths.cache, int(row["shard"])).exists():
        return None
    age, half = answer
    made = hand(Shards(paths.cache)(int(row["shard"]), int(row["slot"])), regions,
                (age, max(age - half, 0.0), age + half), sex="male" if row["male"] == 1 else "female",
                truth=float(row["boneage"]) if np.isfinite(row["boneage"]) else None, flags=row["flag"])
    what = "The registered hand" if row["registered"] else "The hand as it was filed, in the frame of registered ones"
    interval = " with its 90 % interval" if np.isfinite(half) else ""
    return Picture(data_uri(drawn(made)), f"{what}. Each box is a region with the age that its networks give; "
                   f"at the right the answer{interval}, and how far each region's age is from it.")


def localized(row: pd.Series, paths: Paths) -> Picture | None:
    """The radiograph as it was filed, small, with the three landmarks and the outline of the mask."""
    try:
        raw = read(paths.input / row["path"])
    except Unreadable:
        return None
    small, outline = fitted(raw, SMALL), None
    if shard_path(paths.cache / "maps", int(row["map_shard"])).exists():
        mask = found_mask(paths, row).astype(np.float32)
        outline = cv2.resize(mask, small.shape[::-1], interpolation=cv2.INTER_AREA)
    points = row[[f"raw_{name}" for name in FINE]].to_numpy(float).reshape(-1, 2) * small.shape[0] / raw.shape[0]
    turned = " It was mirrored." if row["mirrored"] else ""
    inverted = " Its gray levels were inverted." if row["inverted"] else ""
    marks = (", with the hand's outline and the landmarks by which it was registered" if row["registered"]
             else ", with what was found of the hand; it is not registered")
    return Picture(data_uri(drawn(found(small, points, outline, row["flag"]))),
                   f"The radiograph as it was filed{marks}.{turned}{inverted}")


def dots(row: pd.Series, ages: dict[str, float], final: str, half: float) -> Plot:
    """The age by every model, the final one below, against label and interval; networks of the other sex are left out."""
    names = [*(name for name in ages if not name.endswith(ALONE) and name != final), final]
    labeled = np.isfinite(row["boneage"])
    made, ax = figure(5.2, 1.1 + 0.16 * len(names))
    if np.isfinite(half):
        ax.axvspan(ages[final] - half, ages[final] + half, color=SOFT, alpha=0.35, linewidth=0, label="90 % interval")
    if labeled:
        ax.axvline(row["boneage"], color=INK, linestyle="--", linewidth=1, label="label")
    ax.scatter([ages[name] for name in names], names, s=18, c=[color(name) for name in names], zorder=3)
    ax.set(xlabel="months", ylim=(len(names) - 0.5, -0.5))
    ax.tick_params(axis="y", labelsize=7)
    _legend(ax, names, final)
    label = "; the dashed line is the label" if labeled else ""
    return Plot(svg(made), f"The age by every model: dots far from the others disagree{label}. Networks of one sex stand "
                "under the name that ends in own.")


def color(name: str) -> str:
    """Of a model, by the region that it sees."""
    return HUES.get(name.partition("_")[0], COLORS[3])


def _legend(ax: "Axes", names: list[str], final: str) -> None:
    """Regions that models of ``names`` see, and ensembles, as colored dots beside the lines of ``ax``."""
    seen = {name.partition("_")[0] for name in names}
    regions = {name: f"{name}: {words}" for name, words in NAMES.items() if name in seen}
    for name, words in {**regions, final: "ensemble"}.items():
        ax.scatter([], [], s=18, color=color(name), label=words)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=7, borderaxespad=0)
