"""Operating points: sensitivity at fixed specificity and the reverse, shares within margins, intervals over patients."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from radstack.recipes.competition import Pages
from radstack.report.operating import COLUMNS, operating_blocks, operating_table
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.operating import curve_of, points
from radstack.scoring.task import Metric, Task


def by_hand(truth, said, fixed):
    """The same by trying every threshold."""
    found = {}
    for one in fixed:
        tried = [(np.mean(said[truth] >= cut), np.mean(said[~truth] < cut)) for cut in [*np.unique(said), np.inf]]
        found["sensitivity", f"specificity {one:g}"] = max(sens for sens, spec in tried if spec >= one)
        found["specificity", f"sensitivity {one:g}"] = max(spec for sens, spec in tried if sens >= one)
    return found


@pytest.mark.parametrize("decimals", [1, 6])
def test_points_are_those_of_trying_every_threshold_ties_included(decimals):
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.3
    said = np.round(rng.normal(truth, 1.0), decimals)
    fixed = (0.5, 0.8, 0.95)
    found = list(points(curve_of(truth, said, np.arange(400)), fixed, draws=50))
    expected = by_hand(truth, said, fixed)
    assert {(one["measure"], one["at"]): one["value"] for one in found} == pytest.approx(expected)
    for one in found:  # the threshold gives what it promises
        called = said >= one["threshold"]
        reached = np.mean(called[truth]) if one["measure"] == "sensitivity" else np.mean(~called[~truth])
        assert reached == pytest.approx(one["value"]) and one["low"] <= one["value"] <= one["high"]


def test_an_interval_is_over_patients_and_not_over_their_slices():
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(200), 20)
    truth = np.repeat(rng.random(200) < 0.5, 20)
    said = np.repeat(rng.normal(0, 1, 200), 20) + truth  # slices of a patient say the same
    width = {name: [one["high"] - one["low"] for one in points(curve_of(truth, said, groups), (0.9,))]
             for name, groups in (("patients", patient), ("slices", np.arange(4000)))}
    assert all(wide > 1.7 * narrow for wide, narrow in zip(width["patients"], width["slices"]))


def test_nothing_is_called_where_no_threshold_is_specific_enough():
    found = list(points(curve_of(np.array([0, 1, 1]), np.array([0.9, 0.5, 0.1]), np.arange(3)), (0.9,), draws=5))
    assert found[0]["value"] == 0 and found[0]["threshold"] == np.inf and found[1]["value"] == 0


def evidence_of(metric, targets, train, said, pages=None):
    """What the table reads of :class:`radstack.report.evidence.Evidence`."""
    competition = SimpleNamespace(pages=pages or Pages())
    return SimpleNamespace(task=Task(targets, metric), train=train, truth=train[list(targets)].to_numpy(float),
                           final="final", oof={"final": said}, context=SimpleNamespace(competition=competition))


def test_a_patient_is_as_likely_as_the_likeliest_of_his_slices():
    train = pd.DataFrame({"group": list("aabbccdd"), "any": [0, 1, 0, 0, 1, 0, 0, 0]})
    said = np.array([0.1, 0.8, 0.3, 0.2, 0.9, 0.1, 0.2, np.nan], np.float32)[:, None]
    table = operating_table(evidence_of(Metric("weighted log loss", (1,)), ("any",), train, said), ["final", "final"])
    assert list(table) == COLUMNS and len(table) == 12
    counts = table.drop_duplicates("level").set_index("level")[["cases", "positives"]]
    assert counts.loc["row"].tolist() == [7, 2] and counts.loc["patient"].tolist() == [4, 2]
    assert (table["value"] == 1).all()  # both positive patients lie above both others


def test_ages_within_margins_by_case_and_phases_within_one():
    train = pd.DataFrame({"id": list("abcdef"), "series": list("uuvvww"), "group": list("uuvvww"),
                          "age": [100.0, 100, 50, 50, 80, 80]})
    said = np.array([110, 100, 60, 60, 100, 110], np.float32)[:, None]  # 5, 10 and 25 off on average
    evidence = evidence_of(Metric("mean absolute error", (1,), unit="months"), ("age",), train, said, Pages(
        case_by="series", within=(6, 12, 24)))
    table = operating_table(evidence, ["final"])
    assert table["at"].tolist() == ["within 6 months", "within 12 months", "within 24 months"]
    assert table["value"].tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3]) and (table["cases"] == 3).all()
    train = pd.DataFrame({"group": list("abcd"), "one": [1.0, 0, 0, 0], "two": [0, 1.0, 0, 0], "three": [0, 0, 1.0, 1.0]})
    said = np.array([[0.9, 0.1, 0], [0.9, 0.1, 0], [0.9, 0.1, 0], [0, 0, 1]], np.float32)
    metric = Metric("classification error", (1,), groups=(ClassGroup("phase", ("one", "two", "three")),))
    table = operating_table(evidence_of(metric, ("one", "two", "three"), train, said), ["final"])
    assert dict(zip(table["at"], table["value"])) == {"right": 0.5, "within one class": 0.75}
    assert (table["low"] < table["value"]).all() and (table["high"] > table["value"]).all()


def test_the_page_shows_the_final_models_points_by_level():
    train = pd.DataFrame({"group": list("aabbccdd"), "any": [0, 1, 0, 0, 1, 0, 0, 0]})
    said = np.linspace(0, 1, 8, dtype=np.float32)[:, None]
    evidence = evidence_of(Metric("weighted log loss", (1,)), ("any",), train, said)
    evidence.operating = operating_table(evidence, ["final"])
    heading, rows, patients = operating_blocks(evidence)
    assert heading.words == "Operating points" and (rows.caption, patients.caption) == ("final by row", "final by patient")
    evidence.operating = pd.DataFrame()
    assert operating_blocks(evidence) == []
