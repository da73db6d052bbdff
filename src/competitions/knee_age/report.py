"""What the report says of knees beyond the score: masks bone by bone, ages volume by volume, the decision at eighteen."""

import numpy as np
import pandas as pd

from competitions.knee_age import decision as adult
from competitions.knee_age.localizer import MASKS, binary, made_masks
from radstack.core.paths import Paths
from radstack.images import masks
from radstack.recipes.competition import Cases, Published
from radstack.scoring.intervals import conformal
from radstack.stages.chain import maps_of

COVERAGE = 0.9
"""Share of true ages that the prediction intervals hold."""

MEN = "14 test volumes of young German men, 18 slices each"
PUBLISHED = (
    Published("Pietz and Proeve: one slice", 0.731, MEN, "Pietz 2018"),
    Published("Pietz and Proeve: trees over 18 slices", 0.485, MEN + "; standard error .085", "Pietz 2018"),
    Published("Pietz and Proeve: constant", 1.2, "training slices", "Pietz 2018"),
    Published("same group, more data", 0.67, "185 coronal and 404 sagittal volumes, 13 to 21 years", "Auf der Mauer 2021"),
    Published("slice selection and GoogLeNet, men", 0.793, "402 persons of both sexes", "Dallora 2019"),
    Published("hand MRI", 0.37, "328 volumes, up to 18 years", "Stern 2019"),
)
"""Persons, protocols and ages differ: none of these is to be ranked against another."""
ARTICLE_MASKS = {
    "bone": (0.980, 0.960, 0.980, 0.980), "femur": (0.981, 0.963, 0.979, 0.984), "tibia": (0.977, 0.955, 0.976, 0.977),
    "fibula": (0.953, 0.911, 0.954, 0.952),
}
"""Dice, Jaccard, precision and recall of Pietz 2018, on 10 test volumes."""
MEASURES = ("dice", "iou", "precision", "recall")


def strata(rows: pd.DataFrame) -> pd.DataFrame:
    """Of age or not, and source, of labeled rows."""
    grown = np.where(rows["age_years"] >= adult.ADULT, "adult", "minor")
    return pd.DataFrame({"majority": grown, "source": rows["source"]}, index=rows.index)


def by_volume(predicted: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over each volume's slices of a prediction table: ``series``, ``group``, ``age`` in years."""
    both = rows[["id", "series", "group"]].merge(predicted, on="id", validate="one_to_one")
    return both.groupby(["series", "group"], sort=False)["age_years"].mean().rename("age").reset_index()


def known(cases: Cases, model: str) -> pd.DataFrame:
    """:func:`by_volume` out of fold, with the label in column ``truth``."""
    labels = cases.oof_rows.drop_duplicates("series")[["series", "age_years"]].rename(columns={"age_years": "truth"})
    return by_volume(cases.oof[model], cases.oof_rows).merge(labels, on="series", validate="one_to_one")


def volumes(cases: Cases, paths: Paths) -> pd.DataFrame:
    """One row a test volume, ages in years.

    ``series``, ``age`` and its interval ``low`` to ``high`` (90 %, split-conformal from out-of-fold errors), ``slice_low``
    and ``slice_high`` (least and greatest age that any slice shows by :func:`slice_model`), ``adult`` (above the age of
    every training minor, as predicted out of fold; absent where there is none), ``flag`` of localization ("unreadable" where
    there is no age).
    """
    oof = known(cases, cases.final)
    width = conformal((oof["truth"] - oof["age"]).to_numpy(), COVERAGE)
    table = cases.test_rows.drop_duplicates("series")[["series"]]
    table = table.merge(by_volume(cases.test[cases.final], cases.test_rows)[["series", "age"]], on="series", how="left")
    table = table.assign(low=table["age"] - width, high=table["age"] + width)
    slices = cases.test_rows[["id", "series"]].merge(cases.test[slice_model(cases)], on="id")
    extremes = slices.groupby("series")["age_years"].agg(slice_low="min", slice_high="max").reset_index()
    table = table.merge(extremes, on="series", how="left")
    threshold = adult.no_minor_threshold(oof["truth"].to_numpy(), oof["age"].to_numpy())
    if not np.isnan(threshold):
        table["adult"] = table["age"] > threshold
    flags = cases.localized.groupby("series")["flag"].agg(lambda flag: ", ".join(sorted(set(flag) - {""})))
    return table.merge(flags.reset_index(), on="series", how="left").fillna({"flag": "unreadable"})


def slice_model(cases: Cases) -> str:
    """The network whose slice ages are shown: as that of Pietz and Proeve 2018, within the bones' mask and from a start, if
    there is one under any name; else the first network, or the first model where no network is at hand.
    """
    networks = [one for one in cases.experiments if one.name in cases.test]
    like = [one for one in networks if one.backbone.start and getattr(one.view, "masks", ()) == (MASKS[0],)]
    return next((one.name for one in (*like, *networks)), next(iter(cases.test)))


def decision(cases: Cases, paths: Paths) -> pd.DataFrame:
    """The error (``mean_error``) and the decision at eighteen (``majority``) out of fold, one row a model and threshold, of
    which ``years`` is the mean over folds.

    Thresholds: ``eighteen``, and ``no minor``: the least above which the volumes of the other folds have no minor, so that
    each fold is judged by a threshold that it did not choose (where a minor of its own may well pass). There is no such row
    where all minors are in one fold, or there are none.
    """
    rows = []
    for model in cases.oof:
        table, fold = known(cases, model), fold_of_series(cases, model)
        error = adult.mean_error(table["truth"].to_numpy(), table["age"].to_numpy(), table["group"].to_numpy())
        for name, threshold in (("eighteen", np.full(len(table), adult.ADULT)),
                                ("no minor", nested_threshold(table, fold.loc[table["series"]].to_numpy()))):
            if np.isnan(threshold).any():
                continue
            shifted = table["age"].to_numpy() - threshold + adult.ADULT
            found = adult.majority(table["truth"].to_numpy(), shifted)
            rows.append({"model": model, **error, **found, "threshold": name, "years": float(threshold.mean())})
    return pd.DataFrame(rows)


def fold_of_series(cases: Cases, model: str) -> pd.Series:
    """The fold of each volume that a model predicts out of fold, by series."""
    rows = cases.oof[model].merge(cases.oof_rows[["id", "series"]], on="id")
    return rows.drop_duplicates("series").set_index("series")["fold"]


def nested_threshold(table: pd.DataFrame, fold: np.ndarray) -> np.ndarray:
    """Each volume's threshold in years, chosen on the volumes of the other folds; NaN where these have no minor."""
    made = np.full(len(table), np.nan)
    for number in np.unique(fold):
        other = table[fold != number]
        if len(other):
            made[fold == number] = adult.no_minor_threshold(other["truth"].to_numpy(), other["age"].to_numpy())
    return made


def bones(cases: Cases, paths: Paths) -> pd.DataFrame:
    """Out-of-fold masks against the hand-made ones, over all pixels of all annotated volumes, beside those of Pietz 2018.

    ``mask``, each of ``MEASURES``, each also as ``article_<measure>``, and ``slices``.
    """
    rows = cases.localized[cases.localized["mask"] != ""].reset_index(drop=True)
    found = found_masks(paths, rows)
    table = []
    for place, mask in enumerate(MASKS):
        side = found.shape[-1]
        made = made_masks(paths.input, rows, side, mask) > 0
        article = dict(zip((f"article_{name}" for name in MEASURES), ARTICLE_MASKS[mask]))
        table.append({"mask": mask, **overlap(found[:, place], made), **article, "slices": len(rows)})
    return pd.DataFrame(table)


def found_masks(paths: Paths, rows: pd.DataFrame) -> np.ndarray:
    """Bool [rows, masks, side, side] of rows of the localization table."""
    return np.stack([binary(maps_of(paths, row)) for row in rows.itertuples()])


def overlap(found: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """``MEASURES`` of two bool arrays of one shape; 0 where nothing is found."""
    both = int((found & made).sum())
    return {"dice": masks.dice(found, made), "iou": masks.jaccard(found, made),
            "precision": both / max(int(found.sum()), 1), "recall": both / max(int(made.sum()), 1)}


def localization(paths: Paths, localized: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """What stage 02 reached on the phantoms of the test split, against the bones as drawn (label volumes have errors)."""
    from competitions.knee_age.volume import Box, cut_masks
    from phantoms.knee_age import read_masks, read_truth

    archive = read_truth(paths.input).set_index("series")
    numbers = pd.Series(np.arange(len(archive)), archive.index)
    side = maps_of(paths, next(localized.itertuples())).shape[-1]
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {mask: [] for mask in MASKS}
    for series, rows in localized[localized["split"] == "test"].groupby("series"):
        first, found = rows.iloc[0], found_masks(paths, rows)
        box = Box(int(first["top"]), int(first["left"]), int(first["box_side"]))
        drawn = cut_masks(read_masks(paths.input, int(numbers[series])), box, side)[:, rows["position"]]
        for place, made in enumerate([drawn.any(axis=0), *drawn]):
            pairs[MASKS[place]].append((found[:, place], made))
    scores = {mask: overlap(*(np.concatenate(part) for part in zip(*both)))["dice"] for mask, both in pairs.items()}
    return {**{f"{mask} Dice": score for mask, score in scores.items()},
            "flagged slices": float((localized["flag"] != "").sum()), "slices": len(localized)}
