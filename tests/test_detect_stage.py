"""Stage 02 with a detector: folds kept apart, one box a class always, flags, restarts, pictures that cannot be read.

This file is also the script by which two processes share a fold.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scripts import run_together

import competitions
from competitions import load
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.recipe import change
from radstack.images.dicom import Unreadable
from radstack.recipes.competition import FoldRecipe
from radstack.recipes.detector import Detector, Joint
from radstack.recipes.experiment import Optim
from radstack.recipes.localizer import Detection
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages.decode import prepared_rows
from radstack.stages.detect import _lessons, found_artifact, found_columns, found_file, joined, prepare, smaller
from radstack.stages.localize import localize, localize_fold, show

CLASSES = ("disk", "block")
RECIPE = Detector("toy", CLASSES, args={"widths": (8, 16, 16, 16, 16)}, dense=32, short_side=64, long_side=96,
                  anchors=((0.2, 0.3, 0.4),), proposals=(40, 10), sampled=(24, 12), batch_size=2, schedule=Joint(3),
                  optim=Optim("adam", lr=1e-3, clip_norm=10.0), precision="fp32")
DRAWN = [f"{name}_{corner}" for name in CLASSES for corner in ("x1", "y1", "x2", "y2")]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def read(path):
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise Unreadable("broken", "no picture")
    return picture


def drawn(rows):
    return rows[DRAWN].to_numpy(float).reshape(len(rows), len(CLASSES), 4)


def write_boxes(rows):
    return rows.assign(wide=rows["found_block_x2"] - rows["found_block_x1"])


def write_note(picture, row, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{picture.shape} {row.flag}")


LOCALIZER = Detection(RECIPE, read, drawn, write_boxes, write_note)


def context_of(folder, **options):
    """A competition that finds boxes."""
    toy = change(load("radius_ulna", demo=True), localizer=LOCALIZER, folds=FoldRecipe(count=2))
    return make_context(toy, Options(data_dir=str(folder), out_dir=str(folder), device="cpu", workers=1, **options))


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Ten small pictures, two of them test, one unreadable, in two folds; the context of a competition that finds boxes."""
    context = context_of(tmp_path)
    monkeypatch.setattr(competitions, "load", lambda name, demo=False: context.competition)
    rng, rows = np.random.default_rng(0), []
    context.paths.input.mkdir(parents=True)
    for number in range(10):
        picture = rng.normal(60, 8, (80, 64)).clip(0, 255).astype(np.uint8)
        picture[20:40, 10:24], picture[50:70, 34:50] = 180, 140
        cv2.imwrite(str(context.paths.input / f"p{number}.png"), picture)
        corners = [10, 20, 24, 40, 34, 50, 50, 70] if number < 8 else [np.nan] * 8
        rows.append({"id": f"p{number}", "split": "train" if number < 8 else "test", "group": f"g{number}", "path":
                     f"p{number}.png", "height": 80, "width": 64} | dict(zip(DRAWN, corners)))
    (context.paths.input / "p3.png").write_bytes(b"nothing")
    write_table(context.paths.folds / "index.parquet", pd.DataFrame(rows))
    write_table(context.paths.folds / "folds.csv", pd.DataFrame({"group": [f"g{n}" for n in range(8)], "fold": [0, 1] * 4}))
    return context


def test_every_readable_picture_gets_one_box_a_class_and_the_second_run_makes_nothing(scene, capsys):
    localize(scene)
    table = pd.read_parquet(scene.paths.cache / "boxes.parquet")
    assert table["id"].tolist() == [f"p{n}" for n in range(10) if n != 3] and table["wide"].notna().all()
    boxes = table[found_columns(CLASSES)].to_numpy().reshape(len(table), 2, 4)
    assert np.isfinite(boxes).all() and (boxes[..., 2:] > boxes[..., :2]).all()
    assert table["flag"].str.len().gt(0).all()  # three steps teach nothing, and it says so
    assert pd.read_csv(scene.paths.cache / "quarantine.csv")["reason"].tolist() == ["broken"]
    assert len(list(scene.paths.cache.glob("parts-*"))) == 1  # by which other pictures alone are decoded next time
    capsys.readouterr()
    localize(scene)
    said = capsys.readouterr().out
    assert "making" not in said and "to make" not in said and said.count("kept") == 6


def test_a_fold_without_its_answers_is_looked_at_again_and_nothing_is_trained(scene, capsys):
    localize(scene)
    weights = scene.paths.weights / "toy" / "fold1.safetensors"
    before = weights.stat().st_mtime_ns
    (scene.paths.cache / "found" / "fold1.parquet").unlink()
    localize(scene)
    assert weights.stat().st_mtime_ns == before and (scene.paths.cache / "found" / "fold1.parquet").exists()


def test_a_fold_whose_detector_is_gone_is_learned_again_and_the_others_stay(scene):
    localize(scene)
    gone, kept = (scene.paths.weights / "toy" / f"fold{fold}.safetensors" for fold in (1, 0))
    before = kept.stat().st_mtime_ns
    for path in (gone, gone.with_name(f"{gone.name}.json")):
        path.unlink()
    localize(scene)
    assert gone.exists() and kept.stat().st_mtime_ns == before


def test_without_test_pictures_there_is_an_empty_table_of_them(scene):
    file = scene.paths.folds / "index.parquet"
    index = pd.read_parquet(file)
    index[index["split"] == "train"].to_parquet(file)
    localize(scene)
    table = pd.read_parquet(found_file(scene.paths, 0, "test"))
    assert len(table) == 0 and set(found_columns(CLASSES)) <= set(table)


def test_the_lessons_of_a_fold_are_neither_its_own_pictures_nor_test(scene):
    localize(scene)
    rows, boxes = _lessons(scene, LOCALIZER, 0)
    assert rows["id"].tolist() == ["p1", "p5", "p7"] and boxes.shape == (3, 2, 4)
    own, test = (pd.read_parquet(found_file(scene.paths, 0, split))["id"] for split in ("train", "test"))
    assert own.tolist() == ["p0", "p2", "p4", "p6"] and test.tolist() == ["p8", "p9"]
    assert prepared_rows(scene)[1].tolist() == [0, 1, 0, 0, 1, 0, 1, -1, -1]


def test_without_hand_made_boxes_it_says_so(scene):
    nothing = change(LOCALIZER, drawn=lambda rows: np.full((len(rows), 2, 4), np.nan))
    localize(scene)
    with pytest.raises(UserError, match="no picture outside fold 0 has hand-made boxes"):
        _lessons(scene, nothing, 0)


def test_flagged_pictures_are_drawn_first(scene):
    localize(scene)
    show(scene, 1)
    assert len(list((scene.paths.reports / "localize").iterdir())) == 2


def fold_table(ids, boxes, prior):
    scores = np.where(np.isfinite(boxes[:, :, 0]), boxes[:, :, 0] * 0 + 0.9, np.nan)
    names = ("found", "whole")
    columns = [f"{kind}_{name}_{corner}" for kind in names for name in CLASSES for corner in ("x1", "y1", "x2", "y2")]
    values = np.hstack([boxes.reshape(len(ids), -1), prior.reshape(len(ids), -1), scores])
    return pd.DataFrame(values, columns=[*columns, "score_disk", "score_block"]).assign(id=ids)


def test_folds_are_joined_by_medians_and_missing_boxes_come_from_the_priors():
    disk, block = np.array([0.0, 0, 10, 10]), np.array([40.0, 40, 60, 60])
    both, miss = np.stack([disk, block])[None], np.stack([disk, block * np.nan])[None]
    away = both + [[[3.0], [100.0]]]
    prior = np.stack([disk, block + 5])[None]
    tables = [fold_table(["t"], boxes, prior) for boxes in (both, both + 1, away)]
    got = joined(pd.Series(["t"]), tables, LOCALIZER).iloc[0]
    assert got[found_columns(CLASSES)].tolist() == (both + 1).ravel().tolist() and got["flag"] == ""
    once = joined(pd.Series(["t"]), [fold_table(["t"], boxes, prior) for boxes in (both, miss, miss)], LOCALIZER).iloc[0]
    assert once["found_block_x1"] == 40 and once["score_block"] == pytest.approx(0.3) and once["flag"] == "block unsure"
    never = joined(pd.Series(["t"]), [fold_table(["t"], miss, prior)] * 3, LOCALIZER).iloc[0]
    assert never["found_block_x1"] == 45 and np.isnan(never["score_block"]) and never["flag"] == "block missing"
    none = joined(pd.Series(["t"]), [fold_table(["t"], both * np.nan, prior)] * 3, LOCALIZER).iloc[0]
    assert none["flag"] == "no box" and none["found_disk_x2"] == 10
    own = joined(pd.Series(["a", "b"]), [fold_table(["b"], both, prior), fold_table(["a"], away, prior)], LOCALIZER)
    assert own["found_disk_x1"].tolist() == [3, 0]


def test_large_pictures_are_kept_small_and_small_ones_as_they_are():
    picture, scale = smaller(np.zeros((640, 480), np.uint8), RECIPE)
    assert picture.shape == (85, 64) and scale == pytest.approx(64 / 480)
    assert smaller(np.zeros((60, 40), np.uint8), RECIPE)[1] == 1.0


def test_two_processes_share_a_fold(scene):
    prepare(scene, LOCALIZER)
    done = run_together(Path(__file__).resolve(), scene.paths.input.parents[1])
    assert done.returncode == 0, done.stderr
    assert not scene.why(found_artifact(scene, LOCALIZER, 0))
    assert (scene.paths.weights / "toy/fold0.safetensors.json").exists()
    assert not list(scene.paths.weights.glob("*/*.checkpoint*"))


if __name__ == "__main__":
    localize_fold(context_of(Path(sys.argv[1]), gpus=2), 0)
