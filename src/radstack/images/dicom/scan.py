"""Headers of a whole folder, in parallel and restartable: 750,000 files are a normal size here."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import Missing, UserError
from radstack.core.parallel import mapped_rows
from radstack.images.dicom.header import Header, Unreadable, fault, read_header
from radstack.images.dicom.order import ORIENTATION, POSITION

CHUNK = 5000
"""Files a part: some tenths of a second of work, 150 parts for the RSNA 2019 archive."""
VERSION = 1
"""Part of the folder of the parts; raise it when the columns change."""
PLAIN = ["sop", "patient", "study", "rows", "columns", "samples", "frames", "photometric", "bits_allocated",
         "bits_stored", "pixel_representation", "intercept", "slope", "transfer_syntax"]
"""Header fields that are columns as they are; the series UID is the column ``series_uid``."""

Found = tuple[str, int, int]
"""Path below the folder, bytes, time of modification in ns."""


def scan(folder: Path, workers: int, parts_folder: Path) -> pd.DataFrame:
    """Read the header of every file below ``folder``.

    Each chunk of ``CHUNK`` files is kept in ``parts_folder`` as it is done, under the digest of its names, sizes and
    times: a killed scan starts where it was, a changed file is read again. The parts may be deleted once the result
    is stored.

    Args:
        folder: searched with its subfolders; every file counts, whatever it is called.
        workers: processes; 0 or 1 reads in this one. Results do not depend on it.
        parts_folder: where parts are kept, outside ``folder``.

    Returns:
        One row a file sorted by ``path`` (below the folder): ``path``, ``size``, ``reason`` and ``detail`` ("" if
        readable), ``PLAIN``, ``series_uid``, ``padding``, ``POSITION``, ``ORIENTATION``, ``spacing_row``,
        ``spacing_column`` (mm), ``window_center``, ``window_width`` (the first of several). Absent numbers are NaN.

    Raises:
        UserError: the folder is missing or holds no file, a part cannot be written, or a worker was killed.
    """
    found = sorted(_list(folder))
    if not found:
        raise Missing(folder, f"{folder} holds no file")
    return mapped_rows(partial(_read, folder), found, parts_folder / f"headers-v{VERSION}", workers, "headers", CHUNK)


def _list(folder: Path) -> Iterator[Found]:
    """Every file below ``folder``."""
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append(entry.path)
                    else:
                        stat = entry.stat(follow_symlinks=os.path.exists(entry.path))  # noqa: PTH110
                        yield os.path.relpath(entry.path, folder), stat.st_size, stat.st_mtime_ns
        except OSError as error:
            raise UserError(f"cannot list {error.filename}: {error.strerror}; check the data folder") from error


def _read(folder: Path, chunk: list[Found]) -> pd.DataFrame:
    table = pd.DataFrame([_row(folder, path, size) for path, size, _ in chunk])
    texts = table.select_dtypes(include=["object", "str"]).columns
    return table.astype(dict.fromkeys(texts, "str"))


def _row(folder: Path, path: str, size: int) -> dict[str, Any]:
    """One file as a row; nothing about it raises."""
    name = path.encode("utf-8", "backslashreplace").decode()
    row: dict[str, Any] = {"path": name, "size": size, "reason": "", "detail": ""}
    header = Header()
    try:
        if name != path:
            raise Unreadable("odd-name", "the file name is not UTF-8; rename the file")
        header = read_header(f"{folder}/{path}")
        found = fault(header)
        if found is not None:
            raise found
    except Unreadable as error:
        row |= {"reason": error.reason, "detail": error.detail}
    return row | _columns(header)


def _columns(header: Header) -> dict[str, Any]:
    """The header as scalars."""
    row = {name: getattr(header, name) for name in PLAIN}
    row["series_uid"] = header.series
    row["padding"] = np.nan if header.padding is None else float(header.padding)
    row |= zip(POSITION, header.position or (np.nan,) * 3)
    row |= zip(ORIENTATION, header.orientation or (np.nan,) * 6)
    row |= zip(("spacing_row", "spacing_column"), header.spacing or (np.nan,) * 2)
    row["window_center"] = header.window_center[0] if header.window_center else np.nan
    row["window_width"] = header.window_width[0] if header.window_width else np.nan
    return row
