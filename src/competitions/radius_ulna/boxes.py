"""Hand-made boxes of the two bones, checked against their pictures.

Files are ``boxes.csv``, Pascal-VOC XML (Everingham 2010, written by LabelImg) and YOLO text (Redmon 2016). Corners are in
pixels of the raw picture, x to the right, y down, as edges: a box is ``x2 - x1`` wide, and the first pixel reaches from 0 to
1. LabelImg writes edges as drawn; the first VOC sets counted pixels from 1, which would be half a pixel off.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from competitions.radius_ulna.phases import BONES
from radstack.core.errors import UserError
from radstack.core.files import existing, matching, read_text_table
from radstack.images.boxes import CORNERS
from radstack.images.dicom import Unreadable
from radstack.images.formats import stem_of
from radstack.images.quarantine import judge

TABLE, FOLDER, NAMES = "boxes.csv", "boxes", "boxes/classes.txt"
"""Below the input folder: a table; VOC (.xml) or YOLO (.txt) files, one a picture and named like it; the classes of YOLO, a
line each."""
COLUMNS = ["file", "bone", *CORNERS]
FAULT_COLUMNS = ["file", "reason", "detail"]
ROUNDING = 1.0
"""Pixels by which a box may reach out of its picture (YOLO rounds shares, LabelImg corners); it is clipped."""

Row = dict[str, Any]


class Boxes(NamedTuple):
    """Boxes and what was wrong."""

    table: pd.DataFrame
    """``COLUMNS`` and ``width``, ``height``: the picture that the annotator saw, NaN where the file does not say."""
    faults: pd.DataFrame
    """``FAULT_COLUMNS``, one row a faulty box or annotation file."""


def read_boxes(folder: Path, sizes: pd.DataFrame) -> Boxes:
    """All boxes below an input folder, checked: ``boxes.csv`` and the VOC and YOLO files of ``boxes/`` add up.

    ``sizes`` has ``id``, ``height``, ``width`` (px) of every picture; the id is the file's name without folder and ending.
    Usable boxes have their ``id``, at most one a bone and picture; faults are those of the readers and of :func:`check`. A
    damaged ``boxes.csv`` or ``boxes/classes.txt`` is a UserError.
    """
    found = [read_voc(folder)]
    if (folder / TABLE).exists():
        found.append(read_csv(folder))
    if (folder / NAMES).exists():
        found.append(read_yolo(folder, sizes))
    checked = check(pd.concat([boxes.table for boxes in found], ignore_index=True), sizes)
    return Boxes(checked.table, pd.concat([*(boxes.faults for boxes in found), checked.faults], ignore_index=True))


def box_files(folder: Path) -> tuple[Path, ...]:
    """Everything that :func:`read_boxes` reads and that is there."""
    found = [path for path in matching(folder / FOLDER, "*") if path.suffix in (".xml", ".txt")]
    return (*existing(folder, TABLE), *found)


def read_csv(folder: Path) -> Boxes:
    """``boxes.csv`` as it stands (a UserError where damaged), corners that are no numbers as NaN.

    A bone of another name is an ``unknown-bone``.
    """
    path = folder / TABLE
    try:
        table = read_text_table(path, ())[COLUMNS]
    except (UserError, KeyError) as error:
        raise UserError(f"{path} is not a CSV file with the columns {','.join(COLUMNS)} ({error}); save it again") from error
    numbers = table[CORNERS].apply(pd.to_numeric, errors="coerce").astype(float)
    table = table.assign(**numbers, bone=table["bone"].str.lower(), width=np.nan, height=np.nan)
    strange = ~table["bone"].isin(BONES)
    detail = "the bone is '" + table["bone"] + "', not radius or ulna"
    return _parted(table, {"unknown-bone": strange}, detail)


def check(table: pd.DataFrame, sizes: pd.DataFrame) -> Boxes:
    """Judge boxes by their pictures; a box belongs to the picture with its file's name, whatever folder or ending it has.

    Faults: ``no-picture``, ``not-a-number``, ``other-size`` (the annotator saw a picture of another size),
    ``swapped-corners`` (or no area), ``outside`` (it reaches out of the picture by more than ``ROUNDING``) and ``doubled``
    (two of one bone on a picture, both: which is right cannot be known). Exact repeats are dropped.

    ``table`` is as :class:`Boxes` holds it, ``sizes`` as for :func:`read_boxes`. The usable boxes come back clipped to their
    pictures, with ``id`` and the picture's own size.
    """
    boxes = table.rename(columns={"width": "seen_width", "height": "seen_height"})
    boxes = boxes.assign(id=picture_names(table)).drop_duplicates(["id", *COLUMNS[1:]])
    boxes = boxes.merge(sizes[["id", "height", "width"]], on="id", how="left", validate="many_to_one")
    low, high, room = (boxes[pair].to_numpy(float) for pair in (["x1", "y1"], ["x2", "y2"], ["width", "height"]))
    seen = boxes[["seen_width", "seen_height"]].to_numpy(float)
    wrong = {
        "no-picture": boxes["width"].isna(),
        "not-a-number": ~np.isfinite(np.hstack([low, high])).all(axis=1),
        "other-size": (np.isfinite(seen) & (seen != room)).any(axis=1),
        "swapped-corners": (high <= low).any(axis=1),
        "outside": ((low < -ROUNDING) | (high > room + ROUNDING)).any(axis=1),
        "doubled": boxes.duplicated(["id", "bone"], keep=False),
    }
    detail = pd.Series([f"{row.bone}: {row.x1:g},{row.y1:g} to {row.x2:g},{row.y2:g} on a picture of {row.width:g} x "
                        f"{row.height:g}" for row in boxes.itertuples()], boxes.index, dtype="str")
    detail += np.where(wrong["other-size"], [f"; boxed on {w:g} x {h:g}" for w, h in seen], "")
    boxes[CORNERS] = np.clip(np.hstack([low, high]), 0, np.tile(room, 2))
    return _parted(boxes.drop(columns=["seen_width", "seen_height"]), wrong, detail)


def picture_names(table: pd.DataFrame) -> pd.Series:
    """File names without folder and ending, be it that of a picture or of its boxes."""
    return pd.Series([stem_of(re.sub(r"\.(xml|txt)$", "", file)) for file in table["file"]], table.index, dtype="str")


def _parted(table: pd.DataFrame, wrong: dict[str, pd.Series | np.ndarray], detail: pd.Series) -> Boxes:
    """Usable boxes apart from the faulty ones; the first fault counts."""
    judged = judge(table, {reason: (bad, detail) for reason, bad in wrong.items()})
    good, bad = (judged[part].reset_index(drop=True) for part in (judged["reason"] == "", judged["reason"] != ""))
    return Boxes(good[list(table)], bad[FAULT_COLUMNS])


def read_voc(folder: Path) -> Boxes:
    """VOC files of ``boxes/``: objects named ``Radius`` and ``Ulna`` of any case, others are passed over.

    A file is reported as ``empty`` (no bytes, or no object), ``broken`` (not XML, or a box without its corners), ``doctype``
    (a document type may hold entities that read files or fill the memory: it is refused) or ``incomplete`` (fewer objects
    than most files, or one bone missing; what it holds is used).
    """
    paths = matching(folder / FOLDER, "*.xml")
    objects, faults = _each(paths, _voc_objects)
    counts = objects["file"].value_counts(sort=False)
    usual = counts.mode().max()
    boxes = objects[objects["bone"].isin(BONES)].reset_index(drop=True)
    bones = boxes.groupby("file")["bone"].nunique().reindex(counts.index, fill_value=0)
    lacking = counts[(counts < usual) | (bones < len(BONES))]
    detail = [f"{count} boxes of {usual}, {bones[name]} of the bones; what it holds is used"
              for name, count in lacking.items()]
    incomplete = pd.DataFrame({"file": lacking.index.astype("str"), "reason": "incomplete", "detail": detail}, dtype="str")
    return Boxes(boxes, pd.concat([faults, incomplete], ignore_index=True))


def read_yolo(folder: Path, sizes: pd.DataFrame) -> Boxes:
    """YOLO files of ``boxes/``: lines of class, center x and y, width and height, the last four as shares of the picture.

    ``boxes/classes.txt`` names the classes, numbered from 0; a UserError where none is called radius, or none ulna.
    ``sizes`` has ``id``, ``height``, ``width`` (px) of the pictures. A file is reported as ``no-picture`` where its picture
    is not among these, ``empty`` (neither bone) or ``broken`` (a line that is not class and box).
    """
    names = [line.strip().lower() for line in (folder / NAMES).read_text(encoding="utf-8-sig").splitlines()]
    missing = [bone for bone in BONES if bone not in names]
    if missing:
        raise UserError(f"{folder / NAMES} has no class {' and no '.join(missing)}; write one class a line, numbered from 0")
    paths = [path for path in matching(folder / FOLDER, "*.txt") if path != folder / NAMES]
    known = {row.id: (float(row.width), float(row.height)) for row in sizes.itertuples()}
    return Boxes(*_each(paths, partial(_yolo_objects, names=names, known=known)))


def _each(paths: list[Path], read: Callable[[Path], list[Row]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of all files, and the files that have none."""
    rows, faults = [], []
    for path in paths:
        try:
            rows += read(path)
        except Unreadable as error:
            faults.append((path.name, error.reason, error.detail))
    types = {"file": "str", "bone": "str"} | dict.fromkeys([*CORNERS, "width", "height"], float)
    return (pd.DataFrame(rows, columns=list(types)).astype(types),
            pd.DataFrame(faults, columns=FAULT_COLUMNS, dtype="str"))


def _voc_objects(path: Path) -> list[Row]:
    """Every object of a VOC file, whatever it is."""
    data = path.read_bytes()
    if not data.strip():
        raise Unreadable("empty", "the file has no bytes")
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
        rows = [_voc_object(path, root, item) for item in root.iter("object")]
    except (ElementTree.ParseError, ValueError) as error:
        raise Unreadable("broken", f"not a VOC file with four corners a box ({error})") from error
    if not rows:
        raise Unreadable("empty", "nothing is boxed")
    return rows


def _voc_object(path: Path, root: ElementTree.Element, item: ElementTree.Element) -> Row:
    corners = (float(item.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax"))
    # LabelImg writes a size of 0 where it could not read the picture.
    seen = {side: float(root.findtext(f"size/{side}") or 0) or float("nan") for side in ("width", "height")}
    return {"file": path.name, "bone": item.findtext("name", "").strip().lower(), **dict(zip(CORNERS, corners)), **seen}


class _NoDoctype(ElementTree.TreeBuilder):
    """A tree that grows from no document type: entities are declared there, and come after this call."""

    def doctype(self, *_: str | None) -> None:
        raise Unreadable("doctype", "it declares a document type, which no VOC file needs; delete that line")


def _yolo_objects(path: Path, names: list[str], known: dict[str, tuple[float, float]]) -> list[Row]:
    if path.stem not in known:
        raise Unreadable("no-picture", "there is no picture of that name, and its size is needed")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    rows = [_yolo_object(path, number, line, names, *known[path.stem]) for number, line in enumerate(lines, start=1)]
    rows = [row for row in rows if row["bone"] in BONES]
    if not rows:
        raise Unreadable("empty", "neither bone is boxed")
    return rows


def _yolo_object(path: Path, number: int, line: str, names: list[str], width: float, height: float) -> Row:
    try:
        kind, *box = line.split()
        x, y, w, h = map(float, box)
        # A dict, since a list takes -1 for its last.
        bone = dict(enumerate(names))[int(kind)]
    except (ValueError, KeyError) as error:
        raise Unreadable("broken", f"line {number} is {line[:40]!r}, not class x y width height") from error
    return {"file": path.name, "bone": bone, "x1": (x - w / 2) * width, "y1": (y - h / 2) * height,
            "x2": (x + w / 2) * width, "y2": (y + h / 2) * height, "width": width, "height": height}
