"""The commands beside the stages, on a tiny competition of numbers that has been through all stages without training."""

import ast
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scripts import run_script
from test_stages_of_numbers import PATIENTS, context  # noqa: F401 (a fixture)

from competitions import NAMES, load
from radstack.commands import environment as machine
from radstack.commands.clean import clean, items, junk
from radstack.commands.doctor import doctor, stages
from radstack.commands.environment import MISSING, OK, TODO, WARN
from radstack.commands.explain import explain
from radstack.commands.prerequisites import annotations, disk, sign_in, weights
from radstack.commands.products import input_there, next_stage
from radstack.commands.verify import check_contents, compare, measures, reached, record, verify
from radstack.core.artifact import Artifact, content_hash, manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, write_json, write_table, write_text
from radstack.core.lock import working_on
from radstack.core.recipe import change
from radstack.images.shards import shard_path, write_shard
from radstack.recipes.competition import Phantoms
from radstack.running.cli import make_context
from radstack.running.context import Context, Options, add_variant
from radstack.stages.stack import stack
from radstack.stages.submit import submit, submit_constant
from radstack.stages.train import write_weights
from radstack.training import checkpoint

ROOT = Path(__file__).parents[1]
LAST = str(1377 + PATIENTS - 1)
"""The test picture that could not be read."""


def undrawn(folder, *, series, workers):
    raise AssertionError("no phantom is drawn here")


def unreadable_truth(folder):
    raise AssertionError("only the report may read the truth")


@pytest.fixture(scope="module")
def whole(context):  # noqa: F811
    """All stages done: what the fixture lacks of them is written here."""
    paths, competition = context.paths, context.competition
    for file in (paths.folds / "index.parquet", paths.cache / "boxes.parquet", paths.cache / "rows.parquet"):
        table = pd.read_parquet(file)
        table.insert(1, "path", table["id"] + ".png")
        found = {} if file.name == "index.parquet" else {"crc": np.arange(len(table)), "top": 3, "flag": ""}
        write_table(file, table.assign(**found))
    bad = pd.DataFrame({"id": ["9999"], "split": "test", "path": "9999.png", "reason": "truncated", "detail": "cut"})
    write_table(paths.folds / "quarantine.csv", bad)
    write_table(paths.cache / "quarantine.csv", bad[:0])
    write_table(paths.reports / "scores.csv", bad)
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)
    write_shard(shard_path(paths.cache, 0), [lambda: picture] * (PATIENTS - 1), (4, 4), "uint8")
    networks = [paths.weights / one.name / f"fold{fold}.safetensors"
                for one in competition.models.experiments for fold in range(3)]
    for file in networks:
        write_text(file, file.parent.name)
    for file in (paths.folds / "index.parquet", paths.folds / "folds.csv", paths.cache / "boxes.parquet",
                 paths.cache / "rows.parquet", shard_path(paths.cache, 0), paths.reports / "scores.csv", *networks):
        Artifact("01_make_folds", 1, (file,), {}, facts={"raw files": "as drawn"}).record(0.0)
    for stacker in context.competition.models.stackers:
        stack(context, stacker)
    submit_constant(context)
    submit(context, "final")
    write_json(manifest_of(paths.input), {"series": PATIENTS})
    return as_demo(context)


def as_demo(made: Context) -> Context:
    demo = dataclasses.replace(made.competition, phantoms=Phantoms(undrawn, PATIENTS, unreadable_truth))
    return dataclasses.replace(made, competition=demo)


@pytest.fixture
def copy(whole, tmp_path):
    """The same in a folder of its own, to be spoiled."""
    shutil.copytree(whole.paths.data, tmp_path, dirs_exist_ok=True)
    return make_context(whole.competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))


def words(checks) -> str:
    return "\n".join(f"{check.state} {check.name}: {check.words}" for check in checks)


# -- doctor -----------------------------------------------------------------------------------------------------------


def test_packages_are_held_against_ranges_and_lock(tmp_path):
    numpy = np.__version__
    (tmp_path / "requirements.in").write_text(
        "numpy>=2  # arrays\nno_such_package==1\npandas<0.1\nrich>=1\n")
    (tmp_path / "requirements.txt").write_text(f"numpy=={numpy}\nrich==0.0.1\npandas==0.1 ; python_version < '3'\n")
    found = {check.name: check for check in machine.packages(tmp_path)}
    assert found["packages"].words == f"1 as locked: numpy {numpy}"
    assert [found[name].state for name in ("no_such_package", "pandas", "rich")] == [MISSING, MISSING, WARN]
    assert "the lock has 0.0.1" in found["rich"].words and "does not fit pandas<0.1" in found["pandas"].words
    assert machine.absent(tmp_path / "requirements.in") == ["no_such_package"]
    assert machine.absent() == []


def test_the_wrong_apex_and_a_second_opencv_are_named(tmp_path, monkeypatch):
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex" / "__init__.py").write_text("raise ImportError('never imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(machine.metadata, "distributions", lambda: [
        SimpleNamespace(metadata={"Name": name}) for name in ("opencv_python", "opencv-python-headless", "numpy")])
    said = words(machine.strangers())
    assert "pip uninstall apex" in said and "opencv-python and opencv-python-headless overwrite" in said
    (tmp_path / "apex" / "optimizers").mkdir()
    assert "ok apex: NVIDIA's" in words(machine.strangers())


def test_the_containers_limit_counts(tmp_path):
    write_text(tmp_path / "memory.max", "2000000000\n")
    assert machine.memory(tmp_path / "memory.max").state == WARN
    assert "2.0 GB" in machine.memory(tmp_path / "memory.max").words
    assert machine.shared_memory(tmp_path / "none") == []


def test_the_doctor_of_a_whole_demo_has_no_complaint(whole, capsys):
    doctor(whole)
    said = capsys.readouterr().out
    assert TODO not in said and MISSING not in said
    assert f"stage 00: {whole.paths.input}, {PATIENTS} series" in said and "stage 04" in said and "9 of 9" in said
    assert next_stage(whole) == ""


def test_what_is_missing_of_a_stage_comes_with_its_command(copy):
    manifest_of(copy.paths.weights / "boys" / "fold1.safetensors").unlink()
    lines = {check.name: check for check in stages(copy)}
    assert lines["stage 04"].state == TODO and lines["stage 05"].state == OK
    said = f"python src/04_train.py ages --only boys --data-dir {copy.paths.data} --out-dir {copy.paths.out}"
    assert lines["stage 04"].words == f"8 of 9 there, not boys fold 1: {said}"
    assert next_stage(copy) == "04"
    (copy.paths.folds / "folds.csv").unlink()
    assert next_stage(copy) == "01"


def test_credentials_are_looked_for_and_never_shown(tmp_path):
    real = make_context(load("ich"), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    assert not input_there(real) and sign_in(real, {}, tmp_path)[0].state == MISSING
    assert "KAGGLE_KEY is set alone" in sign_in(real, {"KAGGLE_KEY": "secret"}, tmp_path)[0].words
    assert sign_in(real, {"KAGGLE_KEY": "secret", "KAGGLE_USERNAME": "me"}, tmp_path)[0].state == OK
    file = tmp_path / ".kaggle" / "kaggle.json"
    write_json(file, {"username": "me", "key": "secret"})
    file.chmod(0o644)
    assert f"chmod 600 {file}" in words(sign_in(real, {}, tmp_path))
    file.chmod(0o600)
    assert sign_in(real, {}, tmp_path)[0].state == OK and "secret" not in words(sign_in(real, {}, tmp_path))
    assert "not needed" in words(sign_in(as_demo(real), {}, tmp_path))


def test_a_full_disk_stops_the_next_stage_alone(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000, total=1000))
    assert {check.state for check in disk(copy)} == {OK}, "everything is there already"
    (copy.paths.cache / "rows.parquet").unlink()
    assert [check.state for check in disk(copy)] == [OK, MISSING]
    assert "--out-dir" in words(disk(copy))
    untrained = change(load("ich"), models__experiments=())
    empty = make_context(untrained, Options(data_dir=str(tmp_path / "none"), out_dir=str(tmp_path / "none")))
    assert [check.state for check in disk(empty)] == [MISSING, OK], "the cache is not counted before the index is"
    with pytest.raises(UserError, match="stage 00 lacks .*disk for input"):
        doctor(empty)


def test_private_data_and_annotations_are_the_users_to_bring(tmp_path):
    real = make_context(load("radius_ulna"), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    assert [check.name for check in stages(real) if check.state == MISSING] == ["data"]
    write_text(real.paths.input / "labels.csv", "")
    files = real.competition.data.label_files(real.paths.input)
    for file in files:
        write_text(file, "")
    boxes = {f"{bone}_{corner}": np.nan for bone in ("radius", "ulna") for corner in ("x1", "y1", "x2", "y2")}
    write_table(real.paths.folds / "index.parquet", pd.DataFrame([{"id": "a", "split": "train", **boxes}]))
    write_table(real.paths.folds / "folds.csv", pd.DataFrame({"group": ["a"], "fold": [0]}))
    for name in ("index.parquet", "folds.csv"):
        write_json(manifest_of(real.paths.folds / name), {})
    assert next_stage(real) == "02" and [check.state for check in annotations(real)] == [MISSING]


def test_weights_placed_by_hand_are_found_or_missed(copy, tmp_path):
    by_hand = change(copy.competition.models.experiments[0], backbone__name="timm/test_resnet", backbone__weights="own.pth")
    manifest_of(copy.paths.weights / "boys" / "fold0.safetensors").unlink()
    spoiled = change(copy, competition__models__experiments=(by_hand, *copy.competition.models.experiments[1:]))
    assert [check.state for check in weights(spoiled)] == [MISSING]
    write_text(tmp_path / "files" / "own.pth", "")
    given = change(spoiled, options__weights=str(tmp_path / "files"))
    assert [check.state for check in weights(given)] == [OK]


# -- verify -----------------------------------------------------------------------------------------------------------


def test_a_recorded_demo_is_as_expected_without_its_truth(whole, tmp_path, capsys):
    file = tmp_path / "expected.json"
    with pytest.raises(UserError, match=f"with {PATIENTS} series .known: none.*--record"):
        verify(whole, file)
    record(whole, file)
    verify(whole, file)
    said = capsys.readouterr().out
    assert "all" in said and "differs" not in said and "stage 07  ok" in said
    write_json(file, {"7": read_json(file)[str(PATIENTS)]})
    with pytest.raises(UserError, match="known: 7"):
        verify(whole, file)


def test_what_another_processor_reached_is_expected_beside_what_was_recorded(whole, tmp_path):
    file = tmp_path / "expected.json"
    with pytest.raises(UserError, match="nothing to widen.*--record"):
        record(whole, file, widen=True)
    record(whole, file)
    here, there = read_json(file), read_json(file)
    scores = there[str(PATIENTS)]["stages"]["05"]
    scores["both"][0] *= 2
    there[str(PATIENTS)]["stages"]["04"]["bits"][0] = "other"
    write_json(file, there)
    with pytest.raises(UserError, match="stage 05 is the first to diverge"):
        verify(whole, file)
    record(whole, file, widen=True)
    verify(whole, file)
    (middle, half), (value, tolerance) = (one[str(PATIENTS)]["stages"]["05"]["both"] for one in (read_json(file), here))
    assert [middle - half, middle + half] == pytest.approx([value - tolerance, 2 * value + tolerance], rel=1e-4)
    assert read_json(file)[str(PATIENTS)]["stages"]["04"]["bits"][0] == "other"
    write_json(file, {str(PATIENTS): {**here[str(PATIENTS)], "stages": {**here[str(PATIENTS)]["stages"], "03": {}}}})
    with pytest.raises(UserError, match="stage 03, rows is not in both records"):
        record(whole, file, widen=True)
    more = {**here[str(PATIENTS)]["stages"], "01": {**here[str(PATIENTS)]["stages"]["01"], "quarantine gone": [3, 0]}}
    write_json(file, {str(PATIENTS): {**here[str(PATIENTS)], "stages": more}})
    with pytest.raises(UserError, match="stage 01, quarantine gone is not in both records"):
        record(whole, file, widen=True)
    here[str(PATIENTS)]["stages"]["03"]["rows"][0] += 1
    write_json(file, here)
    with pytest.raises(UserError, match="stage 03, rows: .* which no processor changes"):
        record(whole, file, widen=True)


def test_the_first_divergence_is_named_and_later_ones_follow(copy, tmp_path):
    file = tmp_path / "expected.json"
    record(copy, file)
    table = copy.paths.oof / "both" / "fold1.parquet"
    write_table(table, pd.read_parquet(table).assign(age=0.0))
    with pytest.raises(UserError, match="stage 05 is the first to diverge: both: .*edited or damaged"):
        verify(copy, file)
    (copy.paths.cache / "quarantine.csv").unlink()
    with pytest.raises(UserError, match="stage 02 is the first.* is missing; make it with.*after it 05 both"):
        verify(copy, file)
    with pytest.raises(UserError, match="nothing recorded: stage 02"):
        record(copy, file)


def test_a_change_that_kept_size_and_time_is_found(copy, tmp_path, capsys):
    record(copy, tmp_path / "e.json")
    check_contents(copy)
    assert "files have the content that they were made with" in capsys.readouterr().out
    theirs = copy.paths.sources / "clinic" / "input" / copy.paths.source
    (tmp_path / "theirs").mkdir()
    for name in ("a.png", "a.png.json"):  # the user's own, behind a link
        write_text(tmp_path / "theirs" / name, "[1, 2]")
    theirs.parent.mkdir(parents=True)
    theirs.symlink_to(tmp_path / "theirs", target_is_directory=True)
    check_contents(copy)
    file = shard_path(copy.paths.cache, 0)
    made, seen = file.read_bytes(), file.stat()
    file.write_bytes(made[:-1] + bytes([made[-1] ^ 1]))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert content_hash(file) == read_json(manifest_of(file))["files"][file.name]["sha256"]  # a stage believes it
    for check in (lambda: check_contents(copy), lambda: verify(copy, tmp_path / "e.json")):
        with pytest.raises(UserError, match=f"{file.name}: not the content it was made with"):
            check()
    with pytest.raises(UserError, match="no file of .* is made yet"):
        check_contents(make_context(copy.competition, Options(data_dir=str(tmp_path / "x"), out_dir=str(tmp_path / "x"))))


def test_tolerances_are_those_recorded():
    expected = {"01": {"rows": [10, 0], "table": ["ab", 0]},
                "05": {"net": [0.2, 0.03], "bits": ["ff", None], "gone": [1, 0]}}
    lines = compare(expected, {"01": {"rows": (10, 0), "table": ("cd", 0)},
                               "05": {"net": (0.22, 0.1), "bits": ("00", None)}})
    assert [line.state for line in lines] == ["ok", "differs", "ok", "other bits", "differs"]
    assert [line.state for line in compare({"05": {"net": [0.2, 0.03]}}, {"05": {"net": (0.24, 1.0)}})] == ["differs"]


def test_scores_and_measures_become_facts(whole):
    facts = reached(whole)
    assert facts["01"]["quarantine truncated"] == (1, 0) and facts["03"]["mean"] == (7.5, 0.15)
    labels = pd.read_parquet(whole.paths.cache / "rows.parquet").set_index("id")["age"]
    own = pd.concat([pd.read_parquet(whole.paths.oof / "both" / f"fold{fold}.parquet") for fold in range(3)])
    error = (own["age"] - own["id"].map(labels)).abs().mean()
    value, tolerance = facts["05"]["both"]
    assert value == pytest.approx(error, rel=1e-4) and 0.1 * value < tolerance < 10
    assert facts["08"]["rows"] == (80, 0) and facts["08"]["filled"] == (1, 0)
    table = pd.DataFrame({"measure": ["Dice", "pixels", "pictures", "flagged"], "value": [0.9, 5.5, 300.0, 2.0]})
    assert measures(table) == {"Dice": (0.9, 0.05), "pixels": (5.5, 1.375)}


def test_only_a_whole_demo_can_be_verified(copy, tmp_path):
    with pytest.raises(UserError, match="add --demo"):
        verify(change(copy, competition__phantoms=None), tmp_path / "e.json")
    manifest_of(copy.paths.input).unlink()
    with pytest.raises(UserError, match="is not drawn"):
        verify(copy, tmp_path / "e.json")


@pytest.mark.parametrize("name", NAMES)
def test_expected_values_name_every_recipe_of_the_demo(name):
    expected = json.loads((ROOT / "src/competitions" / name / "expected.json").read_text())
    demo = load(name, demo=True)
    for size, entry in expected.items():
        assert int(size) > 0 and list(entry["stages"]) == [f"0{number}" for number in range(9)]
        for stage, recipes in (("05", demo.models.experiments), ("06", demo.models.sequences), ("07", demo.models.stackers)):
            assert list(entry["stages"][stage]) == [recipe.name for recipe in recipes]
        for value, tolerance in (pair for facts in entry["stages"].values() for pair in facts.values()):
            assert isinstance(value, (int, float, str)) and (tolerance is None or tolerance >= 0)


# -- clean ------------------------------------------------------------------------------------------------------------


def test_cleaning_lists_first_and_deletes_when_told(copy, capsys):
    add_variant(copy, "both", "both_slow", {"optim__lr": 1e-5})
    clean(copy, ("weights", "oof"), delete=False)
    said = capsys.readouterr().out
    assert f"{copy.paths.cache}: python src/02_localize.py ages" in said and "--demo-size 240" in said
    assert str(copy.paths.oof) not in said and str(copy.paths.weights) not in said and "--yes" in said
    assert copy.paths.cache.exists()
    clean(copy, ("oof",), delete=True)
    left = {path.name for path in copy.paths.out.iterdir() if (path / "ages").exists()}
    assert left == {"weights", "oof"} and os.listdir(copy.paths.weights) == ["variants.json"]
    assert (copy.paths.oof / "final" / "fold0.parquet").exists() and not copy.paths.input.exists()
    with pytest.raises(UserError, match="'weights'"):
        clean(copy, ("weight",), delete=True)


def test_real_data_and_what_links_point_to_stay(copy, tmp_path, capsys):
    real = change(copy, competition__phantoms=None)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(copy.paths.cache, elsewhere)
    copy.paths.cache.symlink_to(elsewhere)
    clean(real, (), delete=True)
    assert (copy.paths.input / "cases.csv").exists() and (elsewhere / "rows.parquet").exists()
    assert not copy.paths.cache.exists() and "never touched" in capsys.readouterr().out


def test_junk_goes_whatever_is_kept(copy):
    paths, gone = copy.paths, subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    junky = [paths.oof / "both" / f".x.{gone.pid}.part", paths.folds / "parts", paths.cache / "shard-00007.npy",
             paths.weights / "boys" / "fold0.checkpoint", paths.weights / "boys" / "fold5.checkpoint.previous"]
    useful = [paths.oof / "both" / f".x.{os.getpid()}.part", paths.weights / "boys" / "fold5.checkpoint"]
    for path in (*junky, *useful):
        write_text(path / "a" if path.name == "parts" else path, "x")
    assert sorted(item.path for item in junk(copy)) == sorted(junky)
    write_text(paths.oof / "nobody" / "fold0.parquet", "")
    named = {item.path: item for item in items(copy)}
    assert "no recipe" in named[paths.oof / "nobody"].why and not named[paths.oof / "nobody"].junk
    clean(copy, ("input", "folds", "cache", "weights", "oof", "submissions", "reports"), delete=True)
    assert not any(path.exists() for path in junky) and all(path.exists() for path in (*useful, paths.oof / "nobody"))


def test_reports_of_other_commands_name_them_and_what_people_work_on_stays(copy):
    reports = copy.paths.reports
    for name in ("index.html", "choose.csv", "studies/table4.csv", "propose/via.json"):
        write_text(reports / name, "x")
    made = {item.path.name: item.why for item in items(copy) if item.folder == "reports"}
    assert "propose" not in made and {name: made[name].split()[1] for name in ("index.html", "choose.csv", "studies")} == {
        "index.html": "src/09_report.py", "choose.csv": "src/choose.py", "studies": "src/study.py"}


def die_while_writing(path: Path, write: Any) -> None:
    """Be ended by the system in the middle of a file, as by a kill."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    write(path, {"a": torch.zeros(10_000)})


@pytest.mark.parametrize("write", [write_weights, checkpoint.save])
def test_what_a_killed_writer_leaves_is_junk_once_nobody_is_at_work(copy, write):
    folder = copy.paths.weights / "boys"
    before = {*folder.iterdir()}
    writer = get_context("fork").Process(target=die_while_writing, args=(folder / "fold0.safetensors", write))
    writer.start()
    writer.join()
    left = sorted({*folder.iterdir()} - before)
    assert writer.exitcode == -signal.SIGXFSZ and len(left) == 1
    write_text(folder / ".tmpnotes.txt", "mine")
    with working_on(copy.paths.oof / "both" / "fold0.parquet"):
        assert [item.path for item in junk(copy)] == [one for one in left if one.suffix == ".part"]
    assert [item.path for item in junk(copy)] == left
    clean(copy, ("input", "folds", "cache", "weights", "oof", "submissions", "reports"), delete=True)
    assert {*folder.iterdir()} == {*before, folder / ".tmpnotes.txt"}


# -- explain ----------------------------------------------------------------------------------------------------------


def test_a_training_row_has_one_value_a_model_its_label_and_what_was_learned(whole):
    rows = pd.read_parquet(whole.paths.cache / "rows.parquet")
    said = explain(whole, "1377")
    scored = pd.concat([pd.read_parquet(whole.paths.oof / "both" / f"fold{one}.parquet") for one in range(3)])
    scored = scored.set_index("id")
    fold, own = int(scored.loc["1377", "fold"]), scored.loc["1377", "age"]
    assert f"train, fold {fold}" in said and f"both, fold {fold}" in said and f"{own:.5g}" in said
    assert f"label  age {rows['age'][0]:.5g}" in said and "found  top 3" in said and "shard-00000.npy slot 0" in said
    assert "final: linear of own, both" in said and f"fit without fold {fold}: male=0" in said and "weights (own" in said
    assert "submitted: nothing, this is a training row" in said
    assert all(f"fold {other}" not in said for other in {0, 1, 2} - {fold})


def test_a_test_row_leads_to_the_written_value(whole):
    name = str(1377 + PATIENTS - 2)
    said = explain(whole, name)
    written = pd.read_csv(whole.paths.submissions / "final.csv", dtype=str).set_index("id").loc[name, "age"]
    assert f"written {written}" in said and "it is older" not in said
    assert all(f"both, {line}" in said for line in ("fold 0", "fold 1", "fold 2", "mean"))
    steps = [pd.read_parquet(whole.paths.oof / model / f"fold{fold}_test.parquet").set_index("id").loc[name, "age"]
             for model in ("own", "both", "final") for fold in range(3)]
    own, both, final = np.reshape(steps, (3, 3)).astype(float).mean(1)
    change = float(said.split("final: ")[1].split("change ")[2].split()[0])
    assert change == pytest.approx(final - (own + both) / 2, rel=1e-3)


def test_a_stale_file_a_clip_and_a_filled_row_are_told(copy):
    name, file = str(1377 + PATIENTS - 2), copy.paths.submissions / "final.csv"
    table = pd.read_csv(file, dtype={"id": str})
    write_table(file, table.assign(age=table["age"] + 1))
    assert "it is older; python src/08_submit.py ages" in explain(copy, name)
    assert "clipped to 10" in explain(change(copy, competition__submission__high=10), name)
    said = explain(copy, LAST)
    assert "cache  not there" in said and "there is no prediction: these values were filled in" in said
    assert "in quarantine: truncated, cut" in explain(copy, "9999")


def test_an_unknown_row_names_the_nearest(whole):
    with pytest.raises(UserError, match="no row '13777'; did you mean '1377'"):
        explain(whole, "13777")


# -- the scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["doctor", "verify", "clean", "explain", "propose"])
def test_a_script_is_short_and_says_what_it_does(name):
    text = (ROOT / "src" / f"{name}.py").read_text()
    doc = ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 40 and all(word in doc for word in ("reads", "writes", "command", "takes"))


@pytest.mark.parametrize("name", ["doctor", "verify", "clean", "explain", "leak_audit", "annotate", "propose",
                                  "join_labels"])
def test_a_command_has_no_option_of_a_stage_that_nothing_would_read(name):
    said = run_script(name, "--help")
    assert said.returncode == 0 and "--demo" in said.stdout and "--limit" in said.stdout
    assert not any(option in said.stdout.split() for option in ("--only", "--folds", "--name", "--force", "--dry-run"))


def test_the_scripts_end_in_one_line_and_a_status(tmp_path):
    folders = ("--data-dir", str(tmp_path), "--out-dir", str(tmp_path))
    cases = {"doctor": ((), 0, "to do   stage 00: python src/00_get_data.py ich --demo"),
             "verify": ((), 1, "is not drawn; make it with"), "explain": (("ID_1",), 1, "index.parquet is missing"),
             "clean": ((), 0, "0.0 MB")}
    for name, (arguments, status, said) in cases.items():
        done = run_script(name, "ich", "--demo", *arguments, *folders)
        assert done.returncode == status and said in done.stdout + done.stderr and "Traceback" not in done.stderr, done
