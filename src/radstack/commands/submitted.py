"""What stands in the submission for one row, and how it came from the prediction: mean, clip, digits."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stack.predictions import read_member
from radstack.stack.rows import mean_over_folds
from radstack.stages.stack import stack_folds
from radstack.stages.submit import by_row
from radstack.submission.forms import DECIMALS, row_names

FLOAT32 = 1e-6
"""Relative precision of a stored prediction, with some room."""


def submitted(context: Context, rows: pd.DataFrame) -> str:
    """The final model's prediction of the index ``rows``, which share a row of the submission, beside the written values."""
    competition, layout = context.competition, context.competition.submission
    file = context.paths.submissions / f"{competition.models.final}.csv"
    if rows["split"].iloc[0] != "test":
        return "submitted: nothing, this is a training row"
    if not file.exists():
        return f"submitted: nothing yet; make it with: {context.command('08_submit')}"
    name = str(rows[layout.row].iloc[0])
    written = _written(context, name)
    if written.empty:
        return f"submitted: {file} has no row {name}"
    calls = "".join(f", {group.name} {written[group.name].iloc[0]}" for group in layout.calls)
    return "\n".join([f"submitted: {file}, {layout.row} {name}{calls}", *_values(context, name, written)])


def _values(context: Context, name: str, written: pd.DataFrame) -> Iterator[str]:
    """A line a target: what was predicted, how it was clipped, what is written."""
    targets = context.competition.targets
    texts = [str(value) for value in written[list(context.competition.submission.values)].to_numpy().ravel()]
    test = _predictions(context, name)
    if test.empty:
        yield "  there is no prediction: these values were filled in (see the _filled.csv beside it)"
        yield from (f"  {target}: written {text}" for target, text in zip(targets, texts))
        return
    if test["id"].nunique() > 1:
        yield f"  mean over the {test['id'].nunique()} predicted rows, of the mean over folds"
    predicted = by_row(context, mean_over_folds(test, targets))[list(targets)].to_numpy(np.float64)[0]
    yield from (_value(context, *parts) for parts in zip(targets, map(float, predicted), texts, strict=True))


def _value(context: Context, target: str, own: float, text: str) -> str:
    layout = context.competition.submission
    clipped = min(max(own, layout.low), layout.high)
    how = f", clipped to {clipped:.8g}" if clipped != own else ""
    same = abs(round(clipped, DECIMALS) - float(text)) < FLOAT32 * max(1, abs(own))
    older = "" if same else f": it is older; {context.command('08_submit')}"
    return f"  {target}: {own:.8g}{how}, written {text}{older}"


def _written(context: Context, name: str) -> pd.DataFrame:
    """Lines of the submission for one row, in the order of the targets, as text, with their name as ``row``."""
    competition, layout = context.competition, context.competition.submission
    table = pd.read_csv(context.paths.submissions / f"{competition.models.final}.csv", dtype=str, keep_default_na=False)
    table = table.assign(row=row_names(table, layout.id_column)).set_index("row", drop=False)
    wanted = [f"{name}_{target}" for target in competition.targets] if layout.form == "long" else [name]
    return table.loc[[one for one in wanted if one in table.index]]


def _predictions(context: Context, name: str) -> pd.DataFrame:
    """The final model's lines of a row of the submission: every fold, every picture."""
    competition = context.competition
    index = read_index(context)
    ids = index.loc[index[competition.submission.row] == name, "id"]
    test = read_member(context.paths.oof / competition.models.final, stack_folds(context, competition.models.final)).test
    return test[test["id"].isin(ids)]
