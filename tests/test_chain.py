"""The chain of localizers: every row answered once, by networks that never met its fold; kept, remade, joined.

This file is also the script by which two processes share a fold.
"""

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scripts import run_together

from competitions import load
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.images.dicom import Unreadable
from radstack.images.shards import Shards, shard_path
from radstack.images.views import Whole
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Train
from radstack.recipes.localizer import Chain, Step
from radstack.recipes.losses import Jaccard, Points
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages import chain as stage
from radstack.stages.localize import apply_networks, localize, localize_fold

SIDE = 32
BASE = Experiment("disc_mask", Whole((SIDE, SIDE)), Backbone("radstack/unet", pretrained=False, args={"widths": (4, 8, 16)}),
                  augment=(Op("HorizontalFlip", {"p": 0.5}),), loss=Jaccard(), optim=Optim("adam", lr=1e-2),
                  train=Train(epochs=20, batch_size=4, precision="fp32"))
CENTER = change(BASE, name="disc_center", loss=Points(), train__epochs=3, backbone=Backbone(
    "radstack/vgg_elu", pretrained=False, args={"size": (SIDE, SIDE), "widths": (8, 8, 8), "dense": (16, 16)}))


def prepare(folder: Path, rows: pd.DataFrame, side: int):
    path = folder / rows["path"].iloc[0]
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise Unreadable("damaged", path.name)
    return picture[None], {"scale": 1.0}


def planes(folder: Path, rows: pd.DataFrame, side: int):
    """Planes of a file of many rows, as bright as their ``x``."""
    return np.stack([np.full((side, side), int(one), np.uint8) for one in rows["x"]]), {"told": rows["x"].tolist()}


class Discs:
    def __init__(self, rows):
        self.rows = rows

    def __getitem__(self, row):
        one = self.rows.iloc[row]
        return disc(one["x"], one["y"])


def disc(x: float, y: float) -> np.ndarray:
    return cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (int(x), int(y)), 6, 1, -1)


def masks(folder, rows, side):
    return Discs(rows)


def known(rows):
    return rows["known"].to_numpy()


def centers(folder, rows, side):
    return (rows[["x", "y"]].to_numpy() * 2 / (side - 1) - 1).astype(np.float32)


def only_the_disc(picture, probability):
    return np.where(probability > 127, picture, 0).astype(np.uint8)


def write_boxes(row, picture, maps):
    probability, = maps
    return {"flag": "" if probability.max() > 127 else "nothing found", "area": int((probability > 127).sum())}


def nothing(*_):
    raise AssertionError


def context_of(folder, **options):
    steps = (Step(BASE, known, masks, follow=only_the_disc), Step(CENTER, known, centers, ("u", "v")))
    chain = Chain(SIDE, prepare, steps, write_boxes, nothing, per_shard=16)
    competition = change(load("bone_age", demo=True), localizer=chain)
    return make_context(competition, Options(data_dir=str(folder), out_dir=str(folder), workers=1, device="cpu", **options))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of forty discs, one of them broken, and their folds."""
    place = tmp_path_factory.mktemp("discs")
    rng, made = np.random.default_rng(0), context_of(place)
    rows = pd.DataFrame({"id": [f"d{n}" for n in range(40)], "group": [f"d{n}" for n in range(40)],
                         "split": ["train"] * 30 + ["test"] * 10, "path": [f"d{n}.png" for n in range(40)],
                         "x": rng.uniform(8, 24, 40), "y": rng.uniform(8, 24, 40), "known": np.arange(40) < 24})
    made.paths.input.mkdir(parents=True)
    for one in rows.itertuples():
        noise = rng.normal(40, 8, (SIDE, SIDE)) + 120 * disc(one.x, one.y)
        cv2.imwrite(str(made.paths.input / one.path), np.clip(noise, 0, 255).astype(np.uint8))
    (made.paths.input / "d5.png").write_bytes(b"broken")
    made.paths.folds.mkdir(parents=True)
    rows.to_parquet(made.paths.folds / "index.parquet")
    folds = pd.DataFrame({"group": rows["group"][:30], "fold": np.arange(30) % 3})
    folds.to_csv(made.paths.folds / "folds.csv", index=False)
    return place


@pytest.fixture(scope="module")
def found(drawn, tmp_path_factory):
    """The same after the chain has run."""
    place = shutil.copytree(drawn, tmp_path_factory.mktemp("found"), dirs_exist_ok=True)
    run(context_of(place))
    return place


@pytest.fixture
def context(drawn, tmp_path):
    return context_of(shutil.copytree(drawn, tmp_path, dirs_exist_ok=True))


@pytest.fixture
def done(found, tmp_path):
    return context_of(shutil.copytree(found, tmp_path, dirs_exist_ok=True))


def run(context) -> pd.DataFrame:
    chain = context.competition.localizer
    stage.prepare(context, chain)
    for fold in range(3):
        if context.why(stage.found_artifact(context, chain, fold)):
            localize_fold(context, fold)
    apply_networks(context)
    return pd.read_parquet(context.paths.cache / "boxes.parquet")


def test_every_readable_picture_is_found_once_and_out_of_fold(done):
    boxes = pd.read_parquet(done.paths.cache / "boxes.parquet")
    quarantine = pd.read_csv(done.paths.cache / "quarantine.csv")
    assert quarantine["id"].tolist() == ["d5"] and quarantine["reason"].tolist() == ["damaged"]
    assert sorted(boxes["id"]) == sorted(f"d{n}" for n in range(40) if n != 5)
    assert (boxes["flag"] == "").all() and boxes["area"].between(80, 150).all(), "a disc of radius 6 has 113 pixels"
    for fold in range(3):
        found = pd.concat([pd.read_parquet(stage.found_files(done.paths, fold, split)[0]) for split in ("train", "test")])
        own = {f"d{n}" for n in range(30) if n % 3 == fold and n != 5}
        assert set(found["id"]) == own | {f"d{n}" for n in range(30, 40)}
    test = boxes[boxes["split"] == "test"].set_index("id")
    answers = [pd.read_parquet(stage.found_files(done.paths, fold, "test")[0]).set_index("id")["u"] for fold in range(3)]
    np.testing.assert_allclose(test["u"], pd.concat(answers, axis=1).loc[test.index].median(axis=1), rtol=1e-6)


def test_what_is_made_is_kept_and_a_lost_answer_is_made_from_the_kept_networks(done):
    weights = done.paths.weights / "disc_mask" / "fold1.safetensors"
    before, boxes = weights.stat().st_mtime_ns, pd.read_parquet(done.paths.cache / "boxes.parquet")
    stage.found_files(done.paths, 1, "train")[0].unlink()
    again = run(done)
    assert weights.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(boxes, again)


def test_another_test_picture_is_prepared_alone(done):
    index = pd.read_parquet(done.paths.folds / "index.parquet")
    index[index["id"] != "d39"].to_parquet(done.paths.folds / "index.parquet")
    prepared = done.paths.cache / "prepared"
    learned = [path for path in done.paths.weights.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in [*prepared.glob("shard*.parquet"), *learned]}
    assert "d39" not in set(run(done)["id"])
    rows = pd.read_parquet(prepared / "rows.parquet")
    shards = rows.loc[rows["split"] == "train", "shard"].unique()
    kept = {shard_path(prepared, one).with_suffix(".parquet") for one in shards} | set(learned)
    assert kept <= set(before) and all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_without_test_pictures_the_training_ones_are_found(context):
    file = context.paths.folds / "index.parquet"
    index = pd.read_parquet(file)
    index[index["split"] == "train"].to_parquet(file)
    boxes = run(context)
    assert set(boxes["split"]) == {"train"} and (boxes["flag"] == "").mean() > 0.5


def test_pictures_and_maps_between_the_stages_are_watched_too(done):
    maps, prepared = (done.paths.cache / name / "shard-00001.npy" for name in ("maps", "prepared"))
    before = maps.read_bytes()
    maps.unlink()
    run(done)
    assert maps.read_bytes() == before
    prepared.write_bytes(prepared.read_bytes()[:-1] + b"?")
    os.utime(prepared, ns=(1, 1))  # on a quick machine both could be of one tick of the file system's clock
    with pytest.raises(UserError, match=r"prepared.shard-00001.npy was edited or damaged"):
        run(done)


def test_rows_of_one_file_that_lie_apart_keep_their_own_pictures_and_facts(context):
    """Two volumes' planes in turns, as where a table names one file under two ids."""
    file, chain = context.paths.folds / "index.parquet", change(context.competition.localizer, prepare=planes, steps=())
    index = pd.read_parquet(file).assign(x=np.arange(40), path=["d0.png", "d1.png"] * 20)
    index.to_parquet(file)
    stage.prepare(context, chain)
    rows = pd.read_parquet(context.paths.cache / "prepared" / "rows.parquet")
    assert rows["told"].tolist() == rows["x"].tolist() == list(range(40))
    shards = Shards(context.paths.cache / "prepared")
    assert [int(shards(row.shard, row.slot).max()) for row in rows.itertuples()] == list(range(40))


def test_a_fold_whose_network_is_gone_is_trained_again_and_the_others_stay(done):
    gone, kept = (done.paths.weights / "disc_mask" / f"fold{fold}.safetensors" for fold in (1, 2))
    before, boxes = kept.stat().st_mtime_ns, pd.read_parquet(done.paths.cache / "boxes.parquet")
    for path in (gone, gone.with_name(f"{gone.name}.json")):
        path.unlink()
    assert stage.found_artifact(done, done.competition.localizer, 1).why() == "disc_mask/fold1.safetensors is gone"
    again = run(done)
    assert gone.exists() and kept.stat().st_mtime_ns == before
    assert again["id"].tolist() == boxes["id"].tolist()


def test_a_dry_run_without_steps_needs_nothing_that_is_not_made_yet(drawn, tmp_path, capsys):
    dry = context_of(shutil.copytree(drawn, tmp_path, dirs_exist_ok=True), dry_run=True)
    localize(change(dry, competition__localizer__steps=()))
    assert "would make boxes.parquet: its inputs are not made yet" in capsys.readouterr().out
    assert not dry.paths.cache.exists()


def test_annotations_of_one_fold_alone_are_an_error(context):
    index = pd.read_parquet(context.paths.folds / "index.parquet")
    index["known"] = np.arange(40) == 0
    index.to_parquet(context.paths.folds / "index.parquet")
    with pytest.raises(UserError, match="no picture outside fold 0 is annotated"):
        run(context)


def test_two_processes_share_a_fold(context):
    chain = context.competition.localizer
    stage.prepare(context, chain)
    done = run_together(Path(__file__).resolve(), context.paths.input.parents[1])
    assert done.returncode == 0, done.stderr
    assert not context.why(stage.found_artifact(context, chain, 0))
    assert len(list(context.paths.weights.glob("*/fold0.safetensors.json"))) == 2
    assert not list(context.paths.weights.glob("*/*.checkpoint*"))


if __name__ == "__main__":
    localize_fold(context_of(Path(sys.argv[1]), gpus=2), 0)
