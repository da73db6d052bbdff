"""What stage 09 prints: the scores that a reader asks for first, in lines that fit a terminal; the page has the rest."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from radstack.recipes.competition import Competition
from radstack.scoring.named import direction

WIDTH = 100
"""Characters of a line."""
SMALL = 2
"""A constant predictor's score below which scores are shown with four digits behind the point, otherwise with two."""


def score_lines(competition: Competition, scores: pd.DataFrame) -> Iterator[str]:
    """The table ``scores.csv`` as lines: a model's score out of fold with its interval, on test, and how efficient it is.

    Efficiency and test are columns only where they are known, as they are of phantoms. Models that answer some targets only
    have no score and are named below the table.
    """
    train, test = (scores[scores["split"] == split].set_index("model") for split in ("out of fold", "test"))
    also = f"; {competition.metric.also}, {direction(competition.metric.also)}" if competition.metric.also else ""
    yield from textwrap.wrap(f"{competition.title}: {competition.metric}, lower is better{also}", WIDTH)
    for split, labels in competition.pages.labels.items():
        yield from textwrap.wrap(f"{split}, {competition.metric}, labels: {labels}", WIDTH)
    yield from _aligned(_columns(train[train["score"].notna()], test, competition.metric.also))
    partial = list(train.index[train["score"].isna()])
    yield from _packed("some targets only, see the page: ", partial) if partial else ()
    for line in unbeaten_models(train, [one.name for one in competition.pages.baselines]):
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="  ")


def unbeaten_models(table: pd.DataFrame, baselines: Sequence[str]) -> Iterator[str]:
    """A line on the models that are no better than the constant predictor, and one for each baseline, on the same rows.

    ``table`` are the scores of one split by model.
    """
    limits = [name for name in ("constant", *baselines) if name in table.index]
    for limit in limits:
        own = table.loc[limit]
        behind = table[(table["score"] >= own["score"]) & (table["rows"] == own["rows"])].drop([*limits, "floor"],
                                                                                               errors="ignore")
        said = "the constant predictor" if limit == "constant" else limit
        form = ".4f" if own["score"] < SMALL else ".2f"
        if len(behind):
            yield f"no better than {said} ({own['score']:{form}}): {some(list(behind.index), ', ')}"


def localization_lines(table: pd.DataFrame) -> Iterator[str]:
    """``measure`` and ``value`` of what stage 02 reached on phantoms, several to a line."""
    yield from _packed("localization of phantoms; ", [f"{row.measure}: {row.value:.4g}" for row in table.itertuples()])


def _columns(train: pd.DataFrame, test: pd.DataFrame, also: str = "") -> list[list[str]]:
    """The printed table column by column, each with its heading first."""
    form = ".4f" if train.loc["constant", "score"] < SMALL else ".2f"
    spans = [f"{row.low:{form}} to {row.high:{form}}" for row in train.itertuples()]
    columns = [["model", *train.index], ["out of fold", *_numbers(train["score"], form)],
               ["95 % interval", *spans]]
    if also in train:
        columns += [[also, *_numbers(train[also], ".3f")],
                    ["95 % interval", *(f"{low:.3f} to {high:.3f}" for low, high in
                                        zip(train[f"{also} low"], train[f"{also} high"]))]]
    for name, table in (("", train), ("test", test.reindex(train.index))):
        columns += [[name, *_numbers(table["score"], form)]] if name and len(test) else []
        known = "efficiency" in table and table["efficiency"].notna().any()
        columns += [["efficiency", *_numbers(table["efficiency"], ".2f")]] if known else []
    return columns


def _numbers(values: pd.Series, form: str) -> list[str]:
    return ["" if pd.isna(value) else format(value, form) for value in values]


def _aligned(columns: list[list[str]]) -> Iterator[str]:
    """Lines of a table, the first column to the left and cut to what the others leave of ``WIDTH``."""
    names, *others = columns
    widths = [max(map(len, column)) for column in others]
    right = ["".join(f"  {value:>{width}}" for value, width in zip(row, widths)) for row in zip(*others)]
    most = min(max(map(len, names)), WIDTH - len(right[0]))
    for name, rest in zip(names, right):
        yield f"{name if len(name) <= most else f'{name[:most - 1]}…':{most}}{rest}".rstrip()


def _packed(title: str, entries: Iterable[str]) -> list[str]:
    """Entries one after the other in lines of ``WIDTH``, none broken as long as it fits a line."""
    kept = "; ".join(entry.replace(" ", "\xa0") for entry in entries)  # textwrap does not break at this space
    return [line.replace("\xa0", " ") for line in textwrap.wrap(title + kept, WIDTH, subsequent_indent="  ")]


def some(entries: Sequence[str], between: str = "; ", most: int = 8) -> str:
    """The first ``most`` of ``entries`` one after the other, and how many more there are."""
    more = [f"and {len(entries) - most} more"] if len(entries) > most else []
    return between.join([*entries[:most], *more])
