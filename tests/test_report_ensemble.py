"""What the page says of level two: likeness of models, gains of steps, what was learned, for every kind of prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidences import small_competition
from tiny import EXPERIMENT

from radstack.core.artifact import manifest_of
from radstack.core.files import write_json
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.recipes.competition import Models
from radstack.recipes.stacker import Stacker
from radstack.report.blocks import Heading, Plot, Table
from radstack.report.ensemble import compared, ensemble, gain_plot, heat_map, submitted
from radstack.report.evidence import Evidence
from radstack.report.level_two import blend_weights, readable
from radstack.report.page import page
from radstack.report.several import averaging
from radstack.running.context import Context, Options
from radstack.scoring.intervals import difference
from radstack.scoring.metrics import ClassGroup, sigmoid
from radstack.scoring.task import Metric, Task

ROWS, FOLDS = 240, 3
GROUPS = (ClassGroup("left", ("low", "low", "high")), ClassGroup("right", ("low", "high")))
TASKS = {"probabilities": Task(("bone", "any"), Metric("weighted log loss", (1, 2))),
         "numbers": Task(("age",), Metric("mean absolute error", (1,), "months")),
         "classes": Task(tuple("abcde"), Metric("classification error", (1, 1), groups=GROUPS))}


def labels(kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "numbers":
        return rng.uniform(0, 200, (ROWS, 1))
    if kind == "classes":
        return np.concatenate([np.eye(3)[rng.integers(3, size=ROWS)], np.eye(2)[rng.integers(2, size=ROWS)]], axis=1)
    return (rng.random((ROWS, 2)) < 0.4).astype(float)


def seen(kind: str, truth: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    blur = rng.normal(0, noise, truth.shape)
    if kind == "numbers":
        return truth + 20 * blur
    p = sigmoid(4 * truth - 2 + 2 * blur)
    return p if kind == "probabilities" else np.concatenate(
        [part / part.sum(axis=1, keepdims=True) for part in (p[:, :3], p[:, 3:])], axis=1)


def evidence(kind: str, folder: Path, stackers: tuple[Stacker, ...] = (), learned: dict | None = None) -> Evidence:
    """Networks ``one``, ``two`` and ``poor``, and stackers that are nearly right; manifests say what they learned."""
    task, rng = TASKS[kind], np.random.default_rng(0)
    truth = labels(kind, rng)
    networks = tuple(change(EXPERIMENT, name=name) for name in ("one", "two", "poor"))
    noises = {"one": 0.8, "two": 0.9, "poor": 1.5, **{one.name: 0.3 for one in stackers}}
    oof = {name: seen(kind, truth, noise, rng).astype(np.float32) for name, noise in noises.items()}
    competition = small_competition(task, Models(networks, stackers, final=[*noises][-1]))
    paths = Paths(folder, folder, "tiny", "tiny")
    for name, notes in (learned or {}).items():
        write_json(manifest_of(paths.oof / name / "fold0.parquet"), {"learned": notes})
    train = pd.DataFrame(truth, columns=list(task.targets)).assign(
        id=[f"r{row}" for row in range(ROWS)], group=[f"p{row // 3}" for row in range(ROWS)])
    scores = pd.DataFrame({"split": "out of fold", "model": [*oof], "score": [
        task.metric.score(truth, predicted) for predicted in oof.values()]})
    return Evidence(Context(competition, paths, Options()), task, [*oof], train, pd.DataFrame(),
                    pd.DataFrame(), train, np.arange(ROWS) % FOLDS, oof, scores, pd.DataFrame(), None)


def drawn(section) -> str:
    return page("ensemble", "", [section], [])


def table(section, beginning: str) -> pd.DataFrame:
    return next(block.frame for block in section.blocks if isinstance(block, Table) and block.caption.startswith(beginning))


@pytest.mark.parametrize("kind", TASKS)
def test_each_step_is_measured_against_its_best_member_by_patient(kind, tmp_path):
    made = evidence(kind, tmp_path, (Stacker("pool", "mean", ("poor", "one")), Stacker("last", "smooth", ("pool",))))
    steps = table(ensemble(made), "Score").set_index("model")
    assert steps["over"].to_dict() == {"pool": "one", "last": "pool"}
    truth, metric = made.truth, made.task.metric
    gain = difference(metric.row_losses(truth, made.oof["one"]), metric.row_losses(truth, made.oof["pool"]),
                      made.train["group"])
    assert steps.loc["pool", ["gain", "low", "high"]].tolist() == [gain.value, gain.low, gain.high]
    assert steps.loc["pool", "verdict"] == "better" and steps.loc["last", "verdict"] == "noise"
    assert 0 < steps.loc["pool", "rows changed"] < 1
    assert "last over pool" in drawn(ensemble(made))


@pytest.mark.parametrize("kind", TASKS)
def test_a_step_that_changes_nothing_is_noise_and_one_that_spoils_is_worse(kind, tmp_path):
    made = evidence(kind, tmp_path, (Stacker("same", "calibrate", ("one",)), Stacker("spoiled", "vote", ("one",))))
    made.oof["same"], made.oof["spoiled"] = made.oof["one"], made.oof["one"][::-1]
    steps = table(ensemble(made), "Score").set_index("model")
    assert steps["verdict"].to_dict() == {"same": "noise", "spoiled": "worse"}
    assert steps.loc["same", "rows changed"] == 0


def test_models_of_one_group_of_classes_are_compared_where_they_answer(tmp_path):
    made = evidence("classes", tmp_path, (Stacker("pool", "class_mean", ("one", "two", "poor")),))
    made.oof["one"][:, 3:], made.oof["two"][:, :3] = np.nan, np.nan
    section = ensemble(made)
    assert "Empty: they answer no target in common" in drawn(section)
    assert table(section, "Score")["over"].tolist() == ["poor"]  # the others have no score


def test_the_likeness_is_of_errors_and_networks_behind_a_route_are_left_out(tmp_path):
    stackers = (Stacker("own", "route", ("one", "two"), {"column": "male", "values": (1, 0)}),
                Stacker("pool", "mean", ("own", "poor")))
    made = evidence("numbers", tmp_path, stackers)
    assert compared(made, list(stackers)) == ["poor", "own"]
    made.oof["own"] = (2 * made.truth - made.oof["poor"]).astype(np.float32)  # its errors are the other's, turned round
    assert "-1.00" in ensemble(made).blocks[1].svg
    assert submitted(list(stackers), "pool") == ("pool", "own")


def test_one_model_alone_makes_an_empty_section(tmp_path):
    made = evidence("numbers", tmp_path)
    alone = replace(made, names=["one"], oof={"one": made.oof["one"]})
    assert ensemble(alone).blocks == () and "nothing to combine" in drawn(ensemble(alone))


def test_models_of_few_rows_and_single_patients_are_no_reason_to_fail(tmp_path):
    made = evidence("probabilities", tmp_path, (Stacker("pool", "mean", ("one", "two")),))
    made.oof["one"][8:] = np.nan
    drawn(ensemble(made))
    made = replace(evidence("numbers", tmp_path, (Stacker("pool", "mean", ("one",)),)))
    made.train["group"] = "p0"
    assert table(ensemble(made), "Score")["verdict"].tolist() == ["noise"]


def folds(note) -> dict:
    return {f"fold{fold}": note for fold in range(FOLDS)}


def test_every_kind_of_notes_is_shown(tmp_path):
    members = ("one", "two", "poor")
    trees = {"bone": {"trees": 7, "gain": {"m0_any": 0.6, "blend+2": 0.3}}, "any": "blend kept: only 2 patients"}
    line = {"kept": True, "gain": 0.01, "error": 0.002, "scale": 0.8, "bias": 0.1}
    notes = {"blend": {"weights": [0.7, 0.2, 0.1]}, "trees": trees,
             "platt": {"bone": line, "any": {**line, "kept": False}},
             "near": {"bone": [0.2, 0.6, 0.2], "any": [0.2, 0.6, 0.2]},
             "two of three": {"bone": line, "any": line, "members": ["one", "two"]},
             "inner": {"bone": [[0.1, 0.6, 0.3]]}, "strange": {"depth": [1, 2], "why": "so", "kept": True}}
    stackers = (Stacker("blend", "weights", members), Stacker("trees", "lightgbm", members),
                Stacker("platt", "calibrate", ("blend",)), Stacker("near", "smooth", ("blend",)),
                Stacker("inner", "series_forest", ("one",)), Stacker("strange", "novel", ("one",)),
                Stacker("bare", "mean", members), Stacker("two of three", "calibrate", members))
    section = ensemble(evidence("probabilities", tmp_path, stackers, {name: folds(note) for name, note in notes.items()}))
    assert table(section, "platt")["kept"].tolist() == ["3 of 3 folds", "0 of 3 folds"]
    assert table(section, "two of three")["target"].tolist() == ["bone", "any"]
    assert table(section, "near").to_dict("list") == {"targets": ["all"], "slice -1": [0.2], "this slice": [0.6],
                                                      "slice +1": [0.2]}
    assert table(section, "blend")["mean"].tolist() == pytest.approx([0.7, 0.2, 0.1])
    assert table(section, "strange")["fold0"].tolist() == ["1, 2", "so", True]
    text = drawn(section)
    assert all(words in text for words in ("one: any", "3 more have too few patients", "inner: importance of each slice"))
    assert not [block for block in section.blocks if isinstance(block, Table) and block.caption.startswith("bare")]
    kinds = [type(block) for block in section.blocks[section.blocks.index(Heading("Weights of the blends")):][:3]]
    assert kinds == [Heading, Plot, Table]


def test_what_was_left_out_or_replaced_is_told(tmp_path):
    stackers = (Stacker("blend", "weights", ("one", "two")), Stacker("bare", "mean", ("one", "two")))
    shown = evidence("probabilities", tmp_path, stackers, {"blend": folds({"weights": [0.5, 0.5]})})
    assert not [block for block in ensemble(shown).blocks if getattr(block, "caption", "").startswith("Members below")]
    manifest = manifest_of(shown.context.paths.oof / "blend" / "fold0.parquet")
    write_json(manifest, {"guard": ["fold 0: two is left out: .2, the constant predictor .1"]})
    told = table(ensemble(shown), "Members below")
    assert told.to_dict("records") == [{"model": "blend", "what": "fold 0: two is left out: .2, the constant predictor .1"}]


def test_a_correction_is_drawn_and_says_where_it_is_applied(tmp_path):
    note = {"gain": 0.2, "error": 0.1, "answers": [10, 100, 200], "corrections": [1.0, -2.0, 3.0]}
    learned = {"corrected": {"fold0": {"age": {**note, "kept": True}}, "fold1": {"age": {**note, "kept": False}}}}
    made = ensemble(evidence("numbers", tmp_path, (Stacker("corrected", "correct_bias", ("one",)),), learned))
    drawn, = (block for block in made.blocks if isinstance(block, Plot) and block.caption.startswith("corrected: "))
    assert "applied, in 1 of 2 fits" in drawn.caption and "stroke-dasharray" in drawn.svg and "answer, months" in drawn.svg


@pytest.mark.parametrize("kind", TASKS)
def test_single_networks_are_compared_on_the_rows_that_were_predicted(kind, tmp_path):
    made = evidence(kind, tmp_path, ())
    some = made.fold < 2
    made.oof["one"][~some] = np.nan
    made = replace(made, single={"one": {"seed 0": made.oof["one"], "seed 1": made.oof["poor"]}})
    found = averaging(made).set_index("over")
    losses = made.task.metric.row_losses(made.truth[some], made.oof["one"][some])
    assert found.loc["seed 0", ["before", "after"]].tolist() == pytest.approx([losses.mean()] * 2)
    assert found.loc["seed 1", "before"] > losses.mean()


def test_weights_that_a_fit_did_not_keep_are_equal_ones():
    part = {"weights": [0.9, 0.3], "intercept": -2.0}
    notes = {"fold0": {"male=0": {"rows": 9, "age": {**part, "kept": True}}, "male=1": {"age": {**part, "kept": False}}}}
    found = blend_weights(Stacker("final", "linear", ("one", "two")), notes, ("age",))
    assert found.groupby("part", sort=False)["weight"].apply(list).to_dict() == {
        "male=0, age": [0.9, 0.3], "male=1, age": [0.5, 0.5]}
    by_class = {"fold0": {"weights": [[0.1, 0.2], [0.9, 0.8]]}}
    found = blend_weights(Stacker("final", "weights", ("one", "two")), by_class, ("bone", "any"))
    assert found.set_index(["part", "member"])["weight"].to_dict() == {
        ("bone", "one"): 0.1, ("bone", "two"): 0.9, ("any", "one"): 0.2, ("any", "two"): 0.8}


def test_a_member_that_a_fold_left_out_weighs_nothing_there():
    notes = {"fold0": {"weights": [0.4, 0.6], "members": ["one", "three"]}, "fold1": {"weights": [0.2, 0.3, 0.5]}}
    found = blend_weights(Stacker("final", "weights", ("one", "two", "three")), notes, ("any",))
    assert found.pivot_table(index="member", columns="fold", values="weight", sort=False).to_numpy().tolist() == [
        [0.4, 0.2], [0.0, 0.3], [0.6, 0.5]]


def test_features_are_named_by_their_member():
    members = tuple(f"net{number}" for number in range(12))
    told = {"m11_any": "net11: any", "m1-3": "net1: slice -3", "blend_series_mean": "blend: mean of the series",
            "brain_ratio": "brain ratio", "m0_series_mean": "net0: mean of the series"}
    assert {name: readable(name, members) for name in told} == told


def test_a_gain_far_beyond_the_others_stands_at_the_edge_and_drawings_stay_small():
    steps = pd.DataFrame({"model": list("abc"), "over": "one", "gain": [0.01, -0.02, -1.13], "verdict": "worse",
                          "low": [0.0, -0.03, -1.4], "high": [0.02, -0.01, -0.9]})
    assert "-1.13" in gain_plot(steps, "loss")
    names = [f"a_rather_long_name_{number}" for number in range(16)]
    assert len(heat_map(pd.DataFrame(np.full((16, 16), 0.9), names, names), wide=True)) < 110_000
