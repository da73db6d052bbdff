"""The kinds of failure a user meets, and other people's exceptions in one line."""

from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Something the user can mend. One line: what is wrong, where, and what to type next.

    The stage scripts print it without a traceback and exit with status 1.
    """


class UsageError(UserError):
    """The command line itself is wrong; the exit status is 2, as argparse's own."""


class Missing(UserError):
    """An input file is not there. The message ends in what to type, as :func:`advise` was told by the context of the run."""

    def __init__(self, path: Path, what: str = "") -> None:
        """``path``: of the file, or of the folder that lacks it; ``what`` is missing, if that is not the path itself."""
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        """The message; it is made late, since a process of a pool may know no context."""
        return "; ".join(filter(None, (self.what or f"{self.path} is missing", _make_with(self.path))))


MakeWith = Callable[[Path], str]
_make_with: MakeWith = lambda path: ""  # noqa: E731


Command = Callable[..., str]
_command: Command = lambda script, only="": f"{script}.py{' --only ' * bool(only)}{only}"  # noqa: E731


def advise(make_with: MakeWith, command: Command | None = None) -> None:
    """Let ``make_with`` say what to type where a path is missing, "" where it does not know; ``command``, a stage's line.

    Rooms that know no competition then still say a command that works: see :func:`command`.
    """
    global _make_with, _command
    _make_with, _command = make_with, command or _command


def command(script: str, only: str = "") -> str:
    """What to type to run a stage (``05_predict``), of the recipe ``only``, for the competition and folders of this run."""
    return _command(script, only)


class UnfitTable(UserError):
    """A table of what stands beside pictures has nothing of what is asked for."""


class Refused(UserError):
    """What was asked for is refused, and all that is there was left as it is."""


class LeakError(UserError):
    """Rows met that must not: a patient in two folds, or models made on another fold table. Always an error, no warning."""


def reason(error: BaseException, limit: int = 300) -> str:
    """The type and the message of ``error`` without line breaks, cut after ``limit`` characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return text if len(text) <= limit else text[: limit - 1] + "…"
