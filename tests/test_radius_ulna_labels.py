"""The label table and its faults; spreadsheets joined to pictures by date and serial number."""

import struct
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pytest
from scripts import run_script

from competitions import load
from competitions.radius_ulna.join import join, list_pictures, plain_dates, plain_serial, read_sheet, write_labels
from competitions.radius_ulna.labels import label_files, read_labels, sample_file, sample_files
from radstack.core.errors import UserError
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.running.cli import make_context
from radstack.running.context import Options

HEAD = "file,date,serial,child,radius_stage,ulna_stage,sex,age"


def labels_csv(folder: Path, rows: list[str], head: str = HEAD, sample: list[str] | None = None) -> Path:
    """``labels.csv``, a picture (of no pixels) for each of its rows, and a sample that lists ``sample``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text("\n".join([head, *rows]) + "\n")
    for file in [row.split(",")[0].strip() for row in rows] + (sample or []):
        if file:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).touch()
    if sample is not None:
        lines = ["file,radius_phase,ulna_phase,R5", *(f"{file},peak,peak,1" for file in sample)]
        (folder / "sample_submission.csv").write_text("\n".join(lines) + "\n")
    return folder


def quarantined(table: pd.DataFrame) -> dict[str, str]:
    assert list(table.columns) == QUARANTINE_COLUMNS and (table["detail"] != "").all()
    return dict(zip(table["split"] + ":" + table["id"], table["reason"]))


def test_labels_are_read_and_test_is_what_the_sample_lists(tmp_path):
    rows = ["p/a.png,2014-03-05,7,c1,R7,U5,F,11.4", "p/b.png,2014-03-05,8, ,r 11 ,9,male,", "p/c.png,,,c1,R5,U4,F,9"]
    labels = read_labels(labels_csv(tmp_path, rows, sample=["p/c.png", "p/new.png"]))
    assert labels.quarantine.empty and labels.repeated == 0
    table = labels.table.set_index("id")
    assert table["split"].to_dict() == {"a": "train", "b": "train", "c": "test", "new": "test"}
    assert table[["radius_stage", "ulna_stage"]].to_numpy().tolist() == [[7, 5], [11, 9], [-1, -1], [-1, -1]]
    assert table["child"].tolist() == ["c1", "", "c1", ""] and table["sex"].tolist() == ["F", "M", "F", ""]
    assert table["age"].fillna(-1).tolist() == [11.4, -1, 9, -1] and table["radius_stage"].dtype == int
    assert sample_files(tmp_path) == ["p/c.png", "p/new.png"] and sample_file(tmp_path).name == "sample_submission.csv"
    assert [path.name for path in label_files(tmp_path)] == ["labels.csv", "sample_submission.csv"]


def test_rows_that_say_the_same_in_two_spellings_agree(tmp_path):
    rows = ["a.png,,,c1,R7,U5,F,11", "a.png,,,c1,7,u 5,female,11.0", "b.png,,,c1,R7,U5,F,11", "b.png,,,c1,?,U5,F,11"]
    labels = read_labels(labels_csv(tmp_path, rows))
    assert labels.table["id"].tolist() == ["a"] and labels.repeated == 1
    assert labels.quarantine["reason"].tolist() == ["duplicate-file"] * 2


def test_columns_that_may_be_missing(tmp_path):
    labels = read_labels(labels_csv(tmp_path, ["a.png,2014-03-05,7,R7,U5,F,11"],
                                    head="file,date,serial,radius_stage,ulna_stage,sex,age"))
    assert labels.quarantine.empty and labels.table["child"].tolist() == [""] and labels.table["age"].tolist() == [11]
    labels = read_labels(labels_csv(tmp_path, ["a.png,,R7,U5"], head="file,child,radius_stage,ulna_stage"))
    assert labels.quarantine.empty and labels.table.loc[0, "sex"] == "" and labels.table["age"].isna().all()


@pytest.mark.parametrize("row, reason", [
    ("b.png,,,,R12,U10,,", "unknown-stage"), ("b.png,,,,R4,?,,", "young-stage"), ("b.png,,,,,,,", "no-stage"),
    ("b.png,,,,R7,U5,x,", "unknown-sex"), ("b.png,,,,R7,,x,", "unknown-sex"),
    ("b.png,,,,R7,U5,,old", "bad-age"), ("b.png,,,,R7,U5,,114", "bad-age"), ("b.png,,,,R7,U5,,-1", "bad-age"),
    (",,,,R7,U5,,", "no-name"),
])  # fmt: skip
def test_a_faulty_row_is_quarantined(tmp_path, row, reason):
    labels = read_labels(labels_csv(tmp_path, ["a.png,,,,R7,U5,,", row]))
    assert list(quarantined(labels.quarantine).values()) == [reason] and labels.table["id"].tolist() == ["a"]


@pytest.mark.parametrize("stages, reason, left", [
    ("R12,U5", "radius-unknown-stage", (-1, 5)), ("R7,U10", "ulna-unknown-stage", (7, -1)),
    ("U7,U5", "radius-unknown-stage", (-1, 5)), ("R7,?", "ulna-unknown-stage", (7, -1)),
    ("R4,U5", "radius-young-stage", (-1, 5)), ("R6,U3", "ulna-young-stage", (6, -1)), ("R5,U2", "ulna-young-stage", (5, -1)),
    (",U5", "radius-no-stage", (-1, 5)), ("R7,", "ulna-no-stage", (7, -1)),
])  # fmt: skip
def test_one_usable_bone_keeps_the_picture(tmp_path, stages, reason, left):
    labels = read_labels(labels_csv(tmp_path, ["a.png,,,,R7,U5,,", f"b.png,,,,{stages},,"]))
    assert quarantined(labels.quarantine) == {"train:b": reason}
    assert labels.table.set_index("id").loc["b", ["radius_stage", "ulna_stage"]].tolist() == list(left)


def test_files_that_are_missing_or_named_twice(tmp_path):
    rows = ["a.png,,,,R7,U5,,", "a.png,,,,R7,U5,,", "b.png,,,,R7,U5,,", "b.png,,,,R8,U5,,", "x/c.png,,,,R7,U5,,",
            "y/c.jpg,,,,R7,U5,,", "gone.png,,,,R7,U5,,"]  # fmt: skip
    labels_csv(tmp_path, rows, sample=["far.png"])
    (tmp_path / "gone.png").unlink()
    (tmp_path / "far.png").unlink()
    labels = read_labels(tmp_path)
    assert labels.repeated == 1 and labels.table["id"].tolist() == ["a"]
    assert labels.quarantine[["split", "id", "reason"]].to_numpy().tolist() == [
        ["train", "b", "duplicate-file"], ["train", "b", "duplicate-file"], ["train", "c", "duplicate-name"],
        ["train", "c", "duplicate-name"], ["train", "gone", "no-file"], ["test", "far", "no-file"]]


def test_stages_and_slips_of_a_test_row_cost_nothing(tmp_path):
    labels = read_labels(labels_csv(tmp_path, ["a.png,,,,R12,,x,old"], sample=["a.png"]))
    assert labels.quarantine.empty and labels.table["radius_stage"].tolist() == [-1]


@pytest.mark.parametrize("text, message", [
    ("file,child,radius_stage\n", "has no column ulna_stage"), ("", "is not a CSV file"),
    ("file,child\na,b\na,b,c,d\n", "is not a CSV file"), (None, "has no labels.csv; get the data with"),
])  # fmt: skip
def test_a_damaged_table_is_a_user_error(tmp_path, text, message):
    folder = make_context(load("radius_ulna"), Options(data_dir=str(tmp_path))).paths.input
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_labels(folder)


def test_no_sample(tmp_path):
    assert sample_files(tmp_path) == [] and label_files(tmp_path) == ()
    with pytest.raises(UserError, match="has no sample_submission.csv; write one"):
        sample_file(tmp_path)


# -- spreadsheets ---------------------------------------------------------------------------------------------------


def test_dates_of_every_kind():
    day = "2014-03-05"
    assert plain_dates([datetime(2014, 3, 5, 14, 30), pd.Timestamp(day), day, "2014/3/5", "2014.03.05", "20140305", 20140305,
                        20140305.0, " 2014-03-05 00:00:00", "2014-03-05T08:15"]) == [day] * 10  # fmt: skip
    assert plain_dates([None, float("nan"), pd.NaT, "", "soon", "2014-02-31", "14-03-05", "41703"]) == [""] * 8


@pytest.mark.parametrize("column, expected", [
    (["05/03/2014", "25/03/2014"], ["2014-03-05", "2014-03-25"]), (["5.03.2014", "25.3.2014"], ["2014-03-05", "2014-03-25"]),
    (["05/03/2014", "03/25/2014"], ["2014-05-03", "2014-03-25"]), (["05/03/2014"], [""]),
    (["25/03/2014", "03/25/2014", "2014-03-01"], ["", "", "2014-03-01"]), (["31/02/2014", "05/03/2014"], ["", "2014-03-05"]),
])  # fmt: skip
def test_the_column_tells_the_day_from_the_month(column, expected):
    assert plain_dates(column) == expected


def test_serials_of_every_kind():
    assert [plain_serial(value) for value in (7, 7.0, "7", "0007", " 7 ", "7.0")] == ["7"] * 6
    assert [plain_serial(value) for value in (" a-07", "0", None, float("nan"), "")] == ["A-07", "0", "", "", ""]


ROWS = [(datetime(2014, 3, 5), "0007", "R7", "U5", "Ann"), (date(2014, 3, 6), 8, 8, 6.0, None),
        ("2014-03-06", 9, "r9", "?", "Bea")]  # fmt: skip
SHEET = pd.DataFrame(ROWS, columns=["Exam date", "Serial No.", "Radius", "Ulna stage", "Patient"], dtype=object)
READ = [["2014-03-05", "7", "R7", "U5", "Ann"], ["2014-03-06", "8", "R8", "U6", ""], ["2014-03-06", "9", "R9", "?", "Bea"]]


def biff2(rows: list[list[str | float]]) -> bytes:
    """A worksheet as Excel 2.1 wrote it, the one .xls that is short enough to write here."""
    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    parts = [record(0x0009, struct.pack("<HH", 7, 0x10))]
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            cell = struct.pack("<HH3x", y, x)
            parts.append(record(0x0004, cell + bytes([len(value)]) + value.encode()) if isinstance(value, str)
                         else record(0x0003, cell + struct.pack("<d", value)))  # fmt: skip
    return b"".join(parts) + record(0x000A, b"")


def test_sheets_of_every_kind_say_the_same(tmp_path):
    SHEET.to_excel(tmp_path / "a.xlsx", index=False)
    SHEET.to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig")
    cells = [["2014-03-05", "0007", "R7", "U5", "Ann"], ["2014/3/6", 8, 8, 6, ""], [20140306, 9, "r9", "?", "Bea"]]
    (tmp_path / "a.xls").write_bytes(biff2([list(SHEET.columns), *cells]))
    for name in ("a.xlsx", "a.csv", "a.xls"):
        table = read_sheet(tmp_path / name)
        assert table[["date", "serial", "radius_stage", "ulna_stage", "child"]].to_numpy().tolist() == READ, name
        assert table["source"].tolist() == [f"{name} row {row}" for row in (2, 3, 4)]


@pytest.mark.parametrize("name, content, message", [
    ("a.xls", b"<html><table></table></html>", "is no spreadsheet"), ("a.xlsx", b"PK\x03\x04rest", "is no spreadsheet"),
    ("a.csv", "date,serial,R,U\n2014-03-05,1,é,U5\n".encode("latin1"), "is no spreadsheet"),
    ("a.xls", b"", "is no spreadsheet"),
    ("a.csv", b"date,serial,R\n", "has no columns for ulna_stage"), ("a.csv", b"", "is no spreadsheet"),
    ("a.csv", b"date,serial,R,U,ulna\n", "has 2 columns for ulna_stage"),
])  # fmt: skip
def test_what_is_no_spreadsheet_is_a_user_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} {message}") as error:
        read_sheet(tmp_path / name)
    assert "\n" not in str(error.value)


def test_pictures_say_date_and_serial_in_their_names(tmp_path):
    for name in ("2014-03-05_0007.png", "20140306-8.jpg", "x 2014-03-06 A9.JPEG", "hand.png", "._2014-03-05_0007.png",
                 "2014-13-05_1.png", "2014-03-05.txt"):  # fmt: skip
        (tmp_path / name).touch()
    assert list_pictures(tmp_path).to_numpy().tolist() == [
        ["2014-03-05_0007.png", "2014-03-05", "7"], ["2014-13-05_1.png", "", "1"], ["20140306-8.jpg", "2014-03-06", "8"],
        ["hand.png", "", ""], ["x 2014-03-06 A9.JPEG", "2014-03-06", "A9"]]


def keyed(rows: list[tuple[str, str, str]], name: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[name, "date", "serial"], dtype="str")
    return table if name == "file" else table.assign(ulna_stage="U5")


def test_what_is_on_either_side_twice_is_left_out_and_reported(tmp_path):
    day = "2014-03-05"
    pictures = keyed([("a", day, "1"), ("b", day, "2"), ("c", day, "2"), ("d", day, "3"), ("e", "", "4"), ("f", day, ""),
                      ("g", "2014-03-06", "1"), ("h", day, "9")], "file")  # fmt: skip
    labels = keyed([("R5", "2014-03-06", "1"), ("R7", day, "1"), ("R7", day, "2"), ("R8", day, "3"), ("R9", day, "3"),
                    ("R9", "", "4"), ("R11", day, "8")], "radius_stage")  # fmt: skip
    joined = join(pictures, labels)
    assert joined.matched[["file", "radius_stage", "child"]].to_numpy().tolist() == [["a", "R7", ""], ["g", "R5", ""]]
    assert dict(zip(joined.pictures["file"], joined.pictures["reason"])) == {
        "b": "serial-twice", "c": "serial-twice", "d": "serial-twice", "e": "no-date", "f": "no-serial", "h": "no-partner"}
    assert joined.labels[["radius_stage", "reason"]].to_numpy().tolist() == [
        ["R7", "serial-twice"], ["R8", "serial-twice"], ["R9", "serial-twice"], ["R9", "no-date"], ["R11", "no-partner"]]
    lines: list[str] = []
    write_labels(tmp_path, joined, lines.append)
    assert lines[0] == "2 pictures matched to a label"
    assert "pictures left out as serial-twice: 3, see unmatched.csv" in lines
    left = pd.read_csv(tmp_path / "unmatched.csv", keep_default_na=False)
    assert left["side"].value_counts().to_dict() == {"picture": 6, "label": 5} and "reason" in left


def test_a_joined_sheet_is_a_label_table(tmp_path):
    folder = tmp_path / "in"
    (folder / "pictures").mkdir(parents=True)
    for name in ("2014-03-05_0007", "2014-03-06_8", "2014-03-06_9"):
        (folder / "pictures" / f"{name}.png").touch()
    SHEET.to_excel(tmp_path / "a.xlsx", index=False)
    write_labels(folder, join(list_pictures(folder), read_sheet(tmp_path / "a.xlsx")))
    assert (folder / "labels.csv").read_text().splitlines()[:2] == [
        HEAD, "pictures/2014-03-05_0007.png,2014-03-05,7,Ann,R7,U5,,"]
    labels = read_labels(folder)
    assert labels.table["ulna_stage"].tolist() == [5, 6, -1] and labels.table["radius_stage"].tolist() == [7, 8, 9]
    assert quarantined(labels.quarantine) == {"train:2014-03-06_9": "ulna-unknown-stage"}


def test_nothing_matched_is_a_user_error(tmp_path):
    joined = join(keyed([("a", "", "1")], "file"), keyed([("R7", "2014-03-05", "1")], "radius_stage"))
    with pytest.raises(UserError, match=r"first picture says  1 \(no-date\), the first label 2014-03-05 1 \(no-partner\)"):
        write_labels(tmp_path, joined)
    assert not list(tmp_path.iterdir())


def test_the_command_joins_sheets_below_the_input_folder(tmp_path):
    folder = tmp_path / "input" / "radius_ulna"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "2014-03-05_0007.png").touch()
    SHEET.to_excel(tmp_path / "a.xlsx", index=False)
    rest = (tmp_path / "a.xlsx", "--data-dir", tmp_path, "--out-dir", tmp_path)
    done = run_script("join_labels", "radius_ulna", *rest)
    assert done.returncode == 0 and "1 pictures matched" in done.stdout, done.stderr
    assert (folder / "labels.csv").exists() and (folder / "unmatched.csv").exists()
    other = run_script("join_labels", "ich", *rest)
    assert other.returncode == 1 and "radius_ulna has" in other.stderr
