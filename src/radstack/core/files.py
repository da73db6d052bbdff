"""Files that are either whole or absent: written to a temporary name, synced, renamed."""

import errno
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.errors import Missing, UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it over ``path``, on failure delete it.

    UserError where the disk is full or the folder cannot be written; whatever ``path`` held before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free some disk and run the same command again"
                        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Make ``path``, a file or folder, with no other run at it: by a lock beside it, which ends with the process.

    Raises:
        UserError: another run is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    handle = lock.open("a")
    try:
        while not (_locked(handle, path) and _same_file(handle, lock)):
            handle.close()  # of a run that ended just now, and took the file away
            handle = lock.open("a")
        try:
            yield
        finally:
            if os.name != "nt":  # there an open file cannot be taken away
                lock.unlink(missing_ok=True)
    finally:
        handle.close()


def _locked(handle: Any, path: Path) -> bool:
    try:
        if os.name == "nt":
            importlib.import_module("msvcrt").locking(handle.fileno(), 2, 1)  # LK_NBLCK
        else:
            fcntl = importlib.import_module("fcntl")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise UserError(f"another run is writing {path}; wait until it ends, or name another one") from error
    return True  # also on a file system that knows no locks


def _same_file(handle: Any, lock: Path) -> bool:
    try:
        return os.name == "nt" or os.path.samestat(os.fstat(handle.fileno()), lock.stat())
    except FileNotFoundError:
        return False


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


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as parquet or CSV, by the suffix of ``path``."""
    with replacing(path) as part:
        if path.suffix == ".csv":
            table.to_csv(part, index=False)
        else:
            table.to_parquet(part, index=False)


def read_table(path: Path, made_by: str) -> pd.DataFrame:
    """Read a parquet or CSV table; a missing one names ``made_by``, the command that makes it."""
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: {made_by}")
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def read_text_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A CSV written by people, all values as text without blanks around them; UserError unless it has ``columns``."""
    if not path.exists():
        raise Missing(path)
    try:
        raw = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({' '.join(str(error).split())}); save it again") from error
    missing = [name for name in columns if name not in raw.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; it needs {','.join(columns)}")
    return raw.apply(lambda column: column.str.strip()).astype("str")


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


HEADERS = (".mhd", ".hdr", ".nhdr")
"""Endings of files whose voxels lie in another file of the same name."""


def stamp(path: Path) -> str:
    """Bytes and latest time of modification (ns) of a file, of the files in a folder, or of those of a name (.mhd, .raw).

    Only a header's folder is searched for files of its name: in one of 750,000 slices a search for each would take days.
    """
    beside = path.parent.glob(f"{escape(path.name.partition('.')[0])}.*") if path.suffix in HEADERS else [path]
    stats = [file.stat() for file in (path.iterdir() if path.is_dir() else beside) if file.exists()]
    return f"{sum(stat.st_size for stat in stats)} {max((stat.st_mtime_ns for stat in stats), default=0)}"


def need_disk(folder: Path, needed: int, what: str) -> None:
    """Refuse early: raise unless the disk under ``folder`` has ``needed`` bytes free."""
    folder = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{what} needs {needed / 1e9:,.1f} GB, {folder} has {free / 1e9:,.1f} GB free; "
                        "free some disk, or point --data-dir at a larger one")


def sweep(folder: Path) -> None:
    """Delete the ``.part`` files a killed run left in ``folder``."""
    for orphan in folder.glob(".*.part"):
        orphan.unlink(missing_ok=True)
