"""``--recipes small``: another set of recipes on the data of the same competition, its results kept apart."""

from argparse import Namespace

import pytest

from competitions import NAMES, load, variants
from radstack.core.errors import UsageError, UserError
from radstack.nets.sources import PACKAGED
from radstack.running.cli import command_parser, make_context, open_context
from radstack.running.context import Options

SETS = [name for name in NAMES if "small" in variants(name)]


@pytest.mark.parametrize("name", SETS)
def test_small_recipes_read_the_same_data_and_write_into_folders_of_their_own(name, tmp_path):
    words = [name, "--recipes", "small", "--data-dir", str(tmp_path), "--out-dir", str(tmp_path)]
    context, whole = open_context(command_parser("").parse_args(words), load), load(name)
    assert context.paths.input == tmp_path / "input" / name
    assert context.paths.oof == tmp_path / "oof" / f"{name}-small"
    assert context.competition.targets == whole.targets and context.competition.metric == whole.metric
    assert not context.competition.phantoms
    assert context.command("04_train").startswith(f"python src/04_train.py {name} --recipes small ")


@pytest.mark.parametrize("name", SETS)
def test_small_recipes_start_from_what_pypi_has(name):
    starts = {one.backbone.name.removeprefix("pypi/") for one in load(f"{name}-small").models.experiments
              if one.backbone.pretrained}
    assert starts and starts <= set(PACKAGED)


def test_limit_keeps_the_small_run_apart_once_more(tmp_path):
    context = make_context(load("ich-small"), Options(limit=7, data_dir=str(tmp_path), out_dir=str(tmp_path)))
    assert (context.paths.source, context.paths.name) == ("ich", "ich-small-limit7")


@pytest.mark.parametrize(("name", "demo", "recipes", "kind", "words"), [
    ("ich", True, "small", UsageError, "leave one of them away"), ("ich", False, "smal", UserError, "small"),
    ("knee_age", False, "tiny", UserError, "set of recipes of knee_age"),
    ("", False, "small", UsageError, "which competition")])
def test_a_set_that_is_not_there_ends_in_one_line(name, demo, recipes, kind, words):
    with pytest.raises(kind, match=words):
        open_context(Namespace(competition=name, demo=demo, recipes=recipes), load)
