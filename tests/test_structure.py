"""The shape of the repository: arrows point one way, scripts stay short, recipes are whole."""

import ast
import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import run_script

from competitions import load
from radstack.core.errors import Missing, UserError
from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.running.cli import (
    COMMON,
    make_context,
    open_context,
    parser,
    readers,
)
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


ROOMS = ("core", "images", "scoring", "recipes", "nets", "training", "detection", "sequence", "stack", "submission",
         "running", "stages", "report", "commands")
"""From low to high, as CONTRIBUTING.md has them."""


def test_rooms_import_downward_only():
    assert {path.name for path in (ROOT / "src/radstack").iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)
    upward, arrows = [], 0
    for path in LIBRARY:
        own = path.relative_to(ROOT / "src/radstack").parts[0]
        for name in imported(path):
            room = name.split(".")[1] if name.startswith("radstack.") else ""
            arrows += bool(room)
            if room and ROOMS.index(room) > ROOMS.index(own):
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert arrows > 500 and not upward
    assert " ".join(ROOMS) in (ROOT / "CONTRIBUTING.md").read_text()


def test_phantoms_know_no_stage():
    phantoms = list((ROOT / "src/phantoms").rglob("*.py"))
    assert len(phantoms) > 10
    for path in phantoms:
        assert not [name for name in imported(path) if name.startswith(("radstack.stages", "radstack.report"))], path


def test_the_library_knows_no_competition():
    assert len(LIBRARY) > 50
    for path in LIBRARY:
        assert not [name for name in imported(path) if name.split(".")[0] in ("competitions", "phantoms")], path
        assert "Hounsfield" not in path.read_text(), path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_says_what_it_reads_writes_and_costs(script):
    text = script.read_text()
    assert len(text.splitlines()) <= 40
    doc = ast.get_docstring(ast.parse(text))
    first = ("reads    ",) if script.name != "00_get_data.py" else ()  # which reads nothing of ours
    said = [line for line in doc.splitlines()[2:] if not line.startswith(" ")]
    assert len(said) == len(first) + 3
    assert all(map(str.startswith, said, (*first, "writes   ", "command  ", "takes    ")))


HELP = """
import os, runpy, sys
import pandas  # which all may import, once for all
for script in sys.argv[1:]:
    if not os.fork():
        sys.argv = [script, "--help"]
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit:
            pass
        sys.stdout.flush()
        os._exit(bool({"torch", "scipy.stats", "sklearn"} & set(sys.modules)))
    if os.wait()[1]:
        sys.exit(script)
"""
"""Forks for each script, asks it for help, and names the first that fails or has imported what is slow."""


def test_help_starts_without_what_is_slow_to_import():
    done = subprocess.run([sys.executable, "-c", HELP, *map(str, SCRIPTS)], capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(SCRIPTS)


def test_readme_names_every_script_and_room():
    readme = (ROOT / "README.md").read_text()
    for path in SCRIPTS:
        assert path.name in readme
    named = set(re.findall(r"[\w]+(?:\.py|/)", readme))
    for path in (ROOT / "src/radstack").iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            assert (path.name if path.is_file() else f"{path.name}/") in named, path.name


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_every_place_that_a_page_links_to_is_there(page):
    for name, part in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", (ROOT / page).read_text()):
        to = (ROOT / page).parent / name if name else ROOT / page
        assert to.exists(), name
        headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE) if part else []
        assert not part or part in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings], part


@pytest.mark.parametrize("page", PAGES)
def test_an_option_that_a_page_names_is_one_of_the_script(page):
    general = {name.replace("_", "-") for name in (*COMMON, "set", "help", "demo", "recipes")}
    words = {script.name: script.read_text() for script in (ROOT / "src").glob("*.py")}
    words["new_competition.py"] = (ROOT / "src/radstack/commands/own/options.py").read_text()
    for name, options in re.findall(r"python src/(\w+\.py)((?: +(?!#)[^\s`#]+| \\\n +)*)", (ROOT / page).read_text()):
        for option in re.findall(r"(?<= )--(?:no-)?([a-z-]+)", options):
            known = rf'"(--)?({option}|{option.replace("-", "_")})"'
            assert option in general or re.search(known, words[name]), (name, option)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    text, folders = (ROOT / page).read_text(), (ROOT, ROOT / "src", ROOT / "src/radstack")
    named = re.findall(r"(?<![/\w.-])(?:[\w.-]+/)+[\w.-]+\.(?:py|md|ipynb|jpg|png|sh)\b|\b\w+\.sh\b", text)
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


def test_the_demo_has_networks_of_three_sources_at_hand():
    demo = load("ich", demo=True)
    small = [one for one in (*demo.models.experiments, *demo.models.on_call) if one.view.size[0] <= demo.cache.size[0]]
    assert len({one.backbone.name for one in small}) >= 4
    assert len({one.backbone.name.split("/")[0] for one in small}) >= 3


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
    later = make_context(load("ich"), change(context.options, only=("hot",)))
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
    there = pickle.loads(pickle.dumps(context))
    assert there.competition.cache.size == (512, 512)
    assert context.folds_of(context.competition.models.experiments[0]) == list(range(7))
    assert make_context(load("ich"), Options(limit=9)).paths.cache.name == "ich-limit9"


def test_every_option_is_read_by_a_stage_and_declared_under_its_own_name():
    names = {option.name for option in dataclasses.fields(Options)} - {*COMMON, "all_stages"}
    assert not [name for name in names if not readers(name)]
    declared = {word for script in SCRIPTS for call in re.findall(r"parser\(__doc__,([^)]*)", script.read_text())
                for word in re.findall(r'"(\w+)"', call)}
    assert declared == names
    assert readers("folds") == ["04_train.py", "05_predict.py", "06_sequence.py"]


@pytest.mark.parametrize(("script", "options", "said"), [
    ("09_report", "--folds 7", "09_report.py does not read --folds; 04_train.py, 05_predict.py, 06_sequence.py do"),
    ("01_make_folds", "--only resnet", "does not read --only; 04_train.py"),
    ("07_stack", "--folds 0", "does not read --folds"),
    ("02_localize", "--folds 0", "does not read --folds"),
    ("04_train", "--demo-size 9", "--demo-size; 00_get_data.py does")])
def test_a_stage_refuses_what_it_does_not_read(script, options, said):
    done = run_script(script, "bone_age", "--demo", *options.split())
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_with_all_stages_it_passes_over_what_others_read_and_what_none_reads_ends_the_first(tmp_path):
    given = ("ich", "--demo", "--out-dir", str(tmp_path), "--data-dir", str(tmp_path), "--dry-run", "--all-stages")
    others = ("--folds", "0", "--ray", "auto", "--no-resume", "--push", "two words")
    done = run_script("00_get_data", *given, *others, "--demo-size", "9")
    assert done.returncode == 0 and "would draw 9 series" in done.stdout
    for wrong in (("--flods", "0"), ("--only", "resent"), ("--folds", "one")):
        done = run_script("00_get_data", *given, *wrong)
        # The parser ends with 2; a recipe that is not there is an error of the run, 1 as any.
        assert done.returncode == (1 if wrong[0] == "--only" else 2) and not done.stdout
        assert done.stderr.startswith("error: ") and wrong[1 if wrong[0] != "--flods" else 0] in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert "nothing is drawn" in run_script("00_get_data", "ich", *given[2:]).stdout


def test_options_of_the_command_line_become_those_of_the_context():
    def opened(line):
        arguments = parser("", "jobs", "ray", "only", "name", "resume", "workers")
        return open_context(arguments.parse_args(line.split()), load).options

    assert opened("ich --demo --ray auto --no-resume --only resnet") == Options(ray="auto", resume=False, only=("resnet",))
    assert opened("ich --ray=auto").ray == "auto" and opened("ich --ray --jobs 2") == Options(ray="local", jobs=2)
    assert [opened(f"ich {more}").jobs for more in ("--demo", "--demo --all-stages", "--demo --all-stages --jobs 1",
                                                    "--all-stages")] == [1, 3, 1, 1]


@pytest.mark.parametrize("script", ["04_train", "clean", "doctor", "verify"])
def test_without_a_name_a_script_lists_the_competitions(script):
    done = run_script(script, *(["--yes"] if script == "clean" else []))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout
    assert "ich, bone_age, knee_age, radius_ulna" in done.stderr and f"{script}.py ich --demo" in done.stderr


def test_a_missing_input_names_the_competition_its_phantoms_and_the_folders(tmp_path):
    folders = ("--data-dir", str(tmp_path), "--out-dir", str(tmp_path))
    said = run_script("07_stack", "ich", "--demo", *folders, "--only", "blend", "--dry-run").stdout
    assert f"make it with: python src/03_cache.py ich --demo {' '.join(folders)}" in said
    context = make_context(load("ich"), Options(limit=9))
    assert context.make_with(Path("oof/ich/blend/fold0.parquet")) == (
        "make it with: python src/07_stack.py ich --only blend --limit 9")
    assert context.make_with(context.paths.input / "sample.csv") == (
        "get the data with: python src/00_get_data.py ich --limit 9")


@pytest.mark.parametrize(("path", "script"), [
    ("input/ich-demo/any/file.dcm", "00_get_data"), ("folds/ich-demo/index.parquet", "01_make_folds"),
    ("folds/ich-demo/quarantine.csv", "01_make_folds"), ("cache/ich-demo/quarantine.csv", "02_localize"),
    ("cache/ich-demo/rows.parquet", "03_cache"), ("weights/ich-demo/resnet/fold0.safetensors", "04_train"),
    ("oof/ich-demo/resnet/fold0.parquet", "05_predict"), ("oof/ich-demo/bilstm/fold0.parquet", "06_sequence"),
    ("oof/ich-demo/final/fold0_test.parquet", "07_stack"), ("submissions/ich-demo/final.csv", "08_submit"),
    ("reports/ich-demo/scores.csv", "09_report")])
def test_an_error_that_names_a_missing_file_says_what_to_type_wherever_it_is_raised(tmp_path, path, script):
    make_context(load("ich", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    error = pickle.loads(pickle.dumps(Missing(tmp_path / path)))
    verb = "get the data" if script == "00_get_data" else "make it"
    assert f"is missing; {verb} with: python src/{script}.py ich --demo" in str(error)
    make_context(load("bone_age"), Options())
    assert str(Missing(Path("elsewhere.csv"))) == "elsewhere.csv is missing; check the path"


@pytest.mark.parametrize("name", ["ich", "bone_age", "knee_age", "radius_ulna"])
def test_a_folder_without_label_tables_says_what_to_type(tmp_path, name):
    folders = ("--data-dir", str(tmp_path), "--out-dir", str(tmp_path))
    (tmp_path / "input" / f"{name}-demo").mkdir(parents=True)
    done = run_script("01_make_folds", name, "--demo", *folders)
    assert done.returncode == 1 and f"get the data with: python src/00_get_data.py {name} --demo --data-dir" in done.stderr


def test_no_module_writes_the_command_of_a_stage_itself():
    for path in (ROOT / "src").glob("*/**/*.py"):
        assert "python src/" not in path.read_text(), path


@pytest.mark.parametrize("name", ["ich", "bone_age", "knee_age", "radius_ulna"])
def test_stages_that_find_nothing_to_do_import_nothing_slow(name):
    """Each of these takes a tenth of a second to a few seconds to import, in each of ten stages."""
    slow = ("torch", "torchvision", "timm", "sklearn", "scipy", "lightgbm", "pydicom", "matplotlib", "SimpleITK", "skimage",
            "albumentations")
    code = f"""
import importlib, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "src")!r})
from competitions import load
import radstack.running.cli, radstack.report.stage
for demo in (False, True):
    load({name!r}, demo=demo)
for stage in "get_data folds localize cache train predict sequence stack submit".split():
    importlib.import_module("radstack.stages." + stage)
print([one for one in {slow} if one in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
