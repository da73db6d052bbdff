"""One process at a time makes a file; another that wants to says who is at work, and waits."""

import errno
import functools
import importlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from radstack.core.disk import unwritable
from radstack.core.errors import UserError
from radstack.core.say import say

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
msvcrt: Any = importlib.import_module("msvcrt") if os.name == "nt" else None
FAR = 1 << 30
"""The byte that is locked on Windows, where nobody may read what is locked: beyond the words of who is at work."""
LOOK_SECONDS = 0.5
"""Between two looks at a lock, where the system has no waiting that lasts."""

UNKNOWN = {getattr(errno, name) for name in ("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EBADF")
           if hasattr(errno, name)}
"""Answers of file systems that have no locks, and of NFS to the lock of a file that may only be read, as of another person's
lock; there everybody may work, as without this module."""


def alone(path: Path) -> AbstractContextManager[bool]:
    """:func:`working_on` that does not wait: a UserError where another run is writing ``path``, a file or a folder."""
    return working_on(path, wait=False)


@contextmanager
def working_on(path: Path, wait: bool = True) -> Iterator[bool]:
    """Be the only process, of all machines that see the folder, that works on ``path``; wait for another, and say so.

    Yields whether there was one. ``.<name>.lock`` beside ``path`` says who is at work; the system frees it however that one
    ends. UserError where the folder cannot be written.
    """
    if fcntl is None and msvcrt is None:
        _say_that_there_are_none()
        yield False
        return
    lock = lock_of(path)
    handle, waited = _taken(lock, path, wait)
    try:
        yield waited
    finally:
        if handle is not None:
            _give_back(lock, handle)


def lock_of(path: Path) -> Path:
    """The lock of whoever works on ``path``."""
    return path.with_name(f".{path.name}.lock")


def _taken(lock: Path, path: Path, wait: bool) -> tuple[int | None, bool]:
    """The open lock, None where there are none here, and whether it was another's."""
    waited = False
    while True:
        handle = _opened(lock, path)
        try:
            try:
                _lock(handle, wait=False)
            except BlockingIOError:
                if not wait:
                    raise UserError(f"another run is writing {path}; wait until it ends, or name another one: "
                                    f"{_who(handle)}") from None
                if not waited:
                    say(f"{path.name}: waiting, since {_who(handle)} is making it")
                waited = True
                _lock(handle, wait=True)
            if _is(lock, handle):  # else who had it has deleted it: it keeps nobody away any more
                _sign(handle)
                return handle, waited
            os.close(handle)
        except OSError as error:
            os.close(handle)
            if error.errno in UNKNOWN:
                _say_that_there_are_none()
                return None, waited
            raise unwritable(lock, error) from error
        except BaseException:  # Ctrl-C while waiting
            os.close(handle)
            raise


def _opened(lock: Path, path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            if fcntl is not None:
                with suppress(OSError):  # whatever the umask: NFS locks no file that may only be read
                    os.fchmod(handle, 0o666)
            return handle
        return os.open(lock, os.O_RDONLY)  # another person's, in a folder that both may write
    except FileNotFoundError:  # there is none, so it was the folder that denied
        raise unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES))) from None
    except OSError as error:
        raise unwritable(path, error) from error


def _lock(handle: int, wait: bool) -> None:
    """Take the lock of an open file; BlockingIOError where another process has it and is not waited for."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    while True:
        os.lseek(handle, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        time.sleep(LOOK_SECONDS)


@functools.cache
def _say_that_there_are_none() -> None:
    say("there are no file locks here: two runs at once in one folder are not kept apart; start one after the other")


def at_work(locks: Iterable[Path]) -> bool:
    """Whether a process has one of the ``locks``, or that cannot be known."""
    for lock in locks:
        try:
            handle = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            continue
        except OSError:
            return True
        try:
            _lock(handle, wait=False)
            _unlock(handle)
        except OSError:
            return True
        finally:
            os.close(handle)
    return False


def _unlock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)
    else:
        os.lseek(handle, FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)


def _is(lock: Path, handle: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with suppress(OSError):  # a name is a courtesy; a full disk shows itself where something is written
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()} ({shlex.join(['python', *sys.argv])}, "
                         f"since {now})".encode())


def _who(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 4096).decode(errors="replace") or "another process"


def _give_back(lock: Path, handle: int) -> None:
    with suppress(OSError):
        lock.unlink()
    with suppress(OSError):  # explicitly: a forked process may hold the open file, too
        _unlock(handle)
    os.close(handle)
