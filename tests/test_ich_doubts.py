"""Slices whose Hounsfield units cannot be right, or that do not fit their series, are flagged by themselves and answered."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import make_dicom

from competitions.ich import hu
from competitions.ich.experiments import EXPERIMENTS, LEARNED
from competitions.ich.index import index_new
from competitions.ich.localizer import HEAD, read
from radstack.core.recipe import change, parse_edits
from radstack.stages.decode import decode
from radstack.training.loader import training_rows


def slice_of(intercept: int = -1024, dtype: type = np.uint16, side: int = 64) -> np.ndarray:
    """Stored values of a head of 40 HU with a skull, in air."""
    y, x = np.mgrid[:side, :side] - side / 2
    radius = np.hypot(y / 28, x / 22)
    values = np.where(radius < 1, np.where(radius > 0.85, 1000, 40), -1000)
    return (values - intercept).astype(dtype)


def localized(folder: Path) -> pd.DataFrame:
    """The localization table of a folder of slices, by id."""
    index, quarantine = index_new(folder, 1, folder.parent / "parts", pd.DataFrame())
    assert quarantine.empty
    facts = decode(folder, HEAD.read, HEAD.look, [[path, ""] for path in index["path"]])
    return HEAD.write_boxes(index.join(facts)).set_index("id")


SIGNED = slice_of(0, np.int16)
PADDED = np.where(np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 31, -2000, slice_of(-1024, np.int16)).astype(np.int16)
FAULTS = {
    "sound": (slice_of(), {}, ""),
    "zero slope": (slice_of(), {"RescaleSlope": "0"}, "bad-slope"),
    "negative slope": (slice_of(), {"RescaleSlope": "-1"}, "bad-slope"),
    "signed, no intercept": (slice_of(-1024, np.int16), {"RescaleIntercept": None}, "no-intercept,odd-air"),
    "signed, padded, no intercept": (PADDED, {"RescaleIntercept": None}, "no-intercept,odd-air"),
    "signed HU, no intercept": (SIGNED, {"RescaleIntercept": None}, "no-intercept"),
    "signed HU": (SIGNED, {"RescaleIntercept": "0"}, ""),
    "signed, padded": (PADDED, {}, ""),
    "wrapped": ((slice_of(0, np.int16).astype(int) % 4096).astype(np.uint16), {"RescaleIntercept": "0"}, ""),
    "half slope, intercept 0": (2 * (slice_of() - 24), {"RescaleIntercept": "0", "RescaleSlope": "0.5"}, "odd-air"),
    "intercept lost, not wrapped": (slice_of(), {"RescaleIntercept": "0"}, "odd-air"),
    "magnetic resonance": (slice_of(), {"Modality": "MR"}, "not-ct"),
    "no modality": (slice_of(), {"Modality": None}, ""),
}  # fmt: skip


def test_each_slice_of_doubtful_units_has_its_own_flag(tmp_path):
    for number, (name, (pixels, elements, _)) in enumerate(FAULTS.items()):
        make_dicom(tmp_path / "s" / f"{name}.dcm", pixels, ImagePositionPatient=[0, 0, 5.0 * number], **elements)
    flags = localized(tmp_path / "s")["hu_flag"]
    assert flags.to_dict() == {name: flag for name, (*_, flag) in FAULTS.items()}


def test_what_plausible_values_become(tmp_path):
    pixels, elements, _ = FAULTS["half slope, intercept 0"]
    pixels = pixels.copy()
    pixels[30:34, 30:34] = 4000  # metal
    assert read(make_dicom(tmp_path / "a.dcm", pixels, **elements))[[31, 20], [31, 31]].tolist() == [2000, 1040]
    wrapped = read(make_dicom(tmp_path / "a.dcm", FAULTS["wrapped"][0], RescaleIntercept="0"))
    assert wrapped[[31, 0], [31, 0]].tolist() == [40, -1000]


def test_air_is_that_of_the_circle_of_reconstruction():
    picture = np.full((64, 64), 24, np.int16)
    assert hu.air_level(picture) == 24
    corners = np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 32
    assert hu.air_level(np.where(corners, hu.LOWEST, picture)) == 24
    assert hu.air_level(slice_of(0, np.int16)) == -1000
    assert hu.air_level(np.full((1, 1), -1000, np.int16)) == -1000


@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (9, 40), (64, 64), (100, 73), (512, 512)])
def test_the_level_of_air_is_numpys_percentile(shape):
    y, x = (np.arange(0, side, 4) - (side - 1) / 2 for side in shape)
    circle = np.add.outer(y**2, x**2) <= (0.45 * min(shape)) ** 2
    for seed in range(50):
        picture = np.random.default_rng(seed).integers(-1024, -1024 + 2 ** (seed % 12), shape).astype(np.int16)
        values = picture[::4, ::4][circle] if circle.any() else picture
        assert hu.air_level(picture) == int(np.percentile(values, 2))


def test_a_recipe_decides_whether_doubtful_slices_are_learned_from(tmp_path):
    for name in ("sound", "zero slope", "magnetic resonance"):
        pixels, elements, _ = FAULTS[name]
        make_dicom(tmp_path / "s" / f"{name}.dcm", pixels, **elements)
    rows, folds = localized(tmp_path / "s").reset_index().assign(brain_range=80), np.zeros(3, int)
    assert rows["id"][training_rows(rows, folds, 1, LEARNED)].tolist() == ["sound"]
    assert len(training_rows(rows, folds, 1, "brain_range > 60")) == len(training_rows(rows, folds, 1, "")) == 3
    assert {one.sampling.keep for one in EXPERIMENTS} == {LEARNED}


ODD = {
    2: ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0], "ImagePositionPatient": [31.5, 31.5, 10]}, "turned"),
    4: ({"ImagePositionPatient": [8, 0, 20]}, "shifted"),
    6: ({"ImagePositionPatient": [-1.575, -1.575, 30], "PixelSpacing": [0.55, 0.55]}, "other-spacing"),
    8: ({"ImageOrientationPatient": [1, 0, 0, 0, -1, 0], "ImagePositionPatient": [0, 31.5, 40]}, "reversed-normal"),
    10: (None, ""),
}


def test_slices_that_do_not_fit_their_series_are_flagged_in_the_tables_of_later_stages(tmp_path):
    for number in range(16):
        elements = {"ImagePositionPatient": [0, 0, 5.0 * number]} | ((ODD.get(number) or ({},))[0] or {})
        if number != 10:
            make_dicom(tmp_path / "s" / f"{number:02}.dcm", slice_of(), **elements)
    make_dicom(tmp_path / "s" / "13b.dcm", slice_of(), ImagePositionPatient=[0, 0, 65.0])
    boxes = localized(tmp_path / "s")
    flags = boxes["order_flag"]
    wanted = {f"{number:02}": flag for number, (_, flag) in ODD.items() if flag}
    wanted |= {"09": "missing-slice", "11": "missing-slice", "13": "repeated-position", "13b": "repeated-position"}
    assert flags[flags != ""].to_dict() == wanted and set(boxes["hu_flag"]) == {""}
    assert boxes.sort_values("position").index.tolist() == sorted(boxes.index)


def test_the_command_line_can_say_which_flags_keep_a_slice_out(tmp_path):
    make_dicom(tmp_path / "s" / "a.dcm", slice_of())
    make_dicom(tmp_path / "s" / "b.dcm", slice_of(), ImagePositionPatient=[0, 0, 5.0], ImageOrientationPatient=None)
    rows = localized(tmp_path / "s").reset_index()
    recipe = change(EXPERIMENTS[0], name="mine", **parse_edits(['sampling.keep=hu_flag == "" and order_flag == ""']))
    assert rows["id"][training_rows(rows, np.zeros(2, int), 1, recipe.sampling.keep)].tolist() == ["a"]
