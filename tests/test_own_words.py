"""Cells that people write: which of them are one word, and which are not."""

import pandas as pd
import pytest

from radstack.commands.own.tasks import find, rounded
from radstack.images.own.words import code, ordered, word


@pytest.mark.parametrize("cell, expected", [
    ("1", "1"), ("1.0", "1"), (" 1,0 ", "1"), ("-0", "0"), ("007", "7"), ("0.5", "0.5"), ("0,5", "0.5"), ("1e-5", "1e-05"),
    ("1e3", "1000"), ("123456.7", "123456.7"), ("yes", "yes"), ("", ""), ("1_2", "1_2"), ("inf", "inf"),
    ("9007199254740993", "9007199254740993"), ("1" * 400, "1" * 400)])
def test_a_number_is_one_word_however_it_is_written(cell, expected):
    assert word(cell) == expected


@pytest.mark.parametrize("first, second", [
    ("233604007", "233604011"), ("20240115", "20240116"), ("9007199254740992", "9007199254740993"), ("1_2", "12")])
def test_codes_that_differ_in_their_last_digits_are_two_classes(first, second):
    words = ordered({word(first), word(second)})
    assert len(words) == 2 and {code(first, words), code(second, words)} == {0, 1}
    found = find(pd.DataFrame({"finding": [first, second] * 3}), ["finding"], "", "")
    assert found.labels == {"finding": words} and found.counts["finding"] == {first: 3, second: 3}


def test_a_mean_is_told_to_a_hundredth_of_the_deviation():
    years, months = pd.Series([2011, 2014, 2015, 2018.0]), pd.Series([100, 150, 31.4])
    assert rounded(years) == (2014.5, 2.5) and rounded(months) == (93.8, 48.6)
    assert rounded(pd.Series([5.0, 5.0])) == (5.0, 1e-9)
