"""The index of wrists: every picture and every listed row is somewhere, with its stages, child and boxes."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from dicom_files import make_dicom

from competitions.radius_ulna.boxes import box_files
from competitions.radius_ulna.index import BOX_COLUMNS, COLUMNS, build_index
from competitions.radius_ulna.phases import ALL_TARGETS
from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.images.radiograph import read_picture


def noise(seed: int, height: int = 90, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def wrists(folder: Path) -> Path:
    """Train pictures p0 to p3, of which p0 and p1 are one child, and test pictures t0 and t1."""
    for number, name in enumerate(("p0", "p1", "p2", "p3", "t0", "t1")):
        write(folder / "pictures" / f"{name}.png", noise(number, 90 + number))
    rows = ["p0,c1,R5,U4", "p1,c1,R7,U5", "p2,,R9,U6", "p3,c2,R11,U9", "t0,c3,,", "t1,,,"]
    lines = ["file,child,radius_stage,ulna_stage", *(f"pictures/{row[:2]}.png{row[2:]}" for row in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "sample_submission.csv").write_text("file\npictures/t0.png\npictures/t1.png\n")
    boxes = [f"pictures/p{k}.png,{bone},{x},50,{x + 20},80" for k in range(4) for bone, x in (("radius", 30), ("ulna", 5))]
    (folder / "boxes.csv").write_text("\n".join(["file,bone,x1,y1,x2,y2", *boxes]) + "\n")
    return folder


def add(path: Path, *rows: str) -> None:
    path.write_text(path.read_text() + "\n".join(rows) + "\n")


def build(folder: Path, lines: list[str] | None = None, workers: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    shutil.rmtree(folder.parent / "parts", ignore_errors=True)
    return build_index(folder, workers, folder.parent / "parts", (lambda line: None) if lines is None else lines.append)


def quarantined(table: pd.DataFrame) -> dict[str, str]:
    assert list(table.columns) == QUARANTINE_COLUMNS and (table["detail"] != "").all()
    return dict(zip(table["split"] + ":" + table["id"], table["reason"]))


def test_the_index_has_the_columns_of_every_later_stage(tmp_path):
    lines: list[str] = []
    index, quarantine = build(wrists(tmp_path / "in"), lines)
    assert quarantine.empty and lines == [] and list(index.columns) == COLUMNS
    assert index["id"].tolist() == ["p0", "p1", "p2", "p3", "t0", "t1"]
    assert index["group"].tolist() == ["c1", "c1", "p2", "c2", "c3", "t1"]
    assert (index["series"] == index["id"]).all() and (index["position"] == 0).all()
    assert index["height"].tolist() == [90, 91, 92, 93, 94, 95] and (index["width"] == 60).all()
    assert index["path"].iloc[0] == "pictures/p0.png" and index["radius_stage"].tolist() == [5, 7, 9, 11, -1, -1]
    hot = index[list(ALL_TARGETS)]
    assert hot.iloc[4:].isna().all(axis=None) and set(hot.dtypes.astype(str)) == {"float64"}
    assert [hot.columns[row > 0].tolist() for row in hot.iloc[:4].to_numpy()] == [["R5", "U4"], ["R7", "U5"], ["R9", "U6"],
                                                                                 ["R11", "U9"]]  # fmt: skip
    assert index.loc[0, BOX_COLUMNS].tolist() == [30, 50, 50, 80, 5, 50, 25, 80]
    assert index.loc[4:, BOX_COLUMNS].isna().all(axis=None)
    index.to_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "index.parquet"), index)


def test_every_listed_picture_is_somewhere(tmp_path):
    folder = wrists(tmp_path / "in")
    pictures = folder / "pictures"
    for name in ("p5", "p6", "p7", "p8", "p9", "q0", "q1", "t2"):
        write(pictures / f"{name}.png", noise(99))
    whole = (pictures / "p5.png").read_bytes()
    (pictures / "p5.png").write_bytes(whole[:-20])
    (pictures / "p6.png").write_bytes(b"")
    (pictures / "p7.png").write_text("<html>not found</html>")
    (pictures / "p8.png").unlink()
    write(pictures / "p9.png", np.full((90, 60), 7, np.uint8))
    write(pictures / "q0.png", noise(4, 94))
    (pictures / "t2.png").write_bytes(b"")
    add(folder / "labels.csv", *(f"pictures/{name}.png,,R8,U6" for name in ("p5", "p6", "p7", "p8", "p9", "q0")),
        "pictures/q1.png,,R12,U10")  # fmt: skip
    add(folder / "sample_submission.csv", "pictures/t2.png")
    add(folder / "boxes.csv", "pictures/p5.png,ulna,5,50,25,80", "pictures/zz.png,ulna,5,50,25,80")
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert quarantined(quarantine) == {
        "train:p5": "truncated", "train:p6": "empty", "train:p7": "not-png", "train:p8": "no-file", "train:p9": "flat",
        "train:q0": "duplicate-picture", "train:q1": "unknown-stage", "test:t2": "empty", "train:zz": "box-no-picture",
    }  # fmt: skip
    assert index["id"].tolist() == ["p0", "p1", "p2", "p3", "t0", "t1"] and "train: 1 quarantined as flat" in lines
    pd.testing.assert_frame_equal(index, build(folder, workers=2)[0])


def test_faulty_boxes_cost_the_box_and_not_the_picture(tmp_path):
    folder = wrists(tmp_path / "in")
    (folder / "boxes.csv").write_text("file,bone,x1,y1,x2,y2\n")
    add(folder / "boxes.csv", "pictures/p0.png,radius,50,50,30,80", "pictures/p0.png,ulna,5,50,25,80",
        "pictures/p1.png,radius,30,50,50,80", "pictures/p1.png,radius,31,50,51,80", "pictures/p2.png,radius,30,50,70,80",
        "pictures/t0.png,ulna,5,50,25,80")  # fmt: skip
    (folder / "boxes").mkdir()
    (folder / "boxes" / "p3.xml").write_bytes(b"")
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert len(index) == 6 and index["radius_x1"].isna().all() and index["ulna_x2"].notna().tolist() == [True] + [False] * 5
    assert quarantine[["id", "reason"]].to_numpy().tolist() == [
        ["p3", "box-empty"], ["p0", "box-swapped-corners"], ["p1", "box-doubled"], ["p1", "box-doubled"],
        ["p2", "box-outside"]]
    assert lines[:3] == ["test pictures with boxes, which are not used: 1", "train pictures without a box of the radius: 4",
                         "train pictures without a box of the ulna: 3"]  # fmt: skip
    assert [path.name for path in box_files(folder)] == ["boxes.csv", "p3.xml"]


def test_a_faulty_box_of_a_dicom_file_without_an_ending_is_that_picture_s(tmp_path):
    folder = wrists(tmp_path / "in")
    make_dicom(folder / "pictures" / "1.2.840.7", noise(9).astype(np.int16), Modality="DX")
    add(folder / "labels.csv", "pictures/1.2.840.7,,R8,U6")
    add(folder / "boxes.csv", "pictures/1.2.840.7,ulna,5,50,25,880")
    index, quarantine = build(folder)
    assert quarantined(quarantine) == {"train:1.2.840.7": "box-outside"} and "1.2.840.7" in index["id"].tolist()


def test_no_usable_picture_is_a_user_error(tmp_path):
    folder = wrists(tmp_path / "in")
    for path in (folder / "pictures").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="no usable picture .* the first says: pictures/p0.png: not-png"):
        build(folder)
    shutil.rmtree(folder / "pictures")
    with pytest.raises(UserError, match="no usable picture .* no-file"):
        build(folder)


def test_color_and_sixteen_bits_are_turned_and_color_is_reported(tmp_path):
    folder = wrists(tmp_path / "in")
    gray = noise(3, 90)
    write(folder / "pictures" / "p0.png", np.dstack([gray, gray // 2, gray]))
    write(folder / "pictures" / "p1.png", gray.astype(np.uint16) * 200)
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert quarantine.empty and index["channels"].tolist() == [3, 1, 1, 1, 1, 1]
    assert lines == ["pictures with color channels, turned to gray: 1 (the first: pictures/p0.png)"]
    for name in ("p0", "p1"):
        pixels, _ = read_picture(folder / "pictures" / f"{name}.png")
        assert pixels.dtype == np.uint8 and pixels.shape == (90, 60)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_pictures(tmp_path, channels):
    ramp = np.tile(np.arange(60, dtype=np.uint8) * 4, (90, 1))
    path = write(tmp_path / "a.jpg", ramp if channels == 1 else np.dstack([ramp] * 3))
    pixels, found = read_picture(path)
    assert found == channels and pixels.shape == (90, 60) and np.abs(pixels.astype(int) - ramp).max() < 8
    whole = path.read_bytes()
    for content, reason in ((whole[:-30], "truncated"), (whole[:40] + whole[-9:], "undecodable"), (b"", "empty")):
        path.write_bytes(content)
        with pytest.raises(Unreadable, match=reason):
            read_picture(path)
    with pytest.raises(Unreadable, match="not-a-file"):
        read_picture(tmp_path)
    with pytest.raises(Unreadable, match="no-access"):
        read_picture(tmp_path / "absent.jpg")


@pytest.mark.real
def test_real_radiographs_are_indexed(tmp_path):
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    source = Path(os.environ["RADSTACK_REAL_DATA"], "boneage_sample")
    files = sorted(path for path in source.rglob("*.png"))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "pictures").symlink_to(source)
    rows = [f"pictures/{path.relative_to(source)},,R7,U5" for path in files]
    (folder / "labels.csv").write_text("\n".join(["file,child,radius_stage,ulna_stage", *rows]) + "\n")
    index, quarantine = build(folder)
    assert quarantine.empty and len(index) == len(files) == 10 and (index["height"] > 500).all()
