"""What decides a result is in its key: an artifact is made again where that changes, and kept where nothing does."""

from dataclasses import replace
from pathlib import Path

import pytest

from competitions import load
from radstack.commands.add_member import Tables, add_member
from radstack.core.artifact import Artifact
from radstack.core.recipe import change, digest
from radstack.recipes.experiment import Pseudo
from radstack.report.stage import report_artifact
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.stages import detect, sequence, stack
from radstack.stages.pseudo import labels_artifact
from radstack.stages.submit import submit_constant


def context_of(folder, name, **edits) -> Context:
    competition = change(load(name, demo=True), **edits)
    return make_context(competition, Options(data_dir=str(folder), out_dir=str(folder), device="cpu", workers=1))


def made(artifact: Artifact) -> Artifact:
    """The artifact as it is once made, from inputs that never change."""
    alone = replace(artifact, inputs=())

    def build() -> None:
        for path in alone.files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("made")

    alone.make(build)
    return alone


def why(artifact: Artifact) -> str:
    return replace(artifact, inputs=()).why()


# -- settings that change answers by the same weights -----------------------------------------------------------------


def test_answers_of_a_sequence_model_to_test_rows_are_old_where_its_recipe_changes(tmp_path):
    context = context_of(tmp_path, "ich")
    recipe = context.sequences[0]
    made(sequence.applied_artifact(context, recipe, 0))
    assert why(sequence.applied_artifact(context, recipe, 0)) == ""
    turned = change(recipe, reverse_tta=not recipe.reverse_tta)
    assert why(sequence.applied_artifact(context, turned, 0)) == "the recipe changed"
    assert why(sequence.applied_artifact(context, change(recipe, note="another"), 0)) == ""


def test_boxes_in_test_pictures_are_old_where_the_detector_answers_otherwise(tmp_path):
    context = context_of(tmp_path, "radius_ulna")
    localizer = context.competition.localizer
    made(detect.applied_artifact(context, localizer, 0))
    assert why(detect.applied_artifact(context, localizer, 0)) == ""
    for edit in ({"least_score": 0.2}, {"nms": (0.7, 0.5)}, {"proposals": (2000, 100)}):
        other = change(localizer, **{f"detector__{name}": value for name, value in edit.items()})
        assert why(detect.applied_artifact(context, other, 0)) == "the recipe changed", edit


# -- the metric -------------------------------------------------------------------------------------------------------


def captured(monkeypatch, work) -> Artifact:
    """The artifact that ``work`` asks for."""
    asked: list[Artifact] = []
    monkeypatch.setattr(Context, "make", lambda context, artifact, build: asked.append(artifact))
    work()
    return asked[0]


METRIC = {
    "sequence": lambda context, _: sequence.fitted_artifact(context, context.sequences[0], 0),
    "fit of a stack": lambda context, _: stack.fitted_artifact(context, context.stackers[-1]),
    "answers of a stack": lambda context, _: stack.applied_artifact(context, context.stackers[-1]),
    "constant": lambda context, patch: captured(patch, lambda: submit_constant(context)),
    "labels of a model": lambda context, _: labels_artifact(context, Pseudo(context.competition.models.final), 0),
    "member": lambda context, patch: captured(patch, lambda: add_member(context, "theirs", Tables(Path("a"), Path("b")))),
}


@pytest.mark.parametrize("name", METRIC)
def test_what_is_made_by_the_metric_has_another_key_where_the_metric_changes(tmp_path, monkeypatch, name):
    def key(**edits):
        return replace(METRIC[name](context_of(tmp_path, "ich", **edits), monkeypatch), inputs=()).key

    shown = {"metric__unit": "shown", "metric__also": "auc"}  # decides nothing
    assert key() == key() == key(**shown)
    assert len({key(), key(metric__weights=(1, 1, 1, 1, 1, 9)), key(metric__clip=1e-3)}) == 3


def test_a_stack_is_made_again_where_the_metric_changes_and_it_says_so(tmp_path):
    def fits(**edits):
        context = context_of(tmp_path, "ich", **edits)
        return stack.fitted_artifact(context, context.stackers[-1])

    made(fits())
    assert why(fits()) == "" and why(fits(metric__weights=(1, 1, 1, 1, 1, 9))) == "metric changed"


def test_the_report_is_old_where_the_metric_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("radstack.report.stage.models", lambda context: [])
    keys = [digest(report_artifact(context_of(tmp_path, "ich", **edits)).recipe) for edits in (
        {}, {}, {"metric__unit": "shown"}, {"metric__weights": (1, 1, 1, 1, 1, 9)})]
    assert keys[0] == keys[1] and len({*keys}) == 3
