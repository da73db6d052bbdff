"""The notebooks as they are committed: executed, small, with their conclusion first and no trace of a machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MEGABYTE = 1_000_000
PLACE = re.compile(r"(?<![\w.])(?:/(?:home|root|tmp|work|Users|var|mnt|opt)/|[A-Z]:\\\\)")
"""An absolute path of the machine that executed them."""
CLOCK = re.compile(r"\d+(?:\.\d+)? ?(?:ms|images/s|seconds|s left)\b|(?:done|stopped) after \d")
"""A figure that another run would not repeat."""
LONGEST = 15


def lines(cell: dict) -> list[str]:
    return "".join(cell["source"]).splitlines()


def code_of(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and lines(cell)]


def texts(notebook: dict) -> list[str]:
    """What a reader reads in the outputs: everything but pictures."""
    outputs = [output for cell in code_of(notebook) for output in cell["outputs"]]
    said = ["".join(output.get("text", "")) for output in outputs]
    shown = ["".join(value) for output in outputs for kind, value in output.get("data", {}).items()
             if not kind.startswith("image/")]
    return said + shown


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_they_are_numbered_and_small():
    assert [path.name.split("-")[0] for path in NOTEBOOKS] == ["1.0", "2.0", "3.0", "4.0"]
    for path in NOTEBOOKS:
        assert re.fullmatch(r"\d\.\d(?:-[a-z]+)+\.ipynb", path.name) and path.stat().st_size < MEGABYTE, path.name


def test_the_title_comes_first_and_the_conclusion_is_the_first_output(notebook):
    title, setup = notebook["cells"][:2]
    assert title["cell_type"] == "markdown" and re.match(r"# \d\.\d ", lines(title)[0])
    first = "".join(setup["outputs"][0]["data"]["text/markdown"])
    sentences = re.findall(r"[.:] |\.$", first.replace("\n", " "))
    assert first.startswith("**Conclusion.**") and len(re.findall(r"\d", first)) > 3 and 2 <= len(sentences) - 1 <= 8


def test_it_is_executed_in_order_without_an_error(notebook):
    cells = code_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 2


def test_its_kernel_is_everyones(notebook):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_no_path_and_no_clock_of_the_machine_is_left(notebook):
    for text in ["\n".join(lines(cell)) for cell in notebook["cells"]] + texts(notebook):
        assert not PLACE.search(text), PLACE.search(text)
    assert not [cell for cell in notebook["cells"] if "execution" in cell["metadata"]]
    for text in texts(notebook):
        assert not CLOCK.search(text), CLOCK.search(text)


def test_the_library_is_found_once_beside_the_notebook(notebook):
    source = ["\n".join(lines(cell)) for cell in code_of(notebook)]
    assert sum(text.count("sys.path") for text in source) == 1 and "../src" in source[0]


def test_cells_are_short_and_prose_stands_between_them(notebook):
    shown = [lines(cell) for cell in code_of(notebook) if not lines(cell)[0].startswith("%%writefile")]
    assert not [cell[0] for cell in shown if len(cell) > LONGEST]
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds.count("markdown") * 3 >= kinds.count("code")


def test_only_the_one_that_makes_its_own_data_writes(notebook):
    source = "\n".join(line for cell in code_of(notebook) for line in lines(cell))
    own = "tempfile.mkdtemp" in source
    assert own or not re.findall(r"\.to_(?:csv|parquet)\(|\bwrite_\w+\(|savefig|mkdir|unlink|open\(", source)
    assert own or ("RADSTACK_OUT" in source and "RADSTACK_DATA" in source)


def test_a_competition_may_live_in_a_folder_of_its_own(tmp_path):
    (tmp_path / "mine.py").write_text("COMPETITION = 'found'\n")
    say = "from competitions import NAMES, load; print(load('mine'), 'ich' in NAMES)"
    environment = {**os.environ, "PYTHONPATH": str(NOTEBOOKS[0].parents[1] / "src"), "RADSTACK_COMPETITIONS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, env=environment)
    assert done.stdout == "found True\n", done.stderr
