"""The organizer's label tables: an id, a sex and (not for test) a bone age in months, in four spellings."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import Missing, UnfitTable, UserError
from radstack.core.files import matching, read_text_table
from radstack.images.quarantine import Labels, judge

TABLES = {
    "boneagetrainingdataset": "train", "trainingdataset": "train", "train": "train",
    "boneagevalidationdataset": "train", "validationdataset": "train", "validation": "train",
    "boneagetestdataset": "test", "testdataset": "test", "test": "test", "boneagegroundtruth": "test",
}  # fmt: skip
"""Names of the tables without case, blanks and dashes, and their split, the usual one first: Kaggle mirror, RSNA, plain.
The RSNA validation hands were for tuning; their labels are single readings like the training ones, so they are train."""
COLUMNS = {"id": ("id", "imageid", "caseid"),
           "boneage": ("boneage", "boneagemonths", "groundtruthboneagemonths"),
           "male": ("male", "sex")}  # fmt: skip
"""Our name of a column and the spellings it was shipped under, likewise without case, blanks and signs."""
MALE = {"true": 1, "m": 1, "male": 1, "1": 1, "false": 0, "f": 0, "female": 0, "0": 0}
"""Every way in which sex was written."""
OLDEST = 240
"""Months: the last of the classes 1..240 of the expectation head; the oldest hand of RSNA 2017 is 228."""


def read_labels(folder: Path) -> Labels:
    """Read every label table of ``folder``; test ages, where a table holds them, are left out.

    Rows are quarantined as ``no-id``, ``unknown-sex``, ``age-not-a-number``, ``age-out-of-range`` (outside 0..240),
    ``duplicate-id`` (rows of one id that disagree, all of them) and ``also-in-test`` (the train row of a test id).

    The table has ``id`` (str, unique), ``split`` (train or test), ``boneage`` (months, float, NaN in test) and ``male`` (int
    0 or 1). No training table, a damaged one, or one whose columns cannot be told is a UserError.
    """
    files = _tables(folder)
    if "train" not in files.values():
        raise Missing(folder, f"{folder} has no training table (boneage-training-dataset.csv or train.csv)")
    rows = pd.concat([_read(path, split) for path, split in files.items()], ignore_index=True)
    said = rows.assign(age=_meant("boneage", rows["age"]), sex=_meant("male", rows["sex"]))
    repeated = said.duplicated(["id", "split", "age", "sex"]) & (rows["id"] != "")
    rows = _judge(rows[~repeated].reset_index(drop=True))
    labels = Labels.parted(rows, ["id", "split", "boneage", "male"], repeated)
    return labels._replace(table=labels.table.astype({"id": "str", "boneage": float, "male": int}))


def label_files(folder: Path) -> tuple[Path, ...]:
    """The label tables that are there, training first, below ``folder`` or one folder deeper."""
    return tuple(_tables(folder))


def sample_file(folder: Path) -> Path:
    """The test table: its ids are those to submit, in its order; a UserError where there is none."""
    found = next((path for path, split in _tables(folder).items() if split == "test"), None)
    if found is None:
        raise Missing(folder, f"{folder} has no test table (boneage-test-dataset.csv, test.csv; save a spreadsheet as CSV)")
    return found


def _tables(folder: Path) -> dict[Path, str]:
    """Every label table and its split, in the order of ``TABLES``."""
    order = list(TABLES)
    found = [path for pattern in ("*.csv", "*/*.csv") for path in matching(folder, pattern) if _plain(path.stem) in TABLES]
    found.sort(key=lambda path: (order.index(_plain(path.stem)), path))
    return {path: TABLES[_plain(path.stem)] for path in found}


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _read(path: Path, split: str) -> pd.DataFrame:
    """One table as text: ``id``, ``split``, ``age``, ``sex``, ``source``."""
    raw = read_text_table(path, ())
    age = "" if split == "test" else raw[_column(path, raw, "boneage")]
    return pd.DataFrame({"id": raw[_column(path, raw, "id")], "split": split, "age": age,
                         "sex": raw[_column(path, raw, "male")].str.lower(), "source": path.name}, dtype="str")


def _column(path: Path, table: pd.DataFrame, name: str) -> str:
    """The column that is our ``name``; of several they must agree."""
    spelled = {_plain(str(column)): column for column in table.columns}
    found, *others = [spelled[spelling] for spelling in COLUMNS[name] if spelling in spelled] or [None]
    for other in others:
        for row in np.flatnonzero(_meant(name, table[found]) != _meant(name, table[other]))[:1]:
            raise UserError(f"{path}: the columns {found} and {other} differ in row {row + 1}; delete one")
    if found is None:
        raise UserError(f"{path} has the columns {', '.join(map(str, table.columns))}, none of which is "
                        f"{' or '.join(COLUMNS[name])}; rename one")
    return found


def _meant(name: str, cells: pd.Series) -> pd.Series:
    """Cells of a column that is our ``name``, such that those that say the same are equal; blank for what says nothing."""
    if name == "male":
        return cells.str.lower().map(MALE).fillna(-1)
    return pd.to_numeric(cells, errors="coerce").fillna(-1) if name == "boneage" else cells


def _judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``boneage``, ``male`` (numbers), ``path`` (""), ``reason`` and ``detail``."""
    age, male = pd.to_numeric(rows["age"], errors="coerce"), rows["sex"].map(MALE)
    train = rows["split"] == "train"
    in_test = rows["id"].isin(rows.loc[~train, "id"])
    wrong = {
        "no-id": (rows["id"] == "", "the id is blank"),
        "unknown-sex": (male.isna(), "sex is '" + rows["sex"] + "'"),
        "age-not-a-number": (train & ~np.isfinite(age), "bone age is '" + rows["age"] + "'"),
        "age-out-of-range": (train & ~age.between(0, OLDEST), "bone age is " + rows["age"] + f" months, not 0..{OLDEST}"),
        "also-in-test": (train & in_test, "its id is in the test table as well"),
        "duplicate-id": (rows.duplicated(["id", "split"], keep=False), "rows of this id disagree"),
    }  # fmt: skip
    wrong = {reason: (bad, rows["source"] + ": " + text) for reason, (bad, text) in wrong.items()}
    return judge(rows.assign(boneage=age, male=male, path=""), wrong)


def sexes(given: pd.DataFrame) -> dict[str, int]:
    """Id -> 1 for male, of a table of text in any of the organizer's spellings; {} of none.

    An UnfitTable where it has other columns alone.
    """
    if given.empty:
        return {}
    spelled = {_plain(str(column)): column for column in given.columns}
    names = [next((spelled[one] for one in COLUMNS[name] if one in spelled), "") for name in ("id", "male")]
    if not all(names):
        raise UnfitTable(f"the table beside the pictures has {','.join(map(str, given.columns))}; it needs id,male")
    return given.set_index(names[0])[names[1]].str.lower().map(MALE).dropna().to_dict()
