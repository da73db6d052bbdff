"""Fold tables of a team or an organizer: by row, patient or study, checked, kept, and told in manifest and page."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from competitions import load
from radstack.commands.clean import items
from radstack.core.artifact import manifest_of
from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_json, sha256, write_table
from radstack.core.given_folds import moved, places, read_given
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.running.tables import GIVEN, read_folds
from radstack.stages.folds import deal_folds

TRAIN = pd.DataFrame({"id": [f"ID_{row:03}" for row in range(36)], "group": [f"p{row // 3:02}" for row in range(36)],
                      "split": "train", "study": [f"s{row // 3 * 2 + (row % 3 > 0)}" for row in range(36)],
                      "any": np.arange(36) % 2, "site": "one"})
FOLD = dict(zip(TRAIN["group"].unique(), np.arange(12) % 3))


def table(tmp_path, **columns):
    file = tmp_path / "theirs.csv"
    pd.DataFrame(columns).to_csv(file, index=False)
    return file


def folds_of(rows=TRAIN, shift=0):
    return rows["group"].map(FOLD) + shift


@pytest.mark.parametrize(("by", "columns"), [
    ("id", {"fold": folds_of(), "image": TRAIN["id"]}),
    ("id", {"image": "train/" + TRAIN["id"] + ".dcm", "kfold": folds_of(shift=1)}),
    ("id", {"ID": np.repeat(TRAIN["id"], 2).to_numpy() + np.tile(["_any", "_none"], 36), "fold": np.repeat(folds_of(), 2)}),
    ("study", {"study": TRAIN["study"].unique(), "Fold": "fold" + folds_of(TRAIN.drop_duplicates("study")).astype(str)}),
    ("group", {"patient": list(FOLD), "fold": [float(fold) for fold in FOLD.values()]})])
def test_a_table_by_row_study_or_patient_gives_the_same_folds(tmp_path, by, columns):
    given = read_given(table(tmp_path, **columns), TRAIN, 3, ("any", "none"))
    assert given.by == by and given.folds.set_index("group")["fold"].to_dict() == FOLD
    assert any("are called 0 to 2" in note for note in given.notes) == ("kfold" in columns)


def test_rows_that_the_table_lacks_go_with_their_patient_and_strangers_are_counted(tmp_path):
    kept = TRAIN[TRAIN.index % 3 != 1]
    given = read_given(table(tmp_path, image=[*kept["id"], "t1", "t2"], fold=[*folds_of(kept), -1, 0]), TRAIN, 3)
    assert given.folds.set_index("group")["fold"].to_dict() == FOLD
    assert given.notes == ["2 of 26 rows name nothing in train", "12 training rows are not in it and go with their patient"]


@pytest.mark.parametrize(("columns", "kind", "words"), [
    ({"image": TRAIN["id"], "fold": np.arange(36) % 3}, LeakError, "puts 12 patients into several folds, such as p00"),
    ({"patient": list(FOLD)[:-2], "fold": list(FOLD.values())[:-2]}, UserError, "2 of 12 training patients no fold, .* p10"),
    ({"patient": [*FOLD, "p00"], "fold": [*FOLD.values(), 2]}, LeakError, "gives p00 two folds"),
    ({"patient": [*FOLD], "fold": np.arange(12) % 4}, UserError, "--set folds.count=4"),
    ({"patient": [*FOLD], "fold": np.arange(12) % 3 * 2}, UserError, "the folds 0, 2, 4; .* without a gap"),
    ({"patient": [*FOLD], "fold": ["train", *["0"] * 11]}, UserError, "line 2: 'train' is no fold"),
    ({"patient": ["x", "y"], "fold": [0, 1]}, UserError, "names no training row or patient .*ID_000"),
    ({"patient": [*FOLD]}, UserError, "no column fold")])
def test_a_table_that_does_not_fit_is_refused_in_words(tmp_path, columns, kind, words):
    with pytest.raises(kind, match=words):
        read_given(table(tmp_path, **columns), TRAIN, 3)


def test_names_are_found_by_whole_numbers_but_never_where_two_ids_would_be_one():
    ids = pd.Series(["0012", "7", "x7.png"])
    assert places(pd.Series(["12", "7.0", "x7", "a/x7.jpg", "8"]), ids).tolist() == [0, 1, 2, 2, -1]
    assert places(pd.Series(["7.0"]), pd.Series(["7", "07"])).tolist() == [-1]


def test_unlike_folds_are_counted_by_patient_whatever_they_are_called():
    ours = pd.Series([0, 0, 0, 1, 1, 1], list("abcdef"))
    assert moved(ours, pd.Series([1, 1, 1, 0, 0, 0], list("abcdef"))) == (0, 6)
    assert moved(ours, pd.Series([0, 0, 1, 1, 1, 1], list("abcdef"))) == (1, 6)
    assert moved(ours, pd.Series([0, 0, 0, 1, 1, 1, 0], [*"abcdef", "f"])) == (1, 6)
    assert moved(ours, pd.Series([2, 2, -1], list("abc"))) == (1, 3)


@pytest.fixture
def opened(tmp_path):
    """A function that opens the same folders with other options; the index is there."""
    competition = change(load("ich"), targets=("any",), folds=FoldRecipe(3))
    competition = replace(competition, data=replace(competition.data, balance=None))

    def again(**options):
        return make_context(competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path), **options))

    write_table(again().paths.folds / "index.parquet", TRAIN)
    return again


def test_given_folds_are_kept_with_their_origin_until_they_are_dealt_anew(tmp_path, opened, capsys):
    deal_folds(opened())
    dealt = read_folds(opened())
    # p00 to p05 together, as no dealer that evens out folds would
    source = table(tmp_path, patient=[*FOLD], fold=np.repeat([0, 1, 2], [6, 3, 3]))
    deal_folds(opened(folds_from=str(source)))
    given, manifest = read_folds(opened()), read_json(manifest_of(opened().paths.folds / "folds.csv"))
    assert given["fold"].tolist() == [0] * 6 + [1] * 3 + [2] * 3 and not given.equals(dealt)
    assert manifest["origin"] == {"from": "theirs.csv", "by": "group", "sha256": sha256(source), "notes": []}
    assert "folds as given in theirs.csv, by group" in capsys.readouterr().out
    source.unlink()
    deal_folds(opened())  # a later run need not name it, nor find it
    said = capsys.readouterr().out
    assert "making" not in said and "folds as given in theirs.csv" in said
    kept = opened().paths.folds / GIVEN
    assert kept not in {path for item in items(opened()) for path in (item.path, *item.path.glob("*"))}
    deal_folds(opened(folds_from="dealt"))
    assert read_folds(opened()).equals(dealt) and not kept.exists()


def test_a_table_that_is_gone_or_edited_in_place_is_an_error(tmp_path, opened):
    with pytest.raises(UserError, match=r"none\.csv is missing"):
        deal_folds(opened(folds_from=str(tmp_path / "none.csv")))
    deal_folds(opened(folds_from=str(table(tmp_path, patient=[*FOLD], fold=[*FOLD.values()]))))
    kept = opened().paths.folds / GIVEN
    kept.write_text(kept.read_text().replace("p00,0", "p00,1"))
    with pytest.raises(UserError, match="edited or damaged"):
        deal_folds(opened())


def test_patients_that_came_or_went_since_are_told_with_what_mends_it(tmp_path, opened):
    theirs = table(tmp_path, patient=[*FOLD], fold=np.repeat([0, 1, 2], [6, 3, 3]))
    deal_folds(opened(folds_from=str(theirs)))
    before = read_folds(opened())
    file = opened().paths.folds / "index.parquet"
    fewer, more = TRAIN[TRAIN["group"] < "p09"], pd.concat([TRAIN, TRAIN.tail(3).assign(id=list("xyz"), group="p99")])
    for rows, words in ((more, "gives patient p99 no fold"), (fewer, "has no patient of now in fold 2")):
        write_table(file, rows)
        for force in (False, True):
            with pytest.raises(UserError, match=rf"theirs.csv, which was given, {words}.*--folds-from FILE.*from dealt"):
                deal_folds(opened(force=force))
        assert read_folds(opened()).equals(before)
    write_table(file, more)
    deal_folds(opened(folds_from="dealt"))
    assert len(read_folds(opened())) == 13
