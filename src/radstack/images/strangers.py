"""Files that an index passed over, so that each file of a folder is behind a row or in the quarantine."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from radstack.core.files import walk
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.images.unreadable import Unreadable, read_start

KINDS = {"a PNG": (0, b"\x89PNG\r\n\x1a\n"), "a JPEG": (0, b"\xff\xd8\xff"), "a DICOM file": (128, b"DICM"),
         "a TIFF": (0, b"II*\x00"), "a NIfTI file": (344, b"n+1\x00"), "a NRRD file": (0, b"NRRD"),
         "a MetaImage header": (0, b"ObjectType"), "a zip archive": (0, b"PK\x03\x04"), "a gzip file": (0, b"\x1f\x8b")}
"""What a file is -> where which bytes say so (DICOM PS3.10 7.1; PNG, W3C 2003, 5.2; the formats' own documents)."""
VOXELS = (".raw", ".zraw", ".img", ".bin")
"""Endings of files that hold the voxels of a header beside them."""
HEAD = 512


def strangers(folder: Path, rows: pd.DataFrame, quarantine: pd.DataFrame) -> pd.DataFrame:
    """The files below ``folder`` that neither ``rows`` nor ``quarantine`` names (by ``path``), as quarantine rows.

    The slices of a folder that is named as a whole count as named, as do voxels beside a named header. ``not-a-picture`` is
    what by its first bytes is none; ``not-read`` is a picture or an archive that the index does not take.
    Hidden files of macOS (:func:`radstack.core.files.is_twin`) are passed over.
    """
    known = {*rows["path"], *quarantine["path"]}
    stems = {_stem(path) for path in known}
    found = [(_id(path), "test", path, *judged) for path, file in sorted(every_file(folder))
             if path not in known and not (path.endswith(VOXELS) and _stem(path) in stems)
             and (judged := _judge(file, str(PurePosixPath(path).parent) in known))]
    return pd.DataFrame(found, columns=QUARANTINE_COLUMNS).astype("str")


def every_file(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name below ``folder`` (what is not UTF-8 in it written out) and path of each file, through links to folders, too."""
    for entry in walk(folder):
        yield entry.name.encode("utf-8", "backslashreplace").decode(), folder / entry.name


def _id(path: str) -> str:
    return PurePosixPath(path).stem


def _stem(path: str) -> tuple[str, str]:
    """Folder, and name up to the first dot."""
    return str(PurePosixPath(path).parent), PurePosixPath(path).name.partition(".")[0]


def _judge(file: Path, in_volume: bool) -> tuple[str, str] | None:
    """Reason and detail; None for a slice of a volume that is named as a folder."""
    try:
        head, _ = read_start(file, HEAD)
    except Unreadable as error:
        return error.reason, error.detail
    kind = next((kind for kind, (start, sign) in KINDS.items() if head[start:start + len(sign)] == sign), "")
    if in_volume and kind == "a DICOM file":
        return None
    if kind:
        return "not-read", f"{kind} by its first bytes, of a kind, an ending or a place that is not read here"
    return "not-a-picture", "empty" if not head else f"no picture by its first bytes {head[:8]!r}"
