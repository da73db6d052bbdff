"""A zip archive from elsewhere, unpacked so that nothing lands outside its folder and a small file cannot fill the disk."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import need_disk, replacing
from radstack.core.recipe import digest

MOST_FILES = 2_000_000
"""Files in one archive; the largest known set of head CT has 870,000 slices."""
MOST_TIMES, FREE_BYTES = 200, 1_000_000_000
"""Unpacked files may be so many times as large as the archive, and in any case so large. Real pictures shrink to a third,
pictures of one gray level to a hundredth; archives that are made to fill disks shrink to a thousandth and less."""
REFUSED = ["path", "reason", "detail"]


def unpack(archive: Path, folder: Path) -> pd.DataFrame:
    """Unpack ``archive`` into ``folder``, which is emptied before.

    Returns:
        ``path``, ``reason``, ``detail`` of each file that was left out: ``unsafe-name`` (it would lie outside), ``link``,
        ``encrypted``, ``repeated-name``, ``damaged``.

    Raises:
        UserError: it is no zip file, has too many files, would grow too large, or the disk is too small.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            files = [entry for entry in opened.infolist() if not entry.is_dir()]
            _check_size(archive, files, folder)
            seen: set[str] = set()
            refused = [(entry.filename, *fault) for entry in files if (fault := _unpack(opened, entry, folder, seen))]
    except (zipfile.BadZipFile, OSError) as error:
        raise _no_zip(archive, error) from error
    return pd.DataFrame(refused, columns=REFUSED)


def listing(archive: Path) -> str:
    """Digest of the names, sizes and CRCs of an archive's files; a UserError where it is no zip file.

    Its size and time would be those of another one that took its name.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            return digest([[entry.filename, entry.file_size, entry.CRC] for entry in opened.infolist()])
    except (zipfile.BadZipFile, OSError) as error:
        raise _no_zip(archive, error) from error


def _no_zip(archive: Path, error: Exception) -> UserError:
    return UserError(f"{archive} is no readable zip file ({error}); unpack it yourself and name the folder")


def _check_size(archive: Path, files: list[zipfile.ZipInfo], folder: Path) -> None:
    most, size = max(FREE_BYTES, MOST_TIMES * archive.stat().st_size), sum(entry.file_size for entry in files)
    if size > most or len(files) > MOST_FILES:
        raise UserError(f"{archive} would become {size / 1e9:,.1f} GB in {len(files):,} files; at most {most / 1e9:,.1f} GB "
                        f"in {MOST_FILES:,} are unpacked; if that is right, unpack it yourself and name the folder")
    need_disk(folder, size, f"unpacking {archive.name}")


def _unpack(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, seen: set[str]) -> tuple[str, str] | None:
    """Write one file; reason and detail if it is left out. Its length is never more than what the archive declares."""
    if fault := _fault(entry, seen):
        return fault
    seen.add(entry.filename)
    try:
        with opened.open(entry) as source, replacing(folder / entry.filename) as part, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return "damaged", f"it cannot be unpacked: {error}"
    return None


def _fault(entry: zipfile.ZipInfo, seen: set[str]) -> tuple[str, str] | None:
    name = PurePosixPath(entry.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or ":" in entry.filename:
        return "unsafe-name", "its name leads out of the folder, or may on another system"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "link", "a link, which is not followed"
    if entry.flag_bits & 1:
        return "encrypted", "it is encrypted: unpack it yourself with its password"
    return ("repeated-name", "another file of the archive has this name") if entry.filename in seen else None
