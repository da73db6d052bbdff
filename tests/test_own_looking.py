"""What is read out of a folder and a table of one's own: groups, the order of test pictures, ids of the long form."""

import ast
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from dicom_files import make_dicom

from radstack.commands.new_competition import plan_of, write
from radstack.commands.own import looking
from radstack.commands.own.clusters import linked
from radstack.commands.own.form import as_code, asked_form, plain_form
from radstack.commands.own.looking import Wish, asked_ids, grouped
from radstack.commands.own.writing import WIDTH, _wrapped, written
from radstack.commands.pseudonyms import Pseudonyms, _renamed
from radstack.core.errors import UserError
from radstack.images.own.names import natural
from radstack.images.own.pictures import SOFT, gray, prepare, scan
from radstack.images.own.source import FILE, LABELS_KIND, NUMBER_KIND, Source
from radstack.recipes.submission import Layout


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


def put(path: Path, place: float | None = None) -> None:
    """A noisy picture; a slice at ``place`` of the patient ``t`` where there is one."""
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (32, 32), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if place is None:
        assert cv2.imwrite(str(path), pixels)
    else:
        make_dicom(path, pixels.astype(np.uint16), Modality="MR", PatientID="t", ImagePositionPatient=[0, 0, place],
                   ImageOrientationPatient=[1, 0, 0, 0, 1, 0])


def ordered_tests(place: Path, known: dict[str, str] | None = None) -> tuple[list[str], pd.DataFrame]:
    """The cells of ``--order slice`` of the test pictures below ``place``, and their rows of the index in order.

    ``known`` are the cells of test pictures that the table of labels has.
    """
    table = pd.DataFrame({"id": [f"k{number:02d}" for number in range(24)], "finding": ["no", "yes"] * 12,
                          "patient": [f"p{number // 2:02d}" for number in range(24)], "slice": ["1", "2"] * 12})
    for name in table["id"]:
        put(place / f"pictures/{name}.png")
    more = pd.DataFrame({"id": list(known or {}), "finding": "", "patient": "t", "slice": list((known or {}).values())})
    pd.concat([table, more] if known else [table]).to_csv(place / "labels.csv", index=False)
    wish = Wish("dots", place / "pictures", place / "labels.csv", place / "mine", place, test=place / "test", order="slice")
    plan = plan_of(wish, ())
    write(wish, plan)
    index, _ = plan.source.index(wish.input, 1, place / "parts")
    return plan.test["slice"].tolist(), index[index["split"] == "test"]


def test_test_slices_that_no_table_orders_are_ordered_by_their_headers(tmp_path):
    for number, place in zip((1, 2, 3, 10, 11), (40.0, 0.0, 30.0, 10.0, 20.0)):
        put(tmp_path / f"test/slice_{number}.dcm", place)
    cells, index = ordered_tests(tmp_path)
    assert cells == [""] * 5 and index["series"].nunique() == 1
    assert index["id"].tolist() == [f"slice_{number}" for number in (2, 10, 11, 3, 1)]
    assert index["position"].tolist() == [0, 1, 2, 3, 4]


def test_test_pictures_without_a_place_are_ordered_as_people_count(tmp_path):
    for number in (1, 2, 10, 11):
        put(tmp_path / f"test/t/slice_{number}.png")
    _, index = ordered_tests(tmp_path)
    assert index["id"].tolist() == [f"slice_{number}" for number in (1, 2, 10, 11)]
    assert index["position"].tolist() == [0, 1, 2, 3]


def test_the_order_of_a_table_goes_before_that_of_headers(tmp_path):
    for number, place in zip((1, 2, 3), (0.0, 10.0, 20.0)):
        put(tmp_path / f"test/s{number}.dcm", place)
    cells, index = ordered_tests(tmp_path, {"s1": "8", "s2": "7", "s3": "9"})
    assert sorted(cells) == ["7", "8", "9"] and index["id"].tolist() == ["s2", "s1", "s3"]


def test_slices_without_a_cell_come_after_those_with_one(tmp_path):
    for number, place in zip((1, 2, 3, 4), (0.0, 10.0, 20.0, 30.0)):
        put(tmp_path / f"test/s{number}.dcm", place)
    _, index = ordered_tests(tmp_path, {"s1": "8", "s2": "", "s3": "7", "s4": ""})
    assert index["id"].tolist() == ["s3", "s1", "s2", "s4"]


def test_several_pictures_of_an_id_are_numbered_as_people_count(tmp_path):
    for number in (10, 9, 2):
        put(tmp_path / f"a/view_{number}.png")
    source = Source(LABELS_KIND, {"finding": ("no", "yes")}, several=True, match="folder")
    index, _ = source.index_new(tmp_path, 1, tmp_path / "parts", pd.DataFrame())
    assert index["path"].tolist() == [f"a/view_{number}.png" for number in (2, 9, 10)]
    assert index["id"].tolist() == ["a_000", "a_001", "a_002"]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("modality", ["MG", "MR", "XA", "CT"])
def test_inverted_pictures_of_any_kind_but_ct_are_turned_around(tmp_path, modality, signed):
    stored = np.random.default_rng(0).integers(0, 4096, (32, 32), dtype=np.uint16)
    stored, turned = (stored.astype(np.int16) - 2048, 2047 - stored.astype(np.int16)) if signed else (stored, 4095 - stored)
    tags = {"Modality": modality, "RescaleSlope": "2"}
    usual = make_dicom(tmp_path / "usual.dcm", stored, **tags)
    inverted = make_dicom(tmp_path / "inverted.dcm", stored if modality == "CT" else turned.astype(stored.dtype),
                          PhotometricInterpretation="MONOCHROME1", **tags)
    assert np.array_equal(gray(inverted, SOFT), gray(usual, SOFT))


def test_planes_of_volumes_that_a_table_orders_have_ids_and_places_of_their_own(tmp_path):
    rows = pd.DataFrame({"id": ["late", "early", "flat"], "path": ["a.nii", "b.nii", "c.png"], "group": "p",
                         "split": "train", "position": [2.0, 1.0, 3.0], "slices": [12, 2, 0], "place": 0.0})
    index = Source(LABELS_KIND, {"finding": ("no", "yes")}, order="slice", slices=3)._numbered(rows)
    assert index["id"].is_unique and index["position"].is_unique
    assert index["id"].tolist() == ["early_000", "early_001", "late_002", "late_006", "late_009", "flat"]
    assert (index["series"] == "p").all() and (index["group_size"] == 3).all()


def test_paths_in_their_natural_order():
    paths = ["a/9.png", "a/10.png", "a/010b.png", "a/x.png", "b/1.2.840.99.png", "b/1.2.840.100.png", f"b/{'9' * 70}.png"]
    assert sorted(set(paths), key=natural) == paths


@pytest.mark.parametrize("targets", [("viral_pneumonia", "pneumonia"), ("pneumonia", "viral_pneumonia")])
def test_ids_of_the_long_form_lose_the_longest_target_that_ends_them(tmp_path, targets):
    names = [f"{one}_{target}" for one in "ab" for target in targets]
    sample, source = pd.DataFrame({"id": names, "label": "0"}), Source(LABELS_KIND, dict.fromkeys(targets, ("0", "1")))
    assert asked_ids(sample, "id", list(targets)) == {"a", "b"}
    assert asked_ids(sample.assign(id=["c", *names[1:]]), "id", list(targets)) == {"c", *names[1:]}
    form = asked_form(source, {}, sample)
    assert form.ids.tolist() == ["a", "b"] and form.layout.form == "long"
    keys = Pseudonyms(tmp_path / "key.csv")
    assert {_renamed(keys, "id", name, targets).split("_")[0] for name in names} == {keys.of("id", one) for one in "ab"}


@pytest.mark.parametrize("labels, expected", [((2, 228), (0, 250.6)), ((-5, 5), (-6, 6)), ((20240115, 20241231), None),
                                              ((-20241231, -20240115), None)])
def test_answers_may_be_any_number_that_labels_are(labels, expected):
    layout = plain_form(Source(NUMBER_KIND, {"age": (0.0, 1.0)}), {"age": labels})
    assert layout.low <= labels[0] and labels[1] <= layout.high
    assert expected is None or (layout.low, layout.high) == expected


def test_a_picture_that_answers_several_rows_is_given_to_each(tmp_path):
    put(tmp_path / "a.png")
    made, _ = prepare(tmp_path, pd.DataFrame({"path": ["a.png"] * 2, "plane": -1}), 16)
    assert made.shape == (2, 16, 16) and (made[0] == made[1]).all() and made.any()


def test_a_name_that_is_not_utf_8_is_set_aside_and_the_others_are_read(tmp_path):
    put(tmp_path / "good.png")
    (tmp_path / os.fsdecode(b"k\xff.png")).write_bytes((tmp_path / "good.png").read_bytes())
    for parts in (None, tmp_path / "parts"):
        found = scan(tmp_path, 1, parts).set_index("path")["reason"]
        assert found.to_dict() == {"good.png": "", "k\\udcff.png": "no-access"}
    source = Source(LABELS_KIND, {"finding": ("no", "yes")})
    index, quarantine = source.index_new(tmp_path, 1, tmp_path / "p", pd.DataFrame())
    assert index["path"].tolist() == ["good.png"] and quarantine["path"].tolist() == ["k\\udcff.png"]


def test_a_long_call_is_broken_between_its_arguments_and_never_within_words():
    names = tuple(f"left, {'or' * number} right's \\ \"lung\"" for number in range(12))
    code = as_code(Layout("id, of a picture", names, form="wide"))
    text = _wrapped(code)
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(code)) and max(map(len, text.splitlines())) <= WIDTH
    plain = as_code(Layout("id", tuple("abcdefghijklmnopqrstuvwxyz"), form="wide"))
    assert ast.dump(ast.parse(_wrapped(plain))) == ast.dump(ast.parse(plain)) and "\n" in _wrapped(plain)


def text_of(title: str, pictures: str, **more: str) -> str:
    """The module of these words."""
    about = {"side": 64, "seen": 64, "folds": 3, "rows": 30, "groups": 30, "pretrained": False, "grouped": False,
             "choice": "two small networks", "squared": "", "metric": "Metric('weighted log loss', (1,))"} | more
    return written("dots", title, pictures, Source(LABELS_KIND, {"finding": ("no", "yes")}), Layout("id"), **about)


def test_a_module_is_python_whatever_pictures_and_columns_are_called_or_it_is_refused():
    for words in ("C:\\Users\\new\\x", 'a"""b', "ends in \\", "two\nlines", os.fsdecode(b"k\xff")):
        text = text_of(words, words)
        assert ast.get_docstring(ast.parse(text)) and text.encode()
    with pytest.raises(UserError, match="no Python"):
        text_of("title", "pictures", metric="Metric('weighted")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_files_of_test_rows_are_those_that_the_table_names_where_ids_are_not_their_names(tmp_path, elsewhere):
    """The planted trap: of two test files each is called as the other's id."""
    folder = "test" if elsewhere else "pictures"
    ids, files = [f"n{number}" for number in range(24)], [f"k{number:02d}.png" for number in range(24)]
    for name in files:
        put(tmp_path / f"pictures/{name}")
    for name in ("t0.png", "t1.png"):
        put(tmp_path / f"{folder}/{name}")
    table = pd.DataFrame({"id": [*ids, "t0", "t1"], "image": [*files, "t1.png", "t0.png"],
                          "finding": [*["no", "yes"] * 12, "", ""],
                          "patient": [*(f"p{one}" for one in range(24)), "q0", "q1"]})
    table.to_csv(tmp_path / "labels.csv", index=False)
    pd.DataFrame({"id": ["t0", "t1"], "finding": "0"}).to_csv(tmp_path / "sample.csv", index=False)
    for sample in (tmp_path / "sample.csv", *([None] if elsewhere else [])):
        wish = Wish("dots", tmp_path / "pictures", tmp_path / "labels.csv", tmp_path / "mine", tmp_path, id="id",
                    file="image", test=tmp_path / "test" if elsewhere else None, sample=sample)
        test = plan_of(wish, ()).test
        assert dict(zip(test["id"], test["file"])) == {"t0": f"{folder}/t1.png", "t1": f"{folder}/t0.png"}
