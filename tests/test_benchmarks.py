"""Benchmarks are run by hand and rarely: at least they must fit the library they measure."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from scripts import run_script

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_imports_and_says_how_it_is_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"python benchmarks/{name}.py" in module.__doc__
    assert callable(module.main)


def test_the_gpu_benchmark_runs_on_a_cpu_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    command = (FOLDER / "gpu.py", "--device", "cpu", "--quick", "--out", tmp_path / "gpu.json")
    first = run_script(*command, "--only", "copy")
    assert len(json.loads((tmp_path / "gpu.json").read_text())["rows"]) == 2
    second = run_script(*command)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert "all measured" in first.stdout and "all measured" in second.stdout
    assert not any(line.startswith("copy/") for line in second.stdout.splitlines())
    assert {key.split("/")[1] for key in rows if key.startswith("recipe/")} == {"ich", "bone_age", "knee_age", "radius_ulna"}
    assert [key for key, row in rows.items() if "failed" in row] == ["batch/ich/densenet121_neighbors"]  # no GPU memory
    assert rows["resume/fp32"]["resumed_differs_by"] == 0
