"""Where progress lines go: to standard output, or from a job on any machine to whoever runs the jobs."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str], None]
"""Takes one line."""


def to_stdout(text: str) -> None:
    """Write one line in one piece, so that the lines of several processes never mix."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Say how far the running job is. Outside a job (a script, a torchrun child) the line goes to standard output."""
    _sink(text)


_sink: Report = to_stdout


@contextlib.contextmanager
def saying_to(sink: Report) -> Iterator[None]:
    """Send what is said in the block to ``sink``."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before
