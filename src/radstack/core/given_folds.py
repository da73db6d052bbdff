"""Folds that a team or an organizer gave: a table by row, by patient or by study, read and checked against the index."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_text_table

NAMES = ("fold", "folds", "kfold", "k_fold", "fold_id", "foldid", "fold_number")
"""What a column of folds is called, in any case of letters."""
NONE = ("", "-1", "nan", "none", "na", "test")
"""What stands for no fold."""
ENDING = r"(?i)\.(?:png|jpe?g|tiff?|bmp|dcm|dicom|nii|nii\.gz|mhd|mha|nrrd|npy)$"
"""Of a picture's file."""


class GivenFolds(NamedTuple):
    """A fold table of others that fits the index."""

    folds: pd.DataFrame
    """``group`` and ``fold`` (0 to count - 1), one row a training patient, sorted by patient."""
    by: str
    """The column of the index by which it was told: ``id``, ``group``, ``study`` or the like."""
    notes: list[str]
    """What was passed over or taken otherwise than written, a line each."""


def places(names: pd.Series, known: pd.Series, endings: tuple[str, ...] = ()) -> np.ndarray:
    """Place of each name among the ids ``known``, int [names], -1 where there is none.

    Names are taken as they are, then without folder and ending of a file, then as whole numbers (``0012``, ``12.0``), each
    also without one of ``endings`` and the ``_`` before it; a form under which two known ids would be one is left out.
    """
    found, text = np.full(len(names), -1), names.astype("str")
    shorter = text.str.replace(rf"_(?:{'|'.join(endings)})$", "", regex=True) if endings else text
    for theirs, ours in _forms(text, shorter, known.astype("str")):
        place = pd.Series(np.arange(len(ours)), ours.to_numpy())[(ours != "").to_numpy()]
        if place.index.is_unique:
            found = np.where(found < 0, place.reindex(theirs.to_numpy()).fillna(-1).to_numpy(int), found)
    return found


def _forms(text: pd.Series, shorter: pd.Series, known: pd.Series) -> Iterator[tuple[pd.Series, pd.Series]]:
    for form in (lambda names: names, bare, _number):
        yield form(text), form(known)
        yield form(shorter), form(known)


def bare(names: pd.Series) -> pd.Series:
    """Names without folder and ending of a picture's file."""
    return names.str.replace(r"^.*[/\\]", "", regex=True).str.replace(ENDING, "", regex=True)


def _number(names: pd.Series) -> pd.Series:
    """Whole numbers without zeros around them, "" for what is none."""
    return bare(names).str.extract(r"^0*(\d+)(?:\.0*)?$", expand=False).fillna("")


def read_given(path: Path, train: pd.DataFrame, count: int, endings: tuple[str, ...] = ()) -> GivenFolds:
    """Read the fold table ``path``, which must deal the training rows ``train`` of the index into ``count`` folds.

    It is a CSV with a column ``fold`` (from 0 or from 1) and one that names rows, patients or studies as the index does.
    ``endings`` are the targets, by which a table of one row a picture and target names its rows.

    Raises:
        LeakError: it puts a patient into several folds.
        UserError: it has no folds or names nothing of the index, leaves out patients, or deals another number of folds.
    """
    numbers, by, table = fold_numbers(path, train, endings)
    notes = [f"{table.strangers:,} of {table.rows:,} rows name nothing in train"] if table.strangers else []
    groups = train["group"].to_numpy()
    part = pd.Series(numbers, groups)
    dealt = part[part >= 0]
    spread = dealt.groupby(level=0).nunique()
    if len(torn := spread[spread > 1]):
        folds = sorted(dealt[dealt.index == torn.index[0]].unique())
        raise LeakError(f"{path} puts {len(torn):,} patients into several folds, such as {torn.index[0]} into "
                        f"{' and '.join(map(str, folds[:3]))}; folds must be by patient: mend the table, or leave "
                        "--folds-from away")
    folds = dealt.groupby(level=0).first()
    if missing := sorted(set(groups) - set(folds.index)):
        raise UserError(f"{path} gives {len(missing):,} of {len(set(groups)):,} training patients no fold, the first is "
                        f"{missing[0]}; add them to the table")
    if filled := int((part < 0).sum()):
        notes.append(f"{filled:,} training rows are not in it and go with their patient")
    return GivenFolds(_numbered(path, folds, count, notes), by, notes)


class Told(NamedTuple):
    """How much of a fold table was used."""

    rows: int
    strangers: int


def fold_numbers(path: Path, train: pd.DataFrame, endings: tuple[str, ...] = ()) -> tuple[np.ndarray, str, Told]:
    """The fold, as written, of each row of ``train``, int [rows], -1 for none; the index column it was told by.

    UserError where the table has no column of folds, names nothing in train, or says two folds of one row.
    """
    raw = read_text_table(path, ())
    column = next((name for name in raw if name.lower() in NAMES), "")
    if not column:
        raise UserError(f"{path} has no column fold; it needs one, and one of ids, patients or studies")
    return _numbers_of(path, raw, column, train, endings)


def _numbers_of(path: Path, raw: pd.DataFrame, column: str, train: pd.DataFrame,
                endings: tuple[str, ...]) -> tuple[np.ndarray, str, Told]:
    numbers = _whole(path, raw[column])
    key, by, place = _key(path, raw.drop(columns=column), train, endings)
    values = pd.unique(train[by])
    pairs = pd.DataFrame({"value": place, "fold": numbers, "name": raw[key]})[place >= 0]
    pairs = pairs[pairs["fold"] >= 0].drop_duplicates(["value", "fold"])
    if len(twice := pairs[pairs["value"].duplicated()]):
        kind = LeakError if by == "group" else UserError
        raise kind(f"{path} gives {twice['name'].iloc[0]} two folds ({len(twice):,} such names); keep one")
    of_value = pd.Series(pairs["fold"].to_numpy(), values[pairs["value"]])
    found = train[by].map(of_value).fillna(-1).to_numpy(int)
    return found, by, Told(len(raw), int((place < 0).sum()))


def _whole(path: Path, text: pd.Series) -> np.ndarray:
    """Fold numbers, int [rows], -1 for none; ``fold2`` and ``2.0`` are 2."""
    none = text.str.lower().isin(NONE)
    digits = text.str.extract(r"(?i)^(?:fold[ _-]?)?(\d+)(?:\.0*)?$", expand=False)
    if len(wrong := text[digits.isna() & ~none]):
        raise UserError(f"{path} line {wrong.index[0] + 2}: '{wrong.iloc[0]}' is no fold; write whole numbers from 0")
    return digits.fillna("-1").astype(int).to_numpy()


def _key(path: Path, raw: pd.DataFrame, train: pd.DataFrame, endings: tuple[str, ...]) -> tuple[str, str, np.ndarray]:
    """Which column of the table names what of the index, and each row's place among the unique values there."""
    best, most = ("", "", np.empty(0, int)), 0
    for by in _columns(train):
        values, sizes = pd.unique(train[by]), train[by].value_counts(sort=False)
        for key in raw:
            place = places(raw[key], pd.Series(values), endings if by == "id" else ())
            covered = int(sizes[values[np.unique(place[place >= 0])]].sum())
            if covered > most:
                best, most = (key, by, place), covered
    if not most:
        shown = ", ".join(f"{name} {train[name].iloc[0]}" for name in ("id", "group"))
        raise UserError(f"{path} names no training row or patient of the index, such as {shown}; correct its ids")
    return best


def _columns(train: pd.DataFrame) -> list[str]:
    """Columns whose values are each of one patient: the row's name first, so that patients lose a tie."""
    names = [name for name in train if name not in ("id", "group", "split") and pd.api.types.is_string_dtype(train[name])]
    fine = [name for name in names if train[name].nunique() > 1 and train.groupby(name)["group"].nunique().max() == 1]
    return ["id", *fine, "group"]


def _numbered(path: Path, folds: pd.Series, count: int, notes: list[str]) -> pd.DataFrame:
    """The table with folds 0 to ``count`` - 1."""
    held = sorted(folds.unique())
    first = held[0] if held[0] in (0, 1) else 0
    if held != list(range(first, first + len(held))):
        raise UserError(f"{path} has the folds {', '.join(map(str, held))}; they must be numbered without a gap from 0 or 1")
    if len(held) != count:
        raise UserError(f"{path} deals {len(held)} folds and the recipe has {count}; add --set folds.count={len(held)} to "
                        "each command of this competition")
    if first:
        notes.append(f"its folds {first} to {held[-1]} are called 0 to {held[-1] - 1}")
    table = pd.DataFrame({"group": folds.index.astype("str"), "fold": folds.to_numpy(int) - first})
    return table.sort_values("group", ignore_index=True)


def moved(ours: pd.Series, theirs: pd.Series) -> tuple[int, int]:
    """How two ways to deal the same patients differ, whatever their folds are called.

    Args:
        ours: patient -> fold.
        theirs: the same, several folds of a patient in rows of their own; -1 for none.

    Returns:
        Patients that lie in another fold than where most of its fold went (or in several, or in none), and all patients.
    """
    from scipy.optimize import linear_sum_assignment

    torn = theirs.groupby(level=0).nunique()
    once = theirs.groupby(level=0).first()
    fine = once[(torn == 1) & (once >= 0)]
    both = pd.crosstab(fine.to_numpy(), ours.reindex(fine.index).to_numpy()).to_numpy()
    same = int(both[linear_sum_assignment(-both)].sum()) if both.size else 0
    return len(once) - same, len(once)
