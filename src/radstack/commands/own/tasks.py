"""What is to be predicted: the kind of task, its words in order, and the metric, found out from the cells of a table."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.images.own.source import CLASSES_KIND, LABELS_KIND, NUMBER_KIND, ORDINAL_KIND
from radstack.images.own.words import is_empty, number, ordered, word

FEW = 12
"""Whole numbers with more values than this are a number, not classes."""
LEAST = 3
"""Pictures (or patients) that each class needs."""
TASKS = ("binary", LABELS_KIND, CLASSES_KIND, ORDINAL_KIND, NUMBER_KIND)
"""What ``--task`` takes."""


@dataclass(frozen=True)
class Found:
    """The task."""

    kind: str
    labels: dict[str, tuple[Any, ...]]
    """As :class:`radstack.images.own.source.Source` has them."""
    counts: dict[str, dict[str, int]]
    """Column -> word -> how many rows have it."""


def find(table: pd.DataFrame, targets: list[str], task: str, hint: str) -> Found:
    """The kind of task of the columns ``targets``; ``task`` as the user named it, ``hint`` what his metric asks for.

    A UserError where a target has one class, a class has hardly a member, the kind is not clear, or several are numbers.
    """
    words = {name: {word(cell) for cell in table[name] if not is_empty(cell)} for name in targets}
    for name, found in words.items():
        if len(found) < 2:
            raise UserError(f"{name} is {next(iter(found), 'empty')!r} in every row: there is nothing to learn; name "
                            f"another --target")
    kind = task or hint or _kind(words)
    kind = LABELS_KIND if kind == "binary" else kind
    if kind == NUMBER_KIND and len(targets) > 1:
        raise UserError(f"{', '.join(targets)} are numbers, each with a scale of its own; make a competition of each, the "
                        f"first with --target {targets[0]}")
    if kind == NUMBER_KIND:
        return Found(kind, {name: _spread(name, table[name]) for name in targets}, {})
    if kind == LABELS_KIND and (wide := [name for name, found in words.items() if len(found) > 2]):
        raise UserError(f"{wide[0]} has {len(words[wide[0]])} values and a label has two; type --task classes, ordinal or "
                        f"number")
    labels = {name: ordered(found) for name, found in words.items()}
    counts = {name: table[name].map(word).value_counts().reindex(labels[name]).astype(int).to_dict() for name in targets}
    for name, each in counts.items():
        rare = [one for one, count in each.items() if count < LEAST]
        if rare:
            raise UserError(f"{name}: {len(rare)} of {len(each)} classes have fewer than {LEAST} pictures, the first is "
                            f"{rare[0]!r}; "
                            "merge classes, or type --task number if these are numbers")
    return Found(kind, dict(labels), counts)


def _kind(words: dict[str, set[str]]) -> str:
    if all(len(found) == 2 for found in words.values()):
        return LABELS_KIND
    numeric = {name: all(not np.isnan(number(one)) for one in found) for name, found in words.items()}
    if all(numeric.values()):
        if all(len(found) > FEW or any(number(one) % 1 for one in found) for found in words.values()):
            return NUMBER_KIND
        name = next(iter(words))
        raise UserError(f"{name} has {len(words[name])} whole numbers: type --task classes, ordinal (in their order) or "
                        f"number")
    if not any(numeric.values()) and all(len(found) > 2 for found in words.values()):
        return CLASSES_KIND
    raise UserError(f"{', '.join(words)} are not of one kind (words, numbers, yes or no); predict them as separate "
                    f"competitions, "
                    "or type --task")


def _spread(name: str, cells: pd.Series) -> tuple[float, float]:
    """Mean and deviation; a UserError for words."""
    values = cells.map(number)
    if wrong := [cell for cell, value in zip(cells, values) if np.isnan(value) and not is_empty(cell)]:
        raise UserError(f"{name} holds {wrong[0]!r}, which is no number; type --task classes, or correct the table")
    return rounded(values)


def rounded(values: pd.Series) -> tuple[float, float]:
    """Mean and deviation: this to three digits, the mean to a hundredth of it (years such as 2014 have a small one)."""
    deviation = float(f"{max(values.std(ddof=0), 1e-9):.3g}")
    return round(float(values.mean()), 2 - math.floor(math.log10(deviation))), deviation


def inputs_of(table: pd.DataFrame, columns: list[str]) -> dict[str, tuple[Any, ...]]:
    """Columns beside the pictures, as :class:`Source` has them: words in order, or mean and deviation of numbers."""
    made: dict[str, tuple[Any, ...]] = {}
    for name in columns:
        cells = table[name][~table[name].map(is_empty)]
        values, words = cells.map(number), {word(cell) for cell in cells}
        if len(words) < 2:
            raise UserError(f"--columns {name}: it has the same value in every row; leave it away")
        numeric = values.notna().all() and len(words) > 2
        if not numeric and len(words) > FEW:
            raise UserError(f"--columns {name}: it has {len(words)} words, {FEW} at most; leave it away")
        made[name] = rounded(values) if numeric else ordered(words)
    return made
