"""One job: a call that means the same on any machine that sees the same files."""

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from radstack.core.errors import UserError
from radstack.core.say import Report, saying_to


@dataclass(frozen=True)
class Job:
    """One call that can be made on any machine that sees the same files, e.g. one experiment on one fold."""

    name: str
    """Unique among the jobs of a run; starts each of its progress lines."""
    function: str
    """``"module:function"``, importable with ``src/`` on the path."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments, JSON values only: they must mean the same on another machine."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    value: Any = None
    """Returned by the function."""
    error: UserError | None = None
    """Why it failed; None when it did not."""


def attempt(job: Job, report: Report) -> Outcome:
    """Run ``job`` here. Whatever it raises becomes an outcome; the traceback of an unforeseen error is reported."""
    def tell(text: str) -> None:
        report(f"{job.name}: {text}")

    with saying_to(tell):
        try:
            return Outcome(value=find(job.function)(**job.kwargs))
        except UserError as error:
            tell(f"failed: {error}")
            return Outcome(error=error)
        except Exception as error:
            tell(traceback.format_exc().rstrip())
            return Outcome(error=UserError(f"{type(error).__name__}: {error}"))


def find(path: str) -> Callable[..., Any]:
    """The function that ``"module:function"`` names; a UserError when there is none."""
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"no function {path}: {error}; a job's function is written module:function") from error
    return function


if __name__ == "__main__":  # one of the processes that share a job
    try:
        find(sys.argv[1])(**json.loads(sys.argv[2]))
    except UserError as error:
        sys.exit(f"error: {error}")
