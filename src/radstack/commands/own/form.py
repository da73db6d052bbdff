"""The form of the answer: what a sample submission asks for, as the Layout of a competition."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from radstack.core.errors import UserError
from radstack.images.own.source import CLASSES_KIND, NUMBER_KIND, ORDINAL_KIND, Source
from radstack.images.own.words import word
from radstack.recipes.submission import Layout
from radstack.scoring.metrics import ClassGroup
from radstack.submission.forms import ending_of

ROOM = 0.1
"""Share of the labels' range by which an answer may lie beyond it."""


@dataclass(frozen=True)
class Form:
    """What is to be handed in."""

    source: Source
    """With its labels in the order that the sample has them."""
    layout: Layout
    ids: pd.Series
    """Ids of the pictures to answer, as the sample has them, each once."""


def groups_of(source: Source) -> tuple[ClassGroup, ...]:
    """Each column of classes, as the metric has it; none for labels and numbers."""
    if source.kind not in (CLASSES_KIND, ORDINAL_KIND):
        return ()
    return tuple(ClassGroup(name, tuple(map(str, words))) for name, words in source.labels.items())


def plain_form(source: Source, ranges: dict[str, tuple[float, float]]) -> Layout:
    """One column a target; ``ranges``: least and greatest label of each number."""
    row = "series" if source.several else "id"
    if source.kind == NUMBER_KIND:
        low, high = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
        room = ROOM * (high - low)
        least = low - room if low < 0 else max(0.0, low - room)
        # Four digits are enough for the ends, but of large numbers, as dates, they could leave out labels.
        least, most = min(low, float(f"{least:.4g}")), max(high, float(f"{high + room:.4g}"))
        return Layout(source.id, source.targets, least, most, form="wide", row=row)
    if groups_of(source):
        return Layout(source.id, source.targets, 0, 1, form="classes", row=row)
    return Layout(source.id, source.targets, form="wide", row=row)


def asked_form(source: Source, ranges: dict[str, tuple[float, float]], sample: pd.DataFrame) -> Form:
    """What ``sample``, the organizer's, asks for; a UserError where its columns fit no target."""
    id_column = source.id if source.id in sample else str(sample.columns[0])
    rest = [str(name) for name in sample if name != id_column]
    plain = replace(plain_form(source, ranges), id_column=id_column)
    ids = sample[id_column]
    if not rest:
        return Form(source, plain, ids)
    if set(rest) == set(source.labels) and not groups_of(source):
        source = replace(source, labels={name: source.labels[name] for name in rest})
        return Form(source, replace(plain, values=source.targets), ids)
    if len(rest) == 1 and (long := _long(source, ids)):
        return Form(source, Layout(id_column, (rest[0],), plain.low, plain.high, row=plain.row), pd.Series(long))
    if len(source.labels) == 1:
        (name, words), = source.labels.items()
        if groups_of(source) and {word(one.removeprefix(f"{name}_")) for one in rest} == set(words):
            ordered = tuple(word(one.removeprefix(f"{name}_")) for one in rest)
            source = source if source.kind == ORDINAL_KIND else replace(source, labels={name: ordered})
            if source.targets != tuple(f"{name}_{one}" for one in ordered):
                raise UserError(f"the sample submission has its classes in the order {', '.join(rest)}, the task in that of "
                                f"{', '.join(map(str, words))}; type --task classes")
            return Form(source, replace(plain, values=tuple(rest)), ids)
        if groups_of(source) and rest == [name]:
            return Form(source, replace(plain, calls=groups_of(source), words_only=True), ids)
        if not groups_of(source) and len(rest) == 1:
            return Form(source, replace(plain, values=(rest[0],)), ids)
    raise UserError(f"the sample submission asks for {', '.join(rest[:4])}, and the table has {', '.join(source.labels)}; "
                    f"type "
                    "--target with the columns that it means")


def _long(source: Source, ids: pd.Series) -> list[str]:
    """The ids without ``_<target>`` at their ends, each once; none unless every one ends so."""
    if groups_of(source):
        return []
    ends = [ending_of(str(one), source.targets) for one in ids]
    return list(dict.fromkeys(str(one).removesuffix(end) for one, end in zip(ids, ends))) if all(ends) and len(ends) else []


def as_code(value: Any) -> str:
    """A recipe as the Python that makes it: only what differs from its defaults."""
    import dataclasses

    if isinstance(value, ClassGroup):
        return f"ClassGroup({value.name!r}, {value.classes!r})"
    if not dataclasses.is_dataclass(value):
        return f"({''.join(as_code(one) + ', ' for one in value)})" if isinstance(value, tuple) and value and isinstance(
            value[0], ClassGroup) else repr(value)
    parts = []
    for each in dataclasses.fields(value):
        held = getattr(value, each.name)
        default = each.default if each.default is not dataclasses.MISSING else None
        if held != default:
            parts.append(f"{each.name}={as_code(held)}")
    return f"{type(value).__name__}({', '.join(parts)})"
