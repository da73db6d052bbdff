"""The competition to copy: a copy under another name goes through all stages, and every competition has its files."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripts import run_script

from competitions import NAMES, load
from competitions._template.demo import DEMO, draw
from competitions._template.index import build_index
from radstack.core.errors import UserError

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "src/competitions/_template"
FILES = {"__init__.py", "index.py", "labels.py", "localizer.py", "views.py", "experiments.py", "report.py", "cases.py",
         "demo.py"}
STAGES = [path.stem for path in sorted((ROOT / "src").glob("0[0-9]_*.py"))]


def test_every_competition_has_the_files_of_the_template():
    assert {path.name for path in TEMPLATE.glob("*.py")} == FILES
    for path in (ROOT / "src/competitions").glob("*/__init__.py"):
        if "radstack.commands.own" in path.read_text(encoding="utf-8"):  # by new_competition.py: the rest has defaults
            continue
        assert {file.name for file in path.parent.glob("*.py")} >= FILES, path.parent.name


def test_the_template_is_no_competition():
    assert "_template" not in NAMES
    with pytest.raises(UserError, match="competition"):
        load("_template")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A folder with a copy of the template called ``lungs``, after all stages on a few phantoms."""
    place = tmp_path_factory.mktemp("copy")
    copy = place / "mine" / "lungs"
    shutil.copytree(TEMPLATE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file in copy.glob("*.py"):
        text = file.read_text(encoding="utf-8").replace("_template", "lungs").replace("epochs=10", "epochs=2")
        file.write_text(text, encoding="utf-8")
    for script in STAGES:
        options = {"00": ["--demo-size", "32"], "03": ["--workers", "1"]}.get(script[:2], [])
        done = run_script(script, "lungs", "--demo", "--data-dir", place, "--out-dir", place, *options,
                          RADSTACK_COMPETITIONS=str(place / "mine"))
        assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.mark.slow
def test_a_copy_ends_in_a_checked_submission_and_a_page(copied):
    assert len(STAGES) == 10
    sample, made = (pd.read_csv(copied / file) for file in ("input/lungs-demo/test.csv", "submissions/lungs-demo/final.csv"))
    assert made["id"].tolist() == sample["id"].tolist() and list(made) == ["id", "diameter"] and len(made) == 16
    assert made["diameter"].between(0, 40).all()
    page = (copied / "reports/lungs-demo/index.html").read_text(encoding="utf-8")
    assert "Diameter of a nodule, phantoms" in page and "The cached picture; circle:" in page
    scores = pd.read_csv(copied / "reports/lungs-demo/scores.csv").set_index(["split", "model"])["score"]
    assert scores.notna().all() and set(scores["test"].index) == {"constant", "resnet", "byobnet", "final", "floor"}
    assert scores["out of fold", "floor"] == scores["out of fold"].min()  # so few pictures teach nothing
    assert len(pd.read_csv(copied / "reports/lungs-demo/nodules.csv")) == 16


def test_its_rule_finds_the_nodule():
    rng = np.random.default_rng(1)
    squares = []
    for _ in range(20):
        pixels = rng.normal(70, 20, (48, 48))
        pixels[17:24, 27:34] += 80
        squares.append(DEMO.localizer.look(np.clip(pixels, 0, 255).astype(np.uint8)))
    assert all(abs(found["top"] - 4) <= 2 and abs(found["left"] - 14) <= 2 for found in squares)


def test_what_it_cannot_use_is_in_quarantine(tmp_path):
    draw(tmp_path, series=4, workers=1)
    (tmp_path / "pictures/p0000a.png").unlink()
    cut = tmp_path / "pictures/p0001a.png"
    cut.write_bytes(cut.read_bytes()[:60])
    rows = pd.read_csv(tmp_path / "train.csv", dtype=str)
    rows.loc[rows["id"] == "p0002a", "diameter"] = "large"
    pd.concat([rows, rows.iloc[[1]]]).to_csv(tmp_path / "train.csv", index=False)
    index, quarantine = build_index(tmp_path, 1, tmp_path, report=lambda line: None)
    assert index["id"].tolist() == ["p0001b", "p0002b", "p0003a", "p0003b"] and index["diameter"].notna().tolist() == [
        True, True, False, False]
    assert dict(zip(quarantine["id"], quarantine["reason"])) == {
        "p0000a": "no-access", "p0001a": "truncated", "p0002a": "no-diameter", "p0000b": "duplicate-id"}
    rows.assign(diameter="large").to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "test.csv").write_text("id,patient\n")
    with pytest.raises(UserError, match="no usable picture .* no-diameter"):
        build_index(tmp_path, 1, tmp_path, report=lambda line: None)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(UserError, match=r"train\.csv is missing"):
        build_index(tmp_path, 1, tmp_path, report=lambda line: None)
