"""Folders with links, pipes, loops and parts without rights: listed, watched, and nothing in them blocks or stops a run."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import make_dicom, noise

from radstack.core.errors import UserError
from radstack.core.files import walk
from radstack.images.dicom import Unreadable
from radstack.images.dicom.scan import scan
from radstack.images.radiograph import prepare, read, read_header, read_picture
from radstack.images.radiograph import scan as scan_radiographs
from radstack.images.shards import crop_square, resize, squared
from radstack.images.strangers import every_file, strangers
from radstack.stages.folds import listing_digest

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures, one of them behind a link, and what else a folder may hold."""
    place = tmp_path / "pictures"
    make_dicom(place / "one.dcm", noise())
    make_dicom(tmp_path / "elsewhere" / "two.dcm", noise(seed=1))
    (place / "linked").symlink_to(tmp_path / "elsewhere")
    (place / "up").symlink_to(place)
    (place / "deep").mkdir()
    (place / "deep" / "up").symlink_to("..")
    (place / "self.dcm").symlink_to(place / "self.dcm")
    (place / "nowhere.dcm").symlink_to(tmp_path / "absent.dcm")
    os.mkfifo(place / "pipe.dcm")
    return place


NAMES = ["linked/two.dcm", "nowhere.dcm", "one.dcm", "pipe.dcm", "self.dcm"]


def locked(monkeypatch, name: str) -> None:
    """Let no folder ``name`` be listed, nor opened; a test may run as root, whom no missing right stops."""
    real, real_open = os.scandir, os.open

    def refuse(path, *rest):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return (real_open if rest else real)(path, *rest)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "open", refuse)


def test_links_are_followed_and_loops_are_not(folder):
    assert sorted(entry.name for entry in walk(folder)) == NAMES == sorted(name for name, _ in every_file(folder))
    with pytest.raises(UserError, match="cannot list"):
        list(walk(folder / "absent"))


def test_archives_that_are_not_yet_unpacked_are_no_raw_files(folder):
    (folder / ".download" / "all files").mkdir(parents=True)
    (folder / ".download" / "all files" / "ich.zip").write_bytes(b"half")
    assert sorted(entry.name for entry in walk(folder)) == NAMES


def test_each_special_file_is_a_quarantine_row(folder, tmp_path):
    reasons = scan(folder, 1, tmp_path / "parts").set_index("path")["reason"].to_dict()
    assert reasons == {"linked/two.dcm": "", "one.dcm": "", "pipe.dcm": "not-a-file", "self.dcm": "not-a-file",
                       "nowhere.dcm": "no-access"}
    table = scan(folder, 1, tmp_path / "parts")
    found = strangers(folder, table[:0], table[:0].assign(path=[]))
    assert dict(zip(found["path"], found["reason"]))["pipe.dcm"] == "not-a-file"


def test_a_subfolder_without_rights_is_a_row_and_the_others_are_read(folder, tmp_path, monkeypatch):
    (folder / "locked").mkdir()
    locked(monkeypatch, "locked")
    table = scan(folder, 1, tmp_path / "parts").set_index("path")
    assert table.loc["locked", "reason"] == "no-access" and table.loc["one.dcm", "reason"] == ""
    (folder / "picture.png").write_bytes(b"")
    radiographs = scan_radiographs(folder, 1, tmp_path / "more").set_index("path")["reason"]
    assert radiographs[["locked", "picture.png", "one.dcm"]].tolist() == ["no-access", "empty", "not-a-radiograph"]


def test_what_lies_behind_a_link_is_watched(folder, tmp_path):
    before = listing_digest(folder)
    assert listing_digest(folder) == before
    file = tmp_path / "elsewhere" / "two.dcm"
    os.truncate(file, file.stat().st_size - 9)
    cut = listing_digest(folder)
    os.utime(file, ns=(1, 1))
    assert len({before, cut, listing_digest(folder)}) == 3
    file.unlink()
    assert listing_digest(folder) not in (before, cut)


# -- radiographs -----------------------------------------------------------------------------------------------------


def picture(shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    return np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_long_tail_does_not_make_a_picture_cut(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), picture())
    before, whole = read_picture(path)[0], path.read_bytes()
    path.write_bytes(whole + bytes(50_000))
    assert np.array_equal(read_picture(path)[0], before)
    for tail in (b"", bytes(50_000)):
        path.write_bytes(whole[:len(whole) // 2] + tail)
        with pytest.raises(Unreadable, match="truncated"):
            read_picture(path)


def test_the_end_of_a_preview_is_not_that_of_the_picture(tmp_path):
    path = tmp_path / "a.jpg"
    assert cv2.imwrite(str(path), picture())
    whole = path.read_bytes()
    preview = b"\xff\xe1" + struct.pack(">H", 2 + len(whole)) + whole
    path.write_bytes(whole[:2] + preview + whole[2:] + bytes(3000))
    assert read_picture(path)[0].shape == (60, 90)
    path.write_bytes(whole[:2] + preview + whole[2:-200] + bytes(3000))
    with pytest.raises(Unreadable, match="truncated"):
        read_picture(path)


def test_a_pipe_with_the_name_of_a_radiograph_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read_it in (read_header, read, read_picture):
        with pytest.raises(Unreadable, match="not-a-file"):
            read_it(tmp_path / "a.png")
    assert scan_radiographs(tmp_path, 1, tmp_path / "parts")["reason"].tolist() == ["not-a-file"]


def test_a_png_that_says_more_pixels_than_it_can_hold_is_refused_unread(tmp_path):
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), picture())
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(Unreadable, match="wrong-size"):
        read(path)


def test_a_jpeg_that_says_more_pixels_than_it_can_hold_is_refused_unread(tmp_path):
    path = tmp_path / "a.jpg"
    assert cv2.imwrite(str(path), picture())
    data = path.read_bytes()
    at = data.index(b"\xff\xc0")
    path.write_bytes(data[:at + 5] + struct.pack(">HH", 60_000, 17_000) + data[at + 9:])
    with pytest.raises(Unreadable, match="wrong-size"):
        read_picture(path)


def test_a_chunk_of_gigabytes_is_refused_before_there_is_room_for_it(tmp_path):
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), picture())
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", 0x7FFFFFF0) + data[at + 4:])
    with pytest.raises(Unreadable, match="truncated"):
        read(path)


def test_a_strip_is_cropped_without_the_square_around_it(monkeypatch):
    made = []
    real = np.full
    monkeypatch.setattr(np, "full", lambda shape, *rest: made.append(shape) or real(shape, *rest))
    strip = np.full((40_000, 3), 500, np.int16)
    made.clear()
    small = crop_square(strip, 0, -19_998, 40_000, 256, -1024)
    assert small.shape == (256, 256) and made == [(256, 256)]
    assert (small[:, 128] == 500).all() and np.count_nonzero(small == 500) == 256  # it is one pixel wide at least
    assert crop_square(strip, 50_000, 0, 40_000, 256, 7).tolist() == np.full((256, 256), 7).tolist()


def test_a_square_is_made_as_ever_where_it_is_not_huge():
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (50, 80)).astype(np.int16)
    whole = np.full((90, 90), -9, np.int16)
    whole[20:70, 5:85] = image
    assert np.array_equal(squared(image, 20, 5, 90, 32, -9), resize(whole, 32))
    assert np.array_equal(crop_square(image, -20, -5, 90, 32, -9), resize(whole, 32))


def test_the_copy_of_a_strip_is_small_work(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((20_000, 4), 200, np.uint8))
    small, places = prepare(tmp_path / "a.png", 128)
    assert small.shape == (128, 128) and (small[:, 64] == 200).all() and places["scale"] == 128 / 20_000
