"""Label spreadsheets of a hospital joined to pictures by date and serial number, and written as ``labels.csv``.

Pictures and sheets of the HKU-Shenzhen study came in several batches that share no other key.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from competitions.radius_ulna.labels import COLUMNS, TABLE
from competitions.radius_ulna.phases import LETTER, stage_number
from radstack.core.errors import UserError
from radstack.core.files import files_below, write_table
from radstack.core.say import Report
from radstack.images.formats import is_picture, stem_of

SPELLINGS = {
    "date": ("date", "examdate", "studydate"), "serial": ("serial", "serialnumber", "serialno", "number", "no"),
    "radius_stage": ("radiusstage", "radius", "r"), "ulna_stage": ("ulnastage", "ulna", "u"),
    "child": ("child", "patient", "patientid"), "sex": ("sex", "gender"), "age": ("age", "ageyears"),
}  # fmt: skip
"""Our name of a column and how it may be spelled in a sheet, without case, blanks and signs."""
NEEDED = ("date", "serial", "radius_stage", "ulna_stage")
KEY = ["date", "serial"]
YEAR_FIRST = re.compile(r"(\d{4})([-/.]?)(\d{1,2})\2(\d{1,2})")
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
PICTURE_NAME = re.compile(r"(?<!\d)(\d{4}-?\d{2}-?\d{2})[-_ ]+(\w+)")
"""A date, year first, then the serial number: ``2014-03-05_0007``."""
LISTED = "unmatched.csv"
"""Rows without a partner, beside ``labels.csv``."""


class Joined(NamedTuple):
    """Pictures and labels by date and serial number."""

    matched: pd.DataFrame
    """``COLUMNS`` of ``labels.csv``, as text, in the order of the pictures."""
    pictures: pd.DataFrame
    """Pictures without a label: their columns and ``reason``."""
    labels: pd.DataFrame
    """Labels without a picture: their columns and ``reason``."""


def read_sheet(path: Path) -> pd.DataFrame:
    """The first sheet of an ``.xls`` or ``.xlsx`` file, or a CSV file in UTF-8, as text.

    It has those columns of ``SPELLINGS`` that are there, and ``source`` (file and row); ``date`` by :func:`plain_dates`,
    ``serial`` by :func:`plain_serial`, stages as ``R7`` where they are one and as they stand otherwise.

    Raises:
        UserError: no such file or not a spreadsheet, or a column of ``NEEDED`` is missing or there twice.
    """
    try:
        raw = pd.read_csv(path, dtype="str", encoding="utf-8-sig") if path.suffix.lower() == ".csv" else pd.read_excel(
            path, dtype=object)
    except Exception as error:  # openpyxl, xlrd and zipfile have a dozen kinds
        raise UserError(f"{path} is no spreadsheet that can be read ({' '.join(str(error).split())}); save it again as "
                        ".xlsx, or as CSV in UTF-8") from error
    raw = raw.dropna(how="all")
    names = {name: _column(path, raw, name) for name in SPELLINGS}
    table = pd.DataFrame({name: raw[column] for name, column in names.items() if column is not None})
    table = table.assign(date=plain_dates(table["date"].tolist()), serial=table["serial"].map(plain_serial),
                         source=[f"{path.name} row {row + 2}" for row in raw.index])
    for bone in LETTER:
        table[f"{bone}_stage"] = [_stage(bone, value) for value in table[f"{bone}_stage"]]
    return table.map(_text).astype("str").reset_index(drop=True)


def list_pictures(folder: Path) -> pd.DataFrame:
    """Pictures below ``folder``: ``file``, and ``date`` (2014-03-05) and ``serial`` of its name, "" where it says none."""
    files = sorted(path.relative_to(folder).as_posix() for path in files_below(folder) if is_picture(path))
    found = [PICTURE_NAME.search(stem_of(file)) for file in files]
    dates = plain_dates([match[1] if match else None for match in found])
    serials = [plain_serial(match[2]) if match else "" for match in found]
    return pd.DataFrame({"file": files, "date": dates, "serial": serials}, dtype="str")


def join(pictures: pd.DataFrame, labels: pd.DataFrame) -> Joined:
    """Match by date and serial number; what is on either side twice is left out, since which is meant cannot be known.

    ``pictures`` are from :func:`list_pictures` or a sheet, ``labels`` from :func:`read_sheet`, several sheets concatenated.
    Every picture and every label comes back once, matched or with its reason: ``no-date`` (missing or unclear),
    ``no-serial``, ``serial-twice`` (on this side or on the other) or ``no-partner``.
    """
    pictures, labels = (side.assign(reason=_faults(side, other)) for side, other in ((pictures, labels), (labels, pictures)))
    good = [side[side["reason"] == ""].drop(columns="reason") for side in (pictures, labels)]
    matched = good[0].merge(good[1], on=KEY, validate="one_to_one")
    matched = matched.reindex(columns=list(COLUMNS), fill_value="").astype("str")
    return Joined(matched, *(side[side["reason"] != ""].reset_index(drop=True) for side in (pictures, labels)))


def write_labels(folder: Path, joined: Joined, report: Report = lambda line: None) -> None:
    """Write ``labels.csv`` and, beside it, ``unmatched.csv`` with all that found no partner; a UserError if nothing did."""
    if joined.matched.empty:
        first = [f"{side['date'].iloc[0]} {side['serial'].iloc[0]} ({side['reason'].iloc[0]})" if len(side) else "none"
                 for side in (joined.pictures, joined.labels)]
        raise UserError(f"no picture has the date and serial number of a label; the first picture says {first[0]}, the "
                        f"first label {first[1]}; name pictures like 2014-03-05_0007.png")
    write_table(folder / TABLE, joined.matched)
    left = pd.concat([joined.pictures, joined.labels], keys=["picture", "label"], names=["side", None])
    write_table(folder / LISTED, left.reset_index("side").fillna(""))
    report(f"{len(joined.matched)} pictures matched to a label")
    for (side, reason), count in left.groupby(["side", "reason"]).size().items():
        report(f"{side}s left out as {reason}: {count}, see {LISTED}")


def plain_dates(values: list[Any]) -> list[str]:
    """A column of dates as ``2014-03-05``; "" where there is none or it is unclear.

    Date cells and texts that begin with the year (2014-03-05, 2014/3/5, 20140305) are clear. Of 05/03/2014 it is the column
    that tells: one whose first numbers pass 12 somewhere and whose second never do is day first, and the other way round;
    where both or neither happens, all of these are unclear.
    """
    texts = [re.split("[ T]", _text(value))[0].removesuffix(".0") for value in values]  # without the time of day
    last = [match for match in map(YEAR_LAST.fullmatch, texts) if match]
    day, month = (any(int(match[group]) > 12 for match in last) for group in (1, 3))
    order = "%d %m %Y" if day and not month else "%m %d %Y" if month and not day else ""
    return [value.strftime("%Y-%m-%d") if isinstance(value, datetime) and not pd.isna(value) else _date(text, order)
            for value, text in zip(values, texts)]


def plain_serial(value: Any) -> str:
    """A serial number as text without case, blanks and leading zeros: 7, 7.0, "0007" are "7", " a-07" is "A-07"."""
    text = _text(value).upper().removesuffix(".0")
    return str(int(text)) if text.isdecimal() else text


def _date(text: str, order: str) -> str:
    """A text as a date; ``order`` reads those that end with the year, "" for unclear."""
    first, last = YEAR_FIRST.fullmatch(text), YEAR_LAST.fullmatch(text) if order else None
    try:
        if first:
            return datetime(int(first[1]), int(first[3]), int(first[4])).strftime("%Y-%m-%d")
        return datetime.strptime(f"{last[1]} {last[3]} {last[4]}", order).strftime("%Y-%m-%d") if last else ""
    except ValueError:  # the 31st of February
        return ""


def _faults(side: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """The reason why each row of ``side`` has no partner, "" where it has one."""
    keys, others = pd.MultiIndex.from_frame(side[KEY]), pd.MultiIndex.from_frame(other[KEY])
    twice = keys.duplicated(keep=False) | keys.isin(others[others.duplicated()])
    wrong = {"no-date": side["date"] == "", "no-serial": side["serial"] == "", "serial-twice": twice,
             "no-partner": ~keys.isin(others)}  # fmt: skip
    return np.select(list(wrong.values()), list(wrong), default="")


def _column(path: Path, table: pd.DataFrame, name: str) -> Any:
    """The column of a sheet that is our ``name``, None where it lacks one it may lack."""
    spelled = [column for column in table.columns if re.sub("[^a-z0-9]", "", str(column).lower()) in SPELLINGS[name]]
    if len(spelled) > 1 or (not spelled and name in NEEDED):
        raise UserError(f"{path} has {len(spelled) or 'no'} columns for {name} among {', '.join(map(str, table.columns))}; "
                        f"call one of them {SPELLINGS[name][0]}")
    return spelled[0] if spelled else None


def _stage(bone: str, value: Any) -> str:
    stage = stage_number(bone, _text(value))
    return f"{LETTER[bone]}{stage}" if stage else _text(value)


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value).strip()
