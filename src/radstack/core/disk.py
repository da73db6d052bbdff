"""Failures of disks, folders and rights, told apart, each in one line that says what helps."""

import errno
import os
import re
import shutil
from pathlib import Path

from radstack.core.errors import UserError

OPTIONS = {"input": "--data-dir"} | dict.fromkeys(("folds", "cache", "weights", "oof", "submissions", "reports", "bundles"),
                                                  "--out-dir")
"""Folder of a run -> the option that puts it elsewhere."""


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))  # Windows lacks some


FULL = _numbers("ENOSPC", "EDQUOT")
DENIED = _numbers("EACCES", "EPERM")
NO_FOLDER = _numbers("ENOTDIR", "EEXIST", "EISDIR")
NO_ENTRY = _numbers("EMFILE", "ENFILE")
TOLD = FULL | DENIED | NO_FOLDER | NO_ENTRY | _numbers("EROFS", "EIO", "ENAMETOOLONG", "ELOOP", "ESTALE", "EFBIG", "ENODEV",
                                                       "ENXIO", "ETIMEDOUT", "EHOSTDOWN")
"""What a person can mend; others are this program's own."""
# By os.path: a Path raises where a folder on the way may not be looked into.


def unwritable(path: Path, error: OSError, needed: int = 0) -> UserError:
    """What to do about ``error`` of writing ``path``, which needs ``needed`` bytes (0: not known)."""
    return UserError(f"cannot write {path}: {_words(error)}; {_mend(path, error.errno, needed)}")


def unreadable(path: Path, error: OSError) -> UserError:
    """What to do about ``error`` of reading ``path``."""
    mend = "check the disk and run the same command again"
    if error.errno in DENIED:
        shut = _shut(path)
        mend = (f"ask the owner of {shut} for the right to look into it (chmod a+rx)" if shut else
                f"ask its owner{_owner(path)} for the right to read it (chmod a+r)")
    elif error.errno in NO_ENTRY:
        mend = _mend(path, error.errno, 0)
    return UserError(f"cannot read {path}: {_words(error)}; {mend}")


def disk_error(error: OSError) -> UserError | None:
    """``error`` of a disk or a folder in one line; None where it is of another kind."""
    if error.errno not in TOLD:
        return None
    name = error.filename
    if not isinstance(name, str | os.PathLike):
        found = re.search("'([^']+)'", str(error))  # pyarrow has it in its text alone
        if found is None:
            return UserError(f"a file cannot be read or written: {_words(error)}; mend it and run the same command again")
        name = found[1]
    path = Path(name)
    return unreadable(path, error) if _was_read(path) else unwritable(path, error)


def need_readable(path: Path) -> None:
    """UserError where a file that is there may not be read: some libraries call it missing."""
    if not os.access(path, os.R_OK):
        raise unreadable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _was_read(path: Path) -> bool:
    """Whether an error tells of reading: raw data are only read; so was a file or folder that may not be looked into."""
    closed = os.path.isfile(path) and not os.access(path, os.R_OK)  # noqa: PTH113
    return "input" in path.parts or closed or _shut(path) is not None


def _shut(path: Path) -> Path | None:
    """The folder on the way to ``path`` that may not be looked into."""
    folder = next((place for place in path.parents if os.path.isdir(place)), None)  # noqa: PTH112
    return folder if folder and not os.access(folder, os.X_OK) else None


def elsewhere(path: Path) -> str:
    """How to have ``path`` lie in another folder: the option that moves it, where one does."""
    option = next((OPTIONS[part] for part in reversed(path.parent.parts) if part in OPTIONS), "")
    return f"point {option} at another folder" if option else "choose another folder"


def size_in_words(count: float) -> str:
    """``count`` bytes: 1.5 GB, 20.0 MB, 3 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)  # a library's own text would say the same twice


def _mend(path: Path, number: int | None, needed: int) -> str:
    other = elsewhere(path)
    folder = next((place for place in path.parents if os.path.isdir(place)), path.parent)  # noqa: PTH112
    if number in FULL:
        need = f"it needs {size_in_words(needed)}, " if needed else ""
        left = "your quota is used up" if number != errno.ENOSPC else f"{folder} has {_free(folder)} free"
        return f"{need}{left}: free some disk and run the same command again, or {other}"
    if number in DENIED:
        return f"you may not write into {folder}{_owner(folder)}: ask for the right to, or {other}"
    if number == errno.EROFS:
        return f"{folder} can only be read: {other}"
    if number in NO_FOLDER:
        file = next((place for place in reversed(path.parents) if os.path.isfile(place)), None)  # noqa: PTH113
        return f"{file} is a file and no folder: rename it, or {other}" if file else (
            f"something else has this name: rename it, or {other}")
    if number in NO_ENTRY:
        return "allow more open files (ulimit -n 4096) and run the same command again"
    return f"check the disk and run the same command again, or {other}"


def _free(folder: Path) -> str:
    return size_in_words(shutil.disk_usage(folder).free)


def _owner(path: Path) -> str:
    try:
        return f" of {path.owner()}"
    except (OSError, KeyError, NotImplementedError):
        return ""
