"""Submission files: written whole, in the sample file's order, and checked row by row before an upload is spent.

Two layers. A :class:`Layout` with :func:`validate` and :func:`write` knows ids, columns and ranges, which every
competition's CSV has. On top of it lies the long form of RSNA 2019 (``<id>_<target>,probability``); a competition with
one row a picture writes its table through :func:`write` directly.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.errors import UserError
from radstack.files import write_table
from radstack.metrics import CLIP

DECIMALS = 8
"""Digits written; far below what the metric can see, and a fifth less to upload than float64 in full."""


@dataclass(frozen=True)
class Layout:
    """Columns and range of a submission CSV."""

    id_column: str = "ID"
    """Column that names the row."""
    values: tuple[str, ...] = ("Label",)
    """Columns of numbers."""
    low: float = CLIP
    """Least value; probabilities are clipped, since one confident miss at 0 costs 34.5."""
    high: float = 1 - CLIP
    """Greatest value."""


LONG = Layout()
"""RSNA 2019: one row a picture and target."""


def read_ids(sample_path: Path, layout: Layout = LONG) -> pd.Series:
    """Row names of the organizer's sample file, in its order.

    Raises:
        UserError: the file is missing, has no such column, or names a row twice.
    """
    table = _read(sample_path)
    if layout.id_column not in table:
        raise UserError(f"{sample_path} has no column {layout.id_column}; is it the sample submission?")
    ids = table[layout.id_column]
    if not ids.is_unique:
        raise UserError(f"{sample_path} lists {ids[ids.duplicated()].iloc[0]} twice; download it again")
    return ids


def write(path: Path, ids: pd.Series, values: np.ndarray, layout: Layout = LONG) -> None:
    """Write ``ids`` [rows] and ``values`` [rows, columns], clipped to the layout's range, atomically.

    Raises:
        UserError: a value is not finite.
    """
    wide = np.asarray(values, dtype=np.float64).reshape(len(ids), -1)
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        raise UserError(f"the prediction for {ids.iloc[int(bad.argmax())]} is not finite; predict again before submitting")
    table = pd.DataFrame(np.clip(wide, layout.low, layout.high).round(DECIMALS), columns=list(layout.values))
    table.insert(0, layout.id_column, ids.to_numpy())
    write_table(path, table)


def validate(path: Path, sample_path: Path, layout: Layout = LONG) -> int:
    """Check a submission against the sample file and return its number of rows. Any order is allowed, as at Kaggle.

    Raises:
        UserError: names the first wrong line, its id, what is wrong and what is expected.
    """
    table, expected = _read(path), read_ids(sample_path, layout)
    header = [layout.id_column, *layout.values]
    if list(table.columns) != header:
        raise UserError(f"{path} line 1: header is {','.join(table.columns)}; expected {','.join(header)}")
    place = pd.Index(expected).get_indexer(pd.Index(table[layout.id_column]))
    faults = list(_faults(table, place, layout))
    if faults:
        row, fault = min(faults, key=lambda found: found[0])
        raise UserError(f"{path} line {row + 2}, id {table[layout.id_column].iloc[row]}: {fault}")
    missing = expected.drop(expected.index[place])
    if len(missing):
        raise UserError(f"{path} lacks {len(missing)} of {len(expected)} ids, first {missing.iloc[0]} (line "
                        f"{missing.index[0] + 2} of {sample_path.name}); expected every id of the sample file")
    return len(table)


def target_codes(ids: pd.Series, targets: tuple[str, ...]) -> np.ndarray:
    """Target number of each long-form name, int [rows].

    Raises:
        UserError: a name ends in no ``_<target>``.
    """
    codes = np.full(len(ids), -1)
    for place, target in enumerate(targets):
        codes[ids.str.endswith(f"_{target}").to_numpy(bool)] = place
    if (codes < 0).any():
        raise UserError(f"the sample file names {ids.iloc[int((codes < 0).argmax())]}, which ends in none of "
                        f"{', '.join(targets)}")
    return codes


def write_long(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...],
               layout: Layout = LONG) -> pd.DataFrame:
    """Write ``<id>_<target>,probability`` rows in the sample file's order.

    A row without a prediction (its picture could not be read) gets the least prediction of its target, since an
    unreadable picture is rarely a positive one and 0 would be the costliest guess if it is.

    Args:
        path: file to write.
        predictions: ``id`` and a probability column for each target, one row a picture.
        sample_path: the organizer's sample submission.
        targets: label columns.
        layout: columns and range.

    Returns:
        The filled rows: ``id`` (as in the file) and ``value``; empty when all were predicted.

    Raises:
        UserError: predictions are empty, hold an id twice, or an id that the sample file does not name.
    """
    ids = read_ids(sample_path, layout)
    codes = target_codes(ids, targets)
    table = predictions[list(targets)].to_numpy(np.float64)
    place = _places(ids, predictions["id"], targets)
    missing = place < 0
    values = np.where(missing, np.fmin.reduce(table)[codes], table.T.reshape(-1)[place])
    write(path, ids, values, layout)
    return pd.DataFrame({"id": ids[missing], "value": values[missing]}).reset_index(drop=True)


def write_constant(path: Path, sample_path: Path, prevalence: Mapping[str, float], layout: Layout = LONG) -> None:
    """Write each target's ``prevalence`` everywhere: the first file to upload, since its score is known beforehand."""
    ids = read_ids(sample_path, layout)
    codes = target_codes(ids, tuple(prevalence))
    write(path, ids, np.array(list(prevalence.values()))[codes], layout)


def _places(ids: pd.Series, pictures: pd.Series, targets: tuple[str, ...]) -> np.ndarray:
    """Place of each long-form name in the predictions laid out target by target, -1 where there is none."""
    if not len(pictures):
        raise UserError("there are no test predictions to submit; run 05_predict.py, or write the constant submission")
    names = pd.Index(pd.concat([pictures + f"_{target}" for target in targets], ignore_index=True))
    if not names.is_unique:
        raise UserError(f"{pictures[pictures.duplicated()].iloc[0]} is predicted twice; average the folds first")
    place = names.get_indexer(pd.Index(ids))
    if (place >= 0).sum() < len(names):
        stranger = names[~names.isin(ids)][0]
        raise UserError(f"{stranger} is predicted but not in the sample file; are these the test predictions?")
    return place


def _faults(table: pd.DataFrame, place: np.ndarray, layout: Layout) -> Iterator[tuple[int, str]]:
    """The first row of each kind of fault, with its words; ``place`` is each row's in the sample file, or -1."""
    yield from _first(pd.Series(place < 0), "is not in the sample file; expected one of its ids")
    yield from _first(pd.Series(place).duplicated() & (place >= 0), "occurs for the second time; expected every id once")
    slack = 10.0**-DECIMALS
    for column in layout.values:
        text = table[column]
        number = pd.to_numeric(text, errors="coerce")
        finite = np.isfinite(number)
        yield from _first(~finite, f"{column} is '{{}}'; expected a finite number", text)
        yield from _first(finite & ((number < layout.low - slack) | (number > layout.high + slack)),
                          f"{column} is {{}}; expected a number from {layout.low:g} to {layout.high:.9g}", text)


def _first(wrong: pd.Series, fault: str, text: pd.Series | None = None) -> Iterator[tuple[int, str]]:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        yield row, fault if text is None else fault.format(text.iloc[row])


def _read(path: Path) -> pd.DataFrame:
    """A CSV as text, one row a line (blank lines too), so that row numbers are line numbers."""
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            return pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; write it with 08_submit.py, or get the data with 00_get_data.py") from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise UserError(f"{path} is not a readable CSV: {' '.join(str(error).split())}") from error
