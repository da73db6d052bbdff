"""What is read out of a folder and a table of one's own: groups, the order of test pictures, ids of the long form."""

import numpy as np
import pandas as pd
import pytest

from radstack.commands.own import looking
from radstack.commands.own.clusters import linked
from radstack.commands.own.looking import Wish, grouped
from radstack.images.own.source import FILE


def groups_by(place, ids: list[str], patients: list[str], group: str = "", **columns: list[str]) -> list[str]:
    """The groups of pictures with these ids, PatientIDs and columns."""
    names = [f"f{number}" for number in range(len(ids))]
    files = pd.DataFrame({"path": names, "patient": patients})
    wish = Wish("dots", place, place / "labels.csv", place, place, group=group)
    return grouped(wish, pd.DataFrame({"id": ids, FILE: names, **columns}), files, "id")[0]["group"].tolist()


@pytest.mark.parametrize("ids, clusters, expected", [
    ("BAA", [0, 1, 0], "BBB"), ("AAB", [0, 1, 0], "AAA"), ("ABC", [0, 1, 0], "ABA"),
    ("ABBCCD", [0, 0, 1, 1, 2, 2], "AAAAAA"), ("AABB", [0, 1, 2, 3], "AABB")])
def test_near_duplicates_and_pictures_of_an_id_share_a_group_through_others_too(tmp_path, monkeypatch, ids, clusters,
                                                                                expected):
    monkeypatch.setattr(looking, "clusters", lambda *_: np.array(clusters))
    assert groups_by(tmp_path, list(ids), [""] * len(ids)) == list(expected)


def test_all_pictures_of_an_id_are_of_one_group_whatever_says_whose_they_are(tmp_path):
    assert groups_by(tmp_path, list("ABBC"), ["p", "p", "q", "r"]) == ["p", "p", "p", "r"]
    assert groups_by(tmp_path, list("ABBC"), [""] * 4, "site", site=["p", "p", "", "r"]) == ["p", "p", "p", "r"]


def test_rows_are_linked_by_any_column_and_by_none():
    number = linked(pd.Series(list("abcd"), index=[7, 7, 8, 9]), pd.Series(list("xyxz")))
    assert number[0] == number[2] and len(set(number.tolist())) == 3
    assert len(linked(pd.Series(dtype="str"))) == 0
