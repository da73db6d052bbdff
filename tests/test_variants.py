"""Variants of recipes: any field, tried before they are recorded; listed, renamed, removed; none holds up a run of all."""

import json

import numpy as np
import pandas as pd
import pytest

from competitions import load
from radstack.commands.variants import listed, remove, rename
from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import write_json, write_table, write_text
from radstack.core.folds import ALL
from radstack.core.recipe import change, parse_edits
from radstack.nets.backbones import build
from radstack.recipes.detector import FourSteps
from radstack.running.cli import chosen, make_context, open_context, parser
from radstack.running.context import Options, add_variant, variants_file
from radstack.running.tasks import Task, make_all
from radstack.stages import train as stage
from radstack.stages.more_rows import prepare
from radstack.stages.predict import predictions_artifact
from radstack.stages.sequence import lessons_of
from radstack.stages.stack import applied_artifact, fitted_artifact, stack_folds
from radstack.stages.train import weights_file
from radstack.training.tryout import check_words, try_out


def context_in(folder, name="ich", demo=True, **options):
    return make_context(load(name, demo), Options(data_dir=str(folder), out_dir=str(folder), **options))


def opened(folder, *words, name="ich"):
    arguments = parser("", "only", "folds", "name", "dry_run", "force")
    return open_context(arguments.parse_args([name, "--demo", "--out-dir", str(folder), *words]), load)


# -- any field of a recipe ----------------------------------------------------------------------------------------------

def edited(recipe, *pairs):
    return change(recipe, **parse_edits(list(pairs)))


def test_any_nested_field_can_be_set():
    knee, bones, slice_net = load("knee_age"), load("radius_ulna"), load("ich").recipe("se_resnext50")
    steps = edited(knee, "localizer.steps.bone_mask.experiment.train.epochs=3",
                   "localizer.steps.1.experiment.backbone.args.width=4").localizer.steps
    assert steps[0].experiment.train.epochs == 3 and steps[1].experiment.backbone.args == {"width": 4}
    assert edited(bones, "localizer.detector.schedule=FourSteps").localizer.detector.schedule == FourSteps()
    given = edited(bones, 'localizer.detector.schedule={"is": "FourSteps", "iterations": [8, 4, 8, 4]}')
    assert given.localizer.detector.schedule == FourSteps((8, 4, 8, 4))
    view = edited(slice_net, 'view.channels=[{"window": [40, 80]}]', "view.mean=[57.0]", "view.std=[82.7]").view
    assert [channel.window for channel in view.channels] == [(40, 80)] and view.mean == (57.0,)
    assert edited(slice_net, "view.channels.0.window=[50, 100]").view.channels[0].window == (50, 100)
    assert edited(slice_net, "augment.Rotate.args.limit=5").augment[2].args == {"limit": 5, "p": 0.7}


@pytest.mark.parametrize(("edit", "said"), [
    ('view.channels=[{"window": [40, 80]}]', "a view of 1 channels has 3 means"),
    ("view.channels.7.window=[1, 2]", "view.channels has no item '7'; take one of 0, 1, 2"),
    ("augment.Rotat.p=1", "no item 'Rotat'; take one of RandomResizedCrop, HorizontalFlip, Rotate"),
    ("loss=Ordnal", "loss takes BinaryCrossEntropy or"),
    ('view.channels=[{"windw": [40, 80]}]', "Channel has no field 'windw'; did you mean 'window'"),
])
def test_what_cannot_be_set_says_what_can(edit, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        edited(load("ich").recipe("se_resnext50"), edit)


def test_the_four_step_detector_and_a_resnet_are_chosen_by_name_in_the_demo_too():
    for name, kind, trunk in (("demo_four_steps", FourSteps, "zfnet"), ("demo_resnet18", None, "resnet18_fpn")):
        found = make_context(load("radius_ulna", True), Options(edits=(f"localizer.detector={name}",))).competition.localizer
        assert found.detector.trunk == trunk and (kind is None or isinstance(found.detector.schedule, kind))
        assert found.detector.short_side < 600  # as small as the phantoms


# -- tried before anything is recorded or trained -----------------------------------------------------------------------

@pytest.mark.parametrize(("edit", "said"), [
    ("backbone.name=timm/resnet_typo", "no timm model 'resnet_typo'"), ("tta=['plain','hflop']", "did you mean 'hflip'"),
    ("optim.name=adan", "adan"), ("schedule.name=cosin", "cosine"), ("train.precision=bf61", "bf16"),
    ("augment=[{'name': 'Rotat'}]", "Rotat"), ("loss=Ordnal", "Ordinal"), ("targets=['anny']", "anny"),
    ("targets=['any']", r"mine\.targets leaves out epidural, .*, and weighted log loss needs all targets"),
])
def test_a_variant_that_cannot_work_is_refused_before_it_is_recorded(tmp_path, edit, said):
    with pytest.raises(UserError, match=said):
        opened(tmp_path, "--only", "resnet", "--set", edit, "--name", "mine")
    assert not list(tmp_path.rglob("*"))


def test_sizes_that_do_not_fit_are_said_by_two_random_pictures():
    good = load("ich", True).recipe("vgg_means")
    try_out(good, load("ich").targets)
    with pytest.raises(UserError, match=r"not \(48, 48\)"):
        try_out(change(good, view__side=48), load("ich").targets)


def test_networks_of_some_targets_need_groups_of_classes(tmp_path):
    context = context_in(tmp_path)
    one = change(context.competition.recipe("resnet"), targets=("any", "epidural"))
    with pytest.raises(UserError, match="leaves out .*leave targets empty"):
        prepare(context, [one])
    both = load("radius_ulna")
    some = next(one for one in both.models.experiments if one.targets)
    assert both.targets_of(some) == some.targets != both.targets
    assert context.competition.targets_of(change(one, targets=context.competition.targets)) == context.competition.targets


def test_names_that_only_prediction_reads_stop_training_before_it_begins(tmp_path, monkeypatch):
    context = context_in(tmp_path)
    one = change(context.competition.recipe("resnet"), tta=("hflop",))
    rows = pd.DataFrame({"id": ["a"], **dict.fromkeys(context.competition.targets, 0.0)})
    monkeypatch.setattr(stage, "learned_rows", lambda *_: (rows, np.zeros(1, int), None))
    with pytest.raises(UserError, match="no test-time view 'hflop'"):
        stage._run(context, one, 0, None, None)


@pytest.mark.parametrize(("edits", "said"), [
    ({"sampling__weight": "wight"}, "no column of the row table 'wight'.*weight"),
    ({"optim__name": "adan"}, "optimizer 'adan'"), ({"train__restarts": 2}, "train.restarts needs a loss of values"),
])
def test_what_would_fail_within_training_or_after_it_is_refused_before(edits, said):
    competition = load("ich", True)
    rows = pd.DataFrame({"weight": [1.0], **dict.fromkeys(competition.targets, 0.0)})
    with pytest.raises(UserError, match=said):
        check_words(change(competition.recipe("resnet"), **edits), competition.targets, rows)


@pytest.mark.parametrize("name", [one.name for one in load("knee_age", True).models.on_call])
def test_full_recipes_of_knees_fit_the_slices_and_bone_networks_of_the_demo(name):
    demo = load("knee_age", True)
    recipe = demo.recipe(name)
    assert recipe.view.size == demo.recipe("masked_pretrained").view.size
    if recipe.backbone.start:
        bones = next(step.experiment for step in demo.localizer.steps if step.experiment.name == recipe.backbone.start)
        assert recipe.backbone.args == bones.backbone.args
        whole = build(change(bones.backbone, pretrained=False), 1, 1).state_dict()
        own = build(change(recipe.backbone, pretrained=False, start=""), 1, 1).state_dict()
        assert all(whole[key].shape == value.shape for key, value in own.items() if key.startswith("body.") and key in whole)
    try_out(recipe, demo.targets)


# -- folds and weights --------------------------------------------------------------------------------------------------

def test_a_member_of_some_folds_is_one_at_every_level(tmp_path):
    context = context_in(tmp_path)
    add_variant(context, "byobnet_neighbors", "few", {"folds": (0, 2)})
    add_variant(context, "bilstm", "few_bilstm", {"members": ("few",)})
    add_variant(context, "blend", "few_blend", {"members": ("few_bilstm", "resnet")})
    for name in ("few", "few_bilstm", "few_blend"):
        assert stack_folds(context, name) == [0, 2]
    assert context.folds_of(next(one for one in context.sequences if one.name == "few_bilstm")) == [0, 2]
    assert stack_folds(context, "blend") == [0, 1, 2]


def test_a_sequence_that_reads_held_out_predictions_leaves_out_the_rows_of_other_folds(tmp_path, monkeypatch):
    from radstack.stages import sequence as level

    context = context_in(tmp_path)
    add_variant(context, "byobnet_neighbors", "few", {"folds": (0, 2)})
    rows = pd.DataFrame({"id": list("abcdef"), "group": list("abcdef"), "split": "train"})
    folds = pd.DataFrame({"group": list("abcdef"), "fold": [0, 1, 2, 0, 1, 2]})
    monkeypatch.setattr(level, "read_folds", lambda _: folds)
    monkeypatch.setattr(level, "read_arrays", lambda *given: given[-1])
    own = change(context.competition.recipe("bilstm"), members=("few",))
    assert lessons_of(context, own, 0, rows)[0]["id"].tolist() == list("abcdef")  # fold 0's network reads every row
    left, read = lessons_of(context, change(own, logits=True), 0, rows)
    assert left["id"].tolist() == list("acdf") and read.tolist() == [0, 2, 3, 5]


def test_a_variant_of_test_time_settings_uses_the_weights_of_its_base(tmp_path):
    context = context_in(tmp_path)
    add_variant(context, "resnet", "plain", {"tta": ("plain",)})
    add_variant(context, "resnet", "hot", {"optim__lr": 1.0})
    by_name = {one.name: one for one in context.experiments}
    files = {name: weights_file(context, one, 0) for name, one in by_name.items()}
    assert files["plain"] == files["resnet"] != files["hot"]


# -- listed, renamed, removed, passed over ------------------------------------------------------------------------------

def test_a_renamed_variant_keeps_what_was_made_by_it(tmp_path):
    context = context_in(tmp_path)
    add_variant(context, "blend", "mine", {"members": ("resnet", "vgg_means")})
    old, new = context.paths.weights / "mine", context.paths.weights / "yours"
    old.mkdir()
    (old / "fold0.npz").write_text("learned")
    rename(context, "mine", "yours")
    assert (new / "fold0.npz").read_text() == "learned" and not old.exists()
    assert "yours: blend with members=" in listed(context)[0] and len(listed(context)) == 1
    with pytest.raises(UserError, match="taken"):
        rename(context, "yours", "final")
    add_variant(context, "blend", "next", {"members": ("yours", "resnet")})
    with pytest.raises(UserError, match="a member of the variant next"):
        remove(context, "yours")
    remove(context, "next")
    remove(context, "yours")
    assert not new.exists() and "no variants" in listed(context)[0]
    with pytest.raises(UserError, match="no variant 'yours'"):
        remove(context, "yours")


def test_a_manifest_moves_to_the_new_name_with_a_key_that_fits(tmp_path, monkeypatch):
    from radstack.commands import variants as command

    def artifacts(context, recipe):
        file = context.paths.oof / recipe.name / "fold0.parquet"
        yield Artifact("05_predict", 1, (file,), {"name": recipe.name})

    monkeypatch.setattr(command, "artifacts_of", artifacts)
    context = context_in(tmp_path)
    add_variant(context, "resnet", "mine", {"optim__lr": 1e-3})
    made = next(artifacts(context, change(context.competition.recipe("resnet"), name="mine")))
    made.make(lambda: made.files[0].write_text("table") and {"score": 1.0})
    rename(context, "mine", "yours")
    moved = next(artifacts(context, change(context.competition.recipe("resnet"), name="yours")))
    assert moved.why() == "" and json.loads(moved.manifest.read_text())["score"] == 1.0


def test_a_renamed_variant_keeps_its_fit_on_all_rows(tmp_path):
    context = context_in(tmp_path)
    add_variant(context, "resnet", "mine", {"optim__lr": 1e-3})
    rows = pd.DataFrame({"id": ["a", "b"], "group": ["a", "b"], "split": ["train", "test"],
                         **dict.fromkeys(context.competition.targets, 0.0)})
    write_table(context.paths.cache / "rows.parquet", rows)
    write_table(context.paths.folds / "folds.csv", pd.DataFrame({"group": ["a"], "fold": [0]}))

    def of_all(name):
        one = next(recipe for recipe in context.recipes if recipe.name == name)
        return stage.weights_artifact(context, one, ALL), predictions_artifact(context, one, ALL, "test")

    for artifact in of_all("mine"):
        artifact.make(lambda artifact=artifact: write_text(artifact.files[0], "made"))
    rename(context, "mine", "yours")
    assert [artifact.why() for artifact in of_all("yours")] == ["", ""]


def test_folds_from_the_eleventh_on_are_counted(tmp_path):
    context = context_in(tmp_path, edits=("folds.count=12",))
    add_variant(context, "resnet", "mine", {"optim__lr": 1e-3})
    for fold in range(12):
        write_json(context.paths.oof / "mine" / f"fold{fold}.parquet.json", {})
    assert listed(context)[0].endswith("12 folds predicted")


def test_a_stale_variant_is_said_and_holds_up_nothing(tmp_path, capsys):
    write_json(variants_file(context_in(tmp_path).paths), {
        "old": {"base": "gone", "edits": {}}, "mine": {"base": "resnet", "edits": {"optim__lr": 1.0}}})
    context = opened(tmp_path, "--all-stages")
    assert [one.name for one in context.experiments][-1] == "mine"
    said = capsys.readouterr().out
    assert "passed over the variant old" in said and "src/variants.py ich --demo --remove old" in said
    with pytest.raises(UserError, match="no recipe any more"):
        opened(tmp_path, "--only", "old")
    assert "stale" in listed(context)[0]


@pytest.mark.parametrize("all_stages", [True, False])
def test_a_variant_that_fails_stops_no_run_of_all_stages(tmp_path, capsys, all_stages):
    context = context_in(tmp_path, all_stages=all_stages)
    add_variant(context, "resnet", "mine", {"optim__lr": 1.0})
    made = {one.name: one for one in context.experiments}

    def work(_, one):
        if one.name == "mine":
            raise UserError("no convergence")
        artifact(one).make(lambda: artifact(one).files[0].write_text("done") and None)

    def artifact(one):
        return Artifact("04_train", 1, (tmp_path / f"{one.name}.txt",), {})

    makers = [(artifact(made[name]), Task(name, work, (context, made[name]))) for name in ("mine", "resnet")]
    if all_stages:
        make_all(context, makers)
        assert "passed over the variant mine (no convergence)" in capsys.readouterr().out
    else:
        with pytest.raises(UserError, match="1 of 2 jobs failed: mine"):
            make_all(context, makers)
    assert (tmp_path / "resnet.txt").exists()


def test_only_takes_patterns_and_groups(tmp_path):
    context = context_in(tmp_path)
    add_variant(context, "resnet", "mine", {"optim__lr": 1.0})
    assert chosen(context, ("*_means", "mine")) == ("vgg_means", "mobilenet_means", "mine")
    assert chosen(context, ("@sequences", "@variants")) == ("bilstm", "two_level", "mine")
    assert set(chosen(context, ("@on_call",))) == {one.name for one in context.competition.models.on_call}
    assert "lite0" not in chosen(context, ("@networks",)) and "mine" in chosen(context, ("@networks",))
    for word in ("x*", "@nobody"):
        with pytest.raises(UserError, match="no such recipe; known: resnet"):
            chosen(context, (word,))


def test_a_dry_run_records_no_variant(tmp_path):
    context = opened(tmp_path, "--only", "resnet", "--set", "optim.lr=1e-3", "--name", "mine", "--dry-run")
    assert [one.name for one in context.experiments] == ["mine"] and not variants_file(context.paths).exists()


@pytest.mark.parametrize("of", [fitted_artifact, applied_artifact])
def test_an_edit_of_a_stacking_method_makes_fits_and_answers_anew(of, tmp_path, monkeypatch):
    context = context_in(tmp_path)
    stacker = context.competition.models.stackers[0]
    before = of(context, stacker).facts
    monkeypatch.setattr("radstack.stages.stack.code_digest", lambda thing: "edited")
    assert of(context, stacker).facts != before


def test_a_stack_of_a_misspelled_member_says_which_recipes_there_are(tmp_path):
    context = context_in(tmp_path)
    said = context.make_with(context.paths.oof / "resnett" / "fold0.parquet")
    assert said.startswith("no recipe is called 'resnett'") and "resnet, " in said
