from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation, binary_erosion

from phantoms.knee_age import archive, draw, law, oracle, read_masks, read_truth, render
from phantoms.knee_age.archive import DEFECTS, plan
from phantoms.knee_age.law import draw_ages, draw_person
from radstack.core.errors import UserError

VOLUMES, SIZE, SEED = 41, 32, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knee_age-demo")
    draw(folder, series=VOLUMES, size=SIZE, seed=SEED, workers=1)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder)


@pytest.fixture(scope="module")
def table(folder):
    return pd.read_csv(folder / "volumes.csv")


@pytest.fixture(scope="module")
def drawn():
    return {source: draw_at(17.0, source) for source in ("jopp", "epi")}


def man_at(maturity: float):
    """A man of mean size whose bones are all ``maturity`` years, without red marrow."""
    man = draw_person(0, 3, 0.63)
    return replace(man, ages=(maturity,), tempo=0.0, own=-law.OFFSET, scale=1.0, red=-9.0, undulation=4.0)


def draw_at(maturity: float, source: str = "jopp", size: int = 80):
    return render.draw_volume(np.random.default_rng(1), man_at(maturity), 0, source, size)


def plate_darkness(volume) -> tuple[float, float]:
    """How much darker than marrow the femoral plate is near the axis and near the rim, central slices."""
    scan = volume.scan
    middle = np.abs(scan.front + scan.spacing * np.arange(scan.slices)) < 6
    x = (np.arange(scan.frame) - scan.joint[1]) * scan.pixel
    z = (scan.joint[0] - np.arange(scan.frame)) * scan.pixel
    band = volume.pixels[middle][:, (z > 15) & (z < 27)].astype(float)
    lack = (1 - band.min(1) / np.median(band, 1)).mean(0)
    return lack[np.abs(x) < 9].mean(), lack[(np.abs(x) > 25) & (np.abs(x) < 33)].mean()


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_ages_and_latents_follow_the_stated_laws():
    rng = np.random.default_rng(0)
    visits = [draw_ages(rng) for _ in range(20_000)]
    ages = np.concatenate(visits)
    assert ages.min() >= 14 and ages.max() <= 21
    assert ages.mean() == pytest.approx(17.5, abs=0.05)
    assert ages.std() == pytest.approx(1.403, abs=0.03)  # of a normal law of SD 1.5 cut to 14..21
    assert len(ages) / len(visits) == pytest.approx(145 / 90, abs=0.02)
    gaps = np.array([pair[1] - pair[0] for pair in visits if len(pair) == 2])
    assert gaps.min() >= 0.8 and gaps.max() <= 1.2
    men = [draw_person(0, number, 0.63) for number in range(300)]
    own, tempo = np.array([man.own for man in men]), np.array([man.tempo for man in men])
    assert tempo.std() == pytest.approx(0.63, abs=0.09) and abs(tempo.mean()) < 0.15
    assert own.std() == pytest.approx(0.35, abs=0.03) and abs(np.corrcoef(own.T)[0, 1]) < 0.2
    assert abs(np.corrcoef(tempo, [man.ages[0] for man in men])[0, 1]) < 0.2


def test_tau_stretches_the_tempo_alone():
    one, other = draw_person(4, 2, 0.63), draw_person(4, 2, 1.0)
    assert other.tempo == pytest.approx(one.tempo / 0.63)
    assert one.ages == other.ages and (one.own == other.own).all() and (one.marrow == other.marrow).all()


def test_second_visits_are_later_and_share_tempo_and_shape(truth):
    entries = plan(SEED, VOLUMES, 0.63, 0.5)
    pairs = [(first, second) for first, second in pairwise(entries) if first[0].subject == second[0].subject]
    assert len(pairs) > 8
    for (first, man), (second, same) in pairs:
        assert man is same and (first.visit, second.visit) == (0, 1) and first.split == second.split
        assert first.source == second.source
        np.testing.assert_allclose(man.maturity(1) - man.maturity(0), man.ages[1] - man.ages[0])
    twice = truth[truth["subject"].duplicated(keep=False)].groupby("subject")
    later = twice["s_tibia"].last() - twice["s_tibia"].first()
    np.testing.assert_allclose(later, twice["age_years"].last() - twice["age_years"].first(), atol=0.09)  # whole months


def test_every_stage_of_maturity_has_a_sign():
    stages = [law.plate(maturity) for maturity in np.arange(12, 20.6, 0.5)]
    signs = np.array([(stage.front, -stage.thickness, -stage.scar) for stage in stages])
    assert (np.diff(signs, axis=0) >= 0).all() and (np.diff(signs, axis=0).max(1) > 0).all()
    young, closed = law.plate(12.0), law.plate(18.3)
    assert (young.front, young.thickness, young.scar) == (0, 2.2, 1)
    assert closed.front == pytest.approx(1) and closed.thickness == pytest.approx(2.2 * 0.65) and closed.scar == 1
    assert law.plate(25).front == 1.2 and law.plate(25).scar == 0


@pytest.mark.parametrize(("tau", "specified"), [(0.5, 0.401), (0.63, 0.476), (1.0, 0.659)])
def test_floor_is_that_of_the_specification(tau, specified):
    rng = np.random.default_rng(0)
    age = 17.5 + 1.5 * rng.standard_normal(200_000)
    age = age[(age > 14) & (age < 21)]
    mean = age + tau * rng.standard_normal(len(age)) + (0.35 * rng.standard_normal((len(age), 3)) + law.OFFSET).mean(1)
    best = law.best_age(mean, tau)
    assert np.abs(age - best).mean() == pytest.approx(specified, abs=0.006)
    assert np.abs(age - np.median(age)).mean() == pytest.approx(1.14, abs=0.01)
    for other in (best + 0.1, best - 0.1, 17.5 + 1.1 * (best - 17.5), 17.5 + 0.9 * (best - 17.5)):
        assert np.abs(age - other).mean() > np.abs(age - best).mean()


def test_plates_close_from_the_center_outwards():
    (young, rim), (closing, rim_later), (closed, rim_closed), (old, rim_old) = (
        plate_darkness(draw_at(maturity)) for maturity in (14.5, 16.8, 18.5, 21.0))
    assert min(young, rim) > 0.45
    assert closing < young - 0.15 and rim_later > rim - 0.12
    assert rim_closed < rim_later - 0.15
    assert old < closed - 0.05 and rim_old < rim_closed - 0.05


def test_marrow_turns_yellow_with_maturity():
    shares = [render._threshold(maturity, 0.0) for maturity in (14, 17, 20)]
    assert shares[0] < shares[1] < shares[2]


def test_shares_of_bone_pixels(truth):
    means = truth[[f"share_{bone}" for bone in law.BONES]].mean()
    np.testing.assert_allclose(means, (0.556, 0.41, 0.034), atol=0.012)


@pytest.mark.parametrize("source", ["jopp", "epi"])
def test_masks_fit_the_picture(drawn, source):
    volume = drawn[source]
    assert (volume.masks.sum(0) <= 1).all()
    pixels, gain = volume.pixels.astype(float), volume.scan.gain
    for mask in volume.masks[:2]:
        inside = np.stack([binary_erosion(slice_, iterations=4) for slice_ in mask])
        edge = mask & ~np.stack([binary_erosion(slice_) for slice_ in mask])
        beside = np.stack([binary_dilation(slice_, iterations=2) & ~slice_ for slice_ in volume.masks.any(0)])
        assert np.median(pixels[inside]) / gain == pytest.approx(1, abs=0.2)
        assert np.median(pixels[edge]) < 0.75 * min(np.median(pixels[inside]), np.median(pixels[beside]) + 0.3 * gain)
    outlined = 2 * (volume.masks & volume.outlined).sum() / (volume.masks.sum() + volume.outlined.sum())
    assert 0.955 < outlined < 0.996


def test_a_right_knee_seen_from_the_front(drawn):
    for volume in drawn.values():
        places = [np.argwhere(mask).mean(0) for mask in volume.masks]
        femur, tibia, fibula = places
        assert femur[1] < volume.scan.joint[0] < tibia[1] < fibula[1] + 8  # rows from head to feet
        assert fibula[2] < tibia[2] - 10  # lateral, on the patient's right, on the picture's left
        shown = np.flatnonzero(volume.masks[2].any((1, 2)))
        assert shown[0] > 0.5 * len(volume.pixels) and len(shown) < 0.4 * len(volume.pixels)


def test_the_sources_differ_as_stated(truth, folder, table):
    shapes = {source: set() for source in ("jopp", "epi")}
    for row in table.itertuples():
        if (folder / row.file).exists() and row.subject not in set(truth.loc[truth["defect"] != "", "subject"]):
            image = sitk.ReadImage(folder / row.file)
            assert image.GetPixelID() == sitk.sitkInt16
            shapes[row.source].add(image.GetSize())
            width, spacing = image.GetSize()[0] * image.GetSpacing()[0], image.GetSpacing()[2]
            assert width == pytest.approx(179.2 if row.source == "jopp" else 216)
            assert (4 <= spacing <= 4.5) if row.source == "jopp" else (2.4 <= spacing <= 3)
    assert (64, 64, 24) in shapes["jopp"] and shapes["jopp"] <= {(64, 64, count) for count in (20, 24, 26)}
    assert shapes["epi"] == {(46, 46, 41)}
    assert archive.label_path(table["file"][0]).endswith("_LABEL.mhd")


def test_layout_and_labels(folder, table, truth):
    assert list(table.columns) == ["subject", "visit", "file", "source", "sex", "age_years"]
    series = table["subject"] + "_" + table["visit"].astype(str)
    assert list(series) == list(truth["series"]) and series.is_unique
    test = truth["split"] == "test"
    assert table["age_years"].isna().equals(test) and 0.08 < test.mean() < 0.3
    assert set(truth.loc[test, "subject"]).isdisjoint(truth.loc[~test, "subject"])
    sample = pd.read_csv(folder / "sample_submission.csv")
    assert list(sample["subject"] + "_" + sample["visit"].astype(str)) == list(truth.loc[test, "series"])
    for row in table.itertuples():
        tokens = row.file.rsplit("/", 1)[1].split("_")
        named = np.nan if len(tokens) < 6 else int(tokens[3]) + int(tokens[4]) / 12
        np.testing.assert_allclose(named, row.age_years, atol=1e-3)
        label = folder / archive.label_path(row.file)
        assert label.exists() == truth["annotated"][row.Index]
        if label.exists():
            check_label(folder, row, label)
    assert not test[truth["annotated"]].any() and set(table["source"][truth["annotated"]]) == {"jopp", "epi"}


def check_label(folder, row, label):
    """Same grid as its volume, one intensity a bone, close to the true masks."""
    image, volume = sitk.ReadImage(label), sitk.ReadImage(folder / row.file)
    assert image.GetSize() == volume.GetSize() and image.GetDirection() == volume.GetDirection()
    values = sitk.GetArrayFromImage(image)
    assert set(np.unique(values)) == {0, 50, 100, 150}
    true = read_masks(folder, row.Index)
    for value, mask in zip((50, 100), true):
        assert 2 * (mask & (values == value)).sum() / (mask.sum() + (values == value).sum()) > 0.9


def test_defects_are_all_in_train_and_the_flipped_one_comes_out_right(folder, table, truth):
    marked = truth[truth["defect"] != ""].set_index("defect")
    assert sorted(marked.index) == sorted(DEFECTS) and (marked["split"] == "train").all()
    row = {defect: table[truth["defect"] == defect].iloc[0] for defect in DEFECTS}
    assert row["female"]["sex"] == "F" and (table["sex"] == "F").sum() == 1
    assert not (folder / row["absent"]["file"]).exists()
    with pytest.raises(RuntimeError):
        sitk.ReadImage(folder / row["truncated"]["file"])
    for defect in ("flipped", "female"):
        image = sitk.ReadImage(folder / row[defect]["file"])
        backwards = image.GetDirection()[5] < 0
        assert backwards == (defect == "flipped")
        front = image.TransformIndexToPhysicalPoint((0, 0, image.GetSize()[2] - 1 if backwards else 0))[1]
        assert front < -35
        entry, man = next(pair for pair in plan(SEED, VOLUMES, 0.63, 0.5) if pair[0].defect == defect)
        again = render.draw_volume(np.random.default_rng((SEED, 1, entry.number)), man, entry.visit, entry.source, SIZE)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[::-1 if backwards else 1], again.pixels)
        np.testing.assert_array_equal(read_masks(folder, entry.number), again.masks)


def test_a_bigger_archive_begins_with_the_smaller_one_and_resumes(folder, truth, tmp_path):
    draw(tmp_path, series=5, size=SIZE, seed=SEED, workers=1)
    some = files_of(tmp_path / "data")
    assert some and some.items() <= files_of(folder / "data").items()
    (tmp_path / ".phantom/000003.npz").unlink()
    steps = []
    draw(tmp_path, series=6, size=SIZE, seed=SEED, workers=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(5, 6), (6, 6)]
    assert files_of(tmp_path / "data").items() <= files_of(folder / "data").items()
    pd.testing.assert_frame_equal(read_truth(tmp_path), truth.iloc[:6])


def test_requests_that_cannot_be_met_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="another request"):
        draw(folder, series=VOLUMES, size=SIZE, seed=SEED + 1, workers=1)
    with pytest.raises(UserError, match="more than 10"):
        draw(folder, series=10, size=SIZE, seed=SEED, workers=1)
    with pytest.raises(UserError, match="needs 4 volumes"):
        draw(tmp_path, series=2, size=SIZE, seed=SEED, workers=1)
    with pytest.raises(UserError, match="is missing"):
        read_truth(tmp_path)
    with pytest.raises(UserError, match="is missing"):
        read_masks(folder, VOLUMES)


def test_the_oracle_leaves_out_what_no_reader_accepts(truth):
    found = oracle(truth, "train")
    assert found["n"] == (truth["split"] == "train").sum() - 3
    assert found["floor"] < found["constant"] and found["floor_se"] > 0
