"""Pseudo-labels that hold by fold: what another fold's model says never reaches a network, and each wrong way is caught."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_sources import clinic, context  # noqa: F401 (fixtures)
from test_stages_of_numbers import FOLDS
from test_stages_of_numbers import context as ages  # noqa: F401 (a fixture)

from competitions._template.demo import DEMO
from radstack.commands.add_source import Wish, add_source
from radstack.commands.leak_audit import LEAK, OK, open_scene, pseudo_labels
from radstack.core.artifact import Artifact
from radstack.core.errors import LeakError, UsageError, UserError
from radstack.core.files import read_table, write_json, write_table
from radstack.core.folds import ALL, EVERY
from radstack.core.recipe import change
from radstack.recipes.experiment import Pseudo
from radstack.recipes.stacker import Stacker
from radstack.report.added import added_blocks
from radstack.report.evidence import Evidence, aligned
from radstack.running.cli import open_context, parser
from radstack.running.context import OUTSIDE, add_variant, read_variants
from radstack.running.tables import read_index, read_rows
from radstack.stack.predictions import fold_file, read_tests
from radstack.stack.rows import mean_over_folds
from radstack.stages.more_rows import learned_rows, prepare
from radstack.stages.predict import predict_fold
from radstack.stages.pseudo import answers_of, check_pseudo, confident, labels_artifact
from radstack.stages.stack import stack, task_of
from radstack.stages.train import train_fold, weights_artifact

PSEUDO = Pseudo("final")


@pytest.fixture(scope="module")
def finished(ages):  # noqa: F811
    """Ages with their stacks: three networks, a route and a linear fit."""
    for stacker in ages.competition.models.stackers:
        stack(ages, stacker)
    return ages


@pytest.fixture
def solved(finished, tmp_path):
    """A copy of the finished solution."""
    shutil.copytree(finished.paths.out, tmp_path / "copy", copy_function=shutil.copy2)
    return replace(finished, paths=replace(finished.paths, data=tmp_path / "copy", out=tmp_path / "copy"))


def student(solved, **edits):
    """A network that learns from test, too."""
    return change(solved.competition.recipe("both"), name="student", pseudo=PSEUDO, sampling__keep="", **edits)


def shift_tests(solved, fold, by):
    """Let the networks of a fold say something else of test."""
    for name in ("boys", "girls", "both"):
        file = fold_file(solved.paths.oof / name, fold, "test")
        table = read_table(file)
        Artifact("05_predict", 1, (file,), {}).build(lambda file=file, table=table: write_table(file, table.assign(
            age=table["age"] + np.float32(by))))


def test_no_model_of_another_fold_has_a_say_in_the_labels_of_a_fold(solved):
    """The planted leak is the usual way: the submitted answers, a mean over networks that met the scored rows."""
    before = {fold: answers_of(solved, PSEUDO, fold) for fold in (*range(FOLDS), ALL)}
    submitted = mean_over_folds(read_tests(solved.paths.oof / "final", [0]), ("age",))
    for fold in (1, 2):
        shift_tests(solved, fold, 60)
    for stacker in solved.competition.models.stackers:
        stack(solved, stacker)
    assert answers_of(solved, PSEUDO, 0).equals(before[0])
    moved = answers_of(solved, PSEUDO, 1)["age"] - before[1]["age"]
    assert moved.mean() == pytest.approx(60, abs=6)
    # What stage 07 wrote for fold 0 is the fit of fold 0 on the mean over all networks: it would have let them in.
    leaky = mean_over_folds(read_tests(solved.paths.oof / "final", [0]), ("age",))
    assert (leaky["age"] - submitted["age"]).mean() == pytest.approx(40, abs=4)
    assert (answers_of(solved, PSEUDO, ALL)["age"] - before[ALL]["age"]).mean() == pytest.approx(40, abs=4)  # no score


def test_test_rows_train_with_these_labels_in_every_fold_and_are_scored_in_none(solved):
    recipe = student(solved)
    prepare(solved, [recipe])
    own, fold = read_rows(solved, "train")
    for number in range(FOLDS):
        rows, folds, _ = learned_rows(solved, recipe, number)
        added = rows.iloc[len(own):].set_index("id")["age"]
        assert (folds[:len(own)] == fold).all() and (folds[len(own):] == EVERY).all() and len(added) == 79
        wanted = answers_of(solved, PSEUDO, number).set_index("id")["age"]
        assert np.allclose(added, wanted[added.index])
        artifact = labels_artifact(solved, PSEUDO, number)
        assert {name for name in artifact.input_hashes if "fold" in name} == {
            *(f"{one}/fold{number}_test.parquet" for one in ("boys", "girls", "both")),
            *(f"{one}/fold{number}{end}" for one in ("own", "final") for end in (".safetensors", "_state.json"))}
        assert "final-test/" + artifact.files[0].name in weights_artifact(solved, recipe, number).input_hashes


def mean_of_folds(solved):
    return mean_over_folds(read_tests(solved.paths.oof / "final", list(range(FOLDS))), ("age",))


def without_manifest(solved, artifact):
    write_table(artifact.files[0], mean_of_folds(solved))
    artifact.manifest.unlink()


def of_another_fold(solved, artifact):
    other = labels_artifact(solved, PSEUDO, 1)
    shutil.copy2(other.files[0], artifact.files[0])
    told = other.manifest.read_text().replace("fold1.parquet", "fold0.parquet")
    artifact.manifest.write_text(told)


def of_all_folds(solved, artifact):
    tables = [fold_file(solved.paths.oof / "final", fold, "test") for fold in range(FOLDS)]
    replace(artifact, inputs=tuple(tables)).build(lambda: write_table(artifact.files[0], mean_of_folds(solved)))


def edited(solved, artifact):
    write_table(artifact.files[0], mean_of_folds(solved))


def of_scored_rows(solved, artifact):
    train = read_rows(solved, "train")[0]
    artifact.build(lambda: write_table(artifact.files[0], train[["id", "age"]]))


@pytest.mark.parametrize(("plant", "words"), [
    (without_manifest, "has no manifest, so that nobody knows which models gave these labels"),
    (of_another_fold, "was not made for fold0: its models were trained on rows that this network is scored on"),
    (of_all_folds, r"was made from final/fold1_test.parquet, of another fold"),
    (edited, "was edited after it was made"), (of_scored_rows, r"labels \d+, a row that is scored")])
def test_planted_labels_of_models_that_met_the_scored_rows_are_refused(solved, plant, words):
    recipe = student(solved)
    prepare(solved, [recipe])
    plant(solved, labels_artifact(solved, PSEUDO, 0))
    with pytest.raises(LeakError, match=words):
        learned_rows(solved, recipe, 0)
    learned_rows(solved, recipe, 2)


def test_the_audit_gives_the_labels_again_and_finds_planted_ones(solved):
    """The planted leak: labels of all folds' models, under a manifest that says that they are of the fold's."""
    assert pseudo_labels(open_scene(solved)) == []
    models = replace(solved.competition.models, experiments=(*solved.competition.models.experiments, student(solved)))
    taught = replace(solved, competition=replace(solved.competition, models=models))
    recipe = taught.competition.recipe("student")
    prepare(taught, [recipe])

    def train():
        for fold in range(FOLDS):
            artifact = weights_artifact(taught, recipe, fold)
            artifact.build(lambda artifact=artifact: write_json(artifact.files[0], {}))

    train()
    assert [one.status for one in pseudo_labels(open_scene(taught))] == [OK]
    artifact = labels_artifact(taught, PSEUDO, 2)
    artifact.build(lambda: write_table(artifact.files[0], mean_of_folds(taught)))
    (found,) = pseudo_labels(open_scene(taught))
    assert found.status == LEAK and "student fold 2: it was trained on other labels" in found.detail
    train()
    (found,) = pseudo_labels(open_scene(taught))
    assert found.status == LEAK and "has not the label that models of this fold give" in found.detail
    prepare(taught, [recipe])
    artifact.build(lambda: write_table(artifact.files[0], answers_of(taught, PSEUDO, 2)))
    train()
    assert [one.status for one in pseudo_labels(open_scene(taught))] == [OK]
    two = (*solved.competition.models.experiments, change(recipe, train__seeds=2))
    taught = replace(taught, competition=change(taught.competition, models__experiments=two))
    seed = taught.paths.weights / "student" / "fold2_seed1.safetensors"  # another seed of the recipe, with other labels
    replace(weights_artifact(taught, recipe, 2), files=(seed,), inputs=()).build(lambda: write_json(seed, {}))
    (found,) = pseudo_labels(open_scene(taught))
    assert "student fold 2: it was trained on other labels" in found.detail


def test_labels_that_nobody_can_vouch_for_are_refused(solved):
    with pytest.raises(UserError, match="no such model; take one that is finished, such as final"):
        check_pseudo(solved, student(solved, pseudo__model="finale"))
    with pytest.raises(UserError, match="both would learn from final, which is built on it; take a variant: --pseudo final"):
        check_pseudo(solved, change(student(solved), name="both"))
    with pytest.raises(UserError, match="numbers have no confidence"):
        check_pseudo(solved, student(solved, pseudo__above=0.9))
    with pytest.raises(UserError, match=r"pseudo.above is 0.3; take 0 .* or from 0.5"):
        Pseudo("final", above=0.3)
    with pytest.raises(UserError, match="there is no source clinic; add it"):
        check_pseudo(solved, student(solved, pseudo__rows="clinic"))


def test_a_teammates_table_is_no_part_of_a_model_that_labels(solved):
    """The planted leak: one answer for test, of models that met the scored rows of every fold."""
    write_json(solved.paths.oof / "mate" / OUTSIDE, {"name": "mate", "tables": [], "mark": "", "suspected": []})
    stackers = (*solved.competition.models.stackers, Stacker("pair", "mean", ("final", "mate")))
    models = replace(solved.competition.models, stackers=stackers)
    mixed = replace(solved, competition=replace(solved.competition, models=models))
    with pytest.raises(LeakError, match="pair is built on mate, whose answers of test came as a table"):
        prepare(mixed, [student(mixed, pseudo__model="pair")])


def test_what_a_model_is_sure_of_becomes_a_label_and_the_rest_none():
    values = np.array([[0.95, 0.02], [0.95, 0.3], [0.1, 0.08], [np.nan, 0.99]], np.float32)
    assert np.array_equal(confident(values, [], 0.9), [[1, 0], [np.nan] * 2, [0, 0], [np.nan] * 2], equal_nan=True)
    classes = np.array([[0.9, 0.05, 0.05, 0.2, 0.8], [0.9, 0.1, 0.0, 0.6, 0.4]], np.float32)
    assert np.array_equal(confident(classes, [3, 2], 0.75), [[1, 0, 0, 0, 1], [np.nan] * 5], equal_nan=True)


def opened(tmp_path, *words):
    arguments = parser("", "pseudo", "only", "name", "dry_run")
    return open_context(arguments.parse_args(["_template", "--demo", "--out-dir", str(tmp_path), *words]), lambda *_: DEMO)


def test_the_option_makes_a_variant_of_each_network_or_the_one_that_is_named(tmp_path):
    both = opened(tmp_path, "--pseudo", "final")
    assert [(one.name, one.pseudo) for one in both.experiments] == [
        ("resnet_pseudo", PSEUDO), ("byobnet_pseudo", PSEUDO)]
    more = ("--pseudo", "final", "--only", "resnet", "--name", "more", "--set", "pseudo.rows=clinic")
    with pytest.raises(UserError, match="more: there is no source clinic; add it with: python src/add_source.py _template"):
        opened(tmp_path, *more)
    (both.paths.sources / "clinic").mkdir(parents=True)
    one = opened(tmp_path, *more)
    assert [one.pseudo for one in one.experiments] == [Pseudo("final", "clinic")]
    opened(tmp_path, "--pseudo", "resnet", "--only", "byobnet", "--name", "none", "--dry-run")
    assert list(read_variants(both.paths)) == ["resnet_pseudo", "byobnet_pseudo", "more"]
    with pytest.raises(UsageError, match="--pseudo is by hand, when all stages are done: python src/04_train.py"):
        opened(tmp_path, "--pseudo", "final", "--all-stages")


def test_unlabeled_pictures_of_a_source_are_labeled_trained_on_and_told_in_the_page(context, clinic, capsys):  # noqa: F811
    """From pictures without labels to the gain, with networks that are trained here."""
    base = context.competition.recipe("resnet")
    for fold in range(3):
        train_fold(context, base, fold)
        for split in ("train", "test"):
            predict_fold(context, base, fold, split)
    add_source(context, "bare", Wish(clinic.folder))
    recipe = add_variant(context, "resnet", "taught", {"pseudo__model": "resnet", "pseudo__rows": "bare"})
    prepare(context, [recipe])
    assert "kept fold0.parquet" not in capsys.readouterr().out
    rows, folds, _ = learned_rows(context, recipe, 1)
    said = answers_of(context, recipe.pseudo, 1).set_index("id")["diameter"]
    assert (folds == EVERY).sum() == 8 and rows["diameter"].iloc[-1] == pytest.approx(said["new7"])
    for fold in range(3):
        train_fold(context, recipe, fold)
        predict_fold(context, recipe, fold, "train")
    assert [one.status for one in pseudo_labels(open_scene(context))] == [OK]
    prepare(context, [recipe])
    assert "making" not in capsys.readouterr().out.split("predict taught")[-1]

    train, fold = read_rows(context, "train")
    tables = {name: pd.concat([read_table(fold_file(context.paths.oof / name, one, "train")) for one in range(3)])
              for name in ("resnet", "taught")}
    oof = {name: aligned(train, table, ("diameter",)) for name, table in tables.items()}
    nothing = pd.DataFrame()
    evidence = Evidence(context, task_of(context), list(oof), read_index(context), nothing, nothing, train, fold, oof,
                        nothing, nothing, None)
    blocks = {block.caption: block.frame for block in added_blocks(evidence)[1:]}
    assert blocks["Rows that a model labeled"]["rows"].tolist() == [8]
    assert blocks["Other sources"]["networks"].tolist() == ["taught"]
    gain = blocks["What the added rows bring"].iloc[0]
    assert gain["network"] == "taught" and gain["gain"] == pytest.approx(gain["without"] - gain["score"], abs=1e-6)
