"""Where progress lines go: to standard output, or from a job on any machine to whoever runs the jobs."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str], None]
"""Takes one line."""
NOBODY_READS = 141
"""Exit status of a script whose output goes to a pipe that was closed, as behind ``| head``: 128 and the number of SIGPIPE."""


def to_stdout(text: str) -> None:
    """Write one line in one piece, so that the lines of several processes never mix; end where nobody reads them."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # not passed on: to what calls this it would look like a failure of its own files
        flushed()
        raise SystemExit(NOBODY_READS) from None


def flushed() -> bool:
    """Hand on what standard output still holds; False where its pipe is closed.

    From then on it leads nowhere: Python would otherwise fail once more, with a traceback, when it flushes at its end.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


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
