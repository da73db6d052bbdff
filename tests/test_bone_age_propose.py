"""Hands worth annotating: which are picked, the project for VIA, and what is read back of it."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from competitions import load
from competitions.bone_age.annotations import read_landmarks, read_mask
from competitions.bone_age.localizer import FINE
from competitions.bone_age.propose import choose, propose, read_back
from radstack.core.errors import UserError
from radstack.images.radiograph import prepare
from radstack.images.shards import write_shard
from radstack.running.cli import make_context
from radstack.running.context import Options

SIDE, SIZE = 64, (60, 48)


def test_the_strange_and_the_unsure_come_first_and_no_two_of_a_kind():
    features = np.array([[0.0], [0.1], [5.0], [5.1], [-3.0], [0.2]])
    annotated = np.array([True, False, False, False, False, False])
    assert choose(features, np.zeros(6), annotated, 2) == [3, 4]  # 2 is like 3
    assert choose(features, np.array([0, 0, 0, 0, 1.0, 0]), annotated, 1) == [4]
    assert sorted(choose(features, np.zeros(6), annotated, 99)) == [1, 2, 3, 4, 5]


@pytest.fixture
def context(tmp_path):
    """Six training hands, the first annotated, as stage 02 leaves them: a block of mask and three landmarks each."""
    context = make_context(load("bone_age"), Options(data_dir=str(tmp_path), out_dir=str(tmp_path), workers=1))
    paths, rows, rng = context.paths, [], np.random.default_rng(0)
    (paths.input / "annotations").mkdir(parents=True)
    (paths.input / "annotations" / "landmarks.json").write_text(json.dumps({"0": {"filename": "0.png", "regions": [
        {"shape_attributes": {"name": "point", "cx": 10 + n, "cy": 20}, "region_attributes": {}} for n in range(3)]}}))
    small, maps = [], []
    for one in range(6):
        cv2.imwrite(str(paths.input / f"{one}.png"), rng.integers(0, 255, SIZE).astype(np.uint8))
        picture, place = prepare(paths.input / f"{one}.png", SIDE)
        probability = np.zeros((1, SIDE, SIDE), np.uint8)
        probability[:, 12:50, 20:40] = 255
        small.append(picture), maps.append(probability)
        rows.append({"id": str(one), "split": "train", "path": f"{one}.png", "boneage": 20.0 * one, "male": one % 2,
                     "height": SIZE[0], "width": SIZE[1], "mask": "m" if one == 0 else "", "parts": 1, "flag": "",
                     "map_shard": 0, "map_slot": one, **place, **dict.fromkeys(("p1x", "p1y", "p2x", "p2y", "p3x", "p3y"),
                                                                              5.0 if one == 0 else np.nan),
                     **dict(zip((f"raw_{name}" for name in FINE), (20.0, 14, 30, 25, 22, 40)))})
    for name, made, size in (("prepared", small, (SIDE, SIDE)), ("maps", maps, (1, SIDE, SIDE))):
        write_shard(paths.cache / name / "shard-00000.npy", [one.copy for one in made], size, "uint8")
    paths.folds.mkdir(parents=True)
    for file in (paths.cache / "boxes.parquet", paths.folds / "index.parquet"):
        pd.DataFrame(rows).to_parquet(file)
    return context


def corrected(context, change):
    """The project of two hands, each picture changed by ``change``, as VIA would save it."""
    content = json.loads(propose(context, 2).read_text())
    for one in content["_via_img_metadata"].values():
        change(one)
    file = context.paths.out / "corrected.json"
    file.write_text(json.dumps(content))
    return file, [one["filename"].removesuffix(".png") for one in content["_via_img_metadata"].values()]


def test_what_is_proposed_and_found_right_becomes_annotations(context):
    file, hands = corrected(context, lambda one: one["file_attributes"].update(checked="yes"))
    assert len(hands) == 2 and "0" not in hands
    assert read_back(context, file) == (2, 0)
    scale = SIDE / max(SIZE)
    for hand in hands:
        mask = read_mask(context.paths.input / "annotations" / "masks" / f"{hand}.png", SIZE)
        assert mask.sum() == pytest.approx(38 * 20 / scale**2, rel=0.1)
    found = read_landmarks(context.paths.input).set_index("id")
    assert sorted(found.index) == sorted(["0", *hands])
    assert found.loc[hands[0]].tolist() == [20, 14, 30, 25, 22, 40] and found.loc["0"].tolist() == [10, 20, 11, 20, 12, 20]


def test_a_proposal_that_nobody_checked_is_no_annotation(context):
    file, _ = corrected(context, lambda one: None)
    assert read_back(context, file) == (0, 2)
    assert not (context.paths.input / "annotations" / "masks").exists()
    assert read_landmarks(context.paths.input)["id"].tolist() == ["0"]


def faulty(number):
    """Spoil one kind of region."""
    def change(one):
        one["file_attributes"]["checked"] = "yes"
        if number == 0:
            one["regions"] = [region for region in one["regions"] if region["region_attributes"]["name"] != "P2"]
        if number == 1:
            one["regions"][0]["shape_attributes"].update(all_points_x=[1, 2], all_points_y=[1, 2])
        if number == 2:
            one["filename"] = "nobody.png"
    return change


@pytest.mark.parametrize(("number", "words"), [(0, "not P1, P2 and P3"), (1, "encloses nothing"), (2, "no hand below")])
def test_a_fault_names_its_hand_and_nothing_is_written(context, number, words):
    file, _ = corrected(context, faulty(number))
    with pytest.raises(UserError, match=words):
        read_back(context, file)
    assert not (context.paths.input / "annotations" / "masks").exists()


def test_a_file_that_is_not_of_via_is_refused(context):
    (context.paths.out / "x.json").write_text("[1]")
    with pytest.raises(UserError, match="no VIA 2 project"):
        read_back(context, context.paths.out / "x.json")
