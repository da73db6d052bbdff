"""Cells of tables that people write: words, numbers with a comma or a point, booleans in several languages of software."""

import math

NO = ("0", "false", "no", "n", "negative", "neg", "absent", "normal", "f")
YES = ("1", "true", "yes", "y", "positive", "pos", "present", "abnormal", "t")
"""Words of a label that says no or yes, each at the place of its opposite."""
EMPTY = ("", "nan", "na", "n/a", "none", "null", "?", "-")
"""What stands in an empty cell."""
WHOLE = 2**53
"""From here on neighboring whole numbers are no longer told apart."""


def is_empty(cell: str) -> bool:
    """Whether nothing is said."""
    return cell.strip().lower() in EMPTY


def number(cell: str) -> float:
    """The number in a cell, with a decimal point or comma; NaN for none or for words."""
    if "_" in cell:  # Python reads 1_2 as 12; here it is a word
        return math.nan
    try:
        found = float(cell.strip().replace(",", "."))
    except ValueError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def word(cell: str) -> str:
    """A cell as a word: ``1.0`` and ``1`` are one, and numbers keep all digits, as codes and dates of classes need them."""
    text = cell.strip()
    value = number(text)
    if math.isnan(value) or abs(value) >= WHOLE:
        return text
    return str(int(value)) if value.is_integer() else repr(value)


def code(cell: str, words: tuple[str, ...]) -> int:
    """Place of a cell among ``words``, -1 where it is empty or none of them."""
    found = word(cell)
    return words.index(found) if found in words else -1


def ordered(words: set[str]) -> tuple[str, ...]:
    """Words in their order: no before yes, numbers by size, others by letter."""
    lower = {one.lower() for one in words}
    if len(words) == 2 and (pair := next(((no, yes) for no, yes in zip(NO, YES) if lower == {no, yes}), None)):
        return tuple(sorted(words, key=lambda one: pair.index(one.lower())))
    return tuple(sorted(words, key=lambda one: (math.isnan(number(one)), number(one) if not math.isnan(number(one)) else 0,
                                                one)))
