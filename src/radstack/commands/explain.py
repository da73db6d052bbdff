"""One row from its pixels to the submitted value: where it lies, what every model says, what every step changed."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from radstack.commands.submitted import FLOAT32, submitted
from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, read_table
from radstack.core.folds import fold_of
from radstack.core.registry import check_name
from radstack.images.shards import shard_path
from radstack.recipes.stacker import Stacker
from radstack.report.stage import made_folds, models
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_index
from radstack.stack.predictions import fold_files, read_member

WIDTH = 120
"""Characters of a wrapped line."""
NEAREST = 1000
"""Names that are compared letter by letter with a wrong one: the slow comparison of a million would take minutes."""
LEARNED = 600
"""Characters of what a stacker learned; the manifest has all of it."""


@dataclass(frozen=True)
class Subject:
    """What is asked about: one row, or all rows of a series that is submitted as one."""

    name: str
    rows: pd.DataFrame
    """Its index rows."""
    fold: int
    """-1 for test."""

    @property
    def ids(self) -> pd.Series:
        """Ids of the rows."""
        return self.rows["id"]


def explain(context: Context, name: str) -> str:
    """The whole story of a row, or of a series where the submission has a row for each, as text.

    Raises:
        UserError: there is no such row; it names the nearest.
    """
    index = read_index(context)
    chosen = index[(index["id"] == name) | (index[context.competition.submission.row] == name)]
    if chosen.empty:
        return _quarantined(context, index, name)
    fold = int(fold_of(chosen, read_folds(context)).iloc[0])
    subject = Subject(name, chosen.reset_index(drop=True), fold)
    tables = predicted(context, subject)
    steps = [recipe for recipe in context.competition.models.stackers if recipe.name in tables]
    first = {model: table for model, table in tables.items() if model not in {step.name for step in steps}}
    parts = [_where(context, subject), _shown("networks and sequence models", first),
             *(_step(context, subject, step, tables) for step in steps),
             submitted(context, subject.rows)]
    return "\n\n".join(part for part in parts if part)


def predicted(context: Context, subject: Subject) -> dict[str, pd.DataFrame]:
    """Model -> its values: of a test row a line for each fold (index ``fold 0`` ..) and their ``mean``.

    Of a training row one line, of the fold that held it out, with its ``loss``; of a series the mean over its rows.
    """
    tables = {}
    for name in models(context):
        member = read_member(context.paths.oof / name, made_folds(context, name))
        whole = member.oof if subject.fold >= 0 else member.test
        own = whole[whole["id"].isin(subject.ids)]
        if len(own):
            tables[name] = _lines(context, subject, own)
    return tables


def _lines(context: Context, subject: Subject, own: pd.DataFrame) -> pd.DataFrame:
    targets, metric = list(context.competition.targets), context.competition.metric
    values = own.groupby("fold")[targets].mean()
    values.index = pd.Index([f"fold {fold}" for fold in values.index])
    if subject.fold < 0:
        return pd.concat([values, values.mean().to_frame("mean").T])
    truth = subject.rows.set_index("id").loc[own["id"], targets].to_numpy(float)
    return values.assign(loss=float(metric.row_losses(truth, own[targets].to_numpy(float)).mean()))


def _where(context: Context, subject: Subject) -> str:
    """Split, fold, patient, labels, what localization found, the place in the cache."""
    first, paths = subject.rows.iloc[0], context.paths
    side = f"train, fold {subject.fold}" if subject.fold >= 0 else "test"
    lines = [f"{subject.name}: {side}, group {first['group']}, series {first['series']}, "
             + (f"position {first['position']}" if len(subject.rows) == 1 else f"{len(subject.rows)} rows"),
             f"  file   {paths.input / str(first['path'])}"]
    if subject.fold >= 0:
        lines.append(f"  label  {_pairs(first[list(context.competition.targets)].to_dict())}")
    boxes = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    own = boxes[boxes["id"].isin(subject.ids)]
    found = [column for column in boxes if column not in subject.rows and not column.endswith(("flag", "crc"))
             and not column.startswith("map_")]
    flags = [column for column in boxes if column.endswith("flag")]
    if len(own) == 1:
        lines.append(_wrapped("found", _pairs(own.iloc[0][found].to_dict())))
    marked = sorted({f"{column} {value}" for column in flags for value in own[column] if value})
    lines.append(_wrapped("flags", ", ".join(marked) or "none"))
    return "\n".join([*lines, _cached(context, subject)])


def _cached(context: Context, subject: Subject) -> str:
    rows = read_table(context.paths.cache / "rows.parquet", context.command("03_cache"))
    own = rows[rows["id"].isin(subject.ids)]
    if own.empty:
        keep = context.competition.cache.keep
        return f"  cache  not there: {f'it is not {keep}' if keep else 'its picture is unreadable'}"
    places = [f"{shard_path(context.paths.cache, int(shard))} slot {', '.join(map(str, part['slot']))}"
              for shard, part in own.groupby("shard")]
    return _wrapped("cache", "; ".join(places))


def _step(context: Context, subject: Subject, step: Stacker, tables: dict[str, pd.DataFrame]) -> str:
    """A stacker: its members, what it learned, its values, and the change that it made."""
    own = tables[step.name]
    shown = own.copy()
    shown.loc["change"] = pd.Series(_change(context, own, [tables[name] for name in step.members if name in tables]),
                                    list(context.competition.targets))
    what = "the mean of its members" if len(step.members) > 1 else step.members[0]
    title = f"{step.name}: {step.method} of {', '.join(step.members)}; change against {what}"
    folds = [line.removeprefix("fold ") for line in own.index if line != "mean"]
    return "\n".join([*textwrap.wrap(title, WIDTH, subsequent_indent="  "), *_learned(context, step, folds), _table(shown)])


def _change(context: Context, own: pd.DataFrame, members: list[pd.DataFrame]) -> np.ndarray:
    """The last line of ``own`` less the mean of the last lines of ``members`` on the metric's scale, float [targets].

    Of a test row that is the mean over folds, which is also what a stacker reads of its members. A member that does not
    answer a target has no part in its mean. Differences that float32 cannot hold are 0.
    """
    targets, metric = list(context.competition.targets), context.competition.metric
    value = own[targets].to_numpy(float)[-1]
    before = np.stack([member[targets].to_numpy(float)[-1] for member in members])
    if len(members) > 1:
        seen = np.isfinite(before)
        linked = metric.link(np.where(seen, before, 0.5))
        before = metric.unlink(np.where(seen, linked, 0).sum(0, keepdims=True) / seen.sum(0))
    change = value - before[0]
    return np.where(np.abs(change) < FLOAT32 * np.maximum(1, np.abs(value)), 0, change)


def _learned(context: Context, step: Stacker, folds: list[str]) -> list[str]:
    """What the fit of each fold learned, from the manifest, a wrapped paragraph each."""
    manifest = manifest_of(fold_files(context.paths.oof / step.name, int(folds[0]))[0])
    learned = read_json(manifest).get("learned", {})
    lines = []
    for fold in folds:
        text = _pairs(learned.get(f"fold{fold}") or {}, step.members)
        cut = f"{text[:LEARNED]} ... (all of it: {manifest})" if len(text) > LEARNED else text
        lines += [_wrapped(f"fit without fold {fold}:", cut)] if text else []
    return lines


def _quarantined(context: Context, index: pd.DataFrame, name: str) -> str:
    """Why a picture is in no table, and what is submitted for it; a UserError with the nearest names if nobody knows it."""
    files = (context.paths.folds / "quarantine.csv", context.paths.cache / "quarantine.csv")
    for file in (file for file in files if file.exists()):
        table = pd.read_csv(file, dtype=str)
        own = table[table["id"] == name]
        if len(own):
            first, column = own.iloc[0], context.competition.submission.row
            row = own.assign(**{column: first["path"] if column == "path" else name})
            return (f"{name}: {first['split']}, in quarantine: {first['reason']}, {first['detail']} ({file})\n\n"
                    f"{submitted(context, row)}")
    known = pd.concat([index["id"], index[context.competition.submission.row]]).drop_duplicates()
    near = sorted(known, key=lambda other: -_agreeing(other, name))[:NEAREST]
    check_name(near, name, "row")
    raise UserError(f"there is no row '{name}'")


def _agreeing(one: str, other: str) -> int:
    """Number of leading characters that two names share."""
    return next((place for place, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))


def _shown(title: str, tables: dict[str, pd.DataFrame]) -> str:
    if not tables:
        return ""
    lines = pd.concat(tables)
    lines.index = pd.Index([f"{name}, {line}" for name, line in lines.index])
    return f"{title}\n{_table(lines)}"


def _table(table: pd.DataFrame) -> str:
    return textwrap.indent(table.to_string(float_format="{:.5g}".format, na_rep="-"), "  ")


def _wrapped(title: str, text: str) -> str:
    """``title`` and wrapped ``text``, indented."""
    return textwrap.fill(f"{title:6} {text}", WIDTH, initial_indent="  ", subsequent_indent=" " * 9)


def _pairs(value: Any, members: tuple[str, ...] = ()) -> str:
    """JSON values as ``name value, name value``; ``weights`` of ``members`` bear their names, and zeros are left out."""
    if isinstance(value, dict):
        parts = [f"{name} ({_pairs(one, members)})" if isinstance(one, dict) else
                 f"{name} {_weights(one, members) if name == 'weights' else _pairs(one)}" for name, one in value.items()]
        return ", ".join(parts)
    if isinstance(value, list):
        return f"[{', '.join(map(_pairs, value))}]"
    return f"{value:.5g}" if isinstance(value, (float, np.floating)) else str(value)


def _weights(values: Any, members: tuple[str, ...]) -> str:
    if not isinstance(values, list) or len(values) != len(members) or isinstance(values[0], list):
        return _pairs(values)
    return f"({', '.join(f'{name} {_pairs(one)}' for name, one in zip(members, values) if one)})"
