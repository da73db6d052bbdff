"""Benchmarks are run by hand and rarely: at least they must fit the library they measure."""

import argparse
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import make_dicom, scene
from scripts import run_script

from competitions.ich.labels import TARGETS

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


def test_the_stages_are_measured_against_decoding_alone_on_copies(tmp_path: Path) -> None:
    layout = (("a", "stage_2_train", "stage_2_train"), ("b", "stage_2_test", "stage_2_sample_submission"))
    for series, folder, table in layout:
        for slot in range(2):
            make_dicom(tmp_path / folder / f"ID_{series}{slot}.dcm", scene(), SeriesInstanceUID=series,
                       ImagePositionPatient=[0.0, 0.0, float(slot)])
        rows = [f"ID_{series}{slot}_{target},0" for slot in range(2) for target in TARGETS]
        (tmp_path / f"{table}.csv").write_text("\n".join(["ID,Label", *rows]) + "\n")
    done = run_script(FOLDER / "stages_decode.py", "--input", tmp_path, "--series", "1", "--rounds", "1", "--only",
                      "uncompressed", "JPEG-lossless")
    assert done.returncode == 0, done.stderr
    table = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    ways = ("decoding alone", "02_localize", "03_cache")
    assert [[row[0].strip("| "), *row[1:3]] for row in table] == [[syntax, count, way] for syntax, count in (
        ("uncompressed", "4"), ("JPEG-lossless", "4")) for way in ways]
    assert done.stdout.endswith("0 slices have other boxes or other cached bytes in another syntax\n")


def test_the_index_benchmark_makes_an_archive_that_the_stage_takes_whole(tmp_path: Path) -> None:
    done = run_script(FOLDER / "index_scale.py", "--folder", tmp_path, "--files", "1900", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "| 1,900 | 55 |" in done.stdout and "| read_header |" in done.stdout
    assert not list(tmp_path.iterdir())


def test_every_step_of_large_tables_is_measured_at_two_sizes(monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    scale = importlib.import_module("scale")
    seconds, memory = scale.apart(["--step", "start", "/nowhere", "--rows", "1e3"])
    assert seconds >= 0 and 0 < memory < 8
    # The others in this process: each of their own would import pandas first.
    monkeypatch.setattr(scale, "apart", lambda words: scale.measured(words[1], words[2], int(words[4]), ""))
    monkeypatch.setattr(sys, "argv", ["scale.py", "--rows", "3000", "6000"])
    scale.main()
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(lines) == 17 and all(float(line[1]) >= 0 and 0 < float(line[2]) < 8 for line in lines)


def test_a_step_that_has_too_little_memory_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    scale = importlib.import_module("scale")
    assert all(map(math.isnan, scale.apart(["--step", "draw", "/nowhere", "--rows", "1e9", "--gb", "2"])))
    assert scale.power([10, 100, 1000], np.array([9.0, 1.0, 100.0])) == pytest.approx(2)


def test_stages_that_were_run_find_nothing_to_do_and_say_what_that_took(monkeypatch: pytest.MonkeyPatch,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    nothing_to_do = importlib.import_module("nothing_to_do")
    spent, shares = nothing_to_do.spent, []

    def spent_once(folder: Path, stage: str) -> list[float]:  # one profile stands for all: each is another run of a stage
        shares.extend([] if shares else spent(folder, stage))
        return shares

    monkeypatch.setattr(nothing_to_do, "spent", spent_once)
    monkeypatch.setattr(sys, "argv", ["nothing_to_do.py", "--slices", "600", "--rounds", "1"])
    nothing_to_do.main()
    said = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in said if line.startswith("| 0")]
    assert [row[0] for row in rows] == sorted(path.stem for path in FOLDER.parent.glob("src/[0-9]*.py"))
    assert all(float(row[1]) > 0 for row in rows)
    forked = next(line for line in said if line.startswith("| run_all.sh"))
    assert float(forked.split(" | ")[1]) > 0


STAND_IN = """
import argparse

def create_dataset(*args, **kwargs):
    raise AssertionError("the benchmark's own data set was expected")

def train_one_epoch(pictures, size):
    assert pictures[0][0].size == (size, size) and pictures[0][1] == 0

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--epochs", type=int)
    options, _ = parser.parse_known_args()
    pictures = create_dataset("")
    pictures.transform = lambda picture: picture
    for _ in range(options.epochs):
        train_one_epoch(pictures, options.img_size)
"""
"""Asks for laps as timm's script does, and trains nothing."""


def test_the_benchmark_of_steps_compares_with_timms_script_where_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(STAND_IN)
    alone = run_script(FOLDER / "steps.py", "--quick", "--rounds", "1")
    against = run_script(FOLDER / "steps.py", "--quick", "--rounds", "1", "--timm", tmp_path / "train.py")
    assert alone.returncode == against.returncode == 0, alone.stderr + against.stderr
    assert "Training is not compared: timm's train.py was not given" in alone.stdout
    found = [[line for line in run.stdout.splitlines() if line.startswith("| smallest |")] for run in (alone, against)]
    assert [len(lines) for lines in found] == [2, 3]  # reading and bare loops; training, too
    _, _, side, batch, way, ours, *_ = map(str.strip, found[1][0].split("|"))
    assert (side, batch, way) == ("32", "2", "recipe") and float(ours) > 0


def test_the_benchmark_of_steps_says_what_timms_script_failed_with(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text("raise OSError('it is another train.py')")
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    steps = importlib.import_module("steps")
    options = argparse.Namespace(threads=1, quick=True, timm=tmp_path / "train.py")
    racer = steps.Racer(options, "timm", "smallest", True, tmp_path / "said")
    with pytest.raises(SystemExit, match="it is another train.py"):  # a script's status is then 1, and this its last words
        racer.lap()
    racer.end()
