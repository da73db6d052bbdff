import dataclasses
import itertools
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from phantoms.bone_age import anatomy, archive, draw, law, read_truth
from phantoms.bone_age.anatomy import field_mask
from phantoms.bone_age.render import draw_hand, expose
from radstack.core.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bone_age_floors

HANDS, SIZE, SEED = 52, 160, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bone_age-demo")
    draw(folder, series=HANDS, size=SIZE, seed=SEED, workers=1)
    return folder


@pytest.fixture(scope="module")
def table():
    return bone_age_floors.draw_latents(3000, 5)


def pictures(folder):
    return {path.stem: path for path in folder.glob("boneage-*/boneage-*/*.png")}


def case_at(maturity, number=0, size=480, **exposure):
    """A boy all of whose bones have that maturity, upright, plainly exposed."""
    case = archive.draw_case(11, archive.Entry(number, "1", "train"), size)
    person = dataclasses.replace(case.person, male=1, age=maturity, maturity=dict.fromkeys(case.person.maturity, maturity))
    plain = {"gamma": 1.0, "noise": 0.0} | dict.fromkeys(("mirrored", "inverted", "ringed", "deep", "colored"), False)
    return dataclasses.replace(case, person=person, exposure=dataclasses.replace(case.exposure, **plain | exposure))


def hand_of(case):
    return draw_hand(case.person, case.skeleton, case.pose)


def exposed(case, hand):
    return expose(np.random.default_rng(0), hand, case.skeleton, case.pose, case.exposure)


def at(case, picture, point):
    x, y = np.rint(case.pose.to_pixels(np.asarray(point))).astype(int)
    return picture[y, x]


def test_latents_follow_the_histogram_and_the_sexes(table):
    assert abs(table["male"].mean() - 6833 / 12611) < 0.03
    for male, mean, spread in ((1, 135.3, 42.1), (0, 117.9, 37.9)):
        ages = table.loc[table["male"] == male, "read"]
        assert abs(ages.mean() - mean) < 4 and abs(ages.std() - spread) < 3
    adult = table[np.where(table["male"] == 1, table["read"] > 190, table["read"] > 175)]
    for male, length in ((1, 189), (0, 172)):
        assert abs(adult.loc[adult["male"] == male, "length"].mean() - length) < 4


def test_girls_are_ahead():
    assert law.mature(121.0, 0) == 153 and law.mature(121.0, 1) == 121
    ages = np.linspace(1, 203, 50)
    assert np.allclose(law.aged(law.mature(ages, 0), 0), ages) and (law.mature(ages, 0) > ages).all()


def test_the_readable_age_is_the_mean_of_regions_and_close_to_the_age():
    people = [law.draw_person(np.random.default_rng((1, number))) for number in range(1500)]
    read = np.array([law.read_age(person) for person in people])
    regions = pd.DataFrame([law.region_ages(person) for person in people])
    assert np.allclose(read, regions.mean(axis=1))
    apart = (regions.sub(read, axis=0)).std()
    assert 1.6 < (read - [person.age for person in people]).std() < 2.6
    assert apart["carpus"] > apart["tubular"] and apart["carpus"] > apart["forearm"]


def test_a_person_without_scatter_reads_as_old_as_it_is():
    person = law.draw_person(np.random.default_rng(0))
    for male, age in ((1, 100.0), (0, 100.0), (1, 2.0), (0, 190.0)):
        same = dict.fromkeys(person.maturity, float(law.mature(age, male)))
        assert law.read_age(dataclasses.replace(person, male=male, maturity=same)) == pytest.approx(age)


def test_centers_appear_in_order():
    order = ["capitate", "hamate", "triquetrum", "lunate", "scaphoid", "trapezium", "trapezoid", "pisiform"]
    bones = anatomy.CARPALS | anatomy.TUBULAR
    for maturity in (2, 5, 40, 60, 69, 72, 100, 140):
        seen = [name for name in order if anatomy.carpal_size(anatomy.CARPALS[name], maturity) > 0]
        assert seen == order[:len(seen)]
    epiphyses = [name for name in anatomy.TUBULAR if anatomy.stage(anatomy.TUBULAR[name], 20.5).ossified > 0]
    assert set(epiphyses) == {"MC2", "MC3", "PP2", "PP3", "PP4", "DP1", "radius"}
    assert len(bones) == 29 and bones["ulna"].appears > bones["trapezoid"].appears


@pytest.mark.parametrize("name", ["PP3", "MC2", "radius", "ulna", "DP1"])
def test_epiphyses_widen_cap_and_fuse(name):
    bone = anatomy.TUBULAR[name]
    stages = [anatomy.stage(bone, maturity) for maturity in range(0, 250)]
    for field, way in (("ossified", 1), ("capping", 1), ("fused", 1), ("gap", -1), ("stubby", -1)):
        assert (way * np.diff([getattr(stage, field) for stage in stages]) >= 0).all(), field
    assert anatomy.stage(bone, bone.appears).ossified == 0
    assert anatomy.stage(bone, bone.appears + 0.6 * (bone.fuses - bone.appears)).ossified == pytest.approx(1)
    assert anatomy.stage(bone, bone.fuses - 15).fused == 0 and anatomy.stage(bone, bone.fuses).fused == 1
    assert anatomy.stage(bone, bone.fuses + 12).scar == pytest.approx(0.5)
    assert anatomy.stage(bone, 140).capping == 0 and stages[-1].capping == pytest.approx(0.12)


def test_fusion_fills_the_growth_plate_from_its_center():
    bone = anatomy.TUBULAR["PP3"]
    seen = []
    for maturity in (150, 185, 195 + 30):
        case = case_at(maturity)
        lying = case.skeleton.bones["PP3"]
        gap = 2 * 0.27 * bone.epiphysis + anatomy.stage(bone, maturity).gap * bone.epiphysis / 2
        across = np.array([-lying.along[1], lying.along[0]])
        picture = hand_of(case).bone
        middle = lying.start + gap * lying.along
        seen.append([at(case, picture, middle + side * bone.epiphysis * across) for side in (0, 0.75)])
    (open_, _), (center, rim), (closed, closed_rim) = seen
    assert center > 1.5 * open_ and closed > 1.5 * open_ and closed_rim > rim


def test_growth_is_visible():
    bone = {maturity: hand_of(case_at(maturity)).bone for maturity in (6, 30, 80, 130, 200)}
    case = case_at(6)
    wrist = np.zeros(bone[6].shape, np.uint8)
    corners = case.pose.to_pixels(np.array([[-22, 9], [24, 9], [24, -22], [-22, -22]], float))
    carpus = cv2.fillConvexPoly(wrist, np.rint(corners).astype(np.int32), 1).astype(bool)
    shares = [(picture[carpus] > 1).mean() for picture in bone.values()]
    assert all(later > earlier + 0.05 for earlier, later in itertools.pairwise(shares[1:])) and shares[0] < 0.12
    lying = case.skeleton.bones["PP3"]
    across = np.array([-lying.along[1], lying.along[0]])
    widths = [sum(at(case, picture, lying.start + 0.5 * lying.length * lying.along + side * across) > 1
                  for side in np.linspace(-12, 12, 97)) for picture in bone.values()]
    assert widths == sorted(widths, reverse=True) and widths[0] > 1.3 * widths[-1]


def test_landmarks_lie_on_the_hand_and_the_field():
    for number in range(40):
        case = archive.draw_case(4, archive.Entry(number, "1", "train"), SIZE)
        hand = hand_of(case)
        points = case.pose.to_pixels(case.skeleton.landmarks)
        x, y = np.rint(points).astype(int).T
        assert (hand.mask & field_mask(case.pose))[y, x].all()
        first, thumb, capitate = points
        side = np.cross(np.append(first - capitate, 0), np.append(thumb - capitate, 0))[2]
        assert side > 0, "seen with the fingers up, the thumb is on the right"
        tip = hand.bone[max(y[0] - 3, 0):y[0] + 4, x[0] - 3:x[0] + 4]
        assert tip.max() > 0.5, "the tip of the phalanx is drawn at every age"


def test_a_mirrored_picture_is_flipped_with_its_landmarks():
    plain = case_at(150)
    mirrored = case_at(150, mirrored=True)
    hand = hand_of(plain)
    one, other = (exposed(case, hand) for case in (plain, mirrored))
    x, y = np.rint(archive.landmarks(plain)).astype(int).T
    mx, my = np.rint(archive.landmarks(mirrored)).astype(int).T
    assert (mx == plain.pose.width - 1 - x).all() and (my == y).all()
    assert np.abs(one[y, x] - other[my, mx]).max() < 0.05


def test_polarity_is_inverted():
    plain, inverted = case_at(150), case_at(150, inverted=True)
    hand = hand_of(plain)
    one, other = (exposed(case, hand) for case in (plain, inverted))
    assert np.allclose(np.clip(one, 0, 1), 1 - other, atol=1e-5)


def test_floors_are_the_specified_ones():
    floors = bone_age_floors.floors(3000, 1)
    assert floors["single reader, boys"] == pytest.approx(5.58, abs=0.1)
    assert floors["single reader, girls"] == pytest.approx(5.55, abs=0.1)
    assert floors["six readers"] == pytest.approx(2.28, abs=0.1)
    assert 1 <= floors["single reader, sex unknown"] - 5.59 <= 2
    assert 0.85 <= floors["(share of sexes guessed right)"] <= 0.905
    assert 5.7 < floors["no snap, tubular alone"] < floors["no snap, carpus alone"] < 6.3
    assert 31 < floors["constant median"] < 36


def test_the_stored_prediction_is_the_best():
    rng = np.random.default_rng(0)
    for male, age in ((1, 100.0), (0, 40.0), (1, 226.0), (0, 3.0)):
        labels = np.array([law.draw_label(rng, age, male, test=False) for _ in range(4000)])
        best = law.best_prediction(np.array([age]), male, test=False)
        assert np.abs(labels - best).mean() <= np.abs(labels - np.median(labels)).mean() + 0.05
        chances = law.probabilities(np.array([age]), male)
        assert chances.sum() == pytest.approx(1)
        assert law.expected_error(chances, best)[0] == pytest.approx(np.abs(labels - best).mean(), abs=0.3)
        assert np.isin(labels, law.PLATES[male]).mean() > 0.74


def test_the_layout_is_the_organizers(folder):
    train, test = (pd.read_csv(folder / f"boneage-{name}-dataset.csv") for name in ("training", "test"))
    assert list(train) == ["id", "boneage", "male"] and list(test) == ["Case ID", "Sex"]
    assert train["male"].dtype == bool and set(test["Sex"]) <= {"M", "F"} and train["boneage"].between(1, 228).all()
    assert len(train) + len(test) == HANDS and 5 <= len(test) <= 9
    assert train["id"].iloc[0] == 1377 and test["Case ID"].iloc[0] == 4360
    assert not set(train["id"]) & set(test["Case ID"])
    assert {path.parent.name for path in pictures(folder).values()} == {"boneage-training-dataset", "boneage-test-dataset"}


def test_the_defects_are_there(folder):
    found = pictures(folder)
    train = set(pd.read_csv(folder / "boneage-training-dataset.csv")["id"].astype(str))
    test = set(pd.read_csv(folder / "boneage-test-dataset.csv")["Case ID"].astype(str))
    assert len((train | test) - set(found)) == 2 and test <= set(found)
    broken = [name for name, path in found.items() if not path.read_bytes().endswith(b"IEND\xaeB`\x82")]
    assert len(broken) == 1 and broken[0] in train
    read = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for name, path in found.items() if name not in broken]
    assert {picture.dtype for picture in read} == {np.dtype("uint8"), np.dtype("uint16")}
    assert {picture.ndim for picture in read} == {2, 3}


def test_truth_says_what_was_drawn(folder):
    truth = read_truth(folder).set_index("id")
    train = pd.read_csv(folder / "boneage-training-dataset.csv", dtype={"id": str}).set_index("id")
    assert (truth.loc[train.index, "boneage"] == train["boneage"]).all() and len(truth) == HANDS
    assert (truth.loc[train.index, "male"] == train["male"].astype(int)).all()
    six = truth[truth["split"] == "test"]
    assert (six["q_boneage"] == six["b_read"]).all()
    assert (truth["q_boneage"] - truth["b_read"]).abs().max() < 10


def test_masks_and_landmarks_of_the_first_quarter(folder):
    truth = read_truth(folder).set_index("id")
    masks = sorted((folder / "annotations/masks").glob("*.png"))
    assert len(masks) == round(0.25 * (truth["split"] == "train").sum()) and masks[0].stem == "1377"
    via = pd.read_csv(folder / "annotations/landmarks.csv")
    assert len(via) == 3 * len(masks) and set(via["filename"]) == {path.name for path in masks}
    for row in via.itertuples():
        shape, name = json.loads(row.region_shape_attributes), json.loads(row.region_attributes)["point"].lower()
        hand = truth.loc[Path(row.filename).stem]
        assert shape["name"] == "point" and abs(shape["cx"] - hand[f"{name}x"]) <= 0.05
        mask = cv2.imread(str(folder / "annotations/masks" / row.filename), cv2.IMREAD_UNCHANGED)
        assert mask[round(shape["cy"]), round(shape["cx"])] == 255 and set(np.unique(mask)) == {0, 255}
        assert mask.shape == cv2.imread(str(pictures(folder)[Path(row.filename).stem]), cv2.IMREAD_GRAYSCALE).shape
        assert 0.1 < (mask > 0).mean() < 0.7


def test_a_bigger_archive_begins_with_the_smaller_one_and_grows_from_it(tmp_path):
    draw(tmp_path / "small", series=8, size=96, seed=1, workers=1)
    draw(tmp_path / "big", series=20, size=96, seed=1, workers=1)
    small, big = pictures(tmp_path / "small"), pictures(tmp_path / "big")
    assert len(small) == 8 and all(small[name].read_bytes() == big[name].read_bytes() for name in small)
    times = {name: path.stat().st_mtime_ns for name, path in small.items()}
    draw(tmp_path / "small", series=20, size=96, seed=1, workers=2)
    grown = pictures(tmp_path / "small")
    assert grown.keys() == big.keys() and read_truth(tmp_path / "small").equals(read_truth(tmp_path / "big"))
    assert all(grown[name].read_bytes() == big[name].read_bytes() for name in big)
    untouched = [name for name, when in times.items() if grown[name].stat().st_mtime_ns == when]
    assert len(untouched) >= 5, "only hands that became annotated are drawn again"
    with pytest.raises(UserError, match="more than 8 hands"):
        draw(tmp_path / "small", series=8, size=96, seed=1, workers=1)


def test_a_finished_archive_is_kept_and_a_lost_picture_comes_back(tmp_path):
    calls = []
    draw(tmp_path, series=6, size=64, seed=2, workers=1, progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (6, 6)
    draw(tmp_path, series=6, size=64, seed=2, workers=1, progress=lambda done, of: pytest.fail("drawn again"))
    lost = pictures(tmp_path)["1379"]
    before = lost.read_bytes()
    lost.unlink()
    (tmp_path / ".phantom/000002.npz").unlink()
    draw(tmp_path, series=6, size=64, seed=2, workers=1)
    assert lost.read_bytes() == before


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(UserError, match="needs 4 hands"):
        draw(tmp_path, series=2, size=96, seed=0, workers=1)
    draw(tmp_path, series=4, size=64, seed=0, workers=1, annotated=0)
    assert not (tmp_path / "annotations/masks").exists()
    with pytest.raises(UserError, match="another request"):
        draw(tmp_path, series=4, size=64, seed=1, workers=1)
    with pytest.raises(UserError, match="is missing"):
        read_truth(tmp_path / "nothing")
    (tmp_path / "real/boneage-training-dataset").mkdir(parents=True)
    with pytest.raises(UserError, match="no phantoms"):
        draw(tmp_path / "real", series=4, size=64, seed=0, workers=1)
