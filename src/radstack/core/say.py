"""Where progress lines go: to standard output, or from a job on any machine to whoever runs the jobs."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str], None]
"""Takes one line."""
NOBODY_READS = 141
"""Exit status where standard output is a pipe that was closed, as behind ``| head``: 128 and the number of SIGPIPE."""


def to_stdout(text: str) -> None:
    """Write one line in one piece, so that the lines of several processes never mix; end where nobody reads them."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # not passed on: to what calls this it would look like a failure of its own files
        _lead_nowhere()
        raise SystemExit(NOBODY_READS) from None


def flush() -> None:
    """Hand on what standard output still holds: at its end Python does it with a traceback where the pipe is closed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _lead_nowhere()


def _lead_nowhere() -> None:
    """Let nothing that is printed from now on fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
