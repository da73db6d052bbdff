"""Tables and pages of a competition with any of its recipes, under any names: nothing is looked up by a recipe's name."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from competitions import load
from competitions.ich.report import series_table
from competitions.knee_age import report as knee
from competitions.radius_ulna import report as wrist
from competitions.radius_ulna.localizer import FOUND
from competitions.radius_ulna.phases import ALL_TARGETS, LEARNED, TARGETS
from competitions.radius_ulna.pictures import annotated
from radstack.core.recipe import change
from radstack.recipes.competition import Cases

VOLUMES, SLICES = 8, 3


def knees(networks, final):
    """Eight training volumes and as many of test, by ``networks`` (name -> recipe) and the model ``final``."""
    number = np.repeat(np.arange(VOLUMES), SLICES)
    rows = pd.DataFrame({"id": [f"r{row}" for row in range(len(number))], "series": [f"s{one}" for one in number],
                         "group": [f"p{one}" for one in number], "age_years": 15.0 + number})
    said = {name: rows[["id"]].assign(age_years=rows["age_years"] + place, fold=number % 2)
            for place, name in enumerate(dict.fromkeys([*networks, final]))}
    named = tuple(change(one, name=name) for name, one in networks.items())
    return Cases(final, said, said, rows, rows, rows.assign(flag=""), rows, named)


def test_the_slices_of_a_volume_are_those_of_the_article_s_network_under_any_name():
    models = load("knee_age", demo=True).models.experiments
    like = next(one for one in models if one.name == "masked_pretrained")
    other = next(one for one in models if one.name == "raw_scratch")
    assert knee.slice_model(knees({"first": other, "mine": like}, "final")) == "mine"
    assert knee.slice_model(knees({"first": other}, "final")) == "first"
    assert knee.slice_model(knees({}, "trees")) == "trees"


@pytest.mark.parametrize("final", ["mine", "trees"])
def test_tables_of_knees_with_one_network_alone_and_as_the_final_one(final):
    cases = knees({"mine": load("knee_age", demo=True).models.experiments[0]}, final)
    table = knee.volumes(cases, None)
    assert len(table) == VOLUMES and table["age"].notna().all() and (table["low"] <= table["high"]).all()
    decided = knee.decision(cases, None)
    assert set(decided["model"]) == {"mine", final}


@pytest.mark.parametrize("years", [np.full(VOLUMES, 19.5), np.where(np.arange(VOLUMES) % 2, 19.5, 16.5)])
def test_without_minors_to_learn_from_there_is_no_threshold_of_theirs(years):
    """Adults alone, and minors of one fold alone."""
    cases = knees({"mine": load("knee_age", demo=True).models.experiments[0]}, "final")
    cases = replace(cases, oof_rows=cases.oof_rows.assign(age_years=np.repeat(years, SLICES)))
    assert ("adult" in knee.volumes(cases, None)) == bool((years < 18).any())
    decided = knee.decision(cases, None)
    assert decided["threshold"].tolist() == ["eighteen"] * 2 and decided["accuracy"].notna().all()


def test_a_network_of_more_folds_than_the_final_model_is_judged_on_its_own():
    cases = knees({"mine": load("knee_age", demo=True).models.experiments[0]}, "final")
    final = cases.oof["final"]
    decided = knee.decision(replace(cases, oof=cases.oof | {"final": final[final["fold"] == 0]}), None)
    assert decided[["model", "threshold", "volumes"]].to_numpy().tolist() == [
        ["mine", "eighteen", 8], ["mine", "no minor", 8], ["final", "eighteen", 4]]


def wrists(networks, answered=tuple(ALL_TARGETS)):
    """Sixteen pictures, the labels of both bones, and what the ``networks`` say of their targets; the last one is final."""
    count = 16
    stages = {bone: np.array(LEARNED[bone])[np.arange(count) % len(LEARNED[bone])] for bone in TARGETS}
    rows = pd.DataFrame({"id": [f"w{row}" for row in range(count)], "group": [f"p{row // 2}" for row in range(count)],
                         **{f"{bone}_stage": own for bone, own in stages.items()}})
    hot = pd.concat([pd.DataFrame(np.eye(len(LEARNED[bone]))[np.arange(count) % len(LEARNED[bone])], columns=TARGETS[bone])
                     for bone in TARGETS], axis=1)
    tables = {}
    for one in networks:
        tables[one.name] = rows[["id"]].join(hot[[*(one.targets or answered)]].reindex(columns=list(ALL_TARGETS)))
    return Cases(networks[-1].name, tables, tables, rows, rows, rows.assign(flag=""), rows, tuple(networks))


def wrist_networks(*names):
    """Networks of the demo by their own names."""
    known = {one.name: one for one in load("radius_ulna", demo=True).models.experiments}
    return [known[name] for name in names]


def test_found_and_drawn_boxes_are_compared_under_any_names():
    found, drawn, alone = wrist_networks("ulna", "ulna_drawn", "radius_drawn")
    cases = wrists([change(found, name="a"), change(alone, name="radius"), change(drawn, name="b")])
    assert list(wrist.pairs_of(cases)) == [("ulna", ("a", "b"))]
    table = wrist.drawn_boxes(cases, None)
    assert table["bone"].tolist() == ["ulna"] and table["lost"].iloc[0] == 0
    some = cases.oof["b"].iloc[4:]  # as of a network that misses a fold
    assert wrist.drawn_boxes(replace(cases, oof=cases.oof | {"b": some}), None)["pictures"].tolist() == [12]
    assert not len(wrist.drawn_boxes(replace(cases, oof=cases.oof | {"b": some[:0]}), None))
    other = change(drawn, name="b", train__epochs=3)  # it differs in more than its boxes
    assert not len(wrist.drawn_boxes(wrists([change(found, name="a"), other]), None))


@pytest.mark.parametrize("name", ["radius", "ulna"])
def test_tables_of_wrists_with_networks_of_one_bone(name, tmp_path):
    paths = SimpleNamespace(input=tmp_path)
    cases = wrists([change(wrist_networks(name)[0], name="mine")])
    accuracy = wrist.scores(cases, paths)
    own = accuracy[accuracy["model"] == "mine"]
    assert own["bone"].tolist() == [name] and own["accuracy"].tolist() == [1.0]
    assert set(wrist.confusion(cases, paths)["bone"]) == {name}
    table = wrist.pictures(cases, paths)
    silent = "ulna" if name == "radius" else "radius"
    assert len(table) == 16 and table[f"{name}_phase"].notna().all()
    assert (table[f"{silent}_phase"] == "").all() and (table["hint"] == "").all()  # nothing is claimed of it
    row = pd.Series({**dict.fromkeys(FOUND, 5.0), "score_radius": 0.9, "score_ulna": 0.9, "flag": ""})
    findings = wrist.findings_of(row, cases.test["mine"].iloc[0])
    annotated(np.full((240, 200), 90, np.uint8), findings, tmp_path / "one.png")
    assert findings.phases[silent] == "" and (tmp_path / "one.png").stat().st_size > 0


def test_series_of_heads_under_any_final_model():
    rows = pd.DataFrame({"id": ["a", "b"], "group": "p", "series": "s", "position": [0, 1]})
    said = rows[["id"]].assign(**dict.fromkeys(load("ich").targets, 0.2))
    table = series_table(Cases("windows", {"windows": said}, {"windows": said}, rows, rows, rows, rows), None)
    assert len(table) == len(load("ich").targets) and (table["probability"] == 0.2).all()
