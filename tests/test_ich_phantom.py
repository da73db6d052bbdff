import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from competitions.ich.labels import TARGETS
from phantoms.archive import read_truth as read_arrays
from phantoms.ich import archive, draw, read_truth
from phantoms.ich.archive import TRUNCATED, plan, slice_id
from radstack.core.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
SERIES, SIZE = 6, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ich-demo")
    draw(folder, series=SERIES, size=SIZE, seed=3, workers=1)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return read_arrays(folder)


@pytest.fixture(scope="module")
def headers(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {path.stem: pydicom.dcmread(path) for path in folder.glob("stage_2_*/*.dcm")}


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [*folder.glob("stage_2_*/*.dcm"), *folder.glob("*.csv")]
    return {path.name: path.read_bytes() for path in paths}


def hu_of(header) -> np.ndarray:
    """HU by the plain formula, and by the repair of the 11th place where the intercept is wrong."""
    stored = header.pixel_array.astype(int)
    if header.BitsStored == 12 and header.PixelRepresentation == 0 and header.RescaleIntercept > -100:
        stored = stored + 1000
        return np.where(stored >= 4096, stored - 4096, stored) - 1000
    return stored + int(header.RescaleIntercept)


def test_layout_and_counts(folder, truth):
    for split, table in (("train", "stage_2_train.csv"), ("test", "stage_2_sample_submission.csv")):
        stems = {path.stem for path in (folder / f"stage_2_{split}").iterdir()}
        assert stems == set(truth["id"][truth["split"] == split])
        rows = pd.read_csv(folder / table)
        assert list(rows.columns) == ["ID", "Label"]
        assert set(rows["ID"]) == {f"{stem}_{target}" for stem in stems for target in TARGETS}
        assert [name.rsplit("_", 1)[1] for name in rows["ID"][:6]] == list(TARGETS)
    assert (rows["Label"] == 0.5).all()
    assert set(truth["group"][truth["split"] == "train"]).isdisjoint(truth["group"][truth["split"] == "test"])


def test_four_images_are_listed_twice_with_the_same_labels(folder):
    rows = pd.read_csv(folder / "stage_2_train.csv")
    twice = rows[rows.duplicated("ID", keep=False)]
    assert rows.duplicated("ID").sum() == 24
    assert (twice.groupby("ID")["Label"].nunique() == 1).all()


def test_ids_follow_the_grammar(truth):
    assert pd.Series(truth["id"]).str.fullmatch("ID_[0-9a-f]{9}").all()
    assert pd.Series(truth["group"]).str.fullmatch("ID_[0-9a-f]{8}").all()
    ids = {slice_id(0, number, position) for number in range(3000) for position in range(0, 60)}
    assert len(ids) == 3000 * 60


def test_headers_hold_what_the_organizer_wrote_and_no_more(headers):
    header = next(header for header in headers.values() if header.PixelRepresentation == 0)
    names = {"SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "StudyID",
             "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation", "Rows",
             "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "WindowCenter",
             "WindowWidth", "RescaleIntercept", "RescaleSlope", "PixelData"}
    assert {element.keyword for element in header} == names
    assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert len(header.file_meta.MediaStorageSOPInstanceUID) == len("9999.") + 39
    assert all(header.SOPInstanceUID == stem for stem, header in headers.items())
    assert not header.StudyID


def test_truncated_files_are_one_in_each_split(headers, truth):
    short = [stem for stem, header in headers.items() if len(header.PixelData) < 2 * SIZE * SIZE]
    splits = truth["split"][np.isin(truth["id"], short)]
    assert TRUNCATED in short and sorted(splits) == ["test", "train"]
    assert truth["split"][truth["id"] == TRUNCATED] == "train"


def test_stated_numbers_of_other_defects(headers, truth):
    wrong = {stem for stem, header in headers.items() if header.RescaleIntercept > -100}
    assert wrong == set(truth["id"][truth["wrong_intercept"]]) and len(wrong) == 2  # series 1 and 4
    signed = {stem for stem, header in headers.items() if header.PixelRepresentation == 1}
    assert signed == set(truth["id"][truth["series"] == 2])
    assert all(headers[stem].BitsStored == 16 and headers[stem].pixel_array[0, 0] == -2000 for stem in signed)
    long = plan(0, 2000, 0.25)
    assert sum(entry.signed for entry in long) == 40
    assert 1.1 < len({(entry.patient, entry.visit) for entry in long}) / len({entry.patient for entry in long}) < 1.2
    assert len({(entry.patient, entry.visit) for entry in long}) < 2000  # some studies hold two series
    assert np.mean([entry.split == "test" for entry in long]) == pytest.approx(0.25, abs=0.02)


def test_wrong_intercept_gives_back_the_neighbors_histogram(headers, truth):
    edges = [-1100, -900, -200, 0, 20, 60, 100, 300, 4000]
    for row in np.flatnonzero(truth["wrong_intercept"]):
        values = hu_of(headers[truth["id"][row]])
        assert values.min() >= -1000 and values.max() <= 3095
        near = [other for other in (row - 1, row + 1) if truth["series"][other] == truth["series"][row]
                and len(headers[truth["id"][other]].PixelData) == 2 * SIZE * SIZE]
        counts = np.histogram(values, edges)[0]
        beside = np.mean([np.histogram(hu_of(headers[truth["id"][other]]), edges)[0] for other in near], axis=0)
        assert np.abs(counts - beside).sum() / SIZE**2 < 0.15
        unrepaired = headers[truth["id"][row]].pixel_array.astype(int)
        assert np.abs(np.histogram(unrepaired, edges)[0] - beside).sum() / SIZE**2 > 0.5


def test_series_do_not_depend_on_workers_or_length(folder, tmp_path):
    other = tmp_path / "shorter"
    draw(other, series=3, size=SIZE, seed=3, workers=2)
    pictures = {name: data for name, data in files_of(other).items() if name.endswith("dcm")}
    assert files_of(folder).items() >= pictures.items()
    draw(tmp_path / "seed", series=2, size=SIZE, seed=4, workers=1)
    assert not files_of(other).keys() & files_of(tmp_path / "seed").keys() - {
        "stage_2_train.csv", "stage_2_sample_submission.csv", f"{TRUNCATED}.dcm"}


def test_killed_run_goes_on(folder, tmp_path, monkeypatch):
    real, seen = archive.draw_entry, []

    def dies_at_third(place, request, entry):
        if entry.number == 2:
            raise KeyboardInterrupt
        return real(place, request, entry)

    monkeypatch.setattr(archive, "draw_entry", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, series=SERIES, size=SIZE, seed=3, workers=1)
    assert not (tmp_path / "truth.npz").exists()
    monkeypatch.setattr(archive, "draw_entry", lambda *given: seen.append(given[2].number) or real(*given))
    draw(tmp_path, series=SERIES, size=SIZE, seed=3, workers=1)
    assert seen == [2, 3, 4, 5]
    assert files_of(tmp_path) == files_of(folder)
    draw(tmp_path, series=SERIES, size=SIZE, seed=3, workers=1)
    assert seen == [2, 3, 4, 5]
    draw(tmp_path, series=SERIES + 1, size=SIZE, seed=3, workers=1)
    assert seen == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("asked, said", [
    ({"series": 1}, "cannot draw 1 series of 64 pixels with test share 0.25; needs 2 series"),
    ({"size": 31}, "cannot draw 6 series of 31 pixels"), ({"noise": "loud"}, "there is no label noise 'loud'; choose"),
    ({"test_share": 0.0}, "with test share 0.0"), ({"test_share": 0.6}, "with test share 0.6")])
def test_impossible_requests_are_refused(tmp_path, asked, said):
    with pytest.raises(UserError, match=said):
        draw(tmp_path, **{"series": SERIES, "size": SIZE, "seed": 3, "workers": 1} | asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked, said", [({"seed": 8}, "phantoms of another request"),
                                         ({"series": 5}, "an archive of 6, more than 5 series; ask for 6 or delete")])
def test_a_folder_of_other_phantoms_is_refused(folder, asked, said):
    with pytest.raises(UserError, match=said):
        draw(folder, **{"series": SERIES, "size": SIZE, "seed": 3, "workers": 1} | asked)


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    with pytest.raises(UserError, match="no phantoms"):
        draw(tmp_path, series=2, size=SIZE)


def test_read_truth(folder, truth, tmp_path):
    table = read_truth(folder)
    assert list(table.columns) == ["id", "split", *TARGETS, *(f"q_{target}" for target in TARGETS)]
    rows = pd.read_csv(folder / "stage_2_train.csv").drop_duplicates().set_index("ID")["Label"]
    train = table[table["split"] == "train"]
    assert (rows[[f"{name}_subdural" for name in train["id"]]].to_numpy() == train["subdural"].to_numpy()).all()
    with pytest.raises(UserError, match="missing"):
        read_truth(tmp_path)


def test_any_is_the_union(truth):
    assert (truth["y"][:, 5] == truth["y"][:, :5].max(1)).all()
    np.testing.assert_allclose(truth["q"][:, 5], 1 - np.prod(1 - truth["q"][:, :5], axis=1))
