"""Box files of other programs: Pascal-VOC XML (Everingham 2010, written by LabelImg) and YOLO text (Redmon 2016).

Corners are edges in pixels, see :mod:`competitions.radius_ulna.boxes`. LabelImg writes edges as drawn; the first VOC sets
counted pixels from 1, which would be half a pixel off.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pandas as pd

from competitions.radius_ulna.phases import BONES
from radstack.core.errors import UserError
from radstack.images.boxes import CORNERS
from radstack.images.dicom import Unreadable

FOLDER, NAMES = "boxes", "boxes/classes.txt"
"""Below the input folder: VOC (.xml) or YOLO (.txt) files, one a picture and named like it; the classes of YOLO, a line
each."""
COLUMNS = ["file", "bone", *CORNERS]
FAULT_COLUMNS = ["file", "reason", "detail"]

Row = dict[str, Any]


class Boxes(NamedTuple):
    """Boxes and what was wrong."""

    table: pd.DataFrame
    """``COLUMNS`` and ``width``, ``height``: the picture that the annotator saw, NaN where the file does not say."""
    faults: pd.DataFrame
    """``FAULT_COLUMNS``, one row a faulty box or annotation file."""


def read_voc(folder: Path) -> Boxes:
    """VOC files of ``boxes/``: objects named ``Radius`` and ``Ulna`` of any case, others are passed over.

    A file is reported as ``empty`` (no bytes, or no object), ``broken`` (not XML, or a box without its corners), ``doctype``
    (a document type may hold entities that read files or fill the memory: it is refused) or ``incomplete`` (fewer objects
    than most files, or one bone missing; what it holds is used).
    """
    paths = sorted((folder / FOLDER).glob("*.xml"))
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
    paths = sorted(path for path in (folder / FOLDER).glob("*.txt") if path != folder / NAMES)
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
