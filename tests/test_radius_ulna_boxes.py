"""Boxes of every format and with every fault; how far two readers agree on real files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from competitions.radius_ulna.boxes import box_files, check, read_boxes, read_csv, read_voc, read_yolo
from competitions.radius_ulna.phases import BONES
from radstack.core.errors import UserError
from radstack.images.boxes import CORNERS, score_boxes

SIZES = pd.DataFrame({"id": ["a", "b", "c", "d"], "height": [200] * 4, "width": [100] * 4})
RADIUS, ULNA = (50, 100, 90, 160), (10, 110, 40, 150)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def table(folder: Path, rows: list[str]) -> Path:
    return write(folder / "boxes.csv", "\n".join(["file,bone,x1,y1,x2,y2", *rows]) + "\n")


def voc(folder: Path, name: str, objects: list[tuple[str, tuple[float, ...]]], size: tuple[int, int] = (100, 200)) -> Path:
    items = "".join(f"<object><name>{kind}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax>"
                    f"<ymax>{box[3]}</ymax></bndbox></object>" for kind, box in objects)  # fmt: skip
    text = f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{items}</annotation>"
    return write(folder / "boxes" / f"{name}.xml", text)


def faults(boxes) -> list[list[str]]:
    assert (boxes.faults["detail"] != "").all()
    return boxes.faults[["file", "reason"]].to_numpy().tolist()


def test_all_three_formats_say_the_same(tmp_path):
    table(tmp_path / "csv", ["pictures/a.png,radius,50,100,90,160", "pictures/a.png, Ulna ,10,110,40,150"])
    voc(tmp_path / "voc", "a", [("Radius", RADIUS), ("DIP", (0, 0, 5, 5)), ("Ulna", ULNA)])
    write(tmp_path / "yolo" / "boxes" / "classes.txt", "dip\nUlna\nradius\n")
    write(tmp_path / "yolo" / "boxes" / "a.txt", "2 .7 .65 .4 .3\n1 .25 .65 .3 .2\n0 .5 .5 .1 .1\n")
    for kind in ("csv", "voc", "yolo"):
        boxes = read_boxes(tmp_path / kind, SIZES)
        assert boxes.faults.empty and boxes.table[["id", "bone"]].to_numpy().tolist() == [["a", "radius"], ["a", "ulna"]]
        np.testing.assert_allclose(boxes.table[CORNERS].to_numpy(float), [RADIUS, ULNA])
    assert [path.name for path in box_files(tmp_path / "yolo")] == ["a.txt", "classes.txt"]
    assert [path.name for path in box_files(tmp_path / "csv")] == ["boxes.csv"]


def test_no_boxes_are_no_fault(tmp_path):
    boxes = read_boxes(tmp_path, SIZES)
    assert boxes.table.empty and boxes.faults.empty and {"id", "bone", *CORNERS} <= set(boxes.table.columns)


@pytest.mark.parametrize("rows, reason", [
    (["a.png,radius,90,100,50,160"], "swapped-corners"), (["a.png,radius,50,160,90,100"], "swapped-corners"),
    (["a.png,radius,50,100,50,160"], "swapped-corners"), (["a.png,radius,-2,100,50,160"], "outside"),
    (["a.png,radius,50,100,102,160"], "outside"), (["a.png,radius,50,100,90,202"], "outside"),
    (["a.png,radius,150,300,190,360"], "outside"), (["z.png,radius,50,100,90,160"], "no-picture"),
    (["a.png,carpus,50,100,90,160"], "unknown-bone"), (["a.png,radius,50,x,90,160"], "not-a-number"),
    (["a.png,radius,50,,90,160"], "not-a-number"), (["a.png,radius,50,inf,90,160"], "not-a-number"),
    (["a.png,radius,50,100,90,160", "other/a.jpg,radius,50,100,91,160"], "doubled"),
])  # fmt: skip
def test_a_faulty_box_is_quarantined_and_the_others_stay(tmp_path, rows, reason):
    table(tmp_path, [*rows, "a.png,ulna,10,110,40,150", "b.png,radius,50,100,90,160"])
    boxes = read_boxes(tmp_path, SIZES)
    assert [found for _, found in faults(boxes)] == [reason] * len(rows)
    assert boxes.table[["id", "bone"]].to_numpy().tolist() == [["a", "ulna"], ["b", "radius"]]


def test_rounding_is_clipped_and_repeats_are_dropped(tmp_path):
    table(tmp_path, ["a.png,radius,-1,100,50,200.9"] * 2)
    boxes = read_boxes(tmp_path, SIZES)
    assert boxes.faults.empty and boxes.table[CORNERS].to_numpy().tolist() == [[0, 100, 50, 200]]


def test_boxes_drawn_on_a_picture_of_another_size(tmp_path):
    voc(tmp_path, "a", [("Radius", RADIUS), ("Ulna", ULNA)], size=(200, 400))
    voc(tmp_path, "b", [("Radius", RADIUS), ("Ulna", ULNA)], size=(0, 0))
    boxes = read_boxes(tmp_path, SIZES)
    assert faults(boxes) == [["a.xml", "other-size"]] * 2 and boxes.table["id"].tolist() == ["b", "b"]
    assert "boxed on 200 x 400" in boxes.faults["detail"].iloc[0]


@pytest.mark.parametrize("text, message", [
    ("file,bone,x1,y1,x2\na.png,radius,1,2,3\n", "boxes.csv is not a CSV file with the columns file,bone"),
    ("", "boxes.csv is not a CSV"), ("file,bone,x1,y1,x2,y2\na,b,1,2,3,4,5\na,b,1,2,3,4,5,6\n", "boxes.csv is not a CSV"),
])  # fmt: skip
def test_a_damaged_table_is_a_user_error(tmp_path, text, message):
    write(tmp_path / "boxes.csv", text)
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><annotation><object><name>&y;</name></object></annotation>'
OUTER = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize("text, reason", [
    ("", "empty"), (" \n", "empty"), ("<annotation></annotation>", "empty"), ("<annotation><object>", "broken"),
    ("no xml", "broken"), (BOMB, "doctype"), (OUTER, "doctype"),
    ("<annotation><object><name>Ulna</name></object></annotation>", "broken"),
    ("<annotation><object><name>Ulna</name><bndbox><xmin>1</xmin></bndbox></object></annotation>", "broken"),
])  # fmt: skip
def test_a_faulty_voc_file_is_reported_by_name_and_the_others_are_read(tmp_path, text, reason):
    voc(tmp_path, "a", [("Radius", RADIUS), ("Ulna", ULNA)])
    write(tmp_path / "boxes" / "b.xml", text)
    boxes = read_voc(tmp_path)
    assert faults(boxes) == [["b.xml", reason]] and boxes.table["file"].tolist() == ["a.xml"] * 2


def test_an_incomplete_voc_file_is_reported_and_used(tmp_path):
    whole = [("Radius", RADIUS), ("Ulna", ULNA), ("DIP", (1, 1, 5, 5))]
    for name in "ab":
        voc(tmp_path, name, whole)
    voc(tmp_path, "c", whole[:2])
    voc(tmp_path, "d", [*whole[:1], *whole[2:] * 2])
    boxes = read_voc(tmp_path)
    assert faults(boxes) == [["c.xml", "incomplete"], ["d.xml", "incomplete"]]
    assert boxes.table.groupby("file").size().to_dict() == {"a.xml": 2, "b.xml": 2, "c.xml": 2, "d.xml": 1}


@pytest.mark.parametrize("text, reason", [
    ("", "empty"), ("2 .5 .5 .1 .1\n", "empty"), ("0 .5 .5 .1\n", "broken"), ("3 .5 .5 .1 .1\n", "broken"),
    ("-1 .5 .5 .1 .1\n", "broken"), ("radius .5 .5 .1 .1\n", "broken"), ("0 a .5 .1 .1\n", "broken"),
])  # fmt: skip
def test_a_faulty_yolo_file_is_reported(tmp_path, text, reason):
    write(tmp_path / "boxes" / "classes.txt", "radius\nulna\ndip\n")
    write(tmp_path / "boxes" / "b.txt", text)
    write(tmp_path / "boxes" / "a.txt", "0 .5 .5 .5 .5\n")
    write(tmp_path / "boxes" / "z.txt", "0 .5 .5 .5 .5\n")
    boxes = read_yolo(tmp_path, SIZES)
    assert faults(boxes) == [["b.txt", reason], ["z.txt", "no-picture"]]
    assert boxes.table[CORNERS].to_numpy().tolist() == [[25, 50, 75, 150]]


def test_yolo_without_our_classes_is_a_user_error(tmp_path):
    write(tmp_path / "boxes" / "classes.txt", "radius\n")
    with pytest.raises(UserError, match="no class ulna"):
        read_yolo(tmp_path, SIZES)


# -- two readers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path):
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    source = Path(os.environ["RADSTACK_REAL_DATA"], "radius_ulna_boxes", "annotations")

    def read(part: str):
        folder = tmp_path / part.replace("/", "-")
        folder.mkdir()
        (folder / "boxes").symlink_to(source / part)
        return read_voc(folder)

    return read


@pytest.mark.real
def test_real_voc_files_with_an_empty_and_an_incomplete_one(real):
    boxes = real("train")
    assert faults(boxes) == [["4230.xml", "empty"], ["4210.xml", "incomplete"]]
    assert boxes.table["bone"].value_counts().to_dict() == dict.fromkeys(BONES, 239)
    sizes = boxes.table.assign(id=boxes.table["file"].str.removesuffix(".xml"))[["id", "height", "width"]].drop_duplicates()
    assert check(boxes.table, sizes).faults.empty


@pytest.mark.real
def test_two_real_readers_agree_on_the_place_and_not_on_the_length_of_the_bone(real):
    first, second = (real(part).table[["file", "bone", *CORNERS]] for part in ("eval/expert", "eval/nonexpert"))
    both = first.merge(second, on=["file", "bone"], suffixes=("", "_second"), validate="one_to_one")
    for bone, overlap in (("radius", 0.534), ("ulna", 0.547)):
        rows = both[both["bone"] == bone]
        one, other = rows[CORNERS].to_numpy(float), rows[[f"{name}_second" for name in CORNERS]].to_numpy(float)
        found = score_boxes(other[:, None], np.ones((len(rows), 1)), one[:, None], (bone,)).iloc[0]
        width, height = np.median((other[:, 2:] - other[:, :2]) / (one[:, 2:] - one[:, :2]), axis=0)
        assert found["boxes"] == 89 and round(found["iou"], 3) == overlap and found["good"] < 0.14
        assert found["center_share"] < 0.13 and 1.05 < width < 1.15 and height > 1.6
