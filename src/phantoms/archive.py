"""An archive of phantoms below one folder: drawn in parallel, resumable entry by entry, finished by the file of the truth.

Each competition says what an entry looks like and what its tables are. Here is what their archives share: the request that
a folder was begun with, a mark for each entry that is drawn whole, the processes that draw.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.errors import Missing, Refused, UserError
from radstack.core.files import need_disk, read_json, replacing, sweep, write_json
from radstack.core.parallel import in_processes

TRUTH = "truth.npz"
"""Below the folder of an archive, written last: what was drawn, for the report alone."""
MARKS = ".phantom"
"""Folder of the request and of what is known about each drawn entry; kept, so that a bigger archive draws the new ones."""
FORM = "form"
"""Name in a mark of what the entry looked like when it was drawn, see :func:`_form`."""
TRUNCATED_AT = 0.6
"""Share of a truncated picture file that is there."""

Facts = dict[str, Any]
"""What the truth keeps of an entry: numbers, texts and arrays by name."""
Request = dict[str, Any]
"""What decides every byte of an entry; among it ``version``, which is raised when the drawing changes."""
Progress = Callable[[int, int], None]
Entry = Any
"""Of a plan: a frozen dataclass whose fields say all that the request does not; ``number``, from 0, is its place."""
DrawEntry = Callable[[Path, Request, Entry], Facts]


def draw_missing(folder: Path, request: Request, entries: Sequence[Entry], draw_entry: DrawEntry, *,
                 what: str, pictures: str, entry_bytes: int, workers: int, progress: Progress | None) -> list[Facts] | None:
    """Draw those ``entries`` that ``folder`` lacks, or holds in another form (a small archive has no defects).

    Args:
        folder: of the archive.
        request: must be that with which the folder was begun.
        entries: all of the archive, by number.
        draw_entry: importable at module level; writes the files of one entry and returns what the truth keeps of it.
        what: name of the entries in messages, in the plural.
        pictures: name of the folder that every archive of this kind has, phantoms or not.
        entry_bytes: how much disk an entry needs, at most.
        workers: processes; 1 draws in this one.
        progress: called with the number of entries done and the number of all.

    Returns:
        The facts of all entries, for the tables and :func:`write_truth`; None where the archive is whole.

    Raises:
        Refused: the folder holds another archive or a bigger one, or the disk is too full for this one.
    """
    _refuse(folder, request, len(entries), what, pictures)
    todo = [entry for entry in entries if not _is_drawn(folder, entry)]
    if not todo and (folder / TRUTH).exists():
        return None
    try:
        need_disk(folder, len(todo) * entry_bytes, f"drawing {len(todo)} {what}")
    except UserError as error:
        raise Refused(str(error)) from error
    (folder / TRUTH).unlink(missing_ok=True)
    for place in {path.parent for path in folder.rglob(".*.part")}:
        sweep(place)
    work = in_processes(partial(_draw, folder, request, draw_entry), todo, workers)
    for done, _ in enumerate(work, len(entries) - len(todo) + 1):
        if progress:
            progress(done, len(entries))
    return [_arrays(_mark(folder, entry.number)) for entry in entries]


def write_truth(folder: Path, truth: pd.DataFrame | Facts) -> None:
    """Write the file that says that the archive is whole."""
    table = isinstance(truth, pd.DataFrame)
    _save(folder / TRUTH, {str(name): np.array(values.tolist()) if table else values for name, values in truth.items()})


def read_truth(folder: Path, number: int | None = None) -> Facts:
    """The columns or arrays of the truth, or what it keeps of entry ``number``.

    Raises:
        UserError: there is no finished archive, or the entry is not drawn.
    """
    path = folder / TRUTH if number is None else _mark(folder, number)
    if not path.exists():
        raise Missing(path)
    return _arrays(path)


def read_truth_table(folder: Path) -> pd.DataFrame:
    """The truth that was written as a table; raises as :func:`read_truth`."""
    columns = read_truth(folder)
    return pd.DataFrame(columns).astype({name: "str" for name, values in columns.items() if values.dtype.kind == "U"})


def write_png(path: Path, picture: np.ndarray, truncated: bool = False) -> None:
    """Write gray levels [height, width] or [height, width, 3 (blue, green, red)]; a truncated file ends early."""
    data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    with replacing(path) as part:
        part.write_bytes(data[:int(TRUNCATED_AT * len(data))] if truncated else data)


def _refuse(folder: Path, request: Request, count: int, what: str, pictures: str) -> None:
    """Refuse folders that hold anything but the beginning of this archive; note the request in a new one."""
    note = folder / MARKS / "request.json"
    if not note.exists():
        if (folder / pictures).exists():
            raise Refused(f"{folder} holds {what} that are no phantoms; choose another folder")
        write_json(note, request)
    if read_json(note) != request:
        raise Refused(f"{folder} holds phantoms of another request ({note}); delete the folder to draw these")
    held = len(list((folder / MARKS).glob("[0-9]*.npz")))
    if held > count:
        raise Refused(f"{folder} is an archive of {held}, more than {count} {what}; ask for {held} or delete the folder")


def _draw(folder: Path, request: Request, draw_entry: DrawEntry, entry: Entry) -> None:
    """Draw one entry, then write its mark, which says that its files are whole."""
    cv2.setNumThreads(1)
    facts = draw_entry(folder, request, entry)
    _save(_mark(folder, entry.number), facts | {FORM: _form(entry)})


def _is_drawn(folder: Path, entry: Entry) -> bool:
    mark = _mark(folder, entry.number)
    if not mark.exists():
        return False
    with np.load(mark, allow_pickle=False) as arrays:
        return FORM in arrays.files and str(arrays[FORM]) == _form(entry)


def _form(entry: Entry) -> str:
    """Hex digits that change with any field of ``entry``."""
    return blake2b(repr(entry).encode(), digest_size=8).hexdigest()


def _mark(folder: Path, number: int) -> Path:
    return folder / MARKS / f"{number:06d}.npz"


def _arrays(path: Path) -> Facts:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: values[()] for name, values in arrays.items() if name != FORM}


def _save(path: Path, arrays: Facts) -> None:
    with replacing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
