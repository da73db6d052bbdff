"""Hounsfield units, and where the head is."""

import cv2
import numpy as np
import pandas as pd
import pytest

from competitions.ich import head
from competitions.ich.head import measure, remove_head_rest, series_boxes
from competitions.ich.hu import HIGHEST, LOWEST, to_hu, wrong_intercept
from radstack.images.dicom import Header


def header(**changes) -> Header:
    fields = {"bits_stored": 12, "intercept": -1024.0, "photometric": "MONOCHROME2"}
    return Header(**(fields | changes))


def ct(values) -> np.ndarray:
    return np.atleast_2d(np.array(values, np.uint16))


# -- Hounsfield units -----------------------------------------------------------------------------------------------


def test_plain_rescale():
    hu = to_hu(ct([0, 24, 1024, 1064, 4095]), header())
    assert hu.dtype == np.int16 and hu.tolist() == [[-1024, -1000, 0, 40, 3071]]
    assert to_hu(ct([0, 10, 11]), header(slope=0.5, intercept=-100.0)).tolist() == [[-100, -95, -94]]


def test_signed_values_and_padding():
    stored = np.array([[-2000, -3024, -24, 1064, 32767]], np.int16)
    hu = to_hu(stored, header(bits_stored=16, pixel_representation=1))
    assert hu.tolist() == [[LOWEST, LOWEST, LOWEST, 40, HIGHEST]]
    assert to_hu(ct([5, 6, 7]), header(padding=5)).tolist() == [[LOWEST, -1018, -1017]]
    assert to_hu(ct([1100, 1150, 1201]), header(padding=1200, padding_limit=1100)).tolist() == [[LOWEST, LOWEST, 177]]


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("fields", [
    {}, {"intercept": 0.0}, {"intercept": -8192.0}, {"intercept": 1000.0}, {"intercept": -32768.0}, {"intercept": 40000.0},
    {"intercept": -1024.5}, {"slope": 2.0}, {"padding": -2000}, {"padding": 0}, {"padding": 63536},
    {"padding": -3000, "padding_limit": 1}, {"padding": 5, "padding_limit": -2000},
])  # fmt: skip
def test_every_stored_value_becomes_what_the_formula_says(kind, fields):
    given = header(bits_stored=16, **fields)
    stored = np.arange(65536, dtype=np.uint16).view(kind).reshape(256, 256)
    expected = np.clip(np.rint(stored * given.slope + given.intercept), LOWEST, HIGHEST)
    if given.padding is not None:
        limit = given.padding if given.padding_limit is None else given.padding_limit
        expected[(stored >= min(given.padding, limit)) & (stored <= max(given.padding, limit))] = LOWEST
    assert np.array_equal(to_hu(stored, given), expected)


def test_wrong_intercept_gives_back_the_true_values():
    true = np.arange(-1000, 3096)
    shipped = np.where(true < 0, true + 4096, true).astype(np.uint16)[None]
    hu = to_hu(shipped, header(intercept=0.0))
    assert np.array_equal(hu[0], np.minimum(true, HIGHEST))


def test_the_repair_leaves_what_is_not_wrapped():
    assert to_hu(ct([1000, 4000]), header(intercept=0.0, slope=0.5)).tolist() == [[500, 2000]]  # not 0 HU, metal not dark
    slice_ = np.full((100, 100), 40, np.uint16)
    slice_[:9, :9] = 3500  # metal: 0.8 % of the slice
    assert np.array_equal(to_hu(slice_, header(intercept=-50.0)), np.minimum(slice_ - 50.0, HIGHEST))
    slice_[20:30, :30] = 3096  # air that was wrapped
    assert to_hu(slice_, header(intercept=-50.0))[20, 0] == -1000


@pytest.mark.parametrize("bits, representation, intercept, wrong", [
    (12, 0, 0.0, True), (12, 0, -99.0, True), (12, 0, -100.0, False), (12, 0, -1024.0, False), (16, 0, 0.0, False),
    (12, 1, 0.0, False),
])  # fmt: skip
def test_condition_of_the_repair(bits, representation, intercept, wrong):
    assert wrong_intercept(bits, representation, intercept) is wrong
    assert not wrong_intercept(bits, representation, intercept, slope=0.5)


def test_monochrome1_is_turned_only_if_that_makes_the_border_air():
    picture = np.full((16, 16), 24, np.uint16)
    picture[4:12, 4:12] = 1064
    for stored in (picture, 4095 - picture):
        assert np.array_equal(to_hu(stored, header(photometric="MONOCHROME1")), to_hu(picture, header()))


# -- head -----------------------------------------------------------------------------------------------------------


def drawn(size: int = 256, center=(120, 128), axes=(80, 62), rest: bool = True) -> np.ndarray:
    """An elliptic head with a skull, and a curved head rest 6 pixels below it that is 4 pixels thick."""
    y, x = np.mgrid[:size, :size]
    radius = np.hypot((y - center[0]) / axes[0], (x - center[1]) / axes[1])
    hu = np.where(radius < 1, 35, -1000)
    hu[(radius > 0.88) & (radius < 0.95)] = 1200
    if rest:
        outer = np.hypot(y - center[0], x - center[1])
        hu[(outer > axes[0] + 6) & (outer < axes[0] + 10) & (y > center[0])] = 250
    return hu.astype(np.int16)


def test_head_rest_goes_and_the_head_stays():
    hu, bare = drawn(), drawn(rest=False)
    assert (hu != bare).sum() > 500
    cleaned = remove_head_rest(hu)
    assert (cleaned[hu != bare] == LOWEST).all()
    inside = bare > -300
    assert (cleaned[inside] == bare[inside]).mean() > 0.995


def test_box_is_the_head():
    found = measure(drawn())
    assert [found[edge] for edge in head.EDGES] == pytest.approx([40, 66, 201, 191], abs=3)
    assert found["brain_range"] == 80 - 35 and found["head_flag"] == ""
    assert found["brain_ratio"] == pytest.approx((drawn(rest=False) == 35).mean(), rel=0.01)


def test_gaps_inside_the_head_are_kept():
    hu = drawn()
    hu[70:80, 120:130] = -1000
    assert (remove_head_rest(hu)[72:78, 122:128] == -1000).all()


@pytest.mark.parametrize("hu", [np.full((64, 64), -1024), np.where(np.eye(64), 300, -1000)])
def test_padding_or_a_thin_thing_alone_is_no_head(hu):
    hu = hu.astype(np.int16)
    found = measure(hu)
    assert found["head_flag"] == "no-head" and found["brain_range"] == 0 and found["brain_ratio"] == 0
    assert [found[edge] for edge in head.EDGES] == [0, 0, 64, 64]
    assert np.array_equal(remove_head_rest(hu), hu)


def plain_mask(hu: np.ndarray) -> np.ndarray:
    """:func:`head.head_mask` of the whole picture at once."""
    body, side = (hu > head.BODY).astype(np.uint8), round(hu.shape[1] * head.KERNEL) | 1
    kernel = np.ones((side, side), np.uint8)
    pieces, _ = cv2.findContours(cv2.erode(body, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0), cv2.RETR_EXTERNAL,
                                 cv2.CHAIN_APPROX_NONE)  # fmt: skip
    core = cv2.drawContours(np.zeros_like(body), [max(pieces, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return (cv2.dilate(core, kernel) & body).astype(bool)


@pytest.mark.parametrize("center", [(120, 128), (20, 30), (250, 10), (0, 255), (128, 250), (255, 128)])
def test_a_head_at_the_border_is_measured_as_in_the_whole_picture(center):
    hu = drawn(center=center)
    hu[5:60, 200:240] = 500  # a smaller thing elsewhere, or in it
    mask, found = plain_mask(hu), measure(hu)
    values, (rows, columns) = hu[mask], np.nonzero(mask)
    assert np.array_equal(head.head_mask(hu), mask)
    assert [found[edge] for edge in head.EDGES] == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert found["head_share"] == mask.mean() and found["brain_range"] == np.ptp(np.clip(values, 0, 80))
    assert found["brain_ratio"] == ((values > 0) & (values < 80)).sum() / mask.size
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(hu.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    assert np.array_equal(remove_head_rest(hu), np.where(filled == 1, hu, LOWEST))


def boxes_of(rows: list[tuple[int, int, int, int]], flags: dict[int, str] | None = None, **columns) -> pd.Series:
    table = pd.DataFrame(rows, columns=head.EDGES).assign(series="s", rows=512, columns=512, head_flag="", **columns)
    table["position"] = range(len(table))
    for position, flag in (flags or {}).items():
        table.loc[position, "head_flag"] = flag
    return series_boxes(table.sample(frac=1, random_state=1)).iloc[0]


def test_series_box_is_a_square_around_the_union():
    box = boxes_of([(100, 110, 300, 290)] * 5 + [(90, 120, 320, 280)] * 5)
    assert box["side"] == np.ceil(230 * 1.04) and box["box_flag"] == ""
    assert box["top"] + box["side"] / 2 == pytest.approx(205, abs=1)
    assert box["left"] + box["side"] / 2 == pytest.approx(200, abs=1)


def test_one_stray_slice_does_not_widen_the_crop():
    rows = [(100, 110, 300, 290)] * 9
    plain = boxes_of(rows)
    rows[4] = (0, 0, 512, 512)
    assert boxes_of(rows).equals(plain)
    assert boxes_of(rows, {4: "no-head"}).equals(plain)


def test_crop_stays_in_the_picture_and_has_flags():
    assert boxes_of([(0, 10, 500, 200)] * 3)[["top", "left", "side"]].tolist() == [0, 0, 512]
    box = boxes_of([(5, 5, 9, 9)], {0: "no-head"})
    assert box[["top", "left", "side", "box_flag"]].tolist() == [0, 0, 512, "no-head"]
    table = pd.DataFrame({"series": "s", "position": [0, 1], "rows": [512, 64], "columns": [512, 100], "head_flag": "",
                          "top": 0, "left": 0, "bottom": [512, 64], "right": [512, 100]})  # fmt: skip
    boxes = series_boxes(table)
    assert boxes["box_flag"].tolist() == ["mixed-size"] * 2
    wide = boxes[boxes["rows"] == 64].iloc[0]
    assert wide[["top", "left", "side"]].tolist() == [-18, 0, 100]
