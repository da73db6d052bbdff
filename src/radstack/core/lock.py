"""One process at a time makes a file; another that wants to says who is at work, and waits."""

import errno
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from radstack.core.disk import unwritable
from radstack.core.errors import UserError
from radstack.core.say import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNKNOWN = {getattr(errno, name) for name in ("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL") if hasattr(errno, name)}
"""Answers of file systems that have no locks; there everybody may work, as without this module."""


def alone(path: Path) -> AbstractContextManager[bool]:
    """:func:`working_on` that does not wait: a UserError where another run is writing ``path``, a file or a folder."""
    return working_on(path, wait=False)


@contextmanager
def working_on(path: Path, wait: bool = True) -> Iterator[bool]:
    """Be the only process, of all machines that see the folder, that works on ``path``; wait for another, and say so.

    Yields whether there was one. ``.<name>.lock`` beside ``path`` says who is at work; the system frees it however that one
    ends. UserError where the folder cannot be written.
    """
    if fcntl is None:
        yield False
        return
    lock = path.with_name(f".{path.name}.lock")
    handle, waited = _taken(lock, path, wait)
    try:
        yield waited
    finally:
        if handle is not None:
            _give_back(lock, handle)


def _taken(lock: Path, path: Path, wait: bool) -> tuple[int | None, bool]:
    """The open lock, None where there are none here, and whether it was another's."""
    waited = False
    while True:
        handle = _opened(lock, path)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise UserError(f"another run is writing {path}; wait until it ends, or name another one: "
                                    f"{_who(handle)}") from None
                if not waited:
                    say(f"{path.name}: waiting, since {_who(handle)} is making it")
                waited = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is(lock, handle):  # else who had it has deleted it: it keeps nobody away any more
                _sign(handle)
                return handle, waited
            os.close(handle)
        except OSError as error:
            os.close(handle)
            if error.errno in UNKNOWN:
                return None, waited
            raise unwritable(lock, error) from error
        except BaseException:  # Ctrl-C while waiting
            os.close(handle)
            raise


def _opened(lock: Path, path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):
            return os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        return os.open(lock, os.O_RDONLY)  # another person's, in a folder that both may write
    except FileNotFoundError:  # there is none, so it was the folder that denied
        raise unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES))) from None
    except OSError as error:
        raise unwritable(path, error) from error


def _is(lock: Path, handle: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with suppress(OSError):  # a name is a courtesy; a full disk shows itself where something is written
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} ({shlex.join(['python', *sys.argv])}, "
                          f"since {now})".encode(), 0)


def _who(handle: int) -> str:
    return os.pread(handle, 4096, 0).decode(errors="replace") or "another process"


def _give_back(lock: Path, handle: int) -> None:
    with suppress(OSError):
        lock.unlink()
    with suppress(OSError):  # explicitly: a forked process may hold the open file, too
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
