"""The shape of the repository: arrows point one way, scripts stay short, recipes are whole."""

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from competitions import load
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.running.cli import make_context, reopen
from radstack.running.context import Options, add_variant, make_variants

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "src").glob("[0-9]*.py"))
LIBRARY = sorted((ROOT / "src/radstack").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_library_knows_no_competition():
    assert len(LIBRARY) > 50
    for path in LIBRARY:
        assert not [name for name in imported(path) if name.startswith("competitions")], path
        assert "Hounsfield" not in path.read_text(), path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_says_what_it_reads_writes_and_costs(script):
    text = script.read_text()
    assert len(text.splitlines()) <= 40
    doc = ast.get_docstring(ast.parse(text))
    assert all(word in doc for word in ("writes", "command", "takes"))


def test_help_starts_without_torch():
    code = "import sys; sys.argv = ['x', '--help']; import runpy\n" \
           "try: runpy.run_path(sys.argv.pop() and %r, run_name='__main__')\nexcept SystemExit: pass\n" \
           "sys.exit('torch' in sys.modules)"
    for script in SCRIPTS:
        environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
        done = subprocess.run([sys.executable, "-c", code % str(script)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, (script.name, done.stderr)


def test_readme_names_every_script_and_room():
    readme = (ROOT / "README.md").read_text()
    for path in SCRIPTS:
        assert path.name in readme
    named = set(re.findall(r"[\w]+(?:\.py|/)", readme))
    for path in (ROOT / "src/radstack").iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            assert (path.name if path.is_file() else f"{path.name}/") in named, path.name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/results.md"])
def test_every_file_that_a_page_names_is_there(page):
    text, folders = (ROOT / page).read_text(), (ROOT, ROOT / "src", ROOT / "src/radstack")
    named = re.findall(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|md|ipynb|jpg|png|sh)\b|\b\w+\.sh\b", text)
    for name in named:
        if not name.startswith(("input/", "..")):
            assert any((folder / name).exists() for folder in (*folders, (ROOT / page).parent)), name
    for command in re.findall(r"(?:python|bash) ((?:src|benchmarks|\.ci)/[\w./]+)", text):
        assert (ROOT / command).exists(), command


@pytest.mark.parametrize("name", ["ich", "ich-demo", "ich-ablation"])
def test_recipes_are_unique_and_members_exist_before_they_are_used(name):
    competition = load(name)
    recipes = competition.recipes
    names = [recipe.name for recipe in recipes]
    assert len(set(names)) == len(names) and competition.models.final in names
    for place, recipe in enumerate(recipes):
        assert set(getattr(recipe, "members", ())) <= set(names[:place])
    for experiment in competition.models.experiments:
        assert isinstance(experiment, Experiment) and len(experiment.view.mean) == len(experiment.view.std)


def test_the_demo_has_four_backbones_of_three_sources():
    networks = {experiment.backbone.name for experiment in load("ich", demo=True).models.experiments}
    assert len(networks) >= 4 and len({name.split("/")[0] for name in networks}) >= 3


def test_a_full_recipe_can_be_called_on_the_demos_data():
    context = make_context(load("ich", demo=True), Options(only=("se_resnext50",), folds=(0, 1)))
    assert [experiment.view.side for experiment in context.experiments] == [512]
    assert "se_resnext50" not in [one.name for one in make_context(load("ich", demo=True), Options()).experiments]


def test_a_competition_with_a_missing_field_fails_at_import():
    whole = {field.name: getattr(load("ich"), field.name) for field in dataclasses.fields(Competition)}
    with pytest.raises(TypeError, match="targets"):
        Competition(**{name: value for name, value in whole.items() if name != "targets"})


def test_an_unknown_competition_names_the_nearest():
    with pytest.raises(UserError, match="'ich'"):
        load("ihc")


def test_a_variant_is_known_to_later_stages_and_its_name_is_taken_once(tmp_path):
    context = make_context(load("ich"), Options(out_dir=str(tmp_path)))
    add_variant(context, "se_resnext50", "hot", {"optim__lr": 1e-3})
    later = reopen(context.plain() | {"only": ["hot"]}, load)
    assert later.experiments == [change(load("ich").recipe("se_resnext50"), name="hot", optim__lr=1e-3)]
    with pytest.raises(UserError, match="taken"):
        add_variant(context, "se_resnext50", "hot", {"optim__lr": 1e-2})
    with pytest.raises(UserError, match="taken"):
        add_variant(context, "se_resnext50", "inception_v3", {})
    with pytest.raises(UserError, match="did you mean 'lr'"):
        add_variant(context, "se_resnext50", "cold", {"optim__rl": 1e-2})
    assert [item.name for item in make_variants(context.competition, context.paths)] == ["hot"]


def test_edits_of_the_competition_reach_jobs_on_other_machines(tmp_path):
    context = make_context(load("ich"), Options(out_dir=str(tmp_path), edits=("folds.count=7", "cache.size=[512, 512]")))
    assert reopen(context.plain(), load).competition.cache.size == (512, 512)
    assert context.folds_of(context.competition.models.experiments[0]) == list(range(7))
    assert make_context(load("ich"), Options(limit=9)).paths.cache.name == "ich-limit9"
