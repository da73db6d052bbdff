"""Unpack zip files of hundreds of thousands of members, resumably."""

import shutil
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from radstack.core.errors import UserError
from radstack.core.files import need_disk, replacing, sweep
from radstack.core.progress import Track, track
from radstack.core.say import Report

UNZIP_THREADS = 4
"""zlib and file writes run outside Python's lock."""


def unzip(archive: Path, folder: Path, *, report: Report, top: str = "") -> None:
    """Unpack ``archive``, a zip file, into ``folder``; members that are there with the right size are kept as they are.

    Each member's CRC is checked. ``top`` is a first folder of the member names to leave out; ``report`` takes lines.

    Raises:
        UserError: the archive is damaged, a member would land outside ``folder``, or the disk is too small.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            targets = {_target(folder, member.filename, top): member for member in bundle.infolist()
                       if not member.is_dir()}
            left = [(member, path) for path, member in targets.items()
                    if not (path.is_file() and path.stat().st_size == member.file_size)]
            for parent in {path.parent for _, path in left}:
                sweep(parent)
            need_disk(folder, sum(member.file_size for member, _ in left), f"unpacking {archive}")
            with track(len(targets), f"unpack {archive.name}", done=len(targets) - len(left), report=report) as steps:
                _extract_all(bundle, left, steps)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is damaged ({error}); delete it and run the same command again") from error


def wraps(archive: Path, name: str) -> bool:
    """Whether ``archive`` is a zip of just the file ``name``; Kaggle packs single files, at times without saying so."""
    if not zipfile.is_zipfile(archive):
        return False
    with zipfile.ZipFile(archive) as bundle:
        return bundle.namelist() == [Path(name).name]


def _extract_all(bundle: zipfile.ZipFile, left: list[tuple[zipfile.ZipInfo, Path]], steps: Track) -> None:
    counting = threading.Lock()

    def extract(share: list[tuple[zipfile.ZipInfo, Path]]) -> None:
        for member, path in share:
            with bundle.open(member) as source, replacing(path) as part, part.open("wb") as target:
                shutil.copyfileobj(source, target, length=1 << 20)
            with counting:
                steps.step()

    with ThreadPoolExecutor(UNZIP_THREADS) as pool:
        list(pool.map(extract, [left[first::UNZIP_THREADS] for first in range(UNZIP_THREADS)]))


def _target(folder: Path, member: str, top: str) -> Path:
    parts = Path(member).parts
    if ".." in parts or Path(member).is_absolute():
        raise UserError(f"the archive holds {member!r}, which lies outside it; it is not the organizer's: delete it")
    return folder.joinpath(*(parts[1:] if top and parts[0] == top else parts))
