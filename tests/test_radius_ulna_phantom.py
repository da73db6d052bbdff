import json
import sys
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from competitions.radius_ulna.index import BOX_COLUMNS
from competitions.radius_ulna.phases import LEARNED, LEARNED_PHASES, PHASES, TARGETS
from phantoms.bone_age.anatomy import Pose, lay
from phantoms.radius_ulna import draw, ends, law, read_truth, render
from phantoms.radius_ulna.archive import DEFECTS, SHARES, plan
from radstack.core.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import radius_ulna_ceilings

PICTURES, SIZE, SEED = 52, 200, 3
BONES = ("radius", "ulna")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("radius_ulna-demo")
    draw(folder, series=PICTURES, size=SIZE, seed=SEED, workers=1)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder)


@pytest.fixture(scope="module")
def whole():
    return plan(0, 1101, "default")


def child_at(radius: float, ulna: float, number: int = 1):
    """A child seen once, with these maturities."""
    child = law.draw_child(np.random.default_rng((9, number)), number, 7)
    return replace(child, days=child.days[:1], radius=(radius,), ulna=(ulna,))


def end_of(bone: str, maturity: float):
    """Thickness of the end of a bone on a grid of .1 mm, its rows u from -10, its columns v from -20."""
    u, v = np.meshgrid(np.arange(-10, 50, 0.1, dtype=np.float32), np.arange(-20, 20, 0.1, dtype=np.float32), indexing="ij")
    return render.end_at(bone, maturity, child_at(7, 5), u, v)[0]


def plate_depth(bone: str, maturity: float, side: float) -> float:
    """By how much the bone at ``side`` half-widths is thinner in its plate than behind, as a share."""
    column = end_of(bone, maturity)[:, 200 + round(10 * side * people_half(bone))]
    return float(1 - column[140:230].min() / np.median(column[260:300]))


def people_half(bone: str) -> float:
    return child_at(7, 5).shapes[bone].half


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_knots_are_those_of_the_specification():
    specified = {
        5: (0.92, 7, 2.6, 1, 0, 0, 0.8, 0), 6: (1.04, 8, 2.2, 1, 0.1, 0, 0.7, 0), 7: (1.08, 9, 1.9, 1, 0.7, 0.2, 0.5, 0),
        8: (1.10, 9.5, 1.5, 0.95, 1, 0.8, 0.4, 0), 9: (1.08, 10, 0.8, 0.55, 1, 1, 0.8, 0.2),
        10: (1.03, 10, 0.15, 0.15, 0.4, 0.4, 0.6, 1), 11: (1.0, 10, 0, 0, 0, 0, 0.25, 0.2)}  # fmt: skip
    signs = ("width", "height", "gap", "contrast", "medial_cap", "lateral_cap", "line", "notches")
    for stage, values in specified.items():
        assert [getattr(ends.look_at("radius", stage), sign) for sign in signs] == pytest.approx(values)
    between = ends.look_at("radius", 7.5)
    assert (between.gap, between.lateral_cap) == pytest.approx((1.7, 0.5))
    assert ends.look_at("ulna", 4).styloid == 0.3
    assert ends.look_at("ulna", 5).density == 1.15 and ends.look_at("ulna", 5).flat == 1
    assert (ends.look_at("ulna", 6).width, ends.look_at("ulna", 6).overlap, ends.look_at("ulna", 7).gap) == (1.0, 1.0, 0.8)
    fused = [(ends.look_at("ulna", stage).fused_lateral, ends.look_at("ulna", stage).fused_medial) for stage in (6, 7, 8, 9)]
    assert fused[0] == (0, 0) and sum(fused[1]) / 2 == 0.5  # of the width
    assert fused[2][0] > 1 and (1 - fused[2][1]) / 2 == pytest.approx(0.3) and min(fused[3]) > 1


def test_every_half_stage_changes_the_picture():
    for bone in BONES:
        looks = [end_of(bone, maturity) for maturity in np.arange(LEARNED[bone][0], LEARNED[bone][-1] + 1, 0.5)]
        changes = [np.abs(later - earlier).mean() / earlier.mean() for earlier, later in pairwise(looks)]
        assert min(changes[:-1]) > 0.005, (bone, changes)


def test_the_plate_of_the_radius_closes_and_that_of_the_ulna_from_the_middle():
    depths = [plate_depth("radius", maturity, 0) for maturity in (7, 9, 10, 11)]
    assert depths[0] > 0.9 and depths[0] > depths[1] + 0.1 and depths[1] > depths[2] + 0.1 and depths[3] < 0.2
    assert min(plate_depth("ulna", 5.0, side) for side in (-0.7, 0, 0.7)) > 0.85
    middle, lateral, medial = (plate_depth("ulna", 7.2, side) for side in (0, -0.8, 0.8))
    assert middle < 0.3 and min(lateral, medial) > 0.5
    assert plate_depth("ulna", 8.2, -0.7) < 0.3 < 0.5 < plate_depth("ulna", 8.2, 0.75)
    assert max(plate_depth("ulna", 9.5, side) for side in (-0.7, 0, 0.7)) < 0.3


def test_the_epiphysis_outgrows_the_metaphysis_and_caps_it_medially_first():
    def width(maturity, row):
        return (end_of("radius", maturity)[row] > render.SEEN).sum() / 10

    assert width(5.0, 150) < width(5.0, 220) - 0.3 and width(7.0, 160) > width(7.0, 225) + 1
    reach = {}
    for maturity in (5.0, 7.0, 8.9):
        bone = end_of("radius", maturity)
        for side in (-1, 1):
            column = bone[100:, 200 + round(side * 9.2 * people_half("radius"))] > render.SEEN
            reach[maturity, side] = np.argmin(column[50:]) + 50 - 10 * ends.look_at("radius", maturity).height
    assert reach[7.0, 1] > reach[5.0, 1] + 5 and reach[7.0, -1] < reach[7.0, 1] - 2
    assert reach[8.9, -1] > reach[7.0, -1] + 5


def test_the_styloid_is_medial_and_lateral_sides_are_the_thumbs():
    bone = end_of("ulna", 6.0)
    assert np.argwhere(bone[:90] > render.SEEN)[:, 1].min() > 200
    assert np.argmax(end_of("radius", 8.0)[:, 90] > 1) < np.argmax(end_of("radius", 8.0)[:, 310] > 1) - 10


def test_counts_are_those_of_the_article(whole):
    radius = pd.Series([entry.radius for entry in whole])
    ulna = pd.Series([entry.ulna for entry in whole])
    test = np.array([entry.split == "test" for entry in whole])
    assert set(radius) == set(LEARNED["radius"]) and set(ulna) == set(LEARNED["ulna"])
    for phase, count in {"pre": 75, "peak": 75, "stagnation": 175, "mature": 75}.items():
        held = radius.isin(PHASES["radius"][phase])
        assert held.mean() == pytest.approx(count / 400, abs=0.01)
        assert held[test].mean() == pytest.approx(0.25, abs=0.02)
        assert held[~test].mean() == pytest.approx((150 if phase == "stagnation" else 50) / 300, abs=0.01)
    for phase, count in {"peak": 200, "stagnation": 250, "mature": 150}.items():
        assert ulna.isin(PHASES["ulna"][phase]).mean() == pytest.approx(count / 600, abs=0.03)
    assert test.mean() == pytest.approx(0.25, abs=0.03)
    assert all(len(shares) == len(LEARNED["radius"]) for shares in SHARES.values())


def test_children_keep_their_identity_and_come_back_after_half_a_year(whole):
    children = {number: list(visits) for number, visits in groupby(whole, key=lambda entry: entry.child.number)}
    counts = np.bincount([len(visits) for visits in children.values()])
    assert len(counts) == 4 and min(counts[1:]) > 60
    for visits in children.values():
        assert len({entry.split for entry in visits}) == 1
        assert [entry.visit for entry in visits] == list(range(len(visits)))
        for first, second in pairwise(visits):
            assert first.child is second.child and 130 < (pd.Timestamp(second.day) - pd.Timestamp(first.day)).days < 235
            assert first.child.radius[first.visit] < first.child.radius[second.visit]
            assert first.child.ulna[first.visit] < first.child.ulna[second.visit]
            assert second.age - first.age == pytest.approx(0.5, abs=0.2)
            assert first.named and first.described == second.described
    assert len({(entry.day, entry.serial) for entry in whole}) == len(whole)


def test_both_bones_follow_one_clock(whole):
    gaps = []
    for entry in whole:
        radius, ulna = entry.child.radius[entry.visit], entry.child.ulna[entry.visit]
        assert 5 <= radius < 12 and 4 <= ulna < 10
        gaps.append(ulna - law.at_age("ulna", np.array(law.years("radius", radius))))
    older = [gap for gap, entry in zip(gaps, whole) if entry.child.radius[0] > 7]
    assert np.std(older) == pytest.approx(law.APART, abs=0.05) and abs(np.mean(older)) < 0.07
    girls = [entry.age for entry in whole if entry.radius == 7 and not entry.child.male]
    assert np.mean(girls) == pytest.approx(12.0, abs=0.35)  # the middle of R7; 11.4 years where it begins
    assert law.years("ulna", 5) == 11.0 and law.years("radius", 10) == 15.6 and law.years("ulna", 9) == 17.3


@pytest.mark.parametrize("sigma", sorted(radius_ulna_ceilings.EXPECTED))
def test_ceilings_are_those_of_the_specification(sigma):
    assert radius_ulna_ceilings.row(sigma, 40_000, 0) == pytest.approx(radius_ulna_ceilings.EXPECTED[sigma], abs=0.5)


def test_raters_err_as_the_exact_chances_say():
    rng = np.random.default_rng(0)
    for bone, maturity in (("radius", 7.05), ("radius", 5.02), ("radius", 11.9), ("ulna", 9.1), ("ulna", 4.6)):
        rated = [law.rate(rng, maturity, bone, 0.19) for _ in range(4000)]
        shares = [rated.count(stage) / 4000 for stage in LEARNED[bone]]
        exact = law.stage_probabilities(np.array([maturity]), bone, 0.19)[0]
        assert exact.sum() == pytest.approx(1) and shares == pytest.approx(exact, abs=0.03)
        phases = law.phase_probabilities(exact[None], bone)[0]
        assert len(phases) == len(LEARNED_PHASES[bone]) and phases.sum() == pytest.approx(1)


def test_human_raters_leave_what_the_specification_says():
    radius, ulna = radius_ulna_ceilings.row(law.NOISE["human"]["radius"], 40_000, 0)[:2]
    assert 87 < radius < 90 and 91.3 < ulna < 93.4


def test_the_best_guess_comes_close_to_the_ceiling(whole):
    truth = pd.DataFrame({"split": [entry.split for entry in whole]})
    train = (truth["split"] == "train").to_numpy()
    right = {}
    for bone in BONES:
        maturity = np.array([getattr(entry.child, bone)[entry.visit] for entry in whole])
        exact = law.stage_probabilities(maturity, bone, law.NOISE["default"][bone])
        truth[[f"q_{name}" for name in TARGETS[bone]]] = exact
        rated = np.array([[getattr(entry, bone) == stage for stage in LEARNED[bone]] for entry in whole])
        right[bone] = law.phase_probabilities(exact, bone).argmax(1) == law.phase_probabilities(rated, bone).argmax(1)
    for bone in BONES:
        assert right[bone][train].mean() == pytest.approx(law.ceilings(truth, "train")[bone], abs=0.025)
        assert right[bone][~train].mean() == pytest.approx(law.ceilings(truth, "test")[bone], abs=0.04)


def test_human_raters_err_more():
    errors = {noise: np.mean([entry.radius != int(entry.child.radius[entry.visit]) for entry in plan(SEED, 400, noise)])
              for noise in law.NOISE}
    assert errors["human"] > errors["default"] + 0.05


def test_layout(folder, truth):
    labels = pd.read_csv(folder / "labels.csv", dtype=str)
    assert list(labels) == ["file", "date", "serial", "child", "radius_stage", "ulna_stage", "sex", "age"]
    assert (labels["file"] == "pictures/" + labels["date"] + "_" + labels["serial"] + ".png").all()
    assert list(labels["file"].str[9:-4]) == list(truth["id"])
    test = truth["split"] == "test"
    assert 0.1 < test.mean() < 0.45
    assert labels["radius_stage"].isna().equals(test) and labels["ulna_stage"].isna().equals(test)
    assert set(labels["child"][test].dropna()).isdisjoint(labels["child"][~test].dropna())
    for bone in BONES:
        marked = truth[list(TARGETS[bone])]
        assert (marked.sum(axis=1) == 1).all() and (marked.idxmax(axis=1)[~test] == labels[f"{bone}_stage"][~test]).all()
        assert truth[[f"q_{name}" for name in TARGETS[bone]]].sum(axis=1).to_numpy() == pytest.approx(1)
        assert np.abs(marked.idxmax(axis=1).str[1:].astype(int) + 0.5 - truth[f"m_{bone}"]).max() < 1.2
    sample = pd.read_csv(folder / "sample_submission.csv")
    assert list(sample) == ["file", "radius_phase", "ulna_phase", *TARGETS["radius"], *TARGETS["ulna"]]
    assert list(sample["file"]) == list(labels["file"][test])


def test_defects_are_in_train(folder, truth, tmp_path):
    marked = truth[truth["defect"] != ""].set_index("defect")
    assert sorted(marked.index) == sorted(DEFECTS) and (marked["split"] == "train").all()
    path = {defect: folder / "pictures" / f"{row.id}.png" for defect, row in marked.iterrows()}
    assert not path["absent"].exists()
    assert not path["truncated"].read_bytes().endswith(b"IEND\xaeB`\x82")
    color = cv2.imread(str(path["color"]), cv2.IMREAD_UNCHANGED)
    assert color.shape[2] == 3 and (color[..., 0] <= color[..., 2]).all() and (color[..., 0] < color[..., 2]).any()
    for name in truth["id"][truth["defect"] == ""]:
        picture = cv2.imread(str(folder / "pictures" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert picture.dtype == np.uint8 and picture.ndim == 2 and picture.std() > 8
    assert not any(entry.defect for entry in plan(SEED, 49, "default"))


def test_pictures_come_in_both_orientations(folder, truth):
    shapes = {cv2.imread(str(folder / "pictures" / f"{name}.png"), 0).shape for name in truth["id"][truth["defect"] == ""]}
    assert shapes == {(200, 152), (138, 215)}


def test_boxes_are_tight_and_inside_the_picture(folder, truth):
    boxes = pd.read_csv(folder / "boxes.csv")
    assert list(boxes) == ["file", "bone", "x1", "y1", "x2", "y2"]
    train = truth[truth["split"] == "train"]
    assert len(boxes) == 2 * len(train) and (boxes["bone"].to_numpy().reshape(-1, 2) == list(BONES)).all()
    assert np.abs(boxes[["x1", "y1", "x2", "y2"]].to_numpy().reshape(-1, 8) - train[BOX_COLUMNS].to_numpy()).max() <= 0.51
    assert (boxes["x1"] < boxes["x2"]).all() and (boxes["y1"] < boxes["y2"]).all()
    assert boxes[["x1", "y1"]].to_numpy().min() >= 0
    held = boxes[boxes["file"].str.contains("|".join(train["id"][train["defect"] == ""]))]
    for row in held.itertuples():
        height, width = cv2.imread(str(folder / row.file), 0).shape
        assert row.x2 <= width and row.y2 <= height


@pytest.mark.parametrize("bone", BONES)
def test_the_box_ends_where_the_bone_does(bone):
    skeleton = lay(np.random.default_rng(0))
    pose = Pose(400, 400, 3.0, 9.0, np.array([190.0, 150.0]), np.zeros((4, 2)))
    picture = np.zeros((400, 400), np.float32)
    box = render.add_end(picture, pose, skeleton.bones[bone], bone, child_at(7.5, 6.5), 0)
    rows, columns = (np.flatnonzero((picture > render.SEEN).any(axis)) for axis in (1, 0))
    assert box[1] == pytest.approx(rows[0], abs=1)
    assert (columns[0] <= box[0] + 1) and box[2] <= columns[-1] + 2  # the shaft goes on below the box
    high = (box[3] - box[1]) / pose.scale
    assert 34 < high < 50 and rows[-1] > box[3] + 50
    inside = picture[round(box[1]):round(box[3]), round(box[0]):round(box[2])] > render.SEEN
    assert inside[:, :2].any() and inside[:, -2:].any() and inside[:2].any()


def test_a_cut_forearm_cuts_the_boxes(monkeypatch):
    monkeypatch.setattr(render, "CUT", 1.0)
    for number in range(3):
        drawn = render.draw_picture(0, number, child_at(7.5, 6.5, number), 0, 200)
        assert (drawn.boxes[:, 3] == drawn.picture.shape[0]).all() and (drawn.boxes[:, 3] - drawn.boxes[:, 1] > 8).all()


def test_mirrored_pictures_mirror_their_boxes(monkeypatch):
    child = child_at(8.3, 6.5)
    drawn = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(render, "MIRRORED", share)
        drawn.append(render.draw_picture(0, 5, child, 0, 300))
    plain, mirrored = drawn
    assert mirrored.mirrored and not plain.mirrored
    width = plain.picture.shape[1]
    assert plain.boxes[1, 2] < plain.boxes[0, 2] and mirrored.boxes[1, 0] > mirrored.boxes[0, 0]
    np.testing.assert_allclose(mirrored.boxes[:, [2, 0]], width - plain.boxes[:, [0, 2]])
    for box, twin in zip(np.rint(plain.boxes).astype(int), np.rint(mirrored.boxes).astype(int)):
        one = plain.picture[box[1]:box[3], box[0]:box[2]].astype(float)
        two = mirrored.picture[twin[1]:twin[3], twin[0]:twin[2]][:, ::-1].astype(float)
        assert np.corrcoef(one.ravel(), two[:one.shape[0], :one.shape[1]].ravel())[0, 1] > 0.95


def test_a_cast_hides_much(monkeypatch):
    contrasts = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(render, "CAST", share)
        drawn = render.draw_picture(0, 2, child_at(7.5, 6.5), 0, 300)
        assert drawn.cast == bool(share)
        x1, y1, x2, y2 = np.rint(drawn.boxes[0]).astype(int)
        contrasts.append(drawn.picture[y1:y2, x1:x2].mean())
    assert contrasts[1] > contrasts[0] + 15


def test_a_bigger_archive_begins_with_the_smaller_one_and_resumes(folder, truth, tmp_path):
    draw(tmp_path, series=8, size=SIZE, seed=SEED, workers=1)
    assert set(read_truth(tmp_path)["split"]) == {"train", "test"}
    some = files_of(tmp_path)
    assert len(some) == 8 and some.items() <= files_of(folder).items()
    (tmp_path / ".phantom/000003.npz").unlink()
    steps = []
    draw(tmp_path, series=10, size=SIZE, seed=SEED, workers=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(8, 10), (9, 10), (10, 10)]
    assert files_of(tmp_path).items() <= files_of(folder).items()
    pd.testing.assert_frame_equal(read_truth(tmp_path), truth.iloc[:10])
    assert json.loads((tmp_path / ".phantom/request.json").read_text())["seed"] == SEED


def test_requests_that_cannot_be_met_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="another request"):
        draw(folder, series=PICTURES, size=SIZE, seed=SEED, workers=1, noise="human")
    with pytest.raises(UserError, match="more than 10"):
        draw(folder, series=10, size=SIZE, seed=SEED, workers=1)
    with pytest.raises(UserError, match="needs 8 pictures"):
        draw(tmp_path, series=2, size=SIZE, seed=SEED, workers=1)
    with pytest.raises(UserError, match="default, human"):
        draw(tmp_path, series=20, size=SIZE, seed=SEED, workers=1, noise="loud")
    with pytest.raises(UserError, match="is missing"):
        read_truth(tmp_path)
