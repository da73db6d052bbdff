"""Every stage by its script, from raw files to a checked submission: on small phantoms, and on real slices."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from scripts import SRC, run_script, run_together
from shortened.ich_short import DEMO

from radstack.running.cli import open_context, parser
from radstack.stages.train import train

SHORT = Path(__file__).parent / "shortened"
STAGES = ["01_make_folds", "02_localize", "03_cache", "04_train", "05_predict", "06_sequence", "07_stack", "08_submit",
          "09_report"]


def stage(place: Path, script: str, *options: str, fails: bool = False) -> str:
    """Run a script on the demo below ``place``; its output."""
    done = run_script(script, "ich_short", "--demo", "--data-dir", place, "--out-dir", place, *options,
                      RADSTACK_COMPETITIONS=str(SHORT))
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    if fails:
        assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1, said
    return said


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Phantoms of eight series at 96 pixels, cached."""
    place = tmp_path_factory.mktemp("phantoms")
    stage(place, "00_get_data", "--demo-size", "8", "--workers", "1")
    for script in STAGES[:3]:
        stage(place, script, "--workers", "1")
    return place


@pytest.fixture(scope="module")
def whole(drawn):
    """All stages on the phantoms."""
    for script in STAGES[3:]:
        stage(drawn, script)
    return drawn


@pytest.mark.slow
def test_phantoms_end_in_a_submission_of_the_sample_files_ids(whole):
    sample = pd.read_csv(whole / "input/ich-demo/stage_2_sample_submission.csv")
    submission = pd.read_csv(whole / "submissions/ich-demo/final.csv")
    assert submission["ID"].tolist() == sample["ID"].tolist()
    assert submission["Label"].between(1e-6, 1 - 1e-6).all()
    assert "as the sample file asks" in stage(whole, "08_submit", "--check", str(whole / "submissions/ich-demo/final.csv"))
    wrong = whole / "wrong.csv"
    submission.assign(Label=submission["Label"].where(submission.index != 4, 1.5)).to_csv(wrong, index=False)
    assert "line 6" in stage(whole, "08_submit", "--check", str(wrong), fails=True)
    filled = pd.read_csv(whole / "submissions/ich-demo/final_filled.csv")
    assert len(filled) == 6  # the truncated test slice
    scores = pd.read_csv(whole / "reports/ich-demo/scores.csv")
    test = scores[scores["split"] == "test"].set_index("model")["score"]
    assert test["floor"] == test.min()
    assert len(pd.read_csv(whole / "reports/ich-demo/series.csv")) > 0


@pytest.mark.slow
def test_a_second_run_makes_nothing_and_a_dry_run_says_why(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.suffix in (".parquet", ".safetensors")}
    for script in STAGES[:-1]:
        said = stage(whole, script)
        assert "making" not in said and "to make" not in said, said
    said = stage(whole, "04_train", "--dry-run", "--set", "optim.lr=1e-4", "--name", "slow", "--only", "resnet")
    assert "would make train slow fold 0: new" in said and not (whole / "weights/ich-demo/variants.json").exists()
    said = stage(whole, "07_stack", "--dry-run", "--force", "--only", "blend")
    assert "would make" in said and "--force" in said
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_any_folder_is_answered_as_the_submission_was(whole, tmp_path):
    """The test slices, mixed with a scout, a copy and a text in folders of other names: the same bytes."""
    slices = sorted((whole / "input/ich-demo/stage_2_test").rglob("*.dcm"))
    for number, path in enumerate(slices):
        place = tmp_path / "inbox" / f"ordner {number % 3}" / f"bild \u00fc {len(slices) - number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    shutil.copyfile(slices[0], tmp_path / "inbox" / "again.dcm")
    (tmp_path / "inbox" / "readme.txt").write_text("nothing to see")
    scout = pydicom.dcmread(slices[1])
    scout.SOPInstanceUID, scout.SeriesInstanceUID, scout.ImageOrientationPatient = "1.2.3", "1.2.4", [1, 0, 0, 0, 0, -1]
    scout.save_as(tmp_path / "inbox" / "scout")
    sample, final = whole / "input/ich-demo/stage_2_sample_submission.csv", whole / "submissions/ich-demo/final.csv"
    stage(whole, "apply", str(tmp_path / "inbox"), str(tmp_path / "out.csv"), "--sample-submission", str(sample))
    assert (tmp_path / "out.csv").read_bytes() == final.read_bytes()
    quarantine = pd.read_csv(tmp_path / "out_quarantine.csv")
    assert {"duplicate-sop", "not-dicom", "not-axial", "wrong-size", "no-picture"} <= set(quarantine["reason"])
    assert not (tmp_path / "out_work").exists()


@pytest.mark.slow
def test_another_test_set_costs_no_training(whole, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(whole, place, copy_function=shutil.copy2)
    series = pd.read_parquet(place / "folds/ich-demo/index.parquet").query("split == 'test'").groupby("series")["path"]
    for path in next(iter(series))[1]:
        (place / "input/ich-demo" / path).unlink()
    learned = [path for folder in ("weights", "oof") for path in (place / folder).rglob("*")
               if path.is_file() and "test" not in path.name]
    before = {path: path.stat().st_mtime_ns for path in [*learned, place / "folds/ich-demo/folds.csv"]}
    for script in STAGES[:-1]:
        said = stage(place, script)
        made = [line for line in said.splitlines() if line.startswith(("  making", "  to make"))]
        assert all("test" in line or script[:2] in ("01", "02", "03", "08") for line in made), said
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(pd.read_parquet(place / "cache/ich-demo/rows.parquet")) < len(
        pd.read_parquet(whole / "cache/ich-demo/rows.parquet"))


@pytest.mark.slow
def test_every_manifest_leads_back_to_the_fold_table_and_the_data(whole):
    manifest = json.loads((whole / "oof/ich-demo/final/fold0.parquet.json").read_text())
    assert "ich-demo/folds.csv" in manifest["inputs"] and "weighted/fold0.parquet" in manifest["inputs"]
    hashes = {json.loads(path.read_text())["fold_hash"] for path in (whole / "oof").rglob("fold?.parquet.json")}
    assert len(hashes) == 1


@pytest.mark.slow
def test_an_edited_table_stops_the_stage_that_reads_it(whole, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(whole, place, copy_function=shutil.copy2)
    table = place / "oof/ich-demo/resnet/fold0.parquet"
    frame = pd.read_parquet(table)
    frame["any"] = 0.5
    frame.to_parquet(table)
    assert "was edited or damaged" in stage(place, "07_stack", "--only", "blend", fails=True)
    folds = place / "folds/ich-demo/folds.csv"
    folds.write_text(folds.read_text().replace(",0\n", ",1\n", 1))
    assert "folds.csv was edited or damaged" in stage(place, "04_train", "--only", "resnet", fails=True)


@pytest.mark.slow
def test_two_processes_train_one_network(drawn, monkeypatch):
    """What ``--gpus 2`` hands to torchrun, which ``test_launch.py`` holds."""
    def joined(module, words, processes, report):
        done = run_together(SRC / f"{module.replace('.', '/')}.py", *words, processes=processes)
        assert done.returncode == 0, done.stdout + done.stderr

    monkeypatch.setattr("radstack.training.distributed.torchrun", joined)
    monkeypatch.setenv("RADSTACK_COMPETITIONS", str(SHORT))
    words = parser("", "only", "name", "folds", "gpus", "device", "workers").parse_args([
        "ich_short", "--demo", "--data-dir", str(drawn), "--out-dir", str(drawn), "--only", "resnet", "--set",
        "optim.lr=1e-4", "--name", "pair", "--folds", "0", "--gpus", "2", "--device", "cpu", "--workers", "1"])
    train(open_context(words, lambda name, demo: DEMO))
    assert (drawn / "weights/ich-demo/pair/fold0.safetensors.json").exists()


@pytest.mark.slow
def test_limit_keeps_a_smoke_run_apart(drawn):
    stage(drawn, "01_make_folds", "--limit", "4")
    index = pd.read_parquet(drawn / "folds/ich-demo-limit4/index.parquet")
    assert (index.groupby("split")["group"].nunique() <= 4).all()


def test_missing_data_say_what_to_type(tmp_path):
    assert "src/00_get_data.py ich --demo" in stage(tmp_path, "01_make_folds", fails=True)
    assert "src/01_make_folds" in stage(tmp_path, "02_localize", fails=True)
    assert "no such recipe; known: resnet" in stage(tmp_path, "04_train", "--only", "resent", fails=True)


@pytest.fixture
def real(tmp_path):
    """The real sample as input, by a link."""
    root = os.environ.get("RADSTACK_REAL_DATA", "")
    if not (Path(root) / "ich_sample").is_dir() or not root:
        pytest.skip("RADSTACK_REAL_DATA has no ich_sample")
    (tmp_path / "input").mkdir()
    (tmp_path / "input/ich-demo").symlink_to(Path(root).resolve() / "ich_sample")
    return tmp_path


@pytest.mark.real
@pytest.mark.slow
def test_real_slices_end_in_a_valid_submission(real):
    for script in STAGES:
        stage(real, script, *(["--workers", "1"] if script in STAGES[:3] else []))
    submission = pd.read_csv(real / "submissions/ich-demo/final.csv")
    assert len(submission) == 192 and np.isfinite(submission["Label"]).all()
    rows = pd.read_parquet(real / "cache/ich-demo/rows.parquet")
    assert len(rows) == 168 and (rows["side"] < rows["columns"]).all()
