"""The kinds of failure a user meets, and other people's exceptions in one line."""

from pathlib import Path
from typing import Any


class UserError(Exception):
    """Something the user can mend. One line: what is wrong, where, and what to type next.

    The stage scripts print it without a traceback and exit with status 1.
    """


class UsageError(UserError):
    """The command line itself is wrong; the exit status is 2, as argparse's own."""


class Missing(UserError):
    """An input file is not there; who knows the competition says what makes it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing")
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)  # an exception is pickled by its message unless told otherwise


class LeakError(UserError):
    """Rows met that must not: a patient in two folds, or models made on another fold table. Always an error, no warning."""


def reason(error: BaseException, limit: int = 300) -> str:
    """The type and the message of ``error`` without line breaks, cut after ``limit`` characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return text if len(text) <= limit else text[: limit - 1] + "…"
