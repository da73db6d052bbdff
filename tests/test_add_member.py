"""Predictions of others as a member: every oddity of a team's tables, unlike folds, suspected leaks, a real table."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from members import write_fold
from scipy.special import logit

from competitions import load
from radstack.commands.add_member import Tables, add_member
from radstack.commands.leak_audit import open_scene, prediction_tables
from radstack.commands.plan import applied
from radstack.core.artifact import Artifact
from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_json, write_table
from radstack.core.folds import fold_hash, make_folds
from radstack.recipes.competition import FoldRecipe, Models
from radstack.recipes.stacker import Outside, Stacker
from radstack.report.given import given_blocks
from radstack.report.stage import report_artifact
from radstack.running.cli import make_context
from radstack.running.context import OUTSIDE, Options, add_variant
from radstack.running.tables import read_folds, read_rows
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.task import Metric, Task
from radstack.stack.predictions import fold_files, prediction_table, read_member
from radstack.stages.apply import needed
from radstack.stages.stack import stack
from radstack.submission.outside import Wanted, read_predictions

TARGETS = ("left", "right", "any")
RNG = np.random.default_rng(0)
IDS = [f"ID_{row:04}" for row in range(240)]
LABELS = (RNG.random((240, 3)) < [0.3, 0.2, 0.4]).astype(float)
ROWS = pd.DataFrame({"id": IDS, "group": [f"p{row // 4:02}" for row in range(240)], "position": 0, "shard": 0, "slot": 0,
                     "series": [f"p{row // 4:02}" for row in range(240)], "split": ["train"] * 180 + ["test"] * 60})
ROWS[list(TARGETS)] = np.where(np.arange(240)[:, None] < 180, LABELS, np.nan)


def said(strength: float, seed: int = 1) -> np.ndarray:
    """Probabilities [rows, targets] that know the labels by ``strength``."""
    noise = np.random.default_rng(seed).normal(0, 1, LABELS.shape)
    return 1 / (1 + np.exp(-(strength * (LABELS - 0.5) + 0.6 * noise - 0.5)))


GOOD = said(2.0)


@pytest.fixture
def context(tmp_path):
    """Folds, rows and one network ("ours") of a small competition of three labels."""
    ich = load("ich")
    network = replace(ich.models.experiments[0], name="ours")
    stackers = (Stacker("level_two", "weights", ("ours", "mate")), Stacker("average", "mean", ("ours", "mate")),
                Stacker("nest", "weights", ("average", "ours")))
    competition = replace(ich, name="pair", targets=TARGETS, metric=Metric("weighted log loss", (1, 1, 2)),
                          folds=FoldRecipe(3), models=Models((network,), stackers, final="level_two"))
    made = make_context(competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    train = ROWS[ROWS["split"] == "train"]
    write_table(made.paths.folds / "index.parquet", ROWS)
    write_table(made.paths.folds / "folds.csv", make_folds(train["group"], train[list(TARGETS)], 3, 0))
    write_table(made.paths.cache / "rows.parquet", ROWS)
    number, values = ROWS["group"].map(read_folds(made).set_index("group")["fold"]).fillna(-1).to_numpy(), said(1.5, 2)
    for fold in range(3):
        tables = [prediction_table(ROWS["id"].to_numpy()[number == one], one, values[number == one], TARGETS)
                  for one in (fold, -1)]
        Artifact("05_predict", 1, fold_files(made.paths.oof / "ours", fold), {}).make(
            lambda tables=tables, fold=fold: write_network(made, fold, tables))
    return made


def write_network(context, fold, tables):
    write_fold(context.paths.oof / "ours", fold, *tables)
    return {"fold_hash": fold_hash(read_folds(context))}


def wide(values: np.ndarray, rows: slice, **more: object) -> pd.DataFrame:
    return pd.DataFrame(values[rows], columns=list(TARGETS)).assign(**more).assign(id=IDS[rows])


TRAIN, TEST = slice(0, 180), slice(180, 240)


def give(context, name="mate", values=GOOD, folds=None, oof=None, test=None, **more):
    """Add a member from tables written beside the folders."""
    place = context.paths.out
    (wide(values, TRAIN) if oof is None else oof).to_csv(place / "oof.csv", index=False)
    (wide(values, TEST) if test is None else test).to_csv(place / "test.csv", index=False)
    add_member(context, name, Tables(place / "oof.csv", place / "test.csv", folds, **more))
    return read_json(context.paths.oof / name / OUTSIDE)


def long(values, rows):
    """One row an id and target, as a submission of RSNA 2019."""
    table = wide(values, rows).melt("id", var_name="target", value_name="Label")
    return pd.DataFrame({"ID": table["id"] + "_" + table["target"], "Label": table["Label"]})


def tidy(values, rows):
    return wide(values, rows).melt("id", var_name="label", value_name="p")


ODDITIES = {
    "wide": lambda values, rows: wide(values, rows),
    "with endings of files": lambda values, rows: wide(values, rows).assign(id=lambda t: t["id"] + ".png"),
    "folders and other endings": lambda values, rows: wide(values, rows).assign(id=lambda t: "data/all/" + t["id"] + ".dcm"),
    "long": long, "tidy": tidy,
    "another order": lambda values, rows: wide(values, rows).sample(frac=1, random_state=0)[["right", "id", "any", "left"]],
    "names with words around": lambda values, rows: wide(values, rows).rename(
        columns={"left": "pred_left", "right": "P(right)", "any": "ANY"}),
    "percent": lambda values, rows: wide(100 * values, rows),
    "log odds": lambda values, rows: wide(logit(values), rows),
    "repeated rows": lambda values, rows: pd.concat([wide(values, rows), wide(values, rows).iloc[:7]]),
    "repeated long rows": lambda values, rows: pd.concat([long(values, rows), long(values, rows).iloc[:7]]),
    "the index of pandas and more rows": lambda values, rows: wide(values, slice(0, 240)).assign(fold=0).reset_index(),
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_a_teams_table_is_read_whatever_its_form(tmp_path, oddity):
    train, test = ROWS[TRAIN], ROWS[TEST].reset_index(drop=True)
    task = Task(TARGETS, Metric("weighted log loss", (1, 1, 2)))
    for rows, own, other in ((TRAIN, train, test), (TEST, test.drop(columns=[*TARGETS]), train)):
        ODDITIES[oddity](GOOD, rows).to_csv(tmp_path / "t.csv", index=False)
        read = read_predictions(tmp_path / "t.csv", Wanted(task, load("ich").submission, own, other["id"]))
        assert np.allclose(read.values, GOOD[rows], atol=1e-12)
        word = {"percent": "as percent", "log odds": "as log odds", "repeated rows": "7 repeated rows",
                "repeated long rows": "7 repeated rows", "the index of pandas and more rows": "name no row here"}.get(oddity)
        assert any(word in note for note in read.notes) if word else not read.notes


def test_probabilities_of_0_and_1_are_told_and_cost_no_infinity(context):
    hard = np.where(GOOD > 0.7, 1.0, np.where(GOOD < 0.1, 0.0, GOOD))
    facts = give(context, values=hard, folds=context.paths.folds / "folds.csv")
    assert any("values are 0 or 1" in note for note in facts["notes"]) and np.isfinite(facts["score"]["value"])


@pytest.mark.parametrize(("change", "kind", "words"), [
    (lambda t: t.drop(columns="any"), UserError, "no column any; it needs left,right,any"),
    (lambda t: t.assign(any_2=t["any"]).rename(columns={"any": "any_1"}), UserError, "several columns for any: any_1"),
    (lambda t: pd.concat([t, t.iloc[:1].assign(left=0.5)]), UserError, "two values of ID_0000"),
    (lambda t: t.assign(left=t["left"].astype(str).where(t.index != 3, "high")), UserError, "'high' is no number"),
    (lambda t: t.assign(left=1000.0), UserError, "neither probabilities, percent nor log odds"),
    (lambda t: t.assign(id=t["id"] + "x"), UserError, "no column of ids such as ID_0000"),
    (lambda t: t.iloc[:80], UserError, "lacks 100 of 180 rows, such as ID_0080"),
    (lambda t: wide(GOOD, TEST), LeakError, "60 rows of the other split and none of this one")])
def test_a_table_that_is_not_understood_is_refused_in_words(context, change, kind, words):
    with pytest.raises(kind, match=words):
        give(context, oof=change(wide(GOOD, TRAIN)), folds=context.paths.folds / "folds.csv")


def test_labels_beside_predictions_are_never_taken_for_them(tmp_path):
    rows = ROWS[TRAIN]
    table = wide(rows[list(TARGETS)].to_numpy(), TRAIN)
    wanted = Wanted(Task(TARGETS, Metric("weighted log loss", (1, 1, 2))), load("ich").submission, rows, ROWS["id"][TEST])
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="no column left but the labels themselves"):
        read_predictions(tmp_path / "t.csv", wanted)
    beside = table.join(pd.DataFrame(GOOD[TRAIN], columns=[f"pred_{name}" for name in TARGETS]))
    beside.to_csv(tmp_path / "t.csv", index=False)
    assert read_predictions(tmp_path / "t.csv", wanted).columns == ("pred_left", "pred_right", "pred_any")


@pytest.mark.parametrize("targets", [("viral_pneumonia", "pneumonia"), ("pneumonia", "viral_pneumonia")])
def test_a_long_row_is_of_the_longest_target_that_ends_its_name(tmp_path, targets):
    rows = pd.DataFrame({"id": ["a", "b"]})
    names = [f"{one}_{target}" for one in rows["id"] for target in targets]
    pd.DataFrame({"ID": names, "Label": [len(name) / 100 for name in names]}).to_csv(tmp_path / "t.csv", index=False)
    task = Task(targets, Metric("weighted log loss", (1, 1)))
    read = read_predictions(tmp_path / "t.csv", Wanted(task, load("ich").submission, rows, pd.Series(["c"])))
    assert read.values.tolist() == [[(len(target) + 2) / 100 for target in targets]] * 2 and read.columns == targets


def test_classes_sum_to_1_and_years_are_not_months(tmp_path):
    rows = ROWS[TRAIN].assign(young=1.0, old=0.0, age=120.0)
    metric = Metric("classification error", (1,), groups=(ClassGroup("phase", ("young", "old")),))
    wanted = Wanted(Task(("young", "old"), metric), load("ich").submission, rows, ROWS["id"][TEST])
    pd.DataFrame({"id": rows["id"], "young": 33.3, "old": 66.6}).to_csv(tmp_path / "t.csv", index=False)
    assert np.allclose(read_predictions(tmp_path / "t.csv", wanted).values, [1 / 3, 2 / 3], atol=1e-3)
    pd.DataFrame({"id": rows["id"], "young": 0.9, "old": 0.3}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="the classes of phase sum to 1.2"):
        read_predictions(tmp_path / "t.csv", wanted)
    months = wanted._replace(task=Task(("age",), Metric("mean absolute error", (1,), unit="months")))
    pd.DataFrame({"id": rows["id"], "age": 10.2}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="10.2 of age in the middle, and the labels 120; give it in months"):
        read_predictions(tmp_path / "t.csv", months)


def test_equal_folds_make_a_member_like_any_other_and_missing_rows_are_counted(context):
    facts = give(context, folds=context.paths.folds / "folds.csv", oof=wide(GOOD, TRAIN).iloc[5:])
    assert (facts["mark"], facts["filled"], facts["suspected"]) == ("", {"train": 5, "test": 0}, [])
    assert facts["neighbor"] == "ours" and facts["shuffled"] > facts["constant"] > facts["score"]["value"]
    stack(context, context.competition.recipe("level_two"))
    stacked = read_member(context.paths.oof / "level_two", [0, 1, 2])
    assert len(stacked.oof) == 180 and stacked.test["id"].nunique() == 60 and not stacked.mark
    mate = read_member(context.paths.oof / "mate", [0, 1, 2]).oof.set_index("id")
    train, fold = read_rows(context, "train")
    # A missing row never sees the labels of its own fold.
    others = context.competition.metric.prior(train.loc[fold != fold[0], list(TARGETS)])
    assert np.allclose(mate.loc["ID_0000", list(TARGETS)].to_numpy(float), others, atol=1e-6)
    assert np.allclose(mate.loc["ID_0010", list(TARGETS)].to_numpy(float), GOOD[10], atol=1e-6)


def test_folds_that_only_bear_other_names_are_equal(context):
    folds = read_folds(context)
    oof = wide(GOOD, TRAIN).assign(fold=ROWS["group"][:180].map(folds.set_index("group")["fold"]).to_numpy())
    assert give(context, oof=oof.assign(fold=(oof["fold"] + 1) % 3))["mark"] == ""


def test_unlike_folds_are_refused_for_level_two_and_marked_in_plain_averages(context):
    folds = read_folds(context)
    moved = folds.assign(fold=[(fold + 1) % 3 if row < 3 else fold for row, fold in enumerate(folds["fold"])])
    moved.to_csv(context.paths.out / "theirs.csv", index=False)
    facts = give(context, folds=context.paths.out / "theirs.csv")
    assert facts["mark"] == "3 of 45 patients lie in another fold than here"
    with pytest.raises(LeakError, match="level_two would learn from mate, .* alone: 3 of 45 patients"):
        stack(context, context.competition.recipe("level_two"))
    stack(context, context.competition.recipe("average"))
    mean = read_member(context.paths.oof / "average", [0, 1, 2])
    assert mean.mark == "mate: 3 of 45 patients lie in another fold than here" and len(mean.oof) == 180
    with pytest.raises(LeakError, match="nest would learn from average"):  # the mark goes on to what is built on it
        stack(context, context.competition.recipe("nest"))
    warned = [finding for finding in prediction_tables(open_scene(context)) if finding.status == "warn"]
    assert "mate, 3 of 45" in warned[0].detail


def test_rows_dealt_by_row_are_patients_in_several_folds(context):
    oof = wide(GOOD, TRAIN).assign(fold=np.arange(180) % 3)
    assert give(context, oof=oof)["mark"] == "45 of 45 patients lie in another fold than here"


def test_unknown_folds_are_refused_for_level_two_unless_no_model_met_the_rows(context):
    assert "its folds are not known; name them with --folds" in give(context)["mark"]
    assert give(context, held_out=True)["mark"] == ""


def test_a_planted_leak_is_suspected_and_an_honest_table_is_not(context, capsys):
    """The planted leak: predictions of training rows by models that had met them."""
    facts = give(context, values=np.where(np.arange(240)[:, None] < 180, said(9.0), GOOD), held_out=True)
    assert len(facts["suspected"]) == 1 and "far better than its best neighbor ours" in facts["suspected"][0]
    assert "SUSPECTED LEAK" in capsys.readouterr().out
    assert any("mate: it is far better" in finding.detail for finding in prediction_tables(open_scene(context)))
    assert give(context, name="honest", held_out=True)["suspected"] == []


def test_a_table_that_knows_each_folds_labels_is_suspected_by_its_shuffled_score(context):
    """The planted leak: the mean of the labels of the very fold, as a target encoding made on all rows has it."""
    train, fold = read_rows(context, "train")
    skewed = train.assign(**{name: (fold == 0).astype(float) for name in TARGETS})
    write_table(context.paths.cache / "rows.parquet", pd.concat([skewed, ROWS[TEST]], ignore_index=True))
    values = np.full((240, 3), 0.3)
    values[:180] = np.where(fold == 0, 0.6, 0.2)[:, None]
    facts = give(context, values=values, held_out=True)
    assert any("shuffled within folds it still beats" in line for line in facts["suspected"])


def test_names_of_recipes_are_taken_both_ways_and_a_solution_on_tables_cannot_be_applied(context):
    with pytest.raises(UserError, match="'average' cannot name a member"):
        give(context, name="average")
    give(context, held_out=True)
    assert [one.name for one in context.recipes if isinstance(one, Outside)] == ["mate"]
    with pytest.raises(UserError, match="--name mate is taken"):
        add_variant(context, "average", "mate", {})
    with pytest.raises(UserError, match="level_two reads mate, whose predictions came as tables"):
        needed(context)
    line, = applied(SimpleNamespace(context=context), None, 10)  # a plan goes on without
    assert np.isnan(line.amount) and "level_two reads mate" in line.words
    assert "add_member.py pair" in context.make_with(context.paths.oof / "mate" / "fold0.parquet")


def test_the_page_says_what_came_as_a_table(context):
    give(context)
    recipes = {one.name: one for one in context.recipes}
    assert context.paths.oof / "mate" / "given.json" in report_artifact(context).inputs  # its marks are shown
    evidence = type("Evidence", (), {"recipes": {"mate": recipes["mate"]}, "context": context})()
    _, warning, table = given_blocks(evidence)
    assert "mate may enter plain averages alone: its folds are not known" in warning.words
    assert table.frame["best neighbor"].tolist() == ["ours"] and table.frame["enters"].tolist() == ["plain averages"]


@pytest.mark.real
def test_four_real_networks_of_bone_age_enter_as_members_and_stack(tmp_path):
    """600 hands of the RSNA 2017 challenge that the four networks had not met; their table holds the label, too."""
    folder = os.environ.get("RADSTACK_REAL_DATA")
    if not folder:
        pytest.skip("RADSTACK_REAL_DATA names no folder")
    source = Path(folder) / "boneage_predictions" / "valid_with_predictions4.csv"
    table = pd.read_csv(source, dtype={"id": str})
    columns = list(table.columns[3:])
    half = np.arange(len(table)) < 450
    rows = table[["id", "boneage"]].assign(group=table["id"], series=table["id"], position=0, male=table["male"].astype(int),
                                           split=np.where(half, "train", "test"))
    rows["boneage"] = rows["boneage"].astype(float).where(half)
    names = ("first", "second", "third", "fourth")
    competition = replace(load("bone_age"), name="real", folds=FoldRecipe(5), models=Models(
        (), (Stacker("final", "linear", names, {"by": "male"}),), final="final"))
    context = make_context(competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    write_table(context.paths.cache / "rows.parquet", rows)
    write_table(context.paths.folds / "folds.csv", make_folds(rows["group"][half], rows.loc[half, ["male"]], 5, 0))
    with pytest.raises(UserError, match="several columns for boneage: Dense"):
        add_member(context, "first", Tables(source, source, held_out=True))
    scores = {}
    for name, column in zip(names, columns):
        add_member(context, name, Tables(source, source, held_out=True, column=column))
        facts = read_json(context.paths.oof / name / OUTSIDE)
        scores[name] = facts["score"]["value"]
        assert facts["filled"] == {"train": 0, "test": 0} and facts["suspected"] == []
        assert scores[name] == pytest.approx((table[column] - table["boneage"])[half].abs().mean(), abs=1e-4)
    stack(context, competition.recipe("final"))
    oof = read_member(context.paths.oof / "final", list(range(5))).oof.merge(table[["id", "boneage"]], on="id", suffixes=(
        "", " true"))
    stacked = (oof["boneage"] - oof["boneage true"]).abs().mean()
    print(f"real hands: {scores}, stacked {stacked:.3f}")
    assert stacked < min(scores.values())
