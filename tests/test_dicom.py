"""DICOM files, whole and broken: headers, stored values, scans, slice order."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import make_dicom, noise
from pydicom import uid
from pydicom.data import get_testdata_file

from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable, fault, invert, read_header, read_stored, walker
from radstack.images.dicom import file as reader
from radstack.images.dicom.scan import scan
from radstack.images.dicom.series import ORIENTATION, POSITION, order

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")


def with_pydicom(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        dataset.setdefault("SamplesPerPixel", 1)  # pydicom wants it also where the photometric interpretation is gray
        return dataset.pixel_array


def reason(path: Path) -> str:
    with pytest.raises(Unreadable) as caught:
        read_stored(path)
    return caught.value.reason


def no_pydicom(*_: object) -> None:
    raise AssertionError("pydicom was asked")


# -- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("low", [0, -2000])
def test_plain_files_are_read_without_pydicom(tmp_path, monkeypatch, syntax, low):
    pixels = noise((6, 10), low, 3000)
    path = make_dicom(tmp_path / "ID_a.dcm", pixels, syntax=syntax)
    monkeypatch.setattr(reader, "ask_pydicom", no_pydicom)
    monkeypatch.setattr(reader, "_decode", no_pydicom)
    stored, header = read_stored(path)
    assert stored.dtype == pixels.dtype and np.array_equal(stored, pixels)
    assert (header.sop, header.patient, header.study, header.series) == ("ID_a", "ID_p", "ID_s", "ID_r")
    assert (header.rows, header.columns, header.intercept, header.slope) == (6, 10, -1024.0, 1.0)
    assert header.position == (-125.0, -120.5, 10.0) and header.orientation == (1, 0, 0, 0, 1, 0)
    assert header.window_center == (40.0, 40.0) and header.window_width == (80.0, 80.0)


@pytest.mark.parametrize("changes", [
    {}, {"PixelPaddingValue": -2000, "BitsStored": 16}, {"WindowCenter": 30, "WindowWidth": None},
    {"ImagePositionPatient": None, "ImageOrientationPatient": None}, {"NumberOfFrames": 1, "PatientID": None},
])  # fmt: skip
def test_walker_and_pydicom_give_the_same_header(tmp_path, changes):
    path = make_dicom(tmp_path / "ID_a.dcm", noise((4, 4), -9, 9), **changes)
    size = path.stat().st_size
    walked = reader.walk(path.read_bytes(), size)
    assert walked is not None and walked == reader.ask_pydicom(path, size) == read_header(path)


def long_way(path: Path) -> object:
    """The header, or the refusal, of a walk that remembers nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walker, "_kept", lambda *_: None)
        patch.setattr(walker, "HEADS", {True: walker.Heads(True), False: walker.Heads(False)})
        return outcome(path)


def outcome(path: Path) -> object:
    try:
        return read_header(path)
    except Unreadable as error:
        return str(error)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_what_is_remembered_of_a_picture_is_not_taken_for_another(tmp_path, syntax):
    changes = [{}, {"Rows": 7}, {"PatientID": "ID_q"}, {"ImagePositionPatient": [1, 2, 3]}, {"RescaleIntercept": "0"},
               {"ImagePositionPatient": None}, {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, {"PixelSpacing": [0.4, 0.5]},
               {"RescaleSlope": None}, {}]
    for number, changed in enumerate(changes):
        path = make_dicom(tmp_path / f"ID_{number}.dcm", noise((4, 4)), syntax=syntax, **changed)
        assert read_header(path) == read_header(path) == long_way(path)
        assert read_header(path).sop == f"ID_{number}"


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("old, new", [
    (b"MONOCHROME2", b"MONO\xe0\x7f\x10\0ME2"), (b"-1024", b"nan  "), (b"-1024", b"1 024"), (b"00040", b"4 4  "),
    (b"ID_p", b"\xe0\x7f\x10\0"), (b"\xe0\x7f\x10\0", b"\xe0\x7f\x10\1"), (b"\x28\0\x11\0", b"\x28\0\x09\0"),
    (b"ID_p", b" \0\x32\0"), (b"ID_p", b"\x08\0\x18\0"), (b"\x08\0\x18\0", b"\x08\0\x19\0"), (b" \0\x32\0", b" \0\x31\0"),
    (b"\x20\0\x0e\0", b"\x20\0\x33\0"), (b"\x08\0\x60\0", b"\x08\0\x17\0"), (b"-125", b"1 25"),
])  # fmt: skip
def test_a_header_with_anything_unusual_is_read_the_long_way(tmp_path, syntax, old, new):
    path = make_dicom(tmp_path / "a.dcm", noise((4, 4)), syntax=syntax)
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new))
    assert outcome(path) == long_way(path)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_header_cut_anywhere_is_refused_as_without_a_memory(tmp_path, syntax):
    whole = make_dicom(tmp_path / "a.dcm", noise((4, 4)), syntax=syntax).read_bytes()
    read_header(tmp_path / "a.dcm")
    for size in range(whole.index(walker.WRITTEN[walker.OWN[0]]), len(whole)):
        (tmp_path / "a.dcm").write_bytes(whole[:size])
        assert outcome(tmp_path / "a.dcm") == long_way(tmp_path / "a.dcm")


def test_only_so_many_elements_are_remembered(monkeypatch):
    monkeypatch.setattr(walker, "MOST_HEADS", 3)
    heads = walker.Heads(True)
    found = [heads[b"\x28\0\x10\0US" + bytes([length, 0])] for length in range(9)]
    assert [one.length for one in found] == list(range(9)) and len(heads) == 3


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("charset, raw, text", [
    (None, "Müller".encode("latin-1"), "Müller"), ("ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
    ("ISO_IR 192", "Müller".encode(), "Müller"), ("ISO_IR 192", "王小東".encode(), "王小東"),
    ("GB18030", "王小东".encode("gb18030"), "王小东"), ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
    ("ISO_IR 13", "ﾔﾏﾀﾞ".encode("shift_jis"), "ﾔﾏﾀﾞ"), ("\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
    ("\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8\xc8\xf1", "김희"), ("ISO_IR 192", b"M\xfcller", "Müller"),
    ("no such set", b"M\xfcller", "Müller"), (None, b" a \\ b ", "a\\b"),
])  # fmt: skip
def test_names_outside_ascii_are_read_as_their_character_set_says(tmp_path, monkeypatch, syntax, charset, raw, text):
    raw += b" " * (len(raw) % 2)
    path = make_dicom(tmp_path / "a.dcm", noise((4, 4)), syntax=syntax, PatientID="P" * len(raw),
                      SpecificCharacterSet=charset)
    path.write_bytes(path.read_bytes().replace(b"P" * len(raw), raw))
    asked = reader.ask_pydicom(path, path.stat().st_size)
    monkeypatch.setattr(reader, "ask_pydicom", no_pydicom)
    header = read_header(path)
    assert header.patient == text and header == asked


def test_other_fields_outside_ascii_are_the_same_in_both_ways(tmp_path):
    path = make_dicom(tmp_path / "a.dcm", noise((4, 4)), StudyInstanceUID="1.2.333", SeriesInstanceUID="1.4.555")
    path.write_bytes(path.read_bytes().replace(b"1.2.333", b"1.\xe42\\ 3").replace(b"1.4.555", b"1. 4 \xff5"))
    header = read_header(path)
    assert header == reader.ask_pydicom(path, path.stat().st_size)
    assert header.study == "1.ä2\\3" and header.series == "1. 4 ÿ5"


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("kind", ["no preamble", "no meta group", "neither"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_files_without_a_head_are_read(tmp_path, syntax, kind, dtype):
    pixels = noise(high=256).astype(dtype)
    path = make_dicom(tmp_path / "a.dcm", pixels, syntax=syntax)
    expected, whole = read_header(path), path.read_bytes()
    data_set = 132 + 12 + int.from_bytes(whole[140:144], "little")  # behind (0002,0000), which says how long the rest is
    path.write_bytes({"no preamble": whole[132:], "no meta group": whole[:132] + whole[data_set:],
                      "neither": whole[data_set:]}[kind])
    stored, header = read_stored(path)
    assert np.array_equal(stored, pixels) and stored.dtype == (np.int16 if dtype == np.int16 else np.uint16)
    fields = ("sop", "patient", "rows", "intercept", "position", "transfer_syntax")
    assert [getattr(header, name) for name in fields] == [getattr(expected, name) for name in fields]
    assert header == read_header(path) and fault(header) is None


def test_what_only_begins_like_a_data_set_is_no_dicom_file(tmp_path):
    for start in (b"\x08\0\x05\0", b"\x08\0\x16\0UI\4\0", b"\2\0\0\0UL\4\0"):
        (tmp_path / "a.dcm").write_bytes(start + b"words, words, words" * 30)
        assert reason(tmp_path / "a.dcm") in ("not-dicom", "truncated", "bad-header")


@pytest.mark.parametrize("old, new, field", [
    (b"00040\\00040", b"foo  \\00040", "window_center"), (b"00040\\00040", b"40\\        ", "window_center"),
    (b"00040\\00040", b"nan        ", "window_center"), (b"00080\\00080", b"inf\\1      ", "window_width"),
    (b"0.5\\0.5 ", b"0.5     ", "spacing"), (b"0.5\\0.5 ", b"0.5\\0   ", "spacing"),
    (b"0.5\\0.5 ", b"0.5\\-.5 ", "spacing"), (b"-125.0\\-120.5\\", b"-125.0  -120.5\\", "position"),
    (b"-125.0\\-120.5\\10.0", b"-125.0\\-120.5     ", "position"), (b"-125.0\\", b"-1\\5.0\\", "position"),
    (b"1.0\\0.0\\0.0\\0.0\\1.0\\0.0", b"1.0\\0.0\\0.0\\0.0\\1.0    ", "orientation"),
])  # fmt: skip
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_faulty_field_that_pixels_do_not_need_is_absent_and_named(tmp_path, syntax, old, new, field):
    pixels = noise()
    path = make_dicom(tmp_path / "a.dcm", pixels, syntax=syntax)
    old = old.strip() if old not in path.read_bytes() else old
    new = new[:len(old)]
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    stored, header = read_stored(path)
    assert np.array_equal(stored, pixels) and header.faulty == field and getattr(header, field) == ()
    assert header == read_header(path) == reader.ask_pydicom(path, path.stat().st_size)


def test_padding_takes_the_sign_of_the_pixels(tmp_path):
    padding = pydicom.DataElement(0x00280120, "US", 63536)
    path = make_dicom(tmp_path / "a.dcm", noise(low=-9, high=9), PixelPaddingValue=padding)
    assert read_header(path).padding == -2000


def test_a_header_longer_than_one_read_is_left_to_pydicom(tmp_path):
    pixels = noise()
    path = make_dicom(tmp_path / "a.dcm", pixels, ImageComments="x" * 9000)
    assert fault(read_header(path)) is None and read_header(path).rows == 8
    assert np.array_equal(read_stored(path)[0], pixels)


def compressed(path: Path, pixels: np.ndarray, syntax: str) -> Path:
    dataset = pydicom.dcmread(make_dicom(path, pixels))
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless])
def test_compressed_files_are_decoded(tmp_path, syntax):
    pixels = noise((64, 64))
    path = compressed(tmp_path / "a.dcm", pixels, syntax)
    assert fault(read_header(path)) is None
    stored, header = read_stored(path)
    assert stored.dtype == np.uint16 and np.array_equal(stored, pixels)
    assert header.transfer_syntax == syntax


def test_plugins_decode_the_syntaxes_of_scanners():
    lossless = [uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless]
    assert all(map(reader.decodable, [*lossless, uid.JPEGExtended12Bit, uid.DeflatedExplicitVRLittleEndian]))
    assert not reader.decodable(uid.MPEG2MPML)


def test_twelve_bits_of_jpeg_are_read_also_where_the_scan_says_that_it_has_no_coefficients():
    # Two files of pydicom with one picture: the scan header of the first says Se = 0, the second was mended by hand.
    files = [get_testdata_file(name, download=False) for name in ("JPEG-lossy.dcm", "JPGExtended.dcm")]
    (faulty, header), (sound, _) = (read_stored(file) for file in files)
    assert header.bits_stored == 12 and faulty.shape == (1024, 256) and (faulty.min(), faulty.max()) == (0, 264)
    assert np.array_equal(faulty, sound)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian])
def test_other_native_files_are_decoded(tmp_path, syntax):
    pixels = noise()
    data = pixels.byteswap() if syntax == uid.ExplicitVRBigEndian else pixels
    path = make_dicom(tmp_path / "a.dcm", data, syntax=syntax)
    assert np.array_equal(read_stored(path)[0], pixels)


def test_eight_bits_widen(tmp_path):
    pixels = noise(high=256).astype(np.uint8)
    stored, _ = read_stored(make_dicom(tmp_path / "a.dcm", pixels))
    assert stored.dtype == np.uint16 and np.array_equal(stored, pixels)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_bits_above_those_stored_do_not_count(tmp_path, dtype):
    pixels = noise(high=65536).astype(dtype)
    path = make_dicom(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    assert np.array_equal(read_stored(path)[0], with_pydicom(path))
    assert abs(read_stored(path)[0].astype(int)).max() < 4096


def test_polarity_is_left_alone_and_inverted_on_request(tmp_path):
    pixels = np.array([[0, 1], [4000, 4095]], np.uint16)
    stored, header = read_stored(make_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(stored, pixels)
    assert invert(stored, header).tolist() == [[4095, 4094], [95, 0]]
    signed, header = read_stored(make_dicom(tmp_path / "b.dcm", np.array([[-32768, 5]], np.int16)))
    assert invert(signed, header).tolist() == [[32767, -6]]


# -- what is refused ------------------------------------------------------------------------------------------------


def test_refusals_have_their_reason(tmp_path):
    good = make_dicom(tmp_path / "good.dcm", noise())
    data = good.read_bytes()
    cases = {
        "empty": b"", "not-dicom": b"GIF89a" + bytes(500), "truncated": data[:-10], "no-pixels": data[:-140],
    }  # fmt: skip
    for name, content in cases.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        assert reason(path) == name
    assert reason(tmp_path / "absent.dcm") == "no-access"
    assert reason(make_dicom(tmp_path / "a.dcm", None)) == "no-pixels"
    assert reason(make_dicom(tmp_path / "b.dcm", noise(), Rows=9)) == "wrong-size"
    assert reason(make_dicom(tmp_path / "c.dcm", noise(), Rows=7)) == "wrong-size"
    assert reason(make_dicom(tmp_path / "d.dcm", noise(), Rows=None)) == "bad-header"
    assert reason(make_dicom(tmp_path / "e.dcm", noise((8, 16)), Rows=8, Columns=8, NumberOfFrames=2)) == "multi-frame"


def test_a_header_that_does_not_parse_is_refused(tmp_path):
    for number, (old, new) in enumerate([(b"-1024 ", b"-10x4 "), (b"-1024 ", b"  inf ")]):
        path = make_dicom(tmp_path / f"{number}.dcm", noise())
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        assert reason(path) == "bad-header"


def test_an_undecodable_transfer_syntax_is_refused_from_the_header(tmp_path):
    path = make_dicom(tmp_path / "a.dcm", noise())
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    assert reason(path) == "unsupported-transfer-syntax"


def test_broken_compressed_stream_is_refused(tmp_path):
    path = compressed(tmp_path / "a.dcm", noise((64, 64)), uid.RLELossless)
    data = bytearray(path.read_bytes())
    data[-4000:-20] = bytes(3980)
    path.write_bytes(data)
    assert reason(path) == "undecodable"


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_fuzz_reads_as_pydicom_or_refuses(tmp_path, syntax):
    data = make_dicom(tmp_path / "good.dcm", noise((16, 16)), syntax=syntax).read_bytes()
    rng = np.random.default_rng(7)
    path, read = tmp_path / "broken.dcm", 0
    header_end = len(data) - 512
    for trial in range(300):
        broken = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            broken[rng.integers(128, header_end if trial % 3 else len(data))] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(len(data))] if trial % 4 == 0 else broken)
        try:
            stored, _ = read_stored(path)
        except Unreadable:
            continue
        read += 1
        assert np.array_equal(stored, with_pydicom(path)), f"trial {trial}"
    assert 30 < read < 270


# -- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "pictures"
    for number in range(7):
        make_dicom(place / f"ID_{number}.dcm", noise(seed=number), ImagePositionPatient=[0, 0, number])
    make_dicom(place / "ID_line\nbreak.dcm", noise(), SOPInstanceUID="ID_line")
    make_dicom(place / "deeper" / "no_suffix", noise(), PixelPaddingValue=4)
    (place / "ID_empty.dcm").touch()
    (place / "notes.txt").write_text("not a picture")
    return place


def test_scan_has_a_row_for_every_file(folder, tmp_path):
    table = scan(folder, 1, tmp_path / "parts")
    assert len(table) == 11 and table["path"].is_monotonic_increasing
    reasons = table.set_index("path")["reason"]
    assert reasons[reasons != ""].to_dict() == {"ID_empty.dcm": "empty", "notes.txt": "not-dicom"}
    rows = table.set_index("path")
    assert rows.loc["ID_line\nbreak.dcm", "sop"] == "ID_line"
    assert rows.loc["deeper/no_suffix", "padding"] == 4 and np.isnan(rows.loc["ID_3.dcm", "padding"])
    assert rows.loc["ID_3.dcm", [*POSITION, "spacing_row", "window_center"]].tolist() == [0, 0, 3, 0.5, 40]


def test_scan_with_workers_is_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("radstack.images.dicom.scan.CHUNK", 4)
    one = scan(folder, 1, tmp_path / "one")
    pd.testing.assert_frame_equal(one, scan(folder, 2, tmp_path / "two"))
    assert len(list((tmp_path / "two").rglob("*.parquet"))) == 3


def test_a_killed_scan_restarts_where_it_was(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("radstack.images.dicom.scan.CHUNK", 4)
    real, parts = reader.read_header, tmp_path / "parts"
    calls: list[str] = []

    def counting(path: str) -> object:
        calls.append(path)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr("radstack.images.dicom.scan.read_header", counting)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, 1, parts)
    whole = scan(folder, 1, parts)
    assert len(calls) == 6 + 7 and len(whole) == 11
    scan(folder, 1, parts)
    assert len(calls) == 13
    make_dicom(folder / "ID_0.dcm", noise(), PatientID="ID_changed")
    os.utime(folder / "ID_0.dcm", ns=(1, 1))
    assert "ID_changed" in set(scan(folder, 1, parts)["patient"]) and len(calls) == 17


def test_a_name_that_is_not_utf8_is_a_row(folder, tmp_path):
    (folder / os.fsdecode(b"ID_\xff.dcm")).write_bytes(b"x")
    table = scan(folder, 1, tmp_path / "parts")
    assert table.loc[table["reason"] == "odd-name", "path"].tolist() == ["ID_\\udcff.dcm"]


def test_a_missing_or_empty_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot list"):
        scan(tmp_path / "nowhere", 1, tmp_path / "parts")
    (tmp_path / "void").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        scan(tmp_path / "void", 1, tmp_path / "parts")


# -- order ----------------------------------------------------------------------------------------------------------


def slices(n: int, tilt: float = 0.0, spacing: float = 5.0, series: str = "s") -> pd.DataFrame:
    """A series of ``n`` parallel slices under a gantry tilt in degrees, stepped along its own normal."""
    cosine, sine = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    axes = np.array([1, 0, 0, 0, cosine, -sine])
    normal = np.cross(axes[:3], axes[3:])
    table = pd.DataFrame(np.array([-125, -20, 100]) + spacing * np.arange(n)[:, None] * normal, columns=POSITION)
    table[ORIENTATION] = axes
    return table.assign(id=[f"ID_{k:03}" for k in range(n)], series=series)


@pytest.mark.parametrize("tilt", [0, 11, -20, 60])
def test_order_follows_the_normal(tilt):
    table = slices(20, tilt)
    ordered = order(table.sample(frac=1, random_state=0))
    assert ordered["id"].tolist() == table["id"].tolist()
    assert ordered["position"].tolist() == list(range(20)) and ordered["position"].dtype == np.int32
    assert np.allclose(np.diff(ordered["z"]), 5.0) and (ordered["order_flag"] == "").all()


def test_series_do_not_mix_and_a_single_slice_is_one():
    ordered = order(pd.concat([slices(3, series="b"), slices(1, series="a"), slices(2, 30, series="c")]))
    assert ordered.groupby("series")["position"].apply(list).to_dict() == {"a": [0], "b": [0, 1, 2], "c": [0, 1]}


def test_repeated_positions_are_ranked_by_id_and_flagged():
    table = slices(4)
    table.loc[2, POSITION] = table.loc[1, POSITION].to_numpy()
    table.loc[[1, 2], "id"] = ["ID_z", "ID_b"]
    ordered = order(table)
    assert ordered["id"].tolist() == ["ID_000", "ID_b", "ID_z", "ID_003"]
    assert ordered["order_flag"].tolist() == ["", "repeated-position", "repeated-position", ""]


def test_missing_geometry_falls_back_and_is_flagged():
    bare = slices(3)
    bare[ORIENTATION] = np.nan
    assert order(bare)["order_flag"].eq("no-orientation").all() and order(bare)["position"].tolist() == [0, 1, 2]
    table = slices(4, tilt=20)
    table.loc[0, POSITION] = np.nan
    table.loc[2, ORIENTATION] = 0.0
    ordered = order(table).set_index("id")
    assert ordered.loc["ID_000", ["position", "order_flag"]].tolist() == [3, "no-position"]
    assert ordered.loc["ID_002", ["position", "order_flag"]].tolist() == [1, "no-orientation"]


def test_a_slice_turned_away_is_flagged():
    table = slices(9)
    table.loc[4, ORIENTATION] = [1, 0, 0, 0, 0, -1]
    assert order(table).set_index("id").loc["ID_004", "order_flag"].startswith("mixed-orientation")


def flagged(table) -> dict[str, str]:
    """What ``order`` flags; every slice keeps its z and its rank, but one that is of another stack."""
    ordered = order(table).set_index("id")
    flags = ordered["order_flag"]
    inside = ordered[flags != "mixed-orientation"]
    assert inside["z"].is_monotonic_increasing and inside["position"].tolist() == list(range(len(inside)))
    return flags[flags != ""].to_dict()


def test_a_scout_flags_itself_alone():
    scout = slices(1).assign(id="scout")
    scout[ORIENTATION] = [0, 1, 0, 0, 0, -1]
    table = pd.concat([slices(9, tilt=11), scout], ignore_index=True)
    assert flagged(table) == {"scout": "mixed-orientation"}
    last = order(table).iloc[-1]
    assert last["id"] == "scout" and np.isnan(last["z"])


@pytest.mark.parametrize("count", [1, 4, 8])
def test_slices_seen_from_the_other_side_keep_their_places(count):
    table = slices(8, tilt=-15)
    table.loc[:count - 1, ORIENTATION[3:]] *= -1
    ordered = order(table)
    assert np.allclose(np.diff(ordered["z"]), 5.0)
    few = {f"ID_{number:03}" for number in range(count)} if count <= 4 else set()
    assert set(ordered.loc[ordered["order_flag"] == "reversed-normal", "id"]) == few
    assert (ordered["order_flag"] != "").sum() == len(few)


@pytest.mark.parametrize("tilt", [0, 20])
@pytest.mark.parametrize("change, flag", [
    ("turned", "turned"), ("shifted", "shifted"), ("other-spacing", "other-spacing"), ("mirrored", "reversed-normal"),
])  # fmt: skip
def test_a_slice_that_does_not_fit_its_series_has_a_flag_of_its_own(tilt, change, flag):
    table = slices(9, tilt).assign(rows=512, columns=256, spacing_row=0.5, spacing_column=0.75)
    row, column = (table.loc[4, names].to_numpy(float) for names in (ORIENTATION[:3], ORIENTATION[3:]))
    wide, high = 255 * 0.75, 511 * 0.5
    if change == "turned":
        table.loc[4, ORIENTATION] = [*-row, *-column]
        table.loc[4, POSITION] += wide * row + high * column  # now the first pixel is the one that was the last
    elif change == "mirrored":
        table.loc[4, ORIENTATION[:3]] = -row
        table.loc[4, POSITION] += wide * row
    elif change == "shifted":
        table.loc[4, POSITION] += 6.0 * row
    else:
        table.loc[4, ["spacing_row", "spacing_column"]] *= 1.1
        table.loc[4, POSITION] -= 0.05 * (wide * row + high * column)
    assert flagged(table) == {"ID_004": flag}


def test_a_gantry_that_is_tilted_shifts_nothing():
    table = slices(12, 20).assign(position_x=0.0, position_y=0.0, position_z=5.0 * np.arange(12))
    assert flagged(table) == {}


@pytest.mark.parametrize("lost, beside", [
    ([7], [6, 8]), ([7, 8], [6, 9]), ([7, 9], [6, 8, 10]), ([1], [0, 2]), ([18], [17, 19]),
])  # fmt: skip
def test_slices_beside_a_gap_are_flagged(lost, beside):
    assert flagged(slices(20).drop(index=lost)) == {f"ID_{number:03}": "missing-slice" for number in beside}


def test_a_step_that_changes_is_no_gap():
    table = slices(20)
    table.loc[10:, "position_z"] -= 2.5 * np.arange(1, 11)
    assert flagged(table) == {}


# -- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_files_read_as_pydicom_reads_them():
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    paths = sorted(Path(os.environ["RADSTACK_REAL_DATA"], "ich_sample").glob("stage_2_*/*.dcm"))
    assert len(paths) == 168
    for path in paths:
        stored, header = read_stored(path)
        expected = with_pydicom(path)
        assert stored.dtype == expected.dtype and np.array_equal(stored, expected)
        assert header == reader.ask_pydicom(path, path.stat().st_size) == reader.walk(path.read_bytes(), header.size)


def test_the_tags_and_names_that_are_written_down_are_those_of_the_standard():
    """Pydicom takes a third of a second to import; what is known of its dictionary before is compared with it here."""
    from dataclasses import fields

    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

    from radstack.images.dicom import stream

    said = [one.metadata for one in fields(reader.Header) if one.metadata]
    assert len(said) == len(reader.FIELDS) == 25
    for one in said:
        assert (one["tag"], one["vr"]) == (tag_for_keyword(one["keyword"]), dictionary_VR(one["tag"]))
    assert {vr.value.encode() for vr in EXPLICIT_VR_LENGTH_16} == walker.SHORT_VRS
    assert {vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32} == walker.LONG_VRS
    assert (uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian) == (reader.DEFLATED, reader.BIG_ENDIAN)
    assert set(stream.JPEG) == {*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes}
    assert set(stream.JPEG_2000) == set(uid.JPEG2000TransferSyntaxes)
    assert (uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit) == (stream.RLE, stream.BASELINE, stream.EXTENDED)
