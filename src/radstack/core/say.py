"""Where progress lines go: to standard output, or from a job on any machine to whoever runs the jobs.

Where nobody reads the output any more (a closed pipe or notebook, a lost ssh), work goes on and its lines go to a log.
"""

import contextlib
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Report = Callable[[str], None]
"""Takes one line."""
NOBODY_READS = 141
"""Exit status where standard output is a pipe that was closed, as behind ``| head``: 128 and the number of SIGPIPE."""


def to_stdout(text: str) -> None:
    """Write one line in one piece, so that the lines of several processes never mix."""
    if sys.stdout is None:  # closed by whoever started this process
        return
    stream = steady(sys.stdout)
    stream.write(text + "\n")
    stream.flush()


def flush() -> None:
    """Hand on what standard output still holds: at its end Python does it with a traceback where nobody reads it."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            _lead(sys.stdout.fileno(), None)


_lost: Path | None = None


def lost_to(file: Path | None) -> None:
    """From now on output that cannot be written goes to ``file``, and the work goes on; None: a closed pipe ends it."""
    global _lost
    _lost = file


def lost_file() -> Path | None:
    """What :func:`lost_to` was told last."""
    return _lost


class Steady:
    """A text stream that never fails: from the first line that cannot be written on, all goes to the file of `lost_to`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            if isinstance(self._stream.buffer, io.RawIOBase):  # a buffer still holds it
                self._stream.write(text)
            return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person watches."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The number of the file."""
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        number = self._stream.fileno()
        _lead(number, _lost)
        if _lost is None and isinstance(error, BrokenPipeError) and number == 1:  # behind ``| head``, nothing is lost
            raise SystemExit(NOBODY_READS) from None


def steady(stream: Any) -> Any:
    """``stream`` as one that never fails."""
    return stream if isinstance(stream, Steady) or stream is None else Steady(stream)


@contextlib.contextmanager
def steady_output() -> Iterator[None]:
    """Let no line that is printed in the block, to standard output or standard error, stop the work."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(steady, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _lead(number: int, file: Path | None) -> None:
    """Let what is written to the open file ``number`` go to the end of ``file`` instead, or nowhere."""
    target = None
    if file is not None:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            target = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            os.write(target, f"{now}, process {os.getpid()}: nobody reads the output of this run any more; it goes on here: "
                             f"{shlex.join(['python', *sys.argv])}\n".encode())
    if target is None:
        target = os.open(os.devnull, os.O_WRONLY)
    os.dup2(target, number)
    os.close(target)


def spell_out() -> None:
    """Let a sign that the output's encoding lacks (a terminal of ASCII alone) be spelled out: it must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


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
