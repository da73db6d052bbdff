"""What stands on an empty background is found, without the table below it; a competition of one's own is cut to it."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from radstack.commands.own.looking import Wish, on_empty_background
from radstack.images.own.body import body, empty_share
from radstack.images.own.pictures import prepare


def head(side=512, center=(250, 200), noise=3):
    """A bright ring with gray inside, a thin head rest below it, a wire beside it."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, noise + 1, (side, side)).astype(np.uint8)
    cv2.ellipse(picture, center, (110, 140), 0, 0, 360, 255, -1)
    cv2.ellipse(picture, center, (95, 125), 0, 0, 360, 100, -1)
    cv2.ellipse(picture, (side // 2, 330), (220, 120), 0, 10, 170, 255, 4)
    cv2.line(picture, (20, 20), (60, 60), 255, 2)
    return picture


@pytest.mark.parametrize("scale", [1, 2])
def test_the_box_holds_the_head_and_not_its_rest(scale):
    picture = cv2.resize(head(), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    top, left, height, width = (value / scale for value in body(picture))
    assert 40 < top <= 60 and 120 < left <= 140  # the head begins at 60 and 140
    assert 340 <= top + height < 365 and 360 <= left + width < 380


def test_a_strip_keeps_its_sides():
    strip = np.zeros((100, 400), np.uint8)
    strip[30:70, 100:300] = 200
    top, left, height, width = body(strip)
    assert top <= 30 and left <= 100 and top + height >= 70 and left + width >= 300 and width < 240 and height < 70


@pytest.mark.parametrize("picture", [np.zeros((50, 70), np.uint8), np.full((50, 70), 255, np.uint8)])
def test_where_nothing_is_seen_the_picture_stays_whole(picture):
    assert body(picture) == (0, 0, 50, 70)


def test_a_body_in_a_corner_ends_at_the_edge():
    picture = np.zeros((300, 300), np.uint8)
    picture[:120, :90] = 150
    assert body(picture)[:2] == (0, 0) and empty_share(picture) > 0.8


def pictures(folder: Path, make, count=30):
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), make(number))
    return pd.DataFrame({"path": [f"{number}.png" for number in range(count)], "slices": 0})


@pytest.mark.parametrize("make, crop", [
    (lambda number: head(center=(220 + number, 200)), True),
    (lambda number: np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8), False),
    (lambda number: head() if number % 2 else np.tile(np.arange(256, dtype=np.uint8), (64, 1)), False),  # half of them
])
def test_only_what_mostly_stands_on_an_empty_background_is_cut(tmp_path, make, crop):
    files = pictures(tmp_path, make)
    wish = Wish("mine", tmp_path, tmp_path / "labels.csv", tmp_path, tmp_path)
    assert on_empty_background(wish, files) == crop


def test_a_cut_picture_fills_its_square(tmp_path):
    rows = pictures(tmp_path, lambda number: head(), 1).assign(plane=-1)
    whole, cut = (prepare(tmp_path, rows, 64, crop=one)[0][0] for one in (False, True))
    assert (cut > 50).mean() > 1.8 * (whole > 50).mean()
