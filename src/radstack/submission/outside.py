"""Tables of predictions that others made: their ids, forms and scales, brought into the order and the scale of ours."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_text_table
from radstack.core.given_folds import NAMES, places
from radstack.recipes.submission import Layout
from radstack.scoring.metrics import by_group
from radstack.scoring.task import CLASSES, NUMBERS, Metric, Task

SLACK = 1e-3
"""By how much a probability may leave [0, 1], and a group of classes its sum, and still be one."""
UNIT = 4.0
"""Ages whose median differs from that of the labels by more than this factor are in another unit."""
SAME = 0.99
"""Share of labeled rows in which a column equals the label: then it is the label."""


class Wanted(NamedTuple):
    """What is looked for in a table."""

    task: Task
    layout: Layout
    rows: pd.DataFrame
    """Rows of one split: ``id``, the targets where they are known, further columns of the index."""
    others: pd.Series
    """Ids of the other split."""
    column: str = ""
    """The column of a sole target; "" for the one that is found."""


class Read(NamedTuple):
    """A table in our order."""

    values: np.ndarray
    """float64 [rows, targets] on the metric's own scale; NaN in rows that the table lacks."""
    columns: tuple[str, ...]
    """Where they stood."""
    notes: list[str]
    """What was passed over or taken otherwise than written, a line each."""


def read_predictions(path: Path, wanted: Wanted) -> Read:
    """Read the predictions of ``wanted.rows``, in any order, one column a target or one row an id and target.

    Raises:
        LeakError: it holds the other split's rows and none of these.
        UserError: ids, columns or values are not understood, or one id has two predictions.
    """
    raw, notes = read_text_table(path, ()), list[str]()
    names = list(wanted.task.targets)
    wide = _spread(path, raw, wanted, notes)
    key, place = _key(path, wide, wanted)
    if strangers := int((place < 0).sum()):
        notes.append(f"{strangers:,} of {len(wide):,} rows name no row here")
    wide, place = wide[place >= 0].reset_index(drop=True), place[place >= 0]
    columns = _columns(path, wide.drop(columns=key), place, wanted)
    values = _numbers(path, wide[list(columns)])
    place, values = _once(path, wide[key[0]], place, values, notes)
    values, note = _scaled(path, values, wanted)
    out = np.full((len(wanted.rows), len(names)), np.nan)
    out[place] = values
    return Read(out, columns, notes + ([note] if note else []))


def _spread(path: Path, raw: pd.DataFrame, wanted: Wanted, notes: list[str]) -> pd.DataFrame:
    """A long table as one column a target beside ``id``; a wide one as it is."""
    targets = wanted.task.targets
    ending = rf"^(.*?)_({'|'.join(map(re.escape, targets))})$"  # the shortest id, so that the longest target wins
    for name in raw:
        rest = [other for other in raw if other != name]
        if len(targets) > 1 and len(raw) and raw[name].isin(targets).all():  # id, target, value
            words = [other for other in rest if not raw[other].str.fullmatch(r"[-+.\deE]*").all()]
            rest = words or rest  # of two columns of numbers the first is the id
            ids, parts = raw[rest[0]], raw[name]
        elif len(targets) > 1 and len(raw) and raw[name].str.match(ending).all():
            found = raw[name].str.extract(ending)
            ids, parts, rest = found[0], found[1], [name]
        else:
            continue
        value = [other for other in raw if other not in (name, *rest[:1]) and other.lower() not in NAMES]
        if len(value) != 1:
            raise UserError(f"{path} is long and has the columns {', '.join(raw)}; leave one column of values in it")
        long = pd.DataFrame({"id": ids, "part": parts, "value": raw[value[0]]})
        once = long.drop_duplicates()
        if len(once) < len(long):
            notes.append(f"{len(long) - len(once):,} repeated rows were dropped")
        if len(twice := once[once.duplicated(["id", "part"])]):
            raise UserError(f"{path} says two values of {twice['id'].iloc[0]}_{twice['part'].iloc[0]}; keep one")
        return once.pivot(index="id", columns="part", values="value").fillna("").reset_index()
    return raw


def _key(path: Path, wide: pd.DataFrame, wanted: Wanted) -> tuple[list[str], np.ndarray]:
    """The columns of the id, and the place of each row among the wanted ones, -1 for none."""
    joined = wanted.layout.id_columns
    ways = {name: wide[name] for name in wide}
    if len(joined) > 1 and set(joined) <= set(wide):
        ways[",".join(joined)] = wide[joined].agg("_".join, axis=1)
    found = {name: places(ids, wanted.rows["id"]) for name, ids in ways.items()}
    best = max(found, key=lambda name: int((found[name] >= 0).sum()))
    if (found[best] >= 0).any():
        return best.split(","), found[best]
    there = max(int((places(ids, wanted.others) >= 0).sum()) for ids in ways.values())
    if there:
        raise LeakError(f"{path} holds {there:,} rows of the other split and none of this one; out-of-fold predictions come "
                        "first, those of test second")
    raise UserError(f"{path} has no column of ids such as {wanted.rows['id'].iloc[0]}; correct its ids")


def _columns(path: Path, wide: pd.DataFrame, place: np.ndarray, wanted: Wanted) -> tuple[str, ...]:
    """The column of each target: of its name, or of its name with something before or behind it; a sole one by itself."""
    targets, lower = wanted.task.targets, {name: name.lower() for name in wide}
    if wanted.column:
        if wanted.column not in wide or len(targets) > 1:
            raise UserError(f"{path} has no column {wanted.column} for a sole target; choose one of {', '.join(wide)}")
        return (wanted.column,)
    labels = [name for name in wide if _is_label(wide[name], place, wanted)]
    usable = [name for name in wide if name not in labels and lower[name] not in NAMES]
    found = []
    for target in targets:
        exact = [name for name in usable if lower[name] == target.lower()]
        affixed = [name for name in usable if _has_word(lower[name], target.lower())]
        own = exact or affixed
        if len(own) != 1 and len(targets) == 1:
            numeric = [name for name in usable if name not in wanted.rows and len(wide) and
                       pd.to_numeric(wide[name], errors="coerce").notna().any()]
            own = own if len(own) == 1 else numeric
        if len(own) != 1:
            what = f"several columns for {target}: {', '.join(own)}; choose one with --column" if own else (
                f"no column {target}" + (" but the labels themselves" if labels else "") + f"; it needs {','.join(targets)}")
            raise UserError(f"{path} has {what}")
        found.append(own[0])
    return tuple(found)


def _has_word(name: str, target: str) -> bool:
    """Whether ``target`` stands in ``name`` between ends or signs: ``pred_any`` and not ``many``."""
    before, _, behind = name.partition(target)
    return target in name and not before[-1:].isalnum() and not behind[:1].isalnum()


def _is_label(text: pd.Series, place: np.ndarray, wanted: Wanted) -> bool:
    """Whether a column is the label of one of the targets: a table of predictions often has the truth beside them."""
    number = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    for target in wanted.task.targets:
        truth = wanted.rows[target].to_numpy(np.float64)[place] if target in wanted.rows else np.full(len(place), np.nan)
        known = np.isfinite(truth)
        if known.any() and np.mean(number[known] == truth[known]) >= SAME:
            return True
    return False


def _numbers(path: Path, text: pd.DataFrame) -> np.ndarray:
    """Values, float64 [rows, targets]; NaN for blanks. A comma may stand for the point."""
    point = text.apply(lambda column: column.str.replace(",", ".", regex=False))
    numbers = point.apply(pd.to_numeric, errors="coerce")
    blank = point.apply(lambda column: column.str.lower().isin(("", "nan", "na", "none")))
    wrong = (numbers.isna() & ~blank).to_numpy()
    if wrong.any():
        raise UserError(f"{path}: '{text.to_numpy()[wrong][0]}' is no number; write numbers alone")
    return numbers.to_numpy(np.float64)


def _once(path: Path, ids: pd.Series, place: np.ndarray, values: np.ndarray,
          notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """One row a place; rows that repeat another are dropped."""
    table = pd.DataFrame(values).assign(place=place).drop_duplicates()
    if len(table) < len(place):
        notes.append(f"{len(place) - len(table):,} repeated rows were dropped")
    if len(twice := table[table["place"].duplicated()]):
        raise UserError(f"{path} says two values of {ids.iloc[twice.index[0]]}; keep one")
    return table["place"].to_numpy(int), table.drop(columns="place").to_numpy()


def _scaled(path: Path, values: np.ndarray, wanted: Wanted) -> tuple[np.ndarray, str]:
    """The values on the metric's scale, and a word on it where they were on another one."""
    metric = wanted.task.metric
    known = values[np.isfinite(values)]
    if not known.size:
        raise UserError(f"{path} has no number for any row here; is it the right table?")
    if metric.kind.predicts == NUMBERS:
        return _in_unit(path, values, wanted), ""
    low, high = float(known.min()), float(known.max())
    if low < -SLACK:
        return metric.unlink(values), f"values from {low:.3g} to {high:.3g} were taken as log odds"
    if high <= 1 + SLACK:
        return _whole(path, np.clip(values, 0, 1), metric), (
            f"{int(((known <= 0) | (known >= 1)).sum()):,} values are 0 or 1 and count as {metric.clip:g} from there"
            if (known <= 0).any() or (known >= 1).any() else "")
    if high <= 100 * (1 + SLACK):
        return _whole(path, np.clip(values / 100, 0, 1), metric), f"values up to {high:.3g} were taken as percent"
    raise UserError(f"{path} has values from {low:.3g} to {high:.3g}, neither probabilities, percent nor log odds; write "
                    "probabilities")


def _whole(path: Path, values: np.ndarray, metric: Metric) -> np.ndarray:
    """Classes whose groups sum to 1 (rounding is mended)."""
    if metric.kind.predicts != CLASSES:
        return values
    parts = by_group(values, metric.sizes)
    for group, part in zip(metric.groups, parts):
        total = part.sum(axis=1)
        if (np.abs(total - 1) > 0.02).any():
            wrong = float(total[np.nanargmax(np.abs(total - 1))])
            raise UserError(f"{path}: the classes of {group.name} sum to {wrong:.3g} in some row; write probabilities of "
                            "sum 1")
    return np.concatenate([part / part.sum(axis=1, keepdims=True) for part in parts], axis=1)


def _in_unit(path: Path, values: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Numbers as they are; a UserError where they are in another unit than the labels."""
    for place, target in enumerate(wanted.task.targets):
        labels = wanted.rows[target].to_numpy(np.float64) if target in wanted.rows else np.full(1, np.nan)
        if not np.isfinite(labels).any():
            continue
        said, true = float(np.nanmedian(values[:, place])), float(np.nanmedian(labels))
        if not abs(true) / UNIT <= abs(said) <= abs(true) * UNIT:
            unit = wanted.task.metric.unit or "the labels' unit"
            raise UserError(f"{path} says {said:.3g} of {target} in the middle, and the labels {true:.3g}; give it in "
                            f"{unit}")
    return values
