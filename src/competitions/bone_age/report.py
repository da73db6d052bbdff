"""What the report says of bone ages beyond the score: stages of development, intervals, regions, published scores."""

import numpy as np
import pandas as pd

from competitions.bone_age import frame
from competitions.bone_age.annotations import read_mask
from competitions.bone_age.localizer import LANDMARKS, found_mask, similarity
from radstack.core.paths import Paths
from radstack.images import masks
from radstack.recipes.competition import Cases, Published
from radstack.recipes.experiment import Experiment
from radstack.scoring.intervals import conformal

COVERAGE = 0.9
"""Share of true ages that the prediction intervals hold."""
STAGES = ("infancy", "pre-puberty", "early and mid-puberty", "late puberty", "post-puberty")
"""Stages of skeletal development (Gilsanz and Ratib, Hand Bone Age)."""
STARTS = {1: (36, 108, 168, 192), 0: (24, 84, 156, 180)}
"""Months at which the second and later stages begin, by ``male``."""

SINGLE = "1,000 held-out training hands, single readings"
SIX = "200 test hands, mean of six readings"
PUBLISHED = (
    Published("Iglovikov et al.: A, regression, both sexes", 8.08, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: C, regression, both sexes", 8.42, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: A+B+C, regression, both sexes", 7.52, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: A, regression, girls", 7.12, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: C, regression, girls", 6.79, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: A+B+C, regression, boys", 6.30, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: A+B+C, regression, girls", 6.49, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: A+B+C, expectation, boys", 6.16, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: A+B+C, expectation, girls", 6.39, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al.: twelve networks", 6.10, SINGLE, "Iglovikov 2017"),
    Published("Iglovikov et al., second version", 4.97, SIX, "Iglovikov 2018, quoted second hand"),
    Published("16 Bit, first place", 4.265, SIX, "Halabi 2019"),
    Published("Deeplasia", 3.87, SIX, "Rassmann 2024"),
    Published("one manual reading", 5.55, "against the true age", "computed from a reading's SD of 0.58 years"),
)
"""Never to be compared across label types: a single reading is itself 5.6 months off on average."""


def strata(rows: pd.DataFrame) -> pd.DataFrame:
    """Sex and stage of development of labeled rows."""
    starts = np.array([STARTS[int(male)] for male in rows["male"]]).reshape(-1, len(STAGES) - 1)
    stage = (rows["boneage"].to_numpy()[:, None] >= starts).sum(1)
    return pd.DataFrame({"sex": np.where(rows["male"] == 1, "male", "female"),
                         "stage": np.array(STAGES)[stage]}, index=rows.index)


def hands(cases: Cases, paths: Paths) -> pd.DataFrame:
    """One row a test hand, ages in months.

    ``id``, ``sex``, ``age`` and its interval ``low`` to ``high`` (90 %, split-conformal per sex from out-of-fold errors
    against labels, so that label noise is in it), ``A`` to ``D`` (mean of the region's networks, where it has any),
    ``spread`` (largest less least of these), ``flag`` of localization, ``mirrored``, ``inverted``.
    """
    rows = cases.test_rows[["id", "male"]].merge(cases.test[cases.final].rename(columns={"boneage": "age"}), on="id",
                                                 how="left")
    width = rows["male"].map(half_widths(cases)).to_numpy()
    regions = region_ages(cases, cases.test, cases.cached)
    table = rows.assign(sex=np.where(rows["male"] == 1, "male", "female"), low=rows["age"] - width,
                        high=rows["age"] + width).merge(regions, on="id", how="left")
    seen = [region for region in frame.REGIONS if table[region].notna().any()]
    table["spread"] = table[seen].max(axis=1) - table[seen].min(axis=1)
    found = cases.localized[["id", "flag", "mirrored", "inverted"]]
    table = table.merge(found, on="id", how="left").fillna({"flag": "unreadable"})
    return table[["id", "sex", "age", "low", "high", *seen, "spread", "flag", "mirrored", "inverted"]]


def half_widths(cases: Cases) -> dict[int, float]:
    """Half width of the prediction interval for each value of ``male``."""
    both = cases.oof_rows[["id", "male", "boneage"]].merge(cases.oof[cases.final], on="id", suffixes=("", "_predicted"))
    errors = both["boneage"] - both["boneage_predicted"]
    return {int(male): conformal(part.to_numpy(), COVERAGE) for male, part in errors.groupby(both["male"])}


def region_ages(cases: Cases, tables: dict[str, pd.DataFrame], rows: pd.DataFrame) -> pd.DataFrame:
    """``id`` and the age that each region's networks give together, columns ``A`` to ``D``, NaN where none saw it.

    ``tables`` are the predictions by model. A region's models are those that take its networks by the child's sex
    (``<region>_..._own``); where there is none, the networks whose view is the region and that were trained on rows like the
    child's, whatever they are called. ``rows`` of the row table say which those are.
    """
    views = {one.name: one for one in cases.experiments if one.name in tables}
    ages = {}
    for region in frame.REGIONS:
        own = [name for name in tables if name.startswith(f"{region}_") and name.endswith("_own")]
        seen = own or [name for name, one in views.items() if _sees(one) == region]
        ages[region] = pd.concat([_meant(tables[name], views.get(name), rows) for name in seen],
                                 axis=1).mean(axis=1) if seen else pd.Series(dtype=float)
    return pd.DataFrame(ages).rename_axis("id").reset_index()


def _sees(experiment: Experiment) -> str:
    """The region that a network sees, by its view; "" where it sees the film or anything else."""
    box = getattr(experiment.view, "box", None)
    return next((name for name, region in frame.REGIONS.items()
                 if box and np.allclose(box, frame.region_box(name, box[2] / region.height), atol=1)), "")


def _meant(table: pd.DataFrame, experiment: Experiment | None, rows: pd.DataFrame) -> pd.Series:
    """Ages by id, those alone that the network was trained for: by ``sampling.keep``, a query on the row table."""
    ages = table.set_index("id")["boneage"]
    keep = experiment.sampling.keep if experiment else ""
    return ages[ages.index.isin(rows["id"][rows.eval(keep).to_numpy(bool)])] if keep else ages


def localization(paths: Paths, localized: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """What stage 02 reached on phantoms, all out of fold; landmark errors are in pixels of the canonical frame."""
    both = localized.merge(truth, on="id", suffixes=("", "_true"))
    plain = both[both["flag"] == ""]
    errors = np.array([frame_errors(row) for row in plain.itertuples()])
    is_mirrored = plain["mirrored_true"] == 1
    turned = plain["mirrored"] == is_mirrored
    dice = [mask_dice(paths, row) for row in localized[localized["mask"] != ""].itertuples()]
    share = {"mirrored hands turned": turned[is_mirrored], "other hands left": turned[~is_mirrored]}
    # What no hand can tell, as where all are flagged, is left out.
    measured = {"mask Dice, median": float(np.median(dice))} if dice else {}
    if len(errors):
        measured |= {"landmark error, median px of the frame": float(np.median(errors)),
                     "landmark error, 95 %": float(np.quantile(errors, 0.95))}
    measured |= {name: float(told.mean()) for name, told in share.items() if len(told)}
    return measured | {"flagged": float((both["flag"] != "").sum()), "hands": len(both)}


def frame_errors(row: object) -> np.ndarray:
    """Distances of the three landmarks to the true ones, in pixels of the canonical frame."""
    found = np.array([[getattr(row, f"raw_{point}_{axis}") for axis in "xy"] for point in LANDMARKS])
    true = np.array([[getattr(row, f"p{point}{axis}_true", getattr(row, f"p{point}{axis}")) for axis in "xy"]
                     for point in (1, 2, 3)])
    return np.linalg.norm(found - true, axis=1) * similarity(row).scale


def mask_dice(paths: Paths, row: object) -> float:
    """Dice index of a hand's found mask and its hand-made one, in raw pixels."""
    made = read_mask(paths.input / row.mask)  # type: ignore[attr-defined]
    return masks.dice(found_mask(paths, row), made)
