"""Radiographs as PNG, JPEG, TIFF and DICOM: the same picture whatever the file, and the reason where there is none."""

import os
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import make_dicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from competitions.bone_age.index import build_index, index_new
from competitions.radius_ulna import index as wrists
from competitions.radius_ulna.join import list_pictures
from radstack.images.dicom import Unreadable
from radstack.images.dicom.display import inside
from radstack.images.formats import Header, is_picture, usual_name
from radstack.images.radiograph import even, owner, prepare, read, read_header, read_picture

PLAIN = {"Modality": "DX", "RescaleIntercept": None, "RescaleSlope": None, "WindowCenter": None, "WindowWidth": None}


def hand(height: int = 60, width: int = 40, top: int = 255) -> np.ndarray:
    """A bright blob on dark ground, its values from 0 to ``top``, no two rows alike."""
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / (height * width / 8)) * (1 + y / height)
    blob = (blob - blob.min()) / (blob.max() - blob.min())
    return np.rint(blob * top).astype(np.uint8 if top < 256 else np.uint16)


def xray(path: Path, stored: np.ndarray, **elements) -> Path:
    return make_dicom(path, stored, **{**PLAIN, "BitsStored": 12, "HighBit": 11, **elements})


def tiff(path: Path, pixels: np.ndarray, photometric: int = 1, order: str = "<", pages: int = 1, **tags: int) -> Path:
    """An uncompressed TIFF of one strip a page, written by hand after TIFF 6.0; ``tags`` by t<number>."""
    bits = 8 * pixels.dtype.itemsize
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8))
    for page in range(pages):
        entries = {256: pixels.shape[1], 257: pixels.shape[0], 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1,
                   278: pixels.shape[0], 279: len(data)} | {int(name[1:]): value for name, value in tags.items()}
        at = len(out)
        entries[273] = at + 6 + 12 * len(entries)
        out += struct.pack(order + "H", len(entries))
        for tag, value in sorted(entries.items()):
            out += struct.pack(order + "HHII", tag, 4, 1, value)
        out += struct.pack(order + "I", entries[273] + len(data) if page + 1 < pages else 0) + data
    path.write_bytes(out)
    return path


# -- files --------------------------------------------------------------------------------------------------------------


def test_one_picture_in_four_kinds_of_files(tmp_path):
    gray = hand()
    files = {name: tmp_path / f"a{name}" for name in (".png", ".PNG", ".jpg", ".JPEG", ".tif", ".TIFF")}
    for path in files.values():
        assert cv2.imwrite(str(path), gray)
    files[".dcm"] = xray(tmp_path / "a.dcm", gray.astype(np.uint16), WindowCenter="128", WindowWidth="256")
    for path in files.values():
        assert read_header(path) == Header(60, 40, 12 if path.suffix == ".dcm" else 8, 1)
        np.testing.assert_allclose(read(path), gray, atol=2 if path.suffix.lower() in (".jpg", ".jpeg") else 0)
        assert read_picture(path)[1] == 1 and prepare(path, 32)[0].shape == (32, 32)
    color = np.dstack([gray, gray // 2, gray // 3])
    for name in (".png", ".jpg", ".tif"):
        cv2.imwrite(str(files[name]), color)
        assert read_picture(files[name])[1] == 3
        np.testing.assert_allclose(read(files[name]), gray * (0.114 + 0.587 / 2 + 0.299 / 3), atol=3)


def test_the_first_bytes_tell_what_a_file_is_and_not_its_name(tmp_path):
    gray = hand()
    cv2.imwrite(str(tmp_path / "a.jpg"), gray)
    shutil.copyfile(tmp_path / "a.jpg", tmp_path / "b.png")
    shutil.copyfile(xray(tmp_path / "c.dcm", hand(top=4000)), tmp_path / "d.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), read(tmp_path / "b.png"))
    np.testing.assert_array_equal(read(tmp_path / "c.dcm"), read(tmp_path / "d.jpg"))
    assert usual_name(tmp_path / "b.png") == "b.jpg" and usual_name(tmp_path / "d.jpg") == "d.dcm"
    for name, reason in (("x.png", "not-png"), ("x.jpg", "not-jpeg"), ("x.tiff", "not-tiff"), ("x.dcm", "not-dicom"),
                         ("x", "not-a-picture")):
        (tmp_path / name).write_bytes(b"<html>" * 99)
        with pytest.raises(Unreadable, match=f"^{reason}: "):
            read_header(tmp_path / name)


def test_pictures_are_known_by_their_ending_and_dicom_files_by_their_mark(tmp_path):
    for name in ("IM0001", "1.2.840.7", "DICOMDIR", "notes.txt"):
        xray(tmp_path / "x.dcm", hand(top=4000)).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "._a.png").write_bytes(b"of a Mac")
    (tmp_path / "b.tif").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")  # a reader would wait for ever
    assert sorted(path.name for path in tmp_path.iterdir() if is_picture(path)) == ["1.2.840.7", "IM0001", "b.tif"]


@pytest.mark.parametrize("dtype, order", [(np.uint8, "<"), (np.uint8, ">"), (np.uint16, "<")])
def test_a_tiff_is_bright_where_white_is_meant(tmp_path, dtype, order):
    gray = hand(top=255 if dtype == np.uint8 else 60000)
    usual = read(tiff(tmp_path / "a.tif", gray, 1, order))
    turned = read(tiff(tmp_path / "b.tif", gray.max() - gray, 0, order))
    np.testing.assert_array_equal(usual, turned)
    if dtype == np.uint8:
        np.testing.assert_array_equal(usual, gray)
    assert usual.ravel()[np.argmax(gray)] == 255 and read_header(tmp_path / "a.tif").bits == 8 * np.dtype(dtype).itemsize


def test_tiffs_that_are_turned_cut_or_hold_several_pictures(tmp_path):
    gray = hand()
    turned = tiff(tmp_path / "a.tif", np.ascontiguousarray(gray[::-1, ::-1]), t274=3)
    np.testing.assert_array_equal(read(turned), gray)
    np.testing.assert_array_equal(read(tiff(tmp_path / "c.tif", gray, pages=2, t254=1)), gray)
    whole = turned.read_bytes()
    broken = tmp_path / "d.tif"
    for content, reason in ((whole[:-40], "truncated"), (whole[:60], "undecodable"), (b"", "empty"),
                            (b"II*\0", "undecodable"),
                            (tiff(broken, gray, pages=2).read_bytes(), "several-pictures"),
                            (tiff(broken, gray, t274=6).read_bytes(), "undecodable"),
                            (tiff(broken, np.full((9, 9), np.nan, np.float32), t339=3).read_bytes(), "undecodable")):
        broken.write_bytes(content)
        with pytest.raises(Unreadable, match=f"^{reason}: "):
            read(broken)


def test_cut_jpegs_are_told(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8))
    whole = (tmp_path / "a.jpg").read_bytes()
    for content, reason in ((whole[:-2], "truncated"), (whole[:900], "truncated"),
                            (whole[:30] + b"\xff\xd9", "undecodable")):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(Unreadable, match=f"^{reason}: "):
            read(tmp_path / "a.jpg")


# -- DICOM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [{}, {"WindowCenter": "2000", "WindowWidth": "3000"}])
def test_bones_are_bright_whatever_the_polarity(tmp_path, window):
    stored = hand(top=4095)
    usual = read(xray(tmp_path / "a.dcm", stored, **window))
    turned_window = {"WindowCenter": "2096", "WindowWidth": "3000"} if window else {}  # 4095 - c + 1, see PS3.3 C.11.2.1.2
    turned = read(xray(tmp_path / "b.dcm", 4095 - stored, PhotometricInterpretation="MONOCHROME1", **turned_window))
    np.testing.assert_allclose(usual.astype(int), turned, atol=1)
    assert usual[30, 20] > 200 and usual[0, 0] == 0 and usual.std() > 30


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("intercept", [None, "-1000"])
def test_windows_are_those_of_pydicom(tmp_path, function, intercept):
    stored = hand(top=4095)
    center = "1800" if intercept is None else "800"
    path = xray(tmp_path / "a.dcm", stored, WindowCenter=[center, "5"], WindowWidth=["2200", "2"], VOILUTFunction=function,
                RescaleIntercept=intercept, RescaleSlope=None if intercept is None else "1")
    dataset = pydicom.dcmread(path)
    shown = apply_voi_lut(stored - (0.0 if intercept is None else 1000.0), dataset)
    # pydicom spreads a window over the range of the values; ours is 0 to 255.
    low = -1000.0 if intercept else 0.0
    np.testing.assert_allclose(read(path), (shown - low) / 4095 * 255, atol=1)


@pytest.mark.parametrize("first", [0, 300, -200])
def test_a_table_of_values_of_interest_goes_before_a_window(tmp_path, first):
    signed = first < 0
    stored = hand(top=1500).astype(np.int16 if signed else np.uint16) - (400 if signed else 0)
    item = Dataset()
    outputs = (np.linspace(0, 1, 1024) ** 0.5 * 1023).astype(int).tolist()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [1024, first, 10])
    item.add_new("LUTData", "US", outputs)
    path = xray(tmp_path / "a.dcm", stored, VOILUTSequence=[item], WindowCenter="10", WindowWidth="5", BitsStored=16,
                HighBit=15)
    expected = np.array(outputs)[np.clip(stored.astype(int) - first, 0, 1023)] / 1023 * 255
    np.testing.assert_allclose(read(path), expected, atol=1)
    packed = Dataset()
    packed.add_new("LUTDescriptor", "SS" if signed else "US", [1024, first, 10])
    packed.add_new("LUTData", "OW", np.array(outputs, "<u2").tobytes())
    np.testing.assert_array_equal(read(path), read(xray(tmp_path / "b.dcm", stored, VOILUTSequence=[packed], BitsStored=16,
                                                        HighBit=15)))


def test_a_modality_table_stands_before_the_window(tmp_path):
    stored, item = hand(top=255).astype(np.uint16), Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 16])
    item.add_new("LUTData", "US", [4 * (255 - value) for value in range(256)])
    item.ModalityLUTType = "US"
    path = xray(tmp_path / "a.dcm", stored, ModalityLUTSequence=[item], WindowCenter="512", WindowWidth="1024")
    np.testing.assert_allclose(read(path), 255.0 - stored, atol=1)


@pytest.mark.parametrize("elements", [
    {}, {"WindowCenter": "90000", "WindowWidth": "10"}, {"WindowCenter": "100", "WindowWidth": "0"},
    {"VOILUTSequence": [Dataset()]}, {"WindowCenter": "100", "WindowWidth": "-3"},
])  # fmt: skip
def test_without_a_window_of_use_the_range_is_stretched(tmp_path, elements):
    stored = hand(top=3000)
    stored[0, 0] = 4095  # a lead marker does not set the scale
    shown = read(xray(tmp_path / "a.dcm", stored, **elements))
    low, high = np.percentile(stored, (0.5, 99.5))
    np.testing.assert_allclose(shown, np.clip((stored - low) / (high - low), 0, 1) * 255, atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [0, 4095, 1234])
def test_a_burned_border_is_black_and_does_not_set_the_scale(tmp_path, photometric, value):
    within = 700 + hand(40, 30, 900).astype(np.uint16)
    stored = np.full((64, 50), value, np.uint16)
    stored[10:50, 8:38] = within
    shown = read(xray(tmp_path / "a.dcm", stored, PhotometricInterpretation=photometric))
    bare = read(xray(tmp_path / "b.dcm", within, PhotometricInterpretation=photometric))
    np.testing.assert_array_equal(shown[10:50, 8:38], bare)
    shown[10:50, 8:38] = 0
    assert not shown.any() and bare.min() == 0 and bare.max() == 255


def test_even_ground_around_a_hand_is_no_border():
    picture = hand(60, 40)
    picture[picture < 30] = 0
    assert inside(picture) == (slice(0, 60), slice(0, 40))
    assert inside(np.full((5, 5), 3)) == (slice(0, 5), slice(0, 5))
    picture[:3], picture[:, -2:] = 77, 77
    assert inside(np.where(picture == 0, 5, picture)) == (slice(3, 60), slice(0, 38))


def test_padding_is_black_and_does_not_set_the_scale(tmp_path):
    stored = 700 + hand(60, 40, 900).astype(np.uint16)
    stored[:20, ::2] = 4000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        shown = read(xray(tmp_path / "a.dcm", stored, PixelPaddingValue=3990, PixelPaddingRangeLimit=4095,
                          PhotometricInterpretation=photometric))
        assert not shown[:20, ::2].any() and shown.max() == 255 and (shown[20:] > 100).any()


def test_shutters_close_what_lies_outside(tmp_path):
    stored = 700 + hand(60, 40, 900).astype(np.uint16)
    y, x = np.mgrid[1:61, 1:41]
    shapes = {
        "RECTANGULAR": ((x > 5) & (x < 30) & (y > 10) & (y < 50), {
            "ShutterLeftVerticalEdge": 5, "ShutterRightVerticalEdge": 30, "ShutterUpperHorizontalEdge": 10,
            "ShutterLowerHorizontalEdge": 50}),
        "CIRCULAR": ((y - 30) ** 2 + (x - 20) ** 2 <= 15 ** 2, {"CenterOfCircularShutter": [30, 20],
                                                               "RadiusOfCircularShutter": 15}),
        "POLYGONAL": ((x >= 5) & (x <= 30) & (y >= 10) & (y <= 50), {
            "VerticesOfThePolygonalShutter": [10, 5, 10, 30, 50, 30, 50, 5]}),
    }  # fmt: skip
    for shape, (open_, elements) in shapes.items():
        path = xray(tmp_path / "a.dcm", stored, PhotometricInterpretation="MONOCHROME1", ShutterShape=shape, **elements)
        shown = read(path)
        assert not shown[~open_].any() and (shown[open_] > 0).mean() > 0.9, shape
    nonsense = xray(tmp_path / "a.dcm", stored, ShutterShape="CIRCULAR", CenterOfCircularShutter=[900, 900],
                    RadiusOfCircularShutter=3)
    np.testing.assert_array_equal(read(nonsense), read(xray(tmp_path / "b.dcm", stored)))


def test_what_is_no_radiograph_is_refused_with_the_reason(tmp_path):
    gray = hand(top=4000)
    for name, elements, reason in (("a", {"Modality": "CT"}, "not-a-radiograph"),
                                   ("b", {"Modality": "MR"}, "not-a-radiograph"), ("c", {"SamplesPerPixel": 3}, "not-gray")):
        with pytest.raises(Unreadable, match=f"^{reason}: "):
            read(xray(tmp_path / f"{name}.dcm", gray, **elements))
    assert read(xray(tmp_path / "d.dcm", gray, Modality=None)).max() == 255


def test_a_patient_without_an_id_is_the_study_then_the_series(tmp_path):
    gray = hand(top=4000)
    for elements, patient in (({}, "ID_p"), ({"PatientID": ""}, "ID_s"),
                              ({"PatientID": " ", "StudyInstanceUID": None}, "ID_r")):
        path = xray(tmp_path / "a.dcm", gray, PatientSex="F", PixelSpacing=[0.1], **elements)
        assert owner(path) == {"patient": patient, "sex": "F", "faulty": "spacing"}
    cv2.imwrite(str(tmp_path / "a.png"), hand())
    assert owner(tmp_path / "a.png") == {"patient": "", "sex": "", "faulty": ""}


# -- competitions -------------------------------------------------------------------------------------------------------


def every_kind(folder: Path) -> list[str]:
    """The files of five hands, 1 to 5; those of 4 and 5 are one child's."""
    folder.mkdir(parents=True)
    for name in ("1.png", "2.jpg", "3.tif"):
        cv2.imwrite(str(folder / name), hand(60 + int(name[0])))
    for name in ("4.dcm", "5"):
        xray(folder / name, hand(60 + int(name[0]), top=4000), PatientID="child", PatientSex="F")
    return ["1.png", "2.jpg", "3.tif", "4.dcm", "5"]


def test_bone_age_takes_radiographs_of_every_kind(tmp_path):
    folder = tmp_path / "in"
    files = every_kind(folder / "pictures")
    (folder / "train.csv").write_text("id,boneage,male\n" + "".join(f"{k},{12 * k},True\n" for k in range(1, 6)))
    index, quarantine = build_index(folder, 1, tmp_path / "parts")
    assert quarantine.empty and index["path"].tolist() == [f"pictures/{name}" for name in files]
    assert index["id"].tolist() == list("12345") and index["group"].tolist() == list("12344")
    assert index["height"].tolist() == [61, 62, 63, 64, 65] and index["bits"].tolist() == [8, 8, 8, 12, 12]
    given = pd.DataFrame({"id": ["1", "4"], "male": ["True", "True"]})
    rows, quarantine = index_new(folder / "pictures", 1, tmp_path / "parts", given)
    assert rows.set_index("id")["male"].to_dict() == {"1": 1, "4": 1, "5": 0}  # the table goes before the header
    assert quarantine.set_index("id")["reason"].to_dict() == {"2": "no-sex", "3": "no-sex"}


def test_radius_ulna_takes_radiographs_of_every_kind(tmp_path):
    folder = tmp_path / "in"
    files = every_kind(folder / "pictures")
    rows = [f"pictures/{name},,R7,U5" for name in files]
    (folder / "labels.csv").write_text("\n".join(["file,child,radius_stage,ulna_stage", *rows]) + "\n")
    index, quarantine = wrists.build_index(folder, 1, tmp_path / "parts")
    assert quarantine.empty and index["path"].tolist() == [f"pictures/{name}" for name in files]
    assert index["id"].tolist() == list("12345") and index["group"].tolist() == ["1", "2", "3", "child", "child"]
    found, quarantine = wrists.index_new(folder / "pictures", 1, tmp_path / "parts", pd.DataFrame())
    assert quarantine.empty and found["path"].tolist() == files
    assert list_pictures(folder / "pictures")["file"].tolist() == files


# -- real hands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    return Path(os.environ["RADSTACK_REAL_DATA"], "bone_age_real")


@pytest.mark.real
def test_real_jpeg_hands_are_indexed(real, tmp_path):
    index, quarantine = build_index(real, 1, tmp_path / "parts")
    assert index["split"].value_counts().to_dict() == {"train": 751, "test": 149} and quarantine.empty
    assert (index["channels"] == 1).all() and (index["bits"] == 8).all() and (index["mask"] != "").sum() == 100
    assert index["p1x"].notna().sum() == 100


@pytest.mark.real
def test_a_real_hand_is_the_same_as_tiff_and_as_dicom_of_either_polarity(real, tmp_path):
    path = sorted((real / "boneage-training-dataset").glob("*.jpg"))[0]
    gray = read(path)
    assert gray.shape == read_header(path)[:2] and gray.std() > 20
    cv2.imwrite(str(tmp_path / "a.tif"), gray)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), gray)
    for photometric, stored in (("MONOCHROME2", gray), ("MONOCHROME1", 255 - gray)):
        shown = read(xray(tmp_path / "a.dcm", stored.astype(np.uint16), PhotometricInterpretation=photometric,
                          WindowCenter="128", WindowWidth="256"))
        rows, columns = inside(gray)
        np.testing.assert_array_equal(shown[rows, columns], gray[rows, columns])

def test_even_films_are_alike_whatever_their_exposure():
    rng = np.random.default_rng(0)
    film = np.clip(np.cumsum(rng.normal(0, 3, (96, 80)), axis=1) + 120, 1, 254).astype(np.uint8)
    faint, dark = (40 + film // 6).astype(np.uint8), np.rint(254 * (film / 254) ** 2).astype(np.uint8)
    dark[:10] = 0  # collimation
    for other in (faint, dark):
        made = even(other)[10:]
        assert made.dtype == np.uint8 and np.corrcoef(made.ravel(), even(film)[10:].ravel())[0, 1] > 0.9
        assert np.ptp(np.quantile(made, (0.02, 0.98))) > 120
    flat = np.full((20, 20), 77, np.uint8)
    assert np.array_equal(even(flat), flat)
