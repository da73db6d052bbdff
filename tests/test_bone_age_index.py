"""What the organizer of RSNA 2017 ships, in every spelling and layout, and with every defect it may have."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from competitions import load
from competitions.bone_age import COMPETITION
from competitions.bone_age.annotations import LANDMARKS, read_landmarks, read_mask
from competitions.bone_age.index import COLUMNS, build_index
from competitions.bone_age.labels import label_files, read_labels, sample_file
from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.images.radiograph import Header, prepare, read, read_header
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.submission.forms import read_ids

KAGGLE = "boneage-training-dataset/boneage-training-dataset"
KAGGLE_TEST = "boneage-test-dataset/boneage-test-dataset"
RSNA = "Bone Age Validation Set"


def sample_ids(folder: Path) -> list[str]:
    return read_ids(sample_file(folder), COMPETITION.submission).tolist()


def write_csv(path: Path, head: str, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def noise(seed: int, height: int = 30, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def kaggle(folder: Path, hands: int = 4) -> Path:
    """The mirror's layout: train hands 1377, 1378 ..., test hands 4360 and 4361."""
    write_csv(folder / "boneage-training-dataset.csv", "id,boneage,male",
              [f"{1377 + k},{12 * (k % 20) + 12},{k % 2 == 0}" for k in range(hands)])
    write_csv(folder / "boneage-test-dataset.csv", "Case ID,Sex", ["4361,M", "4360,F"])
    for number in range(hands):
        write_png(folder / KAGGLE / f"{1377 + number}.png", noise(number, 30 + number))
    for number in range(2):
        write_png(folder / KAGGLE_TEST / f"{4360 + number}.png", noise(90 + number, 80 + number))
    return folder


def build(folder: Path, lines: list[str] | None = None, workers: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    shutil.rmtree(folder.parent / "parts", ignore_errors=True)
    report = (lambda line: None) if lines is None else lines.append
    return build_index(folder, workers, folder.parent / "parts", report=report)


def quarantined(table: pd.DataFrame) -> dict[str, str]:
    assert list(table.columns) == QUARANTINE_COLUMNS and (table["detail"] != "").all()
    return dict(zip(table["split"] + ":" + table["id"], table["reason"]))


def add_label(folder: Path, row: str) -> None:
    path = folder / "boneage-training-dataset.csv"
    path.write_text(path.read_text() + row + "\n")


def test_a_refused_file_whose_label_cannot_be_used_has_one_row(tmp_path):
    folder = kaggle(tmp_path / "input")
    add_label(folder, "1500,old,True")
    write_png(folder / KAGGLE / "1500.png", noise(3)).write_bytes(b"cut")
    _, quarantine = build(folder)
    assert quarantined(quarantine) == {"train:1500": "not-png"} and len(quarantine) == 1


# -- label tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head, rows", [
    ("id,boneage,male", ["7,120,True", "8,96,False"]),
    ("Image ID,male,Bone Age (months)", ["7,TRUE,120", "8,FALSE,96.0"]),
    ("Case ID,Sex,Ground truth bone age (months)", ["7,M,120.0", "8,F,96"]),
    ("\ufeffid,Sex,boneage", [" 7 , male ,120", "8,Female,96"]),
    ("case id,male,bone age (months)", ["7,1,120", "8,0,96"]),
])  # fmt: skip
def test_all_spellings_say_the_same(tmp_path, head, rows):
    write_csv(tmp_path / "train.csv", head, rows)
    labels = read_labels(tmp_path)
    assert labels.quarantine.empty and labels.repeated == 0
    assert labels.table.to_dict("list") == {"id": ["7", "8"], "split": ["train"] * 2, "boneage": [120, 96],
                                            "male": [1, 0]}  # fmt: skip
    assert labels.table.dtypes.astype(str).tolist() == ["str", "str", "float64", "int64"]


def test_tables_that_say_the_same_of_a_hand_in_two_spellings_agree(tmp_path):
    write_csv(tmp_path / "train.csv", "id,boneage,male", ["7,180,True", "8,96,False"])
    write_csv(tmp_path / "Validation Dataset.csv", "Image ID,Sex,Bone Age (months)", ["7,M,180.0", "8,M,96.0"])
    labels = read_labels(tmp_path)
    assert labels.table["id"].tolist() == ["7"] and labels.repeated == 1
    assert quarantined(labels.quarantine) == {"train:8": "duplicate-id"}  # of it they do not


def test_the_three_layouts(tmp_path):
    index, quarantine = build(kaggle(tmp_path / "kaggle"))
    assert quarantine.empty and index["id"].tolist() == ["1377", "1378", "1379", "1380", "4360", "4361"]
    assert index["path"].tolist()[::5] == [f"{KAGGLE}/1377.png", f"{KAGGLE_TEST}/4361.png"]
    rsna = kaggle(tmp_path / "rsna")
    write_csv(rsna / RSNA / "Validation Dataset.csv", "Image ID,male,Bone Age (months)", ["1386,FALSE,165", "1392,TRUE,1"])
    for number, hand in ((1, "1386"), (2, "1392")):
        name = f"boneage-validation-dataset-{number}"
        write_png(rsna / RSNA / name / name / f"{hand}.png", noise(int(hand)))
    index, quarantine = build(rsna)
    assert quarantine.empty and index["split"].tolist() == ["train"] * 6 + ["test"] * 2
    assert index.loc[index["id"] == "1386", ["boneage", "male"]].to_numpy().tolist() == [[165, 0]]
    assert [path.name for path in label_files(rsna)] == ["boneage-training-dataset.csv", "Validation Dataset.csv",
                                                         "boneage-test-dataset.csv"]  # fmt: skip


@pytest.mark.parametrize("text", [
    "boneage,who,male,id\n120,a,True,7\n96,b,False,8\n", ",id,boneage,male\n0,7,120,True\n1,8,96,False\n",
    "\ufeff\"id\",\"boneage\",\"male\"\r\n\"7\",\"120\",\"True\"\r\n\r\n\"8\",\"96\",\"False\"\r\n",
    "id,boneage,male\n\n7,120,True\n ,, \n8,96,False\n\n", "id,boneage,male,,\n7,120,True,,\n8,96,False\n",
    "id,boneage,male\n7,120,True,\n8,96,False,,\n", "id;boneage;male\n7;120;True\n8;96;False\n",
    "id\tboneage\tmale\r7\t120\tTrue\r8\t96\tFalse\r", "id,boneage,male,sex\n7,120,True,M\n8,96,False,F\n",
    " id , boneage,male,id\n7,120,True,7\n8, 96.0 ,False,8\n", '\n\nid,boneage,male\n7,120,"True"\n8,96,False\n',
])  # fmt: skip
@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_what_spreadsheets_do_to_a_table_is_read(tmp_path, text, coding):
    (tmp_path / "train.csv").write_bytes(text.lstrip("\ufeff").encode(coding) if coding == "utf-16" else text.encode())
    labels = read_labels(tmp_path)
    assert labels.quarantine.empty
    assert labels.table.to_dict("list") == {"id": ["7", "8"], "split": ["train"] * 2, "boneage": [120, 96], "male": [1, 0]}


@pytest.mark.parametrize("text, message", [
    ("id,boneage,male\n7,120,True\n\n0,8,96,False\n", "line 4 has 4 fields, the header 3"),
    ("id,boneage,male\n0,7,120,True\n1,8,96,False\n", "line 2 has 4 fields, the header 3"),
    ("id,boneage,male\n7,120,True\n8,96\n", "line 3 has 2 fields, the header 3"),
    ("id,boneage,male\n7,120,True\n8,\"96,False\n", "line 3: unexpected end of data"),
    ("id,boneage,male,id\n7,120,True,7\n8,96,False,9\n", "line 1 has two columns id, which differ"),
    ("id,boneage,male,sex\n7,120,True,M\n8,96,False,M\n", "columns male and sex differ in row 2"),
    ("id,boneage,male,bone age (months)\n7,120,True,120.0\n8,96,False,97\n", "boneage and bone age .* differ in row 2"),
    ("id,boneage,m\xe4le\n7,120,True\n", "not a CSV file in UTF-8"),
])  # fmt: skip
def test_what_is_ambiguous_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "train.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"train.csv.*{message}"):
        read_labels(tmp_path)


def test_test_ages_are_no_labels(tmp_path):
    write_csv(tmp_path / "in" / "train.csv", "id,boneage,male", ["1,100,True"])
    write_csv(tmp_path / "in" / "test.csv", "id,boneage,male", ["2,111.5,False", "10,,True"])
    for place, hand in (("latest/train", 1), ("latest/test", 2), ("latest/test", 10)):
        write_png(tmp_path / "in" / place / f"{hand}.png", noise(hand))
    index, quarantine = build(tmp_path / "in")
    assert quarantine.empty and index["id"].tolist() == ["1", "2", "10"]
    np.testing.assert_array_equal(index["boneage"], [100, np.nan, np.nan])
    assert sample_file(tmp_path / "in").name == "test.csv" and sample_ids(tmp_path / "in") == ["2", "10"]


def test_faulty_labels_are_quarantined_with_their_reason(tmp_path):
    folder = kaggle(tmp_path / "in")
    for row in ("1377,12,True", "1378,25,False", "5,100,x", "6,241,True", "7,old,True", "8,-1,False", ",90,True",
                "9,nan,True", "4360,90,True"):  # fmt: skip
        add_label(folder, row)
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert index["id"].tolist() == ["1377", "1379", "1380", "4360", "4361"]
    assert quarantined(quarantine) == {
        "train:1378": "duplicate-id", "train:5": "unknown-sex", "train:6": "age-out-of-range", "train:": "no-id",
        "train:7": "age-not-a-number", "train:8": "age-out-of-range", "train:9": "age-not-a-number",
        "train:4360": "also-in-test",
    }  # fmt: skip
    assert (quarantine["id"] == "1378").sum() == 2
    assert quarantine.loc[quarantine["id"] == "1378", "path"].tolist() == [f"{KAGGLE}/1378.png"] * 2
    assert lines[0] == "label rows that repeat another, dropped: 1"
    assert "train: 2 quarantined as age-out-of-range" in lines


@pytest.mark.parametrize("months", ["0", "240"])
def test_the_ends_of_the_range_are_ages(tmp_path, months):
    write_csv(tmp_path / "train.csv", "id,boneage,male", [f"7,{months},True"])
    assert read_labels(tmp_path).quarantine.empty


def test_an_unknown_sex_in_test_is_quarantined_and_stays_in_the_sample(tmp_path):
    folder = kaggle(tmp_path / "in")
    write_csv(folder / "boneage-test-dataset.csv", "Case ID,Sex", ["4361,M", "4360,"])
    index, quarantine = build(folder)
    assert quarantined(quarantine) == {"test:4360": "unknown-sex"} and "4360" not in index["id"].tolist()
    assert sample_ids(folder) == ["4361", "4360"]


@pytest.mark.parametrize("head, message", [
    ("id,boneage", "none of which is male or sex"), ("boneage,male", "none of which is id or imageid or caseid"),
    ("id,male", "none of which is boneage or boneagemonths"), ("", "not a CSV file"),
])  # fmt: skip
def test_a_table_that_cannot_be_told_is_a_user_error(tmp_path, head, message):
    (tmp_path / "train.csv").write_text(f"{head}\n" if head else "")
    with pytest.raises(UserError, match=f"train.csv .*{message}"):
        read_labels(tmp_path)


def test_missing_tables_are_user_errors(tmp_path):
    folder = make_context(load("bone_age"), Options(data_dir=str(tmp_path))).paths.input
    assert label_files(folder) == ()
    with pytest.raises(UserError, match="no training table .* get the data with"):
        read_labels(folder)
    with pytest.raises(UserError, match="no test table .* get the data with"):
        sample_file(folder)


# -- the index ------------------------------------------------------------------------------------------------------


def test_the_index_has_the_columns_of_every_later_stage(tmp_path):
    lines: list[str] = []
    index, quarantine = build(kaggle(tmp_path / "in"), lines)
    assert quarantine.empty and lines == [] and list(index.columns) == COLUMNS
    assert index["boneage"].tolist()[:4] == [12, 24, 36, 48] and index["boneage"].iloc[4:].isna().all()
    assert index["male"].tolist() == [1, 0, 1, 0, 0, 1] and index["height"].tolist() == [30, 31, 32, 33, 80, 81]
    assert (index["group"] == index["id"]).all() and (index["series"] == index["id"]).all()
    assert (index["position"] == 0).all() and (index["mask"] == "").all() and index[list(LANDMARKS)].isna().all(axis=None)
    assert index["boneage"].dtype == float and index["male"].dtype == int
    index.to_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "index.parquet"), index)


def test_every_picture_and_every_id_is_somewhere(tmp_path):
    folder = kaggle(tmp_path / "in", hands=40)
    train = folder / KAGGLE
    whole = (train / "1378.png").read_bytes()
    (train / "1377.png").unlink()
    (train / "1378.png").write_bytes(whole[:-20])
    (train / "1379.png").write_bytes(b"")
    (train / "1380.png").write_text("<html>not found</html>")
    write_png(train / "new.png", noise(1))
    write_png(folder / KAGGLE_TEST / "new.png", noise(2))
    write_png(folder / "boneage-training-dataset" / "deep" / "er" / "1381.png", noise(3))
    (train / "._1382.png").write_bytes(b"of a Mac")
    index, quarantine = build(folder, lines := [])
    assert quarantined(quarantine) == {
        "train:1377": "no-file", "train:1378": "truncated", "train:1379": "empty", "train:1380": "not-png",
        "train:new": "no-label", "test:new": "not-in-sample", "train:1381": "duplicate-picture",
    }  # fmt: skip
    assert index.loc[index["id"] == "1381", "path"].tolist() == [f"{KAGGLE}/1381.png"]
    assert len(index) == 38 and index["id"].is_unique and "train: 1 quarantined as truncated" in lines


def test_a_readable_copy_replaces_a_truncated_picture(tmp_path):
    folder = kaggle(tmp_path / "in")
    picture = folder / KAGGLE / "1377.png"
    again = folder / "boneage-training-dataset" / "again" / "again" / "1377.png"
    again.parent.mkdir(parents=True)
    again.write_bytes(picture.read_bytes())
    picture.write_bytes(picture.read_bytes()[:-20])
    index, quarantine = build(folder)
    assert index["path"].iloc[0] == "boneage-training-dataset/again/again/1377.png"
    assert quarantined(quarantine) == {"train:1377": "truncated"}


@pytest.mark.parametrize("lost, fine", [(2, True), (3, False), (20, False), (21, True), (39, True), (40, False)])
def test_a_few_or_most_pictures_may_be_missing_but_not_a_part_between(tmp_path, lost, fine):
    folder = kaggle(make_context(load("bone_age"), Options(data_dir=str(tmp_path))).paths.input, hands=40)
    for number in range(lost):
        (folder / KAGGLE / f"{1377 + number}.png").unlink()
    if lost == 40:
        shutil.rmtree(folder / KAGGLE_TEST)
    lines: list[str] = []
    if not fine:
        message = "the first is 1377; unpack" if lost < 40 else "holds no radiograph .*; get the data"
        with pytest.raises(UserError, match=message):
            build(folder)
        return
    index, quarantine = build(folder, lines)
    assert len(index) == 42 - lost and quarantined(quarantine) == {f"train:{1377 + k}": "no-file" for k in range(lost)}
    assert (f"train: only {40 - lost} of 40 listed pictures are here" in lines[0]) == (lost > 20)


def test_no_usable_picture_is_a_user_error(tmp_path):
    folder = kaggle(tmp_path / "in")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="no usable picture .* not-png"):
        build(folder)
    folder = kaggle(tmp_path / "unlabeled")
    write_csv(folder / "boneage-training-dataset.csv", "id,boneage,male", ["1377,old,True"])
    (folder / "boneage-test-dataset.csv").unlink()
    shutil.rmtree(folder / KAGGLE_TEST)
    for number in (1378, 1379, 1380):
        (folder / KAGGLE / f"{number}.png").unlink()
    with pytest.raises(UserError, match="no usable picture .* age-not-a-number"):
        build(folder)


def test_copies_under_another_id_share_a_group(tmp_path):
    folder = kaggle(tmp_path / "in")
    (folder / KAGGLE / "1380.png").write_bytes((folder / KAGGLE / "1378.png").read_bytes())
    twin = noise(2, 32)
    write_png(folder / KAGGLE / "1377.png", twin[::-1])
    lines: list[str] = []
    index, _ = build(folder, lines)
    assert index["group"].tolist() == ["1377", "1378", "1379", "1378", "4360", "4361"]
    assert lines == ["copies of another picture: 1 (the first: 1380 of 1378); they share a group, "
                     "so that no fold splits them"]  # fmt: skip


def test_a_copy_of_a_test_picture_is_not_trained_on(tmp_path):
    folder = kaggle(tmp_path / "in")
    (folder / KAGGLE / "1378.png").write_bytes((folder / KAGGLE_TEST / "4361.png").read_bytes())
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert index["id"].tolist() == ["1377", "1379", "1380", "4360", "4361"] and (index["group"] == index["id"]).all()
    assert quarantined(quarantine) == {"train:1378": "duplicate-picture"}
    assert quarantine["path"].tolist() == [f"{KAGGLE}/1378.png"]
    assert lines == ["train: 1 quarantined as duplicate-picture"]


# -- annotations ----------------------------------------------------------------------------------------------------

VIA_HEAD = ("filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
            "region_attributes")  # fmt: skip


def quoted(value: object) -> str:
    return '"' + json.dumps(value).replace('"', '""') + '"'


def via_row(name: str, x: float, y: float, point: str = "", number: int = 0, shape: str = "point") -> str:
    named = {"point": point} if point else {}
    return f"{name},99,{quoted({})},3,{number},{quoted({'name': shape, 'cx': x, 'cy': y})},{quoted(named)}"


def via_picture(name: str, points: list[tuple[float, float]], names: tuple[str, ...] = ("P1", "P2", "P3")) -> dict:
    regions = [{"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": {"point": point}}
               for (x, y), point in zip(points, names)]  # fmt: skip
    return {"filename": name, "size": 99, "regions": regions, "file_attributes": {}}


HAND = [via_row("1377.png", 15, 25, "P3"), via_row("1377.png", 5, 2.5, "p1", 1), via_row("1377.png", 12, 9, "P2", 2)]
EMPTY = f"1380.png,99,{quoted({})},0,0,{quoted({})},{quoted({})}"


def test_via_csv_named_and_unnamed(tmp_path):
    rows = [*HAND, EMPTY, *(via_row("x/1378.png", k, k + 1, number=k) for k in range(3))]
    write_csv(tmp_path / "annotations" / "landmarks.csv", VIA_HEAD, rows)
    table = read_landmarks(tmp_path)
    assert table["id"].tolist() == ["1377", "1378"] and list(table.columns) == ["id", *LANDMARKS]
    assert table[list(LANDMARKS)].to_numpy().tolist() == [[5, 2.5, 12, 9, 15, 25], [0, 1, 1, 2, 2, 3]]


@pytest.mark.parametrize("head, rows", [
    ("id,p1x,p1y,p2x,p2y,p3x,p3y", ["1377,5,2.5,12,9,15,25", "1380,,,,,,"]),
    ("P3y,P3x,P1x,P1y,P2x,P2y,reader,file", ["25,15,5,2.5,12,9,me,x/1377.png", ",,,,,,me,x/1380.png"]),
])  # fmt: skip
def test_landmarks_of_a_plain_table_are_those_of_via(tmp_path, head, rows):
    write_csv(tmp_path / "a" / "annotations" / "landmarks.csv", VIA_HEAD, HAND)
    write_csv(tmp_path / "b" / "annotations" / "landmarks.csv", head, rows)
    pd.testing.assert_frame_equal(read_landmarks(tmp_path / "a"), read_landmarks(tmp_path / "b"))


@pytest.mark.parametrize("head, rows, message", [
    ("id,p1x,p1y,p2x,p2y,p3x,p3y", ["1,1,1,1,1,1,1", "7,1,2,x,4,5,6"], "row 2: 7 has the landmarks 1, 2, x, 4, 5, 6"),
    ("id,p1x,p1y,p2x,p2y,p3x,p3y", ["7,1,2,,,5,6"], "row 1: 7 has the landmarks"),
    ("id,p1x,p1y,p2x,p2y,p3x,p3y", [",1,2,3,4,5,6"], "row 1: a hand without an id"),
    ("id,p1x,p1y,p2x,p2y,p3x,p3y", ["7,1,2,3,4,5,6", "7.png,1,2,3,4,5,7"], "7 has the points P1, P2, P3, P1, P2, P3"),
    ("who,p1x,p1y,p2x,p2y,p3x,p3y", ["7,1,2,3,4,5,6"], "has no column id; it needs id,p1x"),
])  # fmt: skip
def test_faulty_plain_landmarks_name_file_and_row(tmp_path, head, rows, message):
    path = write_csv(tmp_path / "annotations" / "landmarks.csv", head, rows)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        read_landmarks(tmp_path)


@pytest.mark.parametrize("wrap", [lambda pictures: pictures,
                                  lambda pictures: {"_via_settings": {}, "_via_img_metadata": pictures}])  # fmt: skip
def test_via_json_is_the_same_as_csv(tmp_path, wrap):
    write_csv(tmp_path / "a" / "annotations" / "landmarks.csv", VIA_HEAD, HAND)
    picture = via_picture("1377.png", [(15, 25), (5, 2.5), (12, 9)], ("P3", "P1", "P2"))
    old = via_picture("1378.png", [(1, 1), (2, 2), (3, 3)]) | {"regions": {}}
    path = tmp_path / "b" / "annotations" / "landmarks.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(wrap({"1377.png99": picture, "1378.png99": old})))
    pd.testing.assert_frame_equal(read_landmarks(tmp_path / "a"), read_landmarks(tmp_path / "b"))


@pytest.mark.parametrize("rows, message", [
    (HAND[:2], "row 2: 1377 has the points P3, P1, not P1, P2 and P3"),
    ([*HAND[:2], HAND[1]], "has the points P3, P1, P1"),
    ([*HAND, HAND[0]], "has the points P3, P1, P2, P3"),
    ([via_row("7.png", 1, 1), via_row("7.png", 1, 1, "P2"), via_row("7.png", 1, 1, "P3")], "unnamed, P2, P3"),
    ([via_row("7.png", 1, 1, shape="rect")], "row 2: 7 has a rect, not a point"),
    (['7.png,99,"{}",1,0,"{""name"":""point"",""cx"":1}","{}"'], "row 2: 7 has a point without cx and cy"),
    (['7.png,99,"{}",1,0,"{name:point}","{}"'], "row 2: .* is not JSON"),
    (['7.png,99,"{}",1,0,"[1]","{}"'], "row 2: its attributes are not VIA's"),
])  # fmt: skip
def test_faulty_via_csv_names_file_and_row(tmp_path, rows, message):
    path = write_csv(tmp_path / "annotations" / "landmarks.csv", VIA_HEAD, rows)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        read_landmarks(tmp_path)


@pytest.mark.parametrize("name, text, message", [
    ("landmarks.csv", "id,x,y\n1,2,3\n", "has no column filename"), ("landmarks.json", "{", "is not a VIA 2 export"),
    ("landmarks.csv", "", "is not a CSV file"), ("landmarks.json", "[1]", "is not a VIA 2 export"),
    ("landmarks.json", '{"a": {"filename": "a.png"}}', "KeyError: 'regions'"),
])  # fmt: skip
def test_files_that_are_not_vias_are_user_errors(tmp_path, name, text, message):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        read_landmarks(tmp_path)


def test_a_hand_annotated_in_both_files_is_a_user_error(tmp_path):
    write_csv(tmp_path / "annotations" / "landmarks.csv", VIA_HEAD, HAND)
    pictures = {"a": via_picture("1377.png", [(1, 1), (2, 2), (3, 3)])}
    (tmp_path / "annotations" / "landmarks.json").write_text(json.dumps(pictures))
    with pytest.raises(UserError, match="1377 is annotated twice"):
        read_landmarks(tmp_path)


def test_annotations_join_the_index_and_faulty_ones_cost_only_themselves(tmp_path):
    folder = kaggle(tmp_path / "in")
    write_csv(folder / "annotations" / "landmarks.csv", VIA_HEAD,
              HAND + [via_row(f"{hand}.png", x, 5) for hand, xs in (("1378", (0, 3, 20)), ("1379", (-0.5, 3, 19.5)),
                                                                   ("77", (1, 2, 3))) for x in xs])  # fmt: skip
    masks = {"1377": np.full((30, 20), 255), "1378": np.zeros((31, 20)), "1379": np.full((20, 32), 255),
             "77": np.ones((2, 2))}  # fmt: skip
    for hand, mask in masks.items():
        write_png(folder / "annotations" / "masks" / f"{hand}.png", mask.astype(np.uint8))
    write_png(folder / "annotations" / "masks" / "1380.png", noise(1, 33)).write_bytes(b"no")
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert len(index) == 6 and index["mask"].tolist() == ["annotations/masks/1377.png", "", "", "", "", ""]
    assert index.loc[0, list(LANDMARKS)].tolist() == [5, 2.5, 12, 9, 15, 25]
    assert index["p1x"].notna().tolist() == [True, False, True, False, False, False]
    assert quarantine[["id", "reason"]].to_numpy().tolist() == [
        ["1378", "empty-mask"], ["1379", "wrong-size"], ["1380", "not-png"], ["1378", "landmark-outside"]]
    assert lines[:2] == [f"{what} that belong to no picture of the index: 1" for what in ("masks", "sets of landmarks")]
    pd.testing.assert_frame_equal(index, build(folder, workers=2)[0])


def test_masks_are_true_above_127(tmp_path):
    path = write_png(tmp_path / "m.png", np.array([[0, 127], [128, 255]], np.uint8))
    assert read_mask(path, (2, 2)).tolist() == [[False, False], [True, True]]
    with pytest.raises(Unreadable, match=r"wrong-size: the mask has 2 x 2 .* its radiograph 3 x 2"):
        read_mask(path, (3, 2))
    with pytest.raises(Unreadable, match="empty-mask"):
        read_mask(write_png(path, np.ones((2, 2), np.uint8)))


# -- radiographs ----------------------------------------------------------------------------------------------------


def test_gray_values_of_every_kind_of_png(tmp_path):
    gray = noise(3, 40, 30)
    path = tmp_path / "a.png"
    for channels in (1, 3, 4):
        pixels = gray if channels == 1 else np.dstack([gray] * 3 + [np.full_like(gray, 255)] * (channels - 3))
        np.testing.assert_array_equal(read(write_png(path, pixels)), gray)
        assert read_header(path) == Header(40, 30, 8, channels)
    color = np.dstack([gray, np.zeros_like(gray), 255 - gray])
    np.testing.assert_allclose(read(write_png(path, color)), gray * 0.114 + (255.0 - gray) * 0.299, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_stretched_and_an_outlier_does_not_set_the_scale(tmp_path, channels):
    ramp = np.linspace(1000, 5000, 10_000).reshape(100, 100).astype(np.uint16)
    ramp[0, 0] = 65535
    path = write_png(tmp_path / "a.png", ramp if channels == 1 else np.dstack([ramp] * channels))
    assert read_header(path) == Header(100, 100, 16, channels)
    found = read(path)
    assert found.dtype == np.uint8 and found[0, 0] == 255 and (np.diff(found.ravel()[1:].astype(int)) >= 0).all()
    assert found.ravel()[1] == 0 and found.ravel()[-1] == 255 and abs(int(found[50, 0]) - 127) <= 1
    assert not read(write_png(path, np.full((9, 9), 700, np.uint16))).any()


def test_unreadable_pngs_say_why(tmp_path):
    path = write_png(tmp_path / "a.png", noise(1, 90, 90))
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for content, reason in ((whole[:-9], "truncated"), (whole[: len(whole) // 2], "truncated"), (b"", "empty"),
                            (b"GIF89a" * 9, "not-png"), (whole[:8] + b"IEND" * 9, "not-png"),
                            (bytes(broken), "undecodable")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(Unreadable, match=f"^{reason}: "):
            read(path)
    with pytest.raises(Unreadable, match="no-access"):
        read(tmp_path / "absent.png")


@pytest.mark.parametrize("height, width", [(400, 300), (301, 403), (50, 64), (128, 128)])
def test_the_small_copy_knows_where_it_comes_from(tmp_path, height, width):
    y, x = np.mgrid[:height, :width]
    points = np.array([[width * 0.2, height * 0.7], [width * 0.85, height * 0.2]])
    sigma = max(height, width) / 25
    path = tmp_path / "a.png"
    for point in points:
        blob = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * sigma**2))
        small, place = prepare(write_png(path, np.rint(blob).astype(np.uint8)), 128)
        assert small.shape == (128, 128) and small.dtype == np.uint8 and place["scale"] == 128 / max(height, width)
        v, u = np.mgrid[:128, :128]
        found = np.array([(u * small.astype(float)).sum(), (v * small.astype(float)).sum()]) / small.sum(dtype=float)
        raw = (found - [place["offset_x"], place["offset_y"]]) / place["scale"]
        np.testing.assert_allclose(raw, point, atol=0.1 / place["scale"])


def test_the_small_copy_is_centered_on_zeros(tmp_path):
    small, _ = prepare(write_png(tmp_path / "a.png", np.full((200, 100), 200, np.uint8)), 64)
    assert (small[:, 16:48] == 200).all() and not small[:, :16].any() and not small[:, 48:].any()


# -- the ten real hands ---------------------------------------------------------------------------------------------

YEARS = [13, 78, 175, 231, 304, 531, 739, 877, 896, 444, 1210, 1665, 1400, 1947, 1002, 581, 209, 216, 74, 19]
"""Hands of RSNA 2017 whose bone age is 0, 1, 2 ... years and some months; the last are the 19 of 228 months."""


@pytest.fixture
def sample() -> Path:
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    return Path(os.environ["RADSTACK_REAL_DATA"], "boneage_sample")


@pytest.mark.real
def test_the_real_labels_have_the_published_distribution(sample):
    labels = read_labels(sample)
    table = labels.table
    assert labels.quarantine.empty and labels.repeated == 0 and len(table) == 12_611
    assert np.bincount((table["boneage"] // 12).astype(int)).tolist() == YEARS
    ages = {sex: table.loc[table["male"] == sex, "boneage"] for sex in (0, 1)}
    assert {sex: len(values) for sex, values in ages.items()} == {0: 5778, 1: 6833}
    assert {sex: (round(values.mean(), 1), round(values.std(), 1)) for sex, values in ages.items()} == {
        0: (117.9, 37.9), 1: (135.3, 42.1)}
    every = table["boneage"]
    assert (every.min(), every.median(), every.max(), every.nunique()) == (1, 132, 228, 160)
    assert (round(every.mean(), 1), round(every.std(), 1)) == (127.3, 41.2)


@pytest.mark.real
def test_the_ten_real_hands_are_indexed_and_read(sample, tmp_path):
    lines: list[str] = []
    index, quarantine = build_index(sample, 1, tmp_path / "parts", report=lines.append)
    assert index["id"].tolist() == ["1377", "1380", "1418", "1489", "1511", "1512", "1513", "1514", "1516", "1520"]
    assert len(quarantine) == 12_601 and set(quarantine["reason"]) == {"no-file"}
    assert "only 10 of 12611 listed pictures are here" in lines[0]
    assert (index["bits"] == 8).all() and (index["channels"] == 1).all() and index["group"].is_unique
    small, place = prepare(sample / index["path"].iloc[0], 256)
    assert index.loc[0, ["height", "width", "boneage", "male"]].tolist() == [2044, 1514, 180, 0]
    assert small.shape == (256, 256) and place["scale"] == 256 / 2044 and small.std() > 20
