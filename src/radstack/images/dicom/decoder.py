"""Decoding of compressed pictures in an expendable process.

One byte of a codestream makes decoders abort, run out of memory or never come back. Each process that meets a compressed
picture starts one helper (``child``), which lives as long as it does; a helper that dies is replaced, and the picture of
which two died is undecodable. It is a plain child with two pipes, not one of multiprocessing's: also the workers of a
pool, which may have no children there, can start it, and a fork does not share it.
"""

import atexit
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from radstack.images.unreadable import Unreadable

FRAME = struct.Struct("<QQ")
"""Before each message: the bytes of its JSON, and of the data behind it."""
MOST_SECONDS = 120.0
"""Of computing for one picture; the largest radiographs take five."""
BUDGET, TIMES = 400 << 20, 8
"""Bytes that decoding may take, or times the decoded picture if that is more; some remain for what asks."""
TRIES = 2
PIECE = 1 << 20
"""Bytes read from a pipe at once."""
SOURCE = str(Path(__file__).parents[3])
START = "import sys; sys.path.insert(0, sys.argv[1]); from radstack.images.dicom import decoder; decoder.help_others()"
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Died(Exception):
    """The helper ended without an answer; the text says how."""


def budget(decoded: int) -> int:
    """Bytes that decoding a picture of ``decoded`` bytes may take."""
    return max(BUDGET, TIMES * decoded)


@dataclass
class Helper:
    """The process that decodes for this one."""

    start: str = START  # What its interpreter runs
    process: subprocess.Popen[bytes] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, facts: dict[str, Any], frame: bytes) -> tuple[dict[str, Any], bytes]:
        """The helper's answer and its pixels; :class:`Died` where it has none."""
        with self.lock:
            process = self._running()
            try:
                text = json.dumps(facts).encode()
                _send(process.stdin, FRAME.pack(len(text), len(frame)) + text + frame)
                length, size = FRAME.unpack(_receive(process.stdout, FRAME.size))
                return json.loads(_receive(process.stdout, length)), _receive(process.stdout, size)
            except (OSError, EOFError) as error:
                raise Died(self._end()) from error
            except BaseException:  # Ctrl-C in the middle: the next answer would be to this question
                self._end()
                raise

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self._end()
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", self.start, SOURCE], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=os.environ | QUIET)
        return self.process

    def _end(self) -> str:
        """End the process; how it ended."""
        process, self.process = self.process, None
        if process is None:
            return ""
        _close(process)
        try:
            code = process.wait(1)  # it saw its input end, or is on its way out
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return _how(code)

    def close(self) -> None:
        """End the process if there is one."""
        with self.lock:
            self._end()

    def forget(self) -> None:
        """After a fork: the helper belongs to the other process. Its pipes are closed here, so that it ends with that."""
        process, self.process, self.lock = self.process, None, threading.Lock()
        if process:
            _close(process)
            process.returncode = 0  # not ours to wait for


HELPER = Helper()
atexit.register(HELPER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HELPER.forget)


def decode(facts: dict[str, Any], frame: bytes) -> np.ndarray:
    """The picture of one codestream, [rows, columns], read-only.

    ``facts`` are ``transfer_syntax``, ``rows``, ``columns``, ``bits_allocated``, ``bits_stored``, ``pixel_representation``
    and ``photometric`` of its header. Unreadable as ``undecodable``.
    """
    ends = []
    for _ in range(TRIES):  # once more: it may have been ended for another's hunger
        try:
            answer, pixels = HELPER.ask(facts, frame)
        except Died as died:
            ends.append(str(died))
            continue
        if "error" in answer:
            raise Unreadable("undecodable", answer["error"])
        return np.frombuffer(pixels, answer["dtype"]).reshape(answer["shape"])
    raise Unreadable("undecodable", f"the decoder died of it ({ends[-1]})")


def help_others() -> None:
    """What the interpreter of a helper runs; imported here, so that whoever reads imports knows of it."""
    from radstack.images.dicom.child import serve

    serve()


def _how(code: int) -> str:
    if code == -signal.SIGPROF:
        return f"no end after {MOST_SECONDS:.0f} s"
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe:
                pipe.close()


def _send(pipe: IO[bytes] | None, data: bytes) -> None:
    assert pipe
    left = memoryview(data)
    while left:
        left = left[pipe.write(left):]


def _receive(pipe: IO[bytes] | None, count: int) -> bytes:
    assert pipe
    pieces = []
    while count:
        pieces.append(pipe.read(min(count, PIECE)))
        if not pieces[-1]:
            raise EOFError
        count -= len(pieces[-1])
    return b"".join(pieces)
