"""Keys hold the code that a recipe runs: an edit of it changes them, another run, machine or Python does not."""

import ast
import json
import shutil
import subprocess
import sys
import typing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from test_core import written

from competitions import load
from radstack.core import code as codes
from radstack.core.code import code_of
from radstack.core.recipe import as_dict, change, digest
from radstack.nets.own import OWN
from radstack.recipes import losses
from radstack.recipes.competition import FoldRecipe
from radstack.recipes.experiment import Backbone
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages.predict import predictions_artifact
from radstack.stages.train import weights_artifact

BY_SEED = '''
import functools


class BySeed:
    def __init__(self, seed):
        self.seed = seed

    def __call__(self, train, labels, count, seed):
        return by_site(train, labels, count, self.seed)

    def deal(self, train, labels, count, seed):
        return self(train, labels, count, seed)


def by_site(train, labels, count, seed):
    return train.assign(fold=train["site"] % count)


@functools.cache
def kept(train, labels, count, seed):
    return by_site(train, labels, count, seed)
'''


def test_a_dealer_that_is_no_function_has_a_key_that_every_run_shares(tmp_path, monkeypatch):
    edits = BY_SEED.replace("self.seed)", "self.seed + 1)").replace("% count", "// count")
    edits = edits.replace("    return by_site(train, labels, count, seed)", "    return None")

    def keys(name, code):
        module = written(tmp_path, name, code)
        monkeypatch.setitem(sys.modules, name, module)  # where a class is found by its code
        dealers = (module.BySeed(1), module.BySeed(2), module.BySeed(1).deal, partial(module.by_site, seed=1), module.kept)
        assert "0x" not in json.dumps([as_dict(FoldRecipe(dealer=dealer)) for dealer in dealers])
        return [digest(FoldRecipe(dealer=dealer)) for dealer in dealers]

    made = keys("first", BY_SEED)
    assert made == keys("again", BY_SEED) and len({*made}) == 5 and not {*made} & {*keys("edited", edits)}


def test_a_set_in_a_recipe_has_one_key_whatever_the_hashes_of_a_run_are():
    code = "from radstack.core.recipe import digest; print(digest({'one', 'two', 'three', 'four', 'five'}))"
    made = {subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, env={
        "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "PYTHONHASHSEED": str(seed)}).stdout for seed in range(3)}
    assert len(made) == 1


# -- the code of a loss and of a network ------------------------------------------------------------------------------

TIDE = '''
"""A loss of one's own."""
from radstack.nets.objective_base import Objective

HALF = 0.5


class Shifted(Objective):
    """What several share."""

    def rows(self, out, labels):
        return (out - labels).abs().mean(1) * HALF


class TideObjective(Shifted):
    def answer(self, out):
        return out  # as they are


class EbbObjective(Objective):
    def answer(self, out):
        return -out
'''


@dataclass(frozen=True)
class Tide(losses.Regression):
    """A loss whose objective stands in a module of a competition."""

    objective_in: ClassVar[str] = "tides"


def test_an_edit_of_a_loss_changes_every_key_that_holds_it_and_one_of_another_loss_does_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def keys(code):
        (tmp_path / "tides.py").write_text(code)
        codes._definitions.cache_clear()
        codes._code_at.cache_clear()
        one = change(load("ich").models.experiments[0], loss=Tide())
        return digest(one), digest({"steps": [one]})

    before = keys(TIDE)
    for same in (("HALF = 0.5", "HALF = 0.5\nOTHER = 2"), ("-out", "2 * out"), ("as they", "so"), ("What several", "All")):
        assert keys(TIDE.replace(*same)) == before, same
    for other in (("return out ", "return out + 1 "), (".abs()", ".square()"), ("HALF = 0.5", "HALF = 0.4")):
        assert not set(keys(TIDE.replace(*other))) & set(before), other
    assert "tides" not in sys.modules


def test_the_code_of_every_shipped_loss_and_network_is_found_without_importing_it():
    kinds = typing.get_args(losses.LossRecipe)
    code = [code_of(kind()) for kind in kinds]
    assert len(kinds) > 8 and len({one["computed"] for one in code}) == len(kinds)
    assert all(code_of(Backbone(f"radstack/{name}")) for name in OWN) and code_of(Backbone("timm/resnet18")) == {}
    script = ("import sys; from radstack.core.code import code_of; from radstack.recipes.losses import Dice; "
              "print(code_of(Dice())['computed'], 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True,
                          env={"PYTHONPATH": str(Path(__file__).parents[1] / "src")})
    assert done.stdout.split() == [code_of(losses.Dice())["computed"], "False"]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_a_key_is_the_same_under_every_version_of_python(version):
    python = shutil.which(f"python{version}") or ""
    if not python or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"no python{version}")
    place, code = Path(__file__).parents[1] / "src/radstack", "print(_tree_digest(ast.parse(open(sys.argv[1]).read())))"
    source = (place / "core/code.py").read_text()
    for file in (place / "core/recipe.py", place / "nets/objectives.py"):
        done = subprocess.run([python, "-c", source + "\n" + code, str(file)], text=True, capture_output=True, check=True)
        assert done.stdout.strip() == codes._tree_digest(ast.parse(file.read_text()))


def test_networks_and_their_predictions_hold_the_code_of_the_loss(tmp_path):
    context = make_context(load("ich", demo=True), Options(out_dir=str(tmp_path)))
    one, code = context.experiments[0], code_of(context.experiments[0].loss)
    assert as_dict(weights_artifact(context, one, 0).recipe)["experiment"]["loss"].items() >= code.items() != {}.items()
    assert code in as_dict(predictions_artifact(context, one, 0, "train").recipe)["code"]
    assert as_dict(context.sequences[0])["loss"].items() >= code_of(context.sequences[0].loss).items()


@pytest.mark.parametrize("name", ["ich", "bone_age", "knee_age", "radius_ulna"])
def test_no_key_depends_on_a_note(name):
    competition = load(name)
    steps = [step.experiment for step in getattr(competition.localizer, "steps", ())]
    noted = [*competition.recipes, *steps, *filter(None, [getattr(competition.localizer, "detector", None)])]
    assert len(noted) > 10
    for recipe in noted:
        assert digest(as_dict(change(recipe, note="another"))) == digest(as_dict(recipe)), recipe.name
