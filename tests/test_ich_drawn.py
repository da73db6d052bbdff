"""Hemorrhages drawn on healthy slices: where they lie, what they are called, and that prediction never sees one."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from competitions.ich.drawn import BONE, SHAPES, DrawnHemorrhages, brain_of, draw, hemorrhage
from competitions.ich.labels import TARGETS
from competitions.ich.small import SMALL
from competitions.ich.views import neighbors, three_windows
from radstack.core.errors import UserError
from radstack.core.recipe import as_dict, change, digest
from radstack.images.shards import Shards, write_shard
from radstack.images.views import Box
from radstack.recipes.experiment import Experiment
from radstack.stages.train import in_turn
from radstack.training.loader import Pictures, collate

SIDE = 128


def head(seed=0, side=SIDE) -> np.ndarray:
    """Air, a ring of bone, brain of about 35 HU with two ventricles and furrows at its rim; int16."""
    hu = np.full((side, side), -1000, np.int16)
    middle, unit = (side // 2, side // 2), side / SIDE
    cv2.ellipse(hu, middle, (int(50 * unit), int(58 * unit)), 0, 0, 360, 900, -1)
    cv2.ellipse(hu, middle, (int(44 * unit), int(52 * unit)), 0, 0, 360, 35, -1)
    for angle in range(0, 360, 30):
        cv2.ellipse(hu, middle, (int(40 * unit), int(48 * unit)), 0, angle, angle + 8, 8, max(1, int(3 * unit)))
    for place in (-8, 8):
        cv2.ellipse(hu, (middle[0] + int(place * unit), middle[1]), (int(4 * unit), int(12 * unit)), 0, 0, 360, 6, -1)
    return hu + np.random.default_rng(seed).normal(0, 3, hu.shape).round().astype(np.int16)


def many(kind="", count=40, side=SIDE):
    hu = head(side=side)
    found = [hemorrhage(hu, np.random.default_rng(seed), kind) for seed in range(count)]
    return hu, [one for one in found if one is not None]


@pytest.mark.parametrize("side", [64, SIDE, 300])
@pytest.mark.parametrize("kind", SHAPES)
def test_blood_lies_inside_the_skull_and_leaves_bone_and_air(kind, side):
    hu, drawn = many(kind, side=side)
    brain = brain_of(hu)
    assert len(drawn) > 30 and {one.kind for one in drawn} <= {kind, "intraparenchymal"}
    for blood in drawn:
        changed = draw(hu, blood) != hu
        assert changed.any() and not changed[brain.inside == 0].any() and not changed[hu >= BONE].any()
        assert blood.cover.min() >= 0 and blood.cover.max() <= 1


def test_each_type_is_where_it_is_taught_to_be():
    brain, hu = brain_of(head()), np.minimum(head(), 60)

    def covered(kind, values):
        return np.median([np.average(values, weights=one.cover + 1e-9) for one in many(kind)[1] if one.kind == kind])
    depth = {kind: covered(kind, brain.depth) for kind in SHAPES}
    assert max(depth["epidural"], depth["subdural"]) < 8 < depth["intraventricular"] < 44
    assert depth["intraparenchymal"] > depth["subdural"]
    dark = {kind: covered(kind, hu) for kind in SHAPES}
    assert dark["intraventricular"] < 20 and dark["subarachnoid"] < 28 < dark["intraparenchymal"]


def test_most_blood_is_brighter_than_brain_and_some_old_is_darker():
    levels = np.array([np.average(one.level, weights=one.cover) for one in many("subdural", 200)[1]])
    assert 0.85 < np.mean(levels > 38) < 0.98 and levels.max() < 90 and levels.min() > 5


@pytest.mark.parametrize("hu", [np.full((SIDE, SIDE), -1000, np.int16), np.full((SIDE, SIDE), 40, np.int16),
                                np.full((SIDE, SIDE), 900, np.int16)])
def test_where_no_skull_surrounds_a_brain_nothing_is_drawn(hu):
    assert brain_of(hu) is None and hemorrhage(hu, np.random.default_rng(0)) is None
    opened = head()
    opened[:SIDE // 2, SIDE // 2 - 15:SIDE // 2 + 15] = 40
    assert hemorrhage(opened, np.random.default_rng(0)) is None


@pytest.fixture
def scene(tmp_path):
    """A series of three slices, the second of which has a finding, and one slice whose label is unknown."""
    write_shard(tmp_path / "shard-00000.npy", [lambda n=n: head(n) for n in range(4)], (SIDE, SIDE))
    rows = pd.DataFrame({"series": ["a", "a", "a", "b"], "position": [0, 1, 2, 0], "shard": 0, "slot": range(4)})
    labels = np.zeros((4, 6), np.float32)
    labels[1, [2, 5]], labels[3] = 1, np.nan
    return Shards(tmp_path), rows, labels


def pictures(scene, view, share=1.0):
    cache, rows, labels = scene
    reader = view.reader(cache, rows)
    return Pictures(reader, labels, np.zeros((4, 0), np.float32), None, DrawnHemorrhages(share).painter(reader, TARGETS))


def test_a_healthy_slice_gets_one_type_and_any_and_the_same_seed_the_same(scene):
    read = pictures(scene, three_windows(SIDE))
    plain = read[0, -1]
    made = [read[0, seed] for seed in range(30)]
    drawn = [one for one in made if one[1].any()]
    assert len(drawn) > 20 and not plain[1].any() and not scene[2][0].any()
    for picture, label, _, row in drawn:
        assert label[5] == 1 and label[:5].sum() == 1 and row == 0 and not np.array_equal(picture, plain[0])
    assert len({int(label[:5].argmax()) for _, label, _, _ in drawn}) == 5
    again = read[0, 7]
    assert np.array_equal(again[0], made[7][0]) and np.array_equal(again[1], made[7][1])
    assert isinstance(collate(made).images, torch.Tensor)


def test_findings_unknown_labels_and_predictions_stay_as_they_are(scene):
    read = pictures(scene, three_windows(SIDE))
    for row in (1, 3):
        plain = read[row, -1]
        for seed in range(10):
            picture, label, _, _ = read[row, seed]
            assert np.array_equal(picture, plain[0]) and np.array_equal(label, plain[1], equal_nan=True)


def test_a_share_of_the_healthy_slices_is_drawn_on(scene):
    for share in (0.2, 0.6):
        read = pictures(scene, three_windows(SIDE), share)
        assert 0.7 * share < np.mean([read[0, seed][1].any() for seed in range(200)]) < 1.3 * share


def test_neighbors_have_their_part_and_the_slice_itself_all_of_it(scene):
    read = pictures(scene, neighbors(SIDE))
    plain, shares = read[2, -1][0].astype(int), []
    for seed in range(40):
        picture, label, _, _ = read[2, seed]
        if label.any():
            above, own, _ = np.abs(picture - plain).sum(axis=(1, 2))
            shares.append(above / own)
    assert max(shares) > 0.8 and min(shares) < 0.05 and np.mean(np.array(shares) < 1.3) > 0.9


def test_what_it_cannot_be_drawn_on_is_refused(scene):
    cache, rows, _ = scene
    box = Box((0, 0, 8, 8), (8, 8), (1.0,), (1.0,)).reader(cache, rows)
    with pytest.raises(UserError, match="take a view of slices"):
        DrawnHemorrhages().painter(box, TARGETS)
    with pytest.raises(UserError, match="targets has no epidural; leave targets empty"):
        DrawnHemorrhages().painter(three_windows(SIDE).reader(cache, rows), ("any", "subdural"))
    for share in (0, -0.5, 1.2):
        with pytest.raises(UserError, match="take a share above 0, up to 1"):
            DrawnHemorrhages(share)


# -- the recipes ------------------------------------------------------------------------------------------------------


def test_keys_hold_the_drawing_where_there_is_one():
    drawn = SMALL.models.experiments[0]
    assert drawn.name == "drawn" and "computed" in as_dict(drawn)["drawn"]
    assert digest(as_dict(drawn)) != digest(as_dict(change(drawn, drawn__share=0.5)))
    assert "drawn" not in as_dict(Experiment("a", three_windows(64)))


def test_what_is_started_from_is_trained_first_and_sees_no_real_hemorrhage():
    chosen = list(SMALL.models.experiments)
    first, then = ([one.name for one in group] for group in in_turn(chosen[::-1]))
    assert set(first) == {"drawn", "drawn_neighbors", "frozen"} and set(then) == {"windows", "neighbors"}
    assert all("any < 0.5" in one.sampling.keep for one in chosen[:2])
    assert [[one.name for one in group] for group in in_turn(chosen[2:])] == [["windows", "neighbors", "frozen"]]
    assert list(in_turn([])) == [[]]
    ring = [change(chosen[0], backbone__start="b"), change(chosen[0], name="b", backbone__start="drawn")]
    with pytest.raises(UserError, match="b, drawn start from one another"):
        list(in_turn(ring))
