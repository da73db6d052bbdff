"""What the report says of wrists beyond the score: accuracy bone by bone, what is confused, found against drawn boxes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

import phantoms
from competitions.radius_ulna.decision import called_phases, confusion_table, score_table
from competitions.radius_ulna.index import BOX_COLUMNS
from competitions.radius_ulna.localizer import FOUND, found_boxes
from competitions.radius_ulna.phases import ALL_TARGETS, BONES, LEARNED, TARGETS, hint, most_probable, phase_probabilities
from competitions.radius_ulna.pictures import Findings
from competitions.radius_ulna.views import by_hand
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.images.boxes import GOOD, iou, score_boxes
from radstack.recipes.competition import Cases, Published
from radstack.scoring.intervals import difference, wilson
from radstack.stages.detect import score_columns

ARTICLE = {
    "base net": {"radius": 83.0, "ulna": 68.7}, "balanced": {"radius": 84.0, "ulna": 70.7},
    "fivefold augmentation": {"radius": 88.0, "ulna": 78.7}, "best of nine nets": {"radius": 92.0, "ulna": 88.0},
    "optimizer and rate": {"radius": 92.0, "ulna": 90.0},
}
"""Accuracy in percent at each step of the HKU-Shenzhen study, chosen on its own test pictures."""
ARTICLE_TEST = {"radius": 100, "ulna": 150}
"""Its test pictures, balanced over the phases."""
LATER = {"attention, segmentation and classification together": {"radius": 94.3, "ulna": 90.8}}
"""Liu 2024, all grades of puberty."""
PUBLISHED = tuple(
    Published(f"{who}: {step}, {bone}", round(1 - percent / 100, 4), f"{pictures}, {bone} alone", source)
    for table, who, source, pictures in ((ARTICLE, "HKU-Shenzhen", "HKU-Shenzhen study", "test pictures"),
                                         (LATER, "later", "Liu 2024", "all grades"))
    for step, bones in table.items() for bone, percent in bones.items())
"""Shares of errors. Pictures, readers and classes differ: none of these is to be ranked against another."""


def known_truth(paths: Paths) -> pd.DataFrame | None:
    """What was drawn, None where pictures are real; with ``radius_stage`` and ``ulna_stage`` (int), test included."""
    truth = phantoms.truth("radius_ulna", paths.input)
    if truth is None:
        return None
    stages = {f"{bone}_stage": np.array(LEARNED[bone])[truth[list(TARGETS[bone])].to_numpy().argmax(axis=1)]
              for bone in BONES}
    return truth.assign(**stages)


def calls(labels: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """:func:`competitions.radius_ulna.decision.called_phases` of the bones that a model answers."""
    silent = [bone for bone in BONES if predicted[list(TARGETS[bone])].isna().all(axis=None)]
    stages = labels[["id", *(f"{bone}_stage" for bone in BONES)]]
    table = called_phases(stages, predicted.fillna({name: 0.0 for bone in silent for name in TARGETS[bone]}))
    return table[~table["bone"].isin(silent)]


def labeled(cases: Cases, paths: Paths) -> Iterator[tuple[str, pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Name, labels and predictions by model of each split whose labels are known."""
    yield "out of fold", cases.oof_rows, cases.oof
    truth = known_truth(paths)
    if truth is not None:
        yield "test", truth[truth["id"].isin(cases.test[cases.final]["id"])], cases.test


def scores(cases: Cases, paths: Paths) -> pd.DataFrame:
    """One row a split, model and bone: the columns of :func:`competitions.radius_ulna.decision.score_table` and, on
    phantoms, ``ceiling``, the best accuracy that the raters' noise leaves; then the HKU-Shenzhen study, as ``article``.
    """
    truth, tables = known_truth(paths), []
    for split, labels, models in labeled(cases, paths):
        for model, predicted in models.items():
            own = labels[labels["id"].isin(predicted["id"])]
            table = score_table(calls(own, predicted)).assign(split=split, model=model)
            if truth is not None:
                best = ceiling(truth[truth["id"].isin(own["id"])])
                table["ceiling"] = table["bone"].map(best)
            tables.append(table)
    columns = ["split", "model", "bone"]
    table = pd.concat([*tables, article()], ignore_index=True)
    return table[[*columns, *(name for name in table if name not in columns)]]


def ceiling(truth: pd.DataFrame) -> dict[str, float]:
    """Mean chance of the likeliest phase, given the maturity, of rows of :func:`known_truth`, by bone."""
    chances = phase_probabilities(truth[[f"q_{name}" for name in ALL_TARGETS]].to_numpy())
    return {bone: float(part.max(axis=1).mean()) for bone, part in zip(BONES, np.split(chances, [4], axis=1))}


def article() -> pd.DataFrame:
    """Accuracies of the HKU-Shenzhen study with Wilson's intervals, as rows of :func:`scores`."""
    rows = []
    for step, bone, percent in ((step, *one) for step, bones in ARTICLE.items() for one in bones.items()):
        pictures = ARTICLE_TEST[bone]
        right = round(percent / 100 * pictures)
        bounds = dict(zip(("accuracy", "accuracy_low", "accuracy_high"), wilson(right, pictures)))
        rows.append({"split": "article", "model": step, "bone": bone, "pictures": pictures, **bounds,
                     "errors": pictures - right})
    return pd.DataFrame(rows)


def confusion(cases: Cases, paths: Paths) -> pd.DataFrame:
    """How many pictures the final model calls what: ``split``, ``bone``, ``truth``, ``called`` (phases), ``pictures``."""
    tables = [confusion_table(calls(labels[labels["id"].isin(models[cases.final]["id"])], models[cases.final])).assign(
        split=split) for split, labels, models in labeled(cases, paths)]
    return pd.concat(tables, ignore_index=True)[["split", "bone", "truth", "called", "pictures"]]


def drawn_boxes(cases: Cases, paths: Paths) -> pd.DataFrame:
    """What found boxes cost against hand-made ones: networks of each, out of fold, with a paired interval over children.

    Returns:
        ``bone``, ``pictures``, ``found`` and ``drawn`` (accuracy of two networks of the bone, under any names, that differ
        in whose boxes they look at alone, on what both predict), ``lost`` in points with ``lost_low`` and ``lost_high``
        (95 %). No rows where there are no two such networks.
    """
    rows = []
    for bone, names in pairs_of(cases):
        both = set.intersection(*(set(cases.oof[name]["id"]) for name in names))
        if not both:
            continue
        labels = cases.oof_rows[cases.oof_rows["id"].isin(both)]
        found, drawn = (calls(labels, cases.oof[name]).set_index("id") for name in names)
        wrong = [(table["called"] != table["truth"]).astype(float) for table in (found, drawn.loc[found.index])]
        group = cases.oof_rows.set_index("id").loc[found.index, "group"]
        lost = difference(wrong[0].to_numpy(), wrong[1].to_numpy(), group.to_numpy())
        rows.append({"bone": bone, "pictures": len(found), "found": 1 - wrong[0].mean(), "drawn": 1 - wrong[1].mean(),
                     "lost": 100 * lost.value, "lost_low": 100 * lost.low, "lost_high": 100 * lost.high})
    return pd.DataFrame(rows, columns=["bone", "pictures", "found", "drawn", "lost", "lost_low", "lost_high"])


def pairs_of(cases: Cases) -> Iterator[tuple[str, tuple[str, str]]]:
    """Bone by bone the first two networks of it that are one recipe, once by found boxes and once by those drawn by hand."""
    known = [one for one in cases.experiments if one.name in cases.oof]
    for bone in BONES:
        own = [one for one in known if one.targets == TARGETS[bone]]
        pairs = [(found.name, drawn.name) for found in own for drawn in own if drawn.view == by_hand(found.view)
                 and change(drawn, name=found.name, view=found.view, note=found.note) == found]
        if pairs:
            yield bone, pairs[0]


def pictures(cases: Cases, paths: Paths) -> pd.DataFrame:
    """One row a test picture: ``id``, ``radius_phase``, ``ulna_phase``, the probability of each, ``hint``, ``flag``.

    ``flag`` is that of the boxes, "unreadable" where there is no prediction.
    """
    predicted = cases.test[cases.final]
    phases = phase_probabilities(predicted[list(ALL_TARGETS)].to_numpy())
    table = pd.concat([predicted[["id"]].reset_index(drop=True), most_probable(phases)], axis=1)
    table = table.assign(radius_probability=phases[:, :4].max(axis=1), ulna_probability=phases[:, 4:].max(axis=1))
    table["hint"] = [hint(row.radius_phase, row.ulna_phase) for row in table.itertuples()]
    table = cases.test_rows[["id"]].merge(table, on="id", how="left")
    table = table.merge(cases.localized[["id", "flag"]], on="id", how="left")
    return table.fillna({"flag": "unreadable"})


def findings_of(row: Any, predicted: pd.Series) -> Findings:
    """What is said of one row of the localization table, ``predicted`` being the probabilities of ``ALL_TARGETS``."""
    chances = phase_probabilities(predicted[list(ALL_TARGETS)].to_numpy(float)[None])
    called = most_probable(chances).iloc[0]
    stages = {bone: predicted[list(TARGETS[bone])].to_numpy(float) for bone in BONES}
    return Findings(np.array([row[name] for name in FOUND], float).reshape(len(BONES), 4),
                    np.array([row[name] for name in score_columns(BONES)], float), stages,
                    {bone: str(called[f"{bone}_phase"]) for bone in BONES},
                    dict(zip(BONES, np.split(chances[0], [4]))), str(row["flag"]))


def localization(paths: Paths, localized: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """What stage 02 reached on all phantoms, none of which its detector had met, against the boxes as drawn.

    Center errors are medians in pixels and in roots of the box's area.
    """
    both = localized.merge(truth, on="id", suffixes=("", "_true"), validate="one_to_one")
    true = both[[f"{name}_true" for name in BOX_COLUMNS]].to_numpy(float).reshape(len(both), len(BONES), 4)
    found = found_boxes(both)
    measured = score_boxes(found, both[score_columns(BONES)].to_numpy(float), true, BONES)
    names = {"iou": "IoU, mean", "iou_median": "IoU, median", "good": f"share above {GOOD}", "ap50": "AP50",
             "center_px": "center error, median px", "center_share": "center error, share of the box"}
    table = {f"{row['class']} {words}": float(row[name]) for row in measured.to_dict("records")
             for name, words in names.items()}
    return table | {f"boxes above {GOOD}": float((iou(found, true) > GOOD).mean()),
                    "mirrored told": float((both["mirrored"] == both["mirrored_true"]).mean()),
                    "flagged": float((both["flag"] != "").sum()), "pictures": float(len(both))}
