"""Headers of a whole folder, in parallel and restartable: 750,000 files are a normal size here."""

from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import Missing
from radstack.core.files import walk
from radstack.core.parallel import mapped_rows
from radstack.images.dicom.file import Header, Unreadable, fault, read_header
from radstack.images.dicom.series import ORIENTATION, POSITION, SPACING

CHUNK = 5000  # Files a part: some tenths of a second of work, 150 parts for the RSNA 2019 archive
VERSION = 3  # Part of the folder of the parts; raise it when the columns change
PLAIN = ["sop", "modality", "patient", "study", "faulty", "rows", "columns", "samples", "frames", "photometric",
         "bits_allocated", "bits_stored", "pixel_representation", "intercept", "has_intercept", "slope", "transfer_syntax"]
"""Header fields that are columns as they are; the series UID is the column ``series_uid``."""

NUMBERS = {"position": POSITION, "orientation": ORIENTATION, "spacing": SPACING, "window_center": ["window_center"],
           "window_width": ["window_width"]}
"""Fields that are lists of numbers, and the columns of their first ones."""
FIELDS = attrgetter(*PLAIN, "series", "padding", *NUMBERS)
COLUMNS = ["path", "size", "reason", "detail", *PLAIN, "series_uid", "padding", *NUMBERS]
"""What is asked of a file; the last ones take up several columns."""
NOTHING = Header()
"""Of a file without a header."""

Found = tuple[str, int, int]
"""Path below the folder, bytes, time of modification in ns."""


def scan(folder: Path, workers: int, parts_folder: Path) -> pd.DataFrame:
    """Read the header of every file below ``folder``.

    Each chunk of ``CHUNK`` files is kept in ``parts_folder`` as it is done, under the digest of its names, sizes and
    times: a killed scan starts where it was, a changed file is read again. The parts may be deleted once the result
    is stored. Results do not depend on the number of ``workers``; parts lie outside ``folder``.

    Returns:
        One row a file sorted by ``path`` (below the folder): ``path``, ``size``, ``reason`` and ``detail`` ("" if
        readable), ``PLAIN``, ``series_uid``, ``padding``, ``POSITION``, ``ORIENTATION``, ``spacing_row``,
        ``spacing_column`` (mm), ``window_center``, ``window_width`` (the first of several). Absent numbers are NaN.

    Raises:
        UserError: the folder is missing or holds no file, a part cannot be written, or a worker was killed.
    """
    found = sorted(map(tuple, walk(folder)))
    if not found:
        raise Missing(folder, f"{folder} holds no file")
    return mapped_rows(partial(_read, folder), found, parts_folder / f"headers-v{VERSION}", workers, "headers", CHUNK)


def _read(folder: Path, chunk: list[Found]) -> pd.DataFrame:
    """The rows of some files: put together by column, since a dict a row takes longer than the headers."""
    base = str(folder)
    found = dict(zip(COLUMNS, zip(*(_row(base, path, size) for path, size, _ in chunk))))
    table: dict[str, Any] = {name: found[name] for name in COLUMNS[:-len(NUMBERS) - 1]}
    table["padding"] = np.array(found["padding"], float)
    for name, names in NUMBERS.items():
        absent = (np.nan,) * len(names)
        table |= zip(names, np.array([(values or absent)[:len(names)] for values in found[name]]).T)
    rows = pd.DataFrame(table)
    texts = rows.select_dtypes(include=["object", "str"]).columns
    return rows.astype(dict.fromkeys(texts, "str"))


def _row(folder: str, path: str, size: int) -> tuple[Any, ...]:
    """``COLUMNS`` of a file; nothing about it raises."""
    name, header, reason, detail = path.encode("utf-8", "backslashreplace").decode(), NOTHING, "", ""
    try:
        if name != path:
            raise Unreadable("odd-name", "the file name is not UTF-8; rename the file")
        header = read_header(f"{folder}/{path}")
        if found := fault(header):
            raise found
    except Unreadable as error:
        reason, detail = error.reason, error.detail
    return name, size, reason, detail, *FIELDS(header)
