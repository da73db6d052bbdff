"""What the report says of hands: intervals that cover, ages of regions, flags, pictures, what localization reached."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from competitions import load
from competitions.bone_age import report
from competitions.bone_age.cases import view
from competitions.bone_age.localizer import FINE, MATRIX
from competitions.bone_age.views import region
from radstack.images.shards import shard_path, write_shard
from radstack.images.views import Film
from radstack.recipes.competition import Cases
from radstack.recipes.experiment import Experiment, Sampling
from radstack.report.cases import Case
from radstack.running.cli import make_context
from radstack.running.context import Options


@pytest.fixture
def cases():
    """Two hundred training hands whose final model is off by a normal error, larger for boys; five test hands."""
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"id": [f"a{n}" for n in range(400)], "male": np.arange(400) % 2,
                          "boneage": rng.uniform(20, 220, 400)})
    test = pd.DataFrame({"id": [f"t{n}" for n in range(5)], "male": [0, 1, 0, 1, 1]})
    errors = rng.normal(0, 1, 400) * np.where(train["male"] == 1, 10, 5)
    oof = train[["id"]].assign(boneage=train["boneage"] + errors, fold=0)
    ages = {f"{name}_{head}_own": pd.DataFrame({"id": test["id"][:4], "boneage": 100.0 + shift + 10 * n})
            for n, name in enumerate("ABC") for head, shift in (("regression", 0), ("expectation", 4))}
    final = pd.DataFrame({"id": test["id"][:4], "boneage": [100.0, 110, 120, 130]})
    localized = pd.DataFrame({"id": test["id"][:4], "flag": ["", "two hands", "", ""],
                              "mirrored": [False, False, True, False], "inverted": False, "map_shard": 0,
                              "map_slot": range(4)})
    cached = localized.assign(shard=0, slot=range(4))
    return Cases("final", {**ages, "final": final}, {"final": oof}, test, train, localized, cached)


def test_each_hand_has_its_age_interval_regions_and_flag(cases):
    table = report.hands(cases, None).set_index("id")
    assert table.index.tolist() == ["t0", "t1", "t2", "t3", "t4"]
    assert table.loc["t0", ["A", "B", "C", "spread"]].tolist() == [102, 112, 122, 20]
    assert table["sex"].tolist() == ["female", "male", "female", "male", "male"]
    assert table["flag"].tolist() == ["", "two hands", "", "", "unreadable"] and np.isnan(table.loc["t4", "age"])
    half = (table["high"] - table["age"]).to_dict()
    assert half["t0"] == pytest.approx(5 * 1.645, rel=0.2) and half["t1"] == pytest.approx(10 * 1.645, rel=0.2)
    np.testing.assert_allclose(table["age"] - table["low"], table["high"] - table["age"])


def case_of(train, models):
    """The first training hand with the same age by every model of ``models``."""
    row = train.iloc[:1].assign(shard=0, slot=0, map_shard=0, map_slot=0, path="a0.png", flag="", registered=1,
                                mirrored=True, inverted=False, height=100, width=80, scale=1.0, offset_x=10.0, offset_y=0.0,
                                **dict(zip([f"raw_{name}" for name in FINE], (30.0, 20, 60, 40, 40, 70))))
    return Case("a0", ("worst",), ("female",), 0, 30.0, 2.0, row, {
        name: np.full((1, 1), 90.0 + place, np.float32) for place, name in enumerate(models)})


def test_a_hand_of_the_page_shows_regions_models_and_localization_as_far_as_they_are_there(cases, tmp_path):
    paths = make_context(load("bone_age", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path))).paths
    case = case_of(cases.oof_rows, ["A_regression_male", "A_regression_own", "B_regression_own", "final"])
    block, = view(case, cases, paths)  # neither pixels nor maps
    assert "A_regression_own" in block.svg and "A_regression_male" not in block.svg
    gradient = np.tile(np.arange(160, dtype=np.uint8), (208, 1))
    write_shard(shard_path(paths.cache, 0), [lambda: gradient], (208, 160), "uint8")
    paths.input.mkdir(parents=True)
    cv2.imwrite(str(paths.input / "a0.png"), np.tile(np.arange(80, dtype=np.uint8), (100, 1)))
    assert [block.kind for block in view(case, cases, paths)] == ["picture", "plot", "picture"]
    hand = np.zeros((1, 100, 100), np.uint8)
    hand[:, 15:80, 20:80] = 255
    write_shard(shard_path(paths.cache / "maps", 0), [lambda: hand], (1, 100, 100), "uint8")
    registered, _, found = view(case, cases, paths)
    assert "mirrored" in found.caption and all(len(block.src) < 160_000 for block in (registered, found))
    assert found.src != view(replace(case, rows=case.rows.assign(flag="two hands")), cases, paths)[2].src
    assert [block.kind for block in view(case, None, paths)] == ["picture"]  # the final model is not predicted yet


def hand_networks(**views):
    """Networks called as the keywords, with these views; one whose name begins with ``boys`` learned from boys alone."""
    return tuple(Experiment(name, view, sampling=Sampling(keep="male == 1" if name.startswith("boys") else ""))
                 for name, view in views.items())


def test_the_regions_ages_are_those_of_the_networks_that_see_them_under_any_names(cases):
    seen = hand_networks(mine=region("C", 0.25), boys=region("B", 0.1), b=region("B", 0.1),
                         film=Film((40, 30), (0.0,), (1.0,)))
    said = {"mine": 50.0, "boys": 10.0, "b": 30.0, "film": 99.0}
    tables = {name: cases.test["final"].assign(boneage=age) for name, age in said.items()}
    row_table = cases.cached.merge(cases.test_rows, on="id")
    few = replace(cases, test={**tables, "final": cases.test["final"]}, experiments=seen, cached=row_table)
    table = report.hands(few, None).set_index("id")
    assert not {"A", "D"} & set(table.columns) and (table["C"].dropna() == 50).all()
    assert table.loc["t1", "B"] == 20 and table.loc["t0", "B"] == 30  # a boy, a girl


def test_a_hand_has_its_pictures_with_a_network_of_the_whole_film_alone(cases, tmp_path):
    paths = make_context(load("bone_age", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path))).paths
    write_shard(shard_path(paths.cache, 0), [lambda: np.full((208, 160), 9, np.uint8)], (208, 160), "uint8")
    film = replace(cases, final="x", test={}, oof={"x": cases.oof["final"]},
                   experiments=hand_networks(x=Film((40, 30), (0.0,), (1.0,))))
    case = case_of(cases.oof_rows, ["x"])
    assert [block.kind for block in view(case, film, paths)] == ["picture", "plot"]


def test_localization_is_scored_in_pixels_of_the_frame(tmp_path):
    paths = make_context(load("bone_age", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path))).paths
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 30:70] = 255
    (paths.input / "annotations").mkdir(parents=True)
    cv2.imwrite(str(paths.input / "annotations" / "a.png"), mask)
    write_shard(shard_path(paths.cache / "maps", 0), [lambda: mask[None], lambda: mask[None]], (1, 100, 100), "uint8")
    true = [40.0, 25, 60, 40, 50, 70]
    names = [f"p{point}{axis}" for point in (1, 2, 3) for axis in "xy"]
    found = pd.DataFrame({"id": ["a", "b"], "flag": "", "mirrored": [False, True], "mask": ["annotations/a.png", ""],
                          "height": 100, "width": 100, "scale": 1.0, "offset_x": 0.0, "offset_y": 0.0, "map_shard": 0,
                          "map_slot": [0, 1], **dict(zip(MATRIX, (10.0, 0, 0, 0, 10, 0)))})
    found[[f"raw_{name}" for name in FINE]] = np.array(true) + [0.3, 0.4, 0.3, 0.4, 0.3, 0.4]
    truth = pd.DataFrame({"id": ["a", "b"], "mirrored": [0, 1], **dict(zip(names, true))})
    reached = report.localization(paths, found.assign(**dict.fromkeys(names, np.nan)), truth)
    assert reached["mask Dice, median"] == 1
    assert reached["landmark error, median px of the frame"] == pytest.approx(5)
    assert reached["mirrored hands turned"] == 1 and reached["other hands left"] == 1 and reached["hands"] == 2
    flagged = report.localization(paths, found.assign(flag="ratio", **dict.fromkeys(names, np.nan)), truth)
    assert flagged == {"mask Dice, median": 1, "flagged": 2, "hands": 2}  # no hand is left to measure landmarks on
