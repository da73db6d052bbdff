"""The one exception of every reader, and how a raw file is opened so that nothing in a folder can block a run."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Unreadable(Exception):
    """A file that cannot be used.

    ``reason`` is one of a few fixed words (``empty``, ``not-dicom``, ``bad-header``, ``no-pixels``, ``truncated``,
    ``wrong-size``, ``unsupported-transfer-syntax``, ``not-gray``, ``multi-frame``, ``undecodable``, ``no-access``,
    ``not-a-file``, ``odd-name``); ``detail`` is a line for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail.replace("\n", " ")[:300]  # it fits a table

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
           stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link to itself, or one that leads nowhere"}
"""Kinds of directory entries that hold no picture."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def special(mode: int) -> str:
    """What a directory entry of that ``st_mode`` is where it is no regular file; "" for a regular one."""
    return "" if stat.S_ISREG(mode) else SPECIAL.get(stat.S_IFMT(mode), "no regular file")


def open_file(path: Path | str) -> tuple[int, int]:
    """Open a regular file: its descriptor and its bytes. Unreadable as ``no-access`` or ``not-a-file``.

    A named pipe without a writer is opened at once (O_NONBLOCK, which a regular file ignores) and refused by its kind.
    """
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        # A link to itself stays one; what has no rights, or no mount, may have them tomorrow.
        loop = isinstance(error, OSError) and error.errno == errno.ELOOP
        raise Unreadable("not-a-file" if loop else "no-access", str(error)) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise Unreadable("not-a-file", special(status.st_mode))
    return handle, status.st_size


@contextmanager
def opened(path: Path | str) -> Iterator[tuple[int, int]]:
    """:func:`open_file`, closed at the end; what cannot be read in between is ``no-access``, too."""
    handle, size = open_file(path)
    try:
        yield handle, size
    except OSError as error:
        raise Unreadable("no-access", str(error)) from error
    finally:
        os.close(handle)


def _read_at(handle: int, count: int, at: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, count, at)
    os.lseek(handle, at, os.SEEK_SET)  # Windows; no two threads share an open file
    return os.read(handle, count)


def read_start(path: Path | str, most: int) -> tuple[bytes, int]:
    """The first ``most`` bytes of a regular file, or all, and how many it has; Unreadable as :func:`open_file`."""
    handle, size = open_file(path)  # without ``opened``, which takes a tenth of the time of reading a header
    try:
        return _read_at(handle, min(size, most), 0), size
    except OSError as error:
        raise Unreadable("no-access", str(error)) from error
    finally:
        os.close(handle)


def read_at(handle: int, count: int, at: int = 0) -> bytes:
    """Up to ``count`` bytes from ``at``; fewer where the file ends. One system call gives at most 2 GB."""
    data = _read_at(handle, count, at)
    while len(data) < count and (more := _read_at(handle, count - len(data), at + len(data))):
        data += more
    return data
