"""What decides a result is in its key: an artifact is made again where that changes, and kept where nothing does."""

from dataclasses import replace

from competitions import load
from radstack.core.artifact import Artifact
from radstack.core.recipe import change
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.stages import detect, sequence


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
