"""Submission files: written whole, in the sample file's order, and checked row by row before an upload is spent.

A :class:`Layout` with :func:`validate` and :func:`write` knows ids, columns and ranges, which every competition's CSV has.
``radstack.submission.forms`` turns predictions into its rows.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.recipes.submission import LONG, Layout
from radstack.scoring.metrics_classes import TOLERANCE, by_group, coarse

DECIMALS = 8
"""Digits written; far below what the metric can see, and a fifth less to upload than float64 in full."""


def read_ids(sample_path: Path, layout: Layout = LONG) -> pd.Series:
    """Row names of the organizer's sample file, in its order.

    Raises:
        UserError: the file is missing, has no such column, or names a row twice.
    """
    table = _read(sample_path)
    names = (*layout.sample_ids, layout.id_column)
    column = next((name for name in names if set(name.split(",")) <= set(table)), "")
    if not column:
        raise UserError(f"{sample_path} has no column {' or '.join(names)}; is it the organizer's list of test pictures?")
    ids = row_names(table, column)
    if not ids.is_unique:
        raise UserError(f"{sample_path} lists {ids[ids.duplicated()].iloc[0]} twice; download it again")
    return ids


def row_names(table: pd.DataFrame, column: str) -> pd.Series:
    """The names of a table's rows: its ``column``, or several (``a,b``) joined by ``_``."""
    return table[column.split(",")].agg("_".join, axis=1) if "," in column else table[column]


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
    for place, (group, chances) in enumerate(zip(layout.calls, coarse(wide, layout.calls) if layout.calls else ())):
        table.insert(place, group.name, np.array(group.coarse)[chances.argmax(axis=1)])
    parts = ids.str.rsplit("_", n=len(layout.id_columns) - 1, expand=True) if "," in layout.id_column else ids.to_frame()
    write_table(path, pd.concat([parts.set_axis(layout.id_columns, axis=1).reset_index(drop=True), table], axis=1))


def validate(path: Path, sample_path: Path, layout: Layout = LONG) -> int:
    """Check a submission against the sample file and return its number of rows. Any order is allowed, as at Kaggle.

    Raises:
        UserError: names the first wrong line, its id, what is wrong and what is expected.
    """
    table, expected = _read(path), read_ids(sample_path, layout)
    if list(table.columns) != layout.header:
        raise UserError(f"{path} line 1: header is {','.join(table.columns)}; expected {','.join(layout.header)}")
    names = row_names(table, layout.id_column)
    place = pd.Index(expected).get_indexer(pd.Index(names))
    faults = list(_faults(table, place, layout))
    if faults:
        row, fault = min(faults, key=lambda found: found[0])
        raise UserError(f"{path} line {row + 2}, id {names.iloc[row]}: {fault}")
    missing = expected.drop(expected.index[place])
    if len(missing):
        raise UserError(f"{path} lacks {len(missing)} of {len(expected)} ids, first {missing.iloc[0]} (line "
                        f"{missing.index[0] + 2} of {sample_path.name}); expected every id of the sample file")
    return len(table)


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
    yield from _call_faults(table, layout)


def _call_faults(table: pd.DataFrame, layout: Layout) -> Iterator[tuple[int, str]]:
    """Words that are no class of their group, and groups whose values do not sum to 1."""
    values = table[list(layout.values)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for group, chances in zip(layout.calls, by_group(values, tuple(len(one.classes) for one in layout.calls))
                              if layout.calls else ()):
        yield from _first(~table[group.name].isin(group.coarse),
                          f"{group.name} is '{{}}'; expected one of {', '.join(group.coarse)}", table[group.name])
        total = pd.Series(chances.sum(axis=1))
        yield from _first((total - 1).abs() > TOLERANCE, f"the values of {group.name} sum to {{:.4g}}; expected 1", total)


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
