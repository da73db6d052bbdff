"""Files that are either whole or absent: written to a temporary name, synced, renamed."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd

from radstack.core.cells import read_cells
from radstack.core.disk import TOLD, disk_error, elsewhere, size_in_words, unwritable
from radstack.core.errors import Missing, UserError


@contextmanager
def replacing(path: Path, needed: int = 0, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it over ``path``, on failure delete it.

    ``needed`` bytes are what it will hold, for the message, where that is known. The file may be read by whom the umask
    lets, also where a library makes its files private; with ``private`` by its owner alone, from its first byte on.
    UserError where the disk is full or the folder cannot be written; whatever ``path`` held before is untouched.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}@{HOST}.part")
    try:
        with writing(path, needed):
            mode = _usual_mode(part)
            if private:
                mode = 0o600
                os.close(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))
            yield part
            with part.open("r+b") as handle:  # Windows syncs only what is open for writing
                os.fsync(handle.fileno())
            if stat.S_IMODE(part.stat().st_mode) != mode:
                part.chmod(mode)
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn what disk and rights answer in the block, which writes ``path`` (or below it), into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise _told(path, cause, needed) from error


def _usual_mode(part: Path) -> int:
    """The mode of a new file of this folder, which need not be written before somebody finds that it cannot be."""
    part.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))
    mode = stat.S_IMODE(part.stat().st_mode)
    part.unlink()
    return mode


def _os_error(error: BaseException | None) -> OSError | None:
    """The system's answer that ``error`` is or comes from; torch, safetensors and pydicom give it as a text of their own."""
    bare: OSError | None = None
    while error is not None:
        if isinstance(error, OSError):
            if error.errno:
                return error
            bare = bare or error
        text = str(error)
        for number in TOLD:
            if os.strerror(number) in text or f"os error {number}" in text or f"code: {number}," in text:
                return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return bare


def _told(path: Path, error: OSError, needed: int) -> UserError:
    """``error``, met while ``path`` was written, perhaps by reading another file."""
    other = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else path
    if other in (path, *path.parents) or other.parent == path.parent or path in other.parents:
        return unwritable(path, error, needed)
    return disk_error(error) or UserError(f"cannot write {path}: {error}")


def new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A memory map of a new ``.npy`` file, whose disk is taken: where a full one comes to light only as the map is written
    to, the system ends the process (SIGBUS). OSError where there is no room.
    """
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    with path.open("r+b") as handle:
        _reserve(handle, array.offset, array.nbytes)
    return array


def _reserve(handle: BinaryIO, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate") and size:
        try:
            return os.posix_fallocate(handle.fileno(), start, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    handle.seek(start)  # macOS, and file systems that cannot
    for done in range(0, size, PIECE):
        handle.write(bytes(min(PIECE, size - done)))
    handle.flush()
    return None


PIECE = 1 << 20
"""Bytes written at a time."""
HOST = re.sub(r"[^\w-]", "-", socket.gethostname())[:40] or "host"
"""Part of the names of temporary files: two machines that share a folder may have processes of one number."""


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a broken file is a UserError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); delete it and run the stage again") from error


TEXT = ("id", "ID", "group", "series", "split", "patient", "child", "subject", "file", "path", "reason", "detail", "model",
        "measure")
"""Columns that are text in every table: a patient ``0012`` is not 12, and one called ``NA`` is not missing."""


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as parquet or CSV, by the suffix of ``path``."""
    with replacing(path) as part:
        if path.suffix == ".csv":
            table.to_csv(part, index=False)
        else:
            table.to_parquet(part, index=False)


def read_table(path: Path, made_by: str = "", text: tuple[str, ...] = (),
               columns: Iterable[str] | None = None) -> pd.DataFrame:
    """A parquet or CSV table that :func:`write_table` wrote; a missing one names ``made_by``, the command that makes it.

    Of parquet ``columns`` alone are read where they are named, which is several times faster where there are many others.

    In a CSV the columns ``TEXT`` and those of ``text`` come back as the text that was written, "" for a blank; of the others
    a blank is NaN.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: {made_by}") if made_by else Missing(path)
    if path.suffix != ".csv":
        return pd.read_parquet(path, columns=None if columns is None else [*columns])
    names = list(pd.read_csv(path, nrows=0))
    words = {name: "str" for name in names if name in (*TEXT, *text)}
    blank = {name: [""] for name in names if name not in words}
    return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=blank)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with its columns of ``TEXT`` as text, whatever they were; None and NaN become ""."""
    return table.assign(**{name: table[name].fillna("").astype("str") for name in table if name in TEXT})


def read_text_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A CSV written by people as text (:func:`radstack.core.cells.read_cells`); UserError unless it has ``columns``."""
    if not path.exists():
        raise Missing(path)
    try:
        raw = read_cells(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({' '.join(str(error).split())}); save it again") from error
    missing = [name for name in columns if name not in raw.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; it needs {','.join(columns)}")
    return raw


def existing(folder: Path, *names: str) -> tuple[Path, ...]:
    """The files of ``folder`` that are there, of those named."""
    return tuple(folder / name for name in names if (folder / name).exists())


def needed(path: Path, mend: str) -> Path:
    """``path``; a UserError that ends in ``mend``, what to do about it, where it is not there."""
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}; {mend}")
    return path


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


DOWNLOADS = ".download"
"""Folder, below one of raw data, of archives that are not yet unpacked."""


class Entry(NamedTuple):
    """A file below a folder, or a folder there that cannot be listed."""

    name: str  # Below the folder, with slashes
    size: int  # Bytes; 0 where it cannot be asked
    time: int  # Of modification, ns; 0 alike


def walk(folder: Path) -> Iterator[Entry]:
    """Everything below ``folder`` that is no folder, through links to folders as well, in no order.

    A link that leads up again is passed over, and so are ``DOWNLOADS`` and the files of :func:`is_twin`. A folder that
    cannot be listed stands for what it holds: whoever opens it finds out why. UserError where ``folder`` itself cannot be
    listed.
    """
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while pending:
        below, above = pending.pop()
        try:
            status = os.stat(folder / below)  # noqa: PTH116
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    if _is_folder(entry):
                        if name != DOWNLOADS:
                            pending.append((name, (*above, here)))
                    elif not is_twin(entry):
                        yield Entry(name, *_size_and_time(entry))
        except OSError as error:
            if not below:
                raise UserError(f"cannot list {folder}: {error.strerror}; check the data folder") from error
            yield Entry(below, 0, 0)


def files_below(folder: Path) -> Iterator[Path]:
    """The paths of :func:`walk`."""
    return (folder / entry.name for entry in walk(folder))


def is_twin(file: "Path | os.DirEntry[str]") -> bool:
    """Whether a file is what macOS keeps beside one on a share or in an archive: ``._name``, no picture and no table."""
    return file.name.startswith("._")


def matching(folder: Path, pattern: str) -> list[Path]:
    """What fits a glob pattern below ``folder``, sorted, but for :func:`is_twin`; of folders with raw data."""
    return sorted(path for path in folder.glob(pattern) if not is_twin(path))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _size_and_time(entry: "os.DirEntry[str]") -> tuple[int, int]:
    """Of what a link leads to, or of the link where that is nothing."""
    for follow in (True, False):
        try:
            status = entry.stat(follow_symlinks=follow)
            return status.st_size, status.st_mtime_ns
        except OSError:
            continue
    return 0, 0


HEADERS = (".mhd", ".hdr", ".nhdr")
"""Endings of files whose voxels lie in another file of the same name."""


def stamp(path: Path) -> str:
    """Bytes and latest time of modification (ns) of a file, of the files in a folder, or of those of a name (.mhd, .raw).

    Only a header's folder is searched for files of its name: in one of 750,000 slices a search for each would take days.
    """
    beside = path.parent.glob(f"{escape(path.name.partition('.')[0])}.*") if path.suffix in HEADERS else [path]
    stats = [file.stat() for file in (path.iterdir() if path.is_dir() else beside) if file.exists()]
    return f"{sum(one.st_size for one in stats)} {max((one.st_mtime_ns for one in stats), default=0)}"


def need_disk(folder: Path, needed: int, what: str) -> None:
    """Refuse early: raise unless the disk under ``folder`` has ``needed`` bytes free."""
    place = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(f"{what} needs {size_in_words(needed)}, {place} has {size_in_words(free)} free; "
                        f"free some disk, or {elsewhere(folder / 'x')}")


def sweep(folder: Path) -> None:
    """Delete the ``.part`` files that killed runs left in ``folder``; those of a run that is at work stay."""
    for orphan in folder.glob(".*.part"):
        if not in_use(orphan):
            with suppress(PermissionError):  # another person's, in a folder where all delete their own alone
                orphan.unlink(missing_ok=True)


def in_use(part: Path) -> bool:
    """Whether the process that writes a temporary file (its number is in the name) still runs.

    On another machine it may, until the file is a day old.
    """
    found = PART.search(part.name)
    if found is None:
        return False
    if os.name == "nt" or found["host"] not in (None, HOST):  # Windows cannot ask for a process without ending it
        with suppress(FileNotFoundError):
            return time.time() - part.stat().st_mtime < DAY
        return False
    try:
        os.kill(int(found["number"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


PART = re.compile(r"\.(?P<number>\d+)(@(?P<host>.*))?\.part$")
DAY = 24 * 3600.0
