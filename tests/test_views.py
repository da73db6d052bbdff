"""Shards and views: the right slice, the right window, the right channel."""

import pickle

import numpy as np
import pandas as pd
import pytest

from radstack.core.errors import UserError
from radstack.images.shards import Shards, crop_square, resize, shard_path, write_shard
from radstack.images.views import Channel, Slices, series_ends

WIDE = (500.0, 1000.0)  # 0..1000 -> 0..255


@pytest.fixture
def cache(tmp_path):
    """Five flat pictures of 100, 200 ... 500 in two shards."""
    pictures = [np.full((8, 8), 100 * (row + 1), np.int16) for row in range(5)]
    for shard, chosen in enumerate((pictures[:3], pictures[3:])):
        write_shard(shard_path(tmp_path, shard), [lambda one=one: one for one in chosen], (8, 8))
    return Shards(tmp_path)


ROWS = pd.DataFrame({"series": ["a", "a", "a", "b", "b"], "shard": [0, 0, 0, 1, 1], "slot": [0, 1, 2, 0, 1]})


def gray(value):
    return round(value / 1000 * 255)


def view(*channels, side=8):
    return Slices(channels, side, (0.0,) * len(channels), (1.0,) * len(channels))


def test_neighbors_stop_at_the_ends_of_the_series(cache):
    reader = view(Channel(WIDE, (-1,)), Channel(WIDE), Channel(WIDE, (1,))).reader(cache, ROWS)
    assert reader(1)[0, 0].tolist() == [gray(100), gray(200), gray(300)]
    assert reader(2)[0, 0].tolist() == [gray(200), gray(300), gray(300)]
    assert reader(3)[0, 0].tolist() == [gray(400), gray(400), gray(500)]


def test_two_apart_and_means_of_three(cache):
    reader = view(Channel(WIDE, (-2,)), Channel(WIDE, (-1, 0, 1)), Channel(WIDE, (2,))).reader(cache, ROWS)
    assert reader(0)[0, 0].tolist() == [gray(100), gray(133), gray(300)]


def test_channels_keep_the_recipes_order_whatever_is_read_together(cache):
    low, high = (100.0, 200.0), (1000.0, 2000.0)
    reader = view(Channel(low), Channel(WIDE, (1,)), Channel(high), Channel(low, (1,))).reader(cache, ROWS)
    assert reader(0)[0, 0].tolist() == [round(0.5 * 255), gray(200), round(0.05 * 255), 255]


def test_resizing_comes_first_and_gives_the_side(cache):
    assert view(Channel(WIDE), side=4).reader(cache, ROWS)(0).shape == (4, 4, 1)
    assert view(Channel(WIDE), side=12).reader(cache, ROWS)(0).shape == (12, 12, 1)


def test_five_windows_of_one_slice_are_refused(cache):
    with pytest.raises(UserError, match="one to four"):
        view(*(Channel((float(number), 10.0)) for number in range(5))).reader(cache, ROWS)(0)


def test_series_ends():
    first, last = series_ends(ROWS)
    assert first.tolist() == [0, 0, 0, 3, 3] and last.tolist() == [2, 2, 2, 4, 4]


def test_shards_travel_to_workers_without_their_maps(cache):
    cache(0, 0)
    other = pickle.loads(pickle.dumps(cache))
    assert other(1, 1)[0, 0] == 500


def test_a_crop_may_reach_outside_and_is_filled_there():
    picture = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert crop_square(picture, 0, 1, 2, 2, -9).tolist() == [[1, 2], [4, 5]]
    assert crop_square(picture, -1, 0, 3, 3, -9).tolist() == [[-9, -9, -9], [0, 1, 2], [3, 4, 5]]
    assert (crop_square(picture, 5, 5, 2, 2, -9) == -9).all()


def test_shrinking_averages_areas():
    checkers = np.tile(np.array([[0, 100], [100, 0]], np.int16), (4, 4))
    assert (resize(checkers, 4) == 50).all()


def test_a_failed_shard_leaves_nothing(tmp_path):
    def broken():
        raise OSError(5, "Input/output error")

    with pytest.raises(UserError, match="cannot write"):
        write_shard(shard_path(tmp_path, 0), [lambda: np.zeros((8, 8), np.int16), broken], (8, 8))
    assert list(tmp_path.iterdir()) == []
