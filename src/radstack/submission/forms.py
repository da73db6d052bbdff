"""Submission files: predictions as rows of the organizer's CSV in the order of his sample file, checked before an upload.

The form ``long`` is that of RSNA 2019, ``<id>_<target>,probability``; ``wide`` has one row a picture and one column a
target; ``classes`` likewise, the targets being probabilities of classes.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import Missing, UserError, command
from radstack.core.files import read_text_table, write_table
from radstack.core.lookup import places
from radstack.core.registry import pick
from radstack.recipes.submission import LONG, Layout
from radstack.scoring.metrics import TOLERANCE, ClassGroup, by_group, coarse

DECIMALS = 8
"""Digits written; far below what the metric can see, and a fifth less to upload than float64 in full."""


def read_ids(sample_path: Path, layout: Layout = LONG) -> pd.Series:
    """Row names of the organizer's sample file, in its order; UserError without such a column, or for a name twice."""
    table = read_text_table(sample_path, ())
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
    """Write ``ids`` [rows] and finite ``values`` [rows, columns], clipped to the layout's range, atomically."""
    wide = np.asarray(values, dtype=np.float64).reshape(len(ids), -1)
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        raise UserError(f"the prediction for {ids.iloc[int(bad.argmax())]} is not finite; predict again before submitting")
    table = pd.DataFrame(np.clip(wide, layout.low, layout.high).round(DECIMALS), columns=list(layout.values))
    for place, (group, chances) in enumerate(zip(layout.calls, coarse(wide, layout.calls) if layout.calls else ())):
        table.insert(place, group.name, np.array(group.coarse)[chances.argmax(axis=1)])
    table = table[layout.header[len(layout.id_columns):]]
    parts = ids.str.rsplit("_", n=len(layout.id_columns) - 1, expand=True) if "," in layout.id_column else ids.to_frame()
    write_table(path, pd.concat([parts.set_axis(layout.id_columns, axis=1).reset_index(drop=True), table], axis=1))


def validate(path: Path, sample_path: Path, layout: Layout = LONG, groups: tuple[ClassGroup, ...] = ()) -> int:
    """Check a submission against the sample file and return its number of rows. Any order is allowed, as at Kaggle.

    ``groups`` are the metric's: in the form ``classes`` the values of each sum to 1. Blank lines are passed over. The
    UserError names the first wrong line, its id, what is wrong and what is expected.
    """
    table, expected = _read(path), read_ids(sample_path, layout)
    if list(table.columns) != layout.header:
        raise UserError(f"{path} line 1: header is {','.join(table.columns)}; expected {','.join(layout.header)}")
    names = row_names(table, layout.id_column)
    place = places(expected, names)
    groups = layout.calls or (groups if layout.form == "classes" else ())
    if faults := list(_faults(table, place, layout, groups)):
        row, fault = min(faults, key=lambda found: found[0])
        raise UserError(f"{path} line {table.index[row] + 2}, id {names.iloc[row]}: {fault}")
    if len(missing := expected.drop(expected.index[place])):
        raise UserError(f"{path} lacks {len(missing)} of {len(expected)} ids, first {missing.iloc[0]} (line "
                        f"{missing.index[0] + 2} of {sample_path.name}); expected every id of the sample file")
    return len(table)


def _faults(table: pd.DataFrame, place: np.ndarray, layout: Layout,
            groups: tuple[ClassGroup, ...]) -> Iterator[tuple[int, str]]:
    """The first row of each kind of fault, with its words; ``place`` is each row's in the sample file, or -1."""
    yield from _first(pd.Series(place < 0), "is not in the sample file; expected one of its ids")
    yield from _first(pd.Series(place).duplicated() & (place >= 0), "occurs for the second time; expected every id once")
    slack = 10.0**-DECIMALS
    for column in layout.numbers:
        text = table[column]
        number = pd.to_numeric(text, errors="coerce")
        finite = np.isfinite(number)
        yield from _first(~finite, f"{column} is '{{}}'; expected a finite number", text)
        yield from _first(finite & ((number < layout.low - slack) | (number > layout.high + slack)),
                          f"{column} is {{}}; expected a number from {layout.low:g} to {layout.high:.9g}", text)
    yield from _call_faults(table, layout, groups)


def _call_faults(table: pd.DataFrame, layout: Layout, groups: tuple[ClassGroup, ...]) -> Iterator[tuple[int, str]]:
    """Words that are no class of their group, and groups whose values do not sum to 1."""
    for group in layout.calls:
        yield from _first(~table[group.name].isin(group.coarse),
                          f"{group.name} is '{{}}'; expected one of {', '.join(group.coarse)}", table[group.name])
    if layout.words_only or not groups:
        return
    values = table[list(layout.values)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for group, chances in zip(groups, by_group(values, tuple(len(group.classes) for group in groups))):
        total = pd.Series(chances.sum(axis=1))
        yield from _first((total - 1).abs() > TOLERANCE, f"the values of {group.name} sum to {{:.4g}}; expected 1", total)


def _first(wrong: pd.Series, fault: str, text: pd.Series | None = None) -> Iterator[tuple[int, str]]:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        yield row, fault if text is None else fault.format(text.iloc[row])


def _read(path: Path) -> pd.DataFrame:
    """A CSV as text without its blank lines; the index of a row is the number of its line less 2."""
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False)
        blank = (table == "").all(axis=1)
        if blank.any():  # lines of commas alone are no blank ones
            lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")[1:]  # others break lines elsewhere
            if len(lines) == len(table):  # else a cell holds a line break
                blank &= np.array([not line.strip() for line in lines])
        return table[~blank]
    except FileNotFoundError as error:
        raise Missing(path) from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise UserError(f"{path} is not a readable CSV: {' '.join(str(error).split())}") from error


FILLS: dict[str, Callable[..., np.ndarray]] = {"long": np.fmin.reduce, "wide": np.nanmedian, "classes": np.nanmean}
"""Form -> what a row without a prediction gets (its picture could not be read), of each target's predictions.

``long``: the least, since an unreadable picture is rarely a positive one and 0 would be the costliest guess if it is.
``wide``: the median, the guess with the least absolute error. ``classes``: the mean, which sums to 1 in each group as every
prediction does.
"""
FEW = 20
"""Predicted pictures below which these say little: the prior of the training labels is taken where it is known."""


def write_predictions(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...],
                      layout: Layout = LONG, prior: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Write the submission in the layout's form, in the sample file's order.

    ``predictions`` has ``id`` and a column for each of ``targets``, one row a picture; unless the form is ``long``, the
    layout's ``values`` are the columns of the targets, in order. ``prior`` has what to say of each target.

    Gives the rows filled by ``FILLS``, with fewer than ``FEW`` predictions by the prior: ``id`` (as in the file) and
    ``value`` or the values; none when all were predicted. UserError where predictions are empty and there is no prior, hold
    an id twice, or an id that the sample file does not name.
    """
    fill = pick(FILLS, layout.form, "form of submission")
    ids, table = read_ids(sample_path, layout), predictions[list(targets)].to_numpy(np.float64)
    if prior is not None and len(table) < FEW:
        table = np.vstack([table, [prior[target] for target in targets]])  # the last row, by no name
        fill = _last
    elif not len(table):
        raise UserError(f"there are no test predictions to submit; run {command('05_predict')}, and the stages after it")
    if layout.form == "long":
        codes = target_codes(ids, targets)
        place = _places(ids, predictions["id"], tuple(f"_{target}" for target in targets))
        own = table[:len(predictions)]
        guesses, known, names = fill(table, axis=0)[codes, None], own.T.reshape(-1, 1), ["id", "value"]
    else:
        place = _places(ids, predictions["id"], ("",))
        guesses, known, names = fill(table, axis=0), table, [layout.id_column, *layout.values]
    missing = place < 0
    values = np.where(missing[:, None], guesses, known[place] if len(known) else guesses)
    write(path, ids, values, layout)
    filled = pd.DataFrame(values[missing], columns=names[1:])
    filled.insert(0, names[0], ids[missing].to_numpy())
    return filled


def _last(table: np.ndarray, axis: int) -> np.ndarray:
    return np.take(table, -1, axis)


def sample_of(ids: pd.Series, targets: tuple[str, ...], layout: Layout = LONG) -> pd.DataFrame:
    """A list of pictures in the organizer's form, for pictures that he never listed: the columns of the row's name."""
    if layout.form == "long":
        return pd.DataFrame({layout.id_column: [f"{one}_{target}" for one in ids for target in targets]})
    parts = ids.str.rsplit("_", n=len(layout.id_columns) - 1, expand=True) if "," in layout.id_column else ids.to_frame()
    return parts.set_axis(layout.id_columns, axis=1)


def write_constant(path: Path, sample_path: Path, constant: Mapping[str, float], layout: Layout = LONG) -> None:
    """Write each target's ``constant`` everywhere: the first file to upload, since its score is known beforehand."""
    ids, values = read_ids(sample_path, layout), np.array(list(constant.values()))
    long = layout.form == "long"
    write(path, ids, values[target_codes(ids, tuple(constant))] if long else np.tile(values, (len(ids), 1)), layout)


def ending_of(name: str, targets: Iterable[str]) -> str:
    """The ``_<target>`` at the end of a long-form name, "" for none.

    Of several the longest: ``a_viral_pneumonia`` is of the target ``viral_pneumonia``, though ``pneumonia`` ends it, too.
    """
    return max((f"_{target}" for target in targets if name.endswith(f"_{target}")), key=len, default="")


def target_codes(ids: pd.Series, targets: tuple[str, ...]) -> np.ndarray:
    """Target number of each long-form name, int [rows], see :func:`ending_of`; UserError where one ends in none."""
    codes = np.full(len(ids), -1)
    for place in sorted(range(len(targets)), key=lambda one: len(targets[one])):  # the longest last, so that it stays
        codes[ids.str.endswith(f"_{targets[place]}").to_numpy(bool)] = place
    if (codes < 0).any():
        raise UserError(f"the sample file names {ids.iloc[int((codes < 0).argmax())]}, which ends in none of "
                        f"{', '.join(targets)}")
    return codes


def _places(ids: pd.Series, pictures: pd.Series, endings: tuple[str, ...]) -> np.ndarray:
    """Place of each row's name in the predictions laid out ending by ending, -1 where there is none."""
    names = pd.concat([pictures.astype("str") + ending for ending in endings], ignore_index=True)
    if not names.is_unique:
        raise UserError(f"{pictures[pictures.duplicated()].iloc[0]} is predicted twice; average the folds first")
    place = places(names, ids)
    if (place >= 0).sum() < len(names):
        stranger = names[~names.isin(ids)].iloc[0]
        raise UserError(f"{stranger} is predicted but not in the sample file; are these the test predictions?")
    return place
