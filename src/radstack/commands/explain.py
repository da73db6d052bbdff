"""One row from its pixels to the submitted value: where it lies, what every model says, what every step changed."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, read_table
from radstack.core.folds import fold_of
from radstack.core.registry import check_name
from radstack.images.shards import shard_path
from radstack.recipes.stacker import Stacker
from radstack.report.stage import boxes_of, made_folds, models
from radstack.running.context import Context
from radstack.running.tables import quarantines, read_folds, read_index
from radstack.stack.predictions import fold_files, read_member
from radstack.stack.rows import mean_over_folds
from radstack.stages.stack import stack_folds
from radstack.stages.submit import by_row
from radstack.submission.forms import DECIMALS, row_names

FLOAT32 = 1e-6
"""Relative precision of a stored prediction, with some room."""
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
    first = {f"{model}, {line}": values for model, table in tables.items() if model not in {step.name for step in steps}
             for line, values in table.iterrows()}
    parts = [_where(context, subject),
             f"networks and sequence models\n{_table(pd.DataFrame(first).T)}" if first else "",
             *(_step(context, subject, step, tables) for step in steps), submitted(context, subject.rows)]
    return "\n\n".join(part for part in parts if part)


def predicted(context: Context, subject: Subject) -> dict[str, pd.DataFrame]:
    """Model -> its values: of a test row a line for each fold (index ``fold 0`` ..) and their ``mean``.

    Of a training row one line, of the fold that held it out, with its ``loss``; of a series the mean over its rows.
    """
    targets, metric, tables = list(context.competition.targets), context.competition.metric, {}
    for name in models(context):
        member = read_member(context.paths.oof / name, made_folds(context, name))
        whole = member.oof if subject.fold >= 0 else member.test
        own = whole[whole["id"].isin(subject.ids)]
        if own.empty:
            continue
        values = own.groupby("fold")[targets].mean().rename(index="fold {}".format).rename_axis(None)
        if subject.fold < 0:
            tables[name] = pd.concat([values, values.mean().to_frame("mean").T])
        else:
            truth = subject.rows.set_index("id").loc[own["id"], targets].to_numpy(float)
            tables[name] = values.assign(loss=float(metric.row_losses(truth, own[targets].to_numpy(float)).mean()))
    return tables


def _where(context: Context, subject: Subject) -> str:
    """Split, fold, patient, labels, what localization found, the place in the cache."""
    first, paths = subject.rows.iloc[0], context.paths
    side = f"train, fold {subject.fold}" if subject.fold >= 0 else "test"
    lines = [f"{subject.name}: {side}, group {first['group']}, series {first['series']}, "
             + (f"position {first['position']}" if len(subject.rows) == 1 else f"{len(subject.rows)} rows"),
             f"  file   {paths.input / str(first['path'])}"]
    if subject.fold >= 0:
        lines.append(f"  label  {_pairs(first[list(context.competition.targets)].to_dict())}")
    boxes = boxes_of(context)
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
    column, paths = context.competition.submission.row, context.paths
    for file in quarantines(paths).values():
        table = read_table(file)
        own = table[table["id"] == name]
        if len(own):
            first = own.iloc[0]
            row = own.assign(**{column: first["path"] if column == "path" else name})
            return (f"{name}: {first['split']}, in quarantine: {first['reason']}, {first['detail']} ({file})\n\n"
                    f"{submitted(context, row)}")
    known = pd.concat([index["id"], index[column]]).drop_duplicates()
    near = sorted(known, key=lambda other: -_agreeing(other, name))[:NEAREST]
    check_name(near, name, "row")
    raise UserError(f"there is no row '{name}'")


def _agreeing(one: str, other: str) -> int:
    """Number of leading characters that two names share."""
    return next((place for place, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))


def _table(table: pd.DataFrame) -> str:
    return textwrap.indent(table.to_string(float_format="{:.5g}".format, na_rep="-"), "  ")


def _wrapped(title: str, text: str) -> str:
    """``title`` and wrapped ``text``, indented."""
    return textwrap.fill(f"{title:6} {text}", WIDTH, initial_indent="  ", subsequent_indent=" " * 9)


def _pairs(value: Any, members: tuple[str, ...] = ()) -> str:
    """JSON values as ``name value, name value``; ``weights`` of ``members`` bear their names, and zeros are left out."""
    if isinstance(value, dict):
        parts = []
        for name, one in value.items():
            if name == "weights" and isinstance(one, list) and len(one) == len(members) and not isinstance(one[0], list):
                one = {member: weight for member, weight in zip(members, one) if weight}
            parts.append(f"{name} ({_pairs(one, members)})" if isinstance(one, dict) else f"{name} {_pairs(one)}")
        return ", ".join(parts)
    if isinstance(value, list):
        return f"[{', '.join(map(_pairs, value))}]"
    return f"{value:.5g}" if isinstance(value, (float, np.floating)) else str(value)


def submitted(context: Context, rows: pd.DataFrame) -> str:
    """The final model's prediction of the index ``rows``, which share a row of the submission, beside the written values."""
    competition, layout = context.competition, context.competition.submission
    file = context.paths.submissions / f"{competition.models.final}.csv"
    if rows["split"].iloc[0] != "test":
        return "submitted: nothing, this is a training row"
    if not file.exists():
        return f"submitted: nothing yet; make it with: {context.command('08_submit')}"
    name = str(rows[layout.row].iloc[0])
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table = table.set_index(pd.Index(row_names(table, layout.id_column)))
    wanted = [f"{name}_{target}" for target in competition.targets] if layout.form == "long" else [name]
    written = table.loc[[one for one in wanted if one in table.index]]
    if written.empty:
        return f"submitted: {file} has no row {name}"
    calls = "".join(f", {group.name} {written[group.name].iloc[0]}" for group in layout.calls)
    texts = [str(value) for value in written[list(layout.values)].to_numpy().ravel()]
    return "\n".join([f"submitted: {file}, {layout.row} {name}{calls}", *_values(context, name, texts)])


def _values(context: Context, name: str, texts: list[str]) -> Iterator[str]:
    """A line a target: what was predicted, how it was clipped (mean, clip, digits), what is written (``texts``)."""
    competition, layout, index = context.competition, context.competition.submission, read_index(context)
    final, targets = competition.models.final, competition.targets
    test = read_member(context.paths.oof / final, stack_folds(context, final)).test
    test = test[test["id"].isin(index.loc[index[layout.row] == name, "id"])]
    if test.empty:
        yield "  there is no prediction: these values were filled in (see the _filled.csv beside it)"
        yield from (f"  {target}: written {text}" for target, text in zip(targets, texts))
        return
    if test["id"].nunique() > 1:
        yield f"  mean over the {test['id'].nunique()} predicted rows, of the mean over folds"
    predicted = by_row(context, mean_over_folds(test, targets))[list(targets)].to_numpy(np.float64)[0]
    for target, own, text in zip(targets, map(float, predicted), texts, strict=True):
        clipped = min(max(own, layout.low), layout.high)
        how = f", clipped to {clipped:.8g}" if clipped != own else ""
        same = abs(round(clipped, DECIMALS) - float(text)) < FLOAT32 * max(1, abs(own))
        older = "" if same else f": it is older; {context.command('08_submit')}"
        yield f"  {target}: {own:.8g}{how}, written {text}{older}"
