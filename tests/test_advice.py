"""What an error says to type can be typed: the script is there, reads the options, and knows the competition."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from dicom_files import make_dicom, noise
from test_ich_index import archive, build, quarantined

from competitions import load
from radstack.core.errors import UserError, command
from radstack.core.folds import check_folds
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.running.tasks_ray import _connect
from radstack.submission import kaggle

SRC = Path(__file__).parents[1] / "src"
MODULES = sorted(path for room in ("radstack", "competitions", "phantoms") for path in (SRC / room).rglob("*.py"))
ERRORS = ("UserError", "LeakError", "UsageError", "Missing")
SAID = re.compile(r"""command\(["'](?P<script>\w+)["'][^)]*\)\}(?P<flags>(?: --[a-z-]+(?: (?!--)[A-Z{][\w{}]*)?)*)""")
"""A command within a message, and the options behind it."""
STAGE = re.compile(r"\b0\d_[a-z_]+(?:\.py)?\b")


def texts(node: ast.AST) -> Iterator[str]:
    """The texts of a call's arguments, without those of the calls that write a command."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        elif not (isinstance(child, ast.Call) and ast.unparse(child.func).endswith("command")):
            yield from texts(child)


def messages() -> list[tuple[str, str]]:
    """Every error for users that is raised: module and text."""
    return [(path.name, "".join(texts(node))) for path in MODULES for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS]


def test_no_message_names_a_stage_without_its_competition():
    assert len(messages()) > 250
    for module, text in messages():
        assert module == "nested.py" or not STAGE.search(text), (module, text)  # there one with it stands before


def test_what_is_said_to_be_typed_is_read_by_the_script():
    said = [(path, match) for path in MODULES for match in SAID.finditer(path.read_text(encoding="utf-8"))]
    assert len(said) > 25
    for path, match in said:
        script = SRC / f"{match['script']}.py"
        assert script.exists(), (path, match[0])
        for flag in re.findall(r"--([a-z-]+)", match["flags"]):
            assert re.search(rf'"(--{flag}|{flag.replace("-", "_")})"', script.read_text(encoding="utf-8")), (path, match[0])


def test_rooms_that_know_no_competition_say_the_command_of_the_run(tmp_path):
    make_context(load("bone_age", demo=True), Options(out_dir=str(tmp_path), limit=50, edits=("folds.count=4",)))
    words = shlex.split(command("05_predict", "a,b"))
    assert words == ["python", "src/05_predict.py", "bone_age", "--demo", "--only", "a,b", "--limit", "50", "--out-dir",
                     str(tmp_path), "--set", "folds.count=4"]
    index = pd.DataFrame({"group": ["a", "c"], "split": "train", "any": 1})
    with pytest.raises(UserError, match=r"type: python src/01_make_folds.py bone_age --demo --limit 50 .* --force$"):
        check_folds(pd.DataFrame({"group": ["a"], "fold": [0]}), index, ["any"])


def test_ray_that_cannot_start_is_not_told_to_start_here(monkeypatch):
    class Broken:
        exceptions = SimpleNamespace(RayError=OSError)

        @staticmethod
        def init(*arguments: object, **options: object) -> None:
            raise RuntimeError("no sockets")

    monkeypatch.setitem(sys.modules, "ray", Broken)
    with pytest.raises(UserError, match="cannot start here .*leave --ray away") as local:
        _connect("local")
    assert "--ray local" not in str(local.value)
    with pytest.raises(UserError, match="no Ray at auto .*or use --ray local"):
        _connect("auto")


@pytest.mark.parametrize("text", ["{", "[]", '{"username": "me"}', ""])
def test_a_broken_token_is_not_called_none(tmp_path, monkeypatch, text):
    (tmp_path / "kaggle.json").write_text(text)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(UserError, match=rf"{tmp_path}/kaggle\.json cannot be read as a token"):
        kaggle._check_credentials()
    (tmp_path / "kaggle.json").write_text('{"username": "me", "key": "k"}')
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    kaggle._check_credentials()


def test_slices_that_were_numbered_anew_are_told_from_those_without_a_label(tmp_path):
    folder = archive(tmp_path / "input")

    (folder / "stage_2_train" / "ID_4.dcm").unlink()
    make_dicom(folder / "stage_2_train" / "ID_4.dcm", noise(seed=5), SOPInstanceUID="1.2.3")
    make_dicom(folder / "stage_2_train" / "ID_99.dcm", noise(seed=6))
    _, quarantine = build(folder)
    assert quarantined(quarantine)["train:1.2.3"] == quarantined(quarantine)["train:ID_99"] == "no-label"
    detail = quarantine.set_index("id")["detail"]
    assert "lists the name of the file, but not its SOPInstanceUID 1.2.3" in detail["1.2.3"]
    assert detail["ID_99"] == "its id is not in stage_2_train.csv"
