"""Hand-made boxes of the two bones, checked against their pictures; and how far two readers' boxes agree.

Corners are in pixels of the raw picture, x to the right, y down, as edges: a box is ``x2 - x1`` wide, and the first pixel
reaches from 0 to 1.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from competitions.radius_ulna.box_formats import COLUMNS, FAULT_COLUMNS, FOLDER, NAMES, Boxes, read_voc, read_yolo
from competitions.radius_ulna.phases import BONES
from radstack.core.errors import UserError
from radstack.core.files import existing, read_text_table
from radstack.images.boxes import CORNERS, GOOD, center_errors, iou

TABLE = "boxes.csv"
"""Below the input folder."""
ROUNDING = 1.0
"""Pixels by which a box may reach out of its picture (YOLO rounds shares, LabelImg corners); it is clipped."""


def read_boxes(folder: Path, sizes: pd.DataFrame) -> Boxes:
    """All boxes below an input folder, checked: ``boxes.csv`` and the VOC and YOLO files of ``boxes/`` add up.

    ``sizes`` has ``id``, ``height``, ``width`` (px) of every picture; the id is the file's name without folder and ending.

    Returns:
        The usable boxes with ``id``, at most one a bone and picture; the faults of the readers and of :func:`check`.

    Raises:
        UserError: ``boxes.csv`` or ``boxes/classes.txt`` is damaged.
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
    found = sorted(path for path in (folder / FOLDER).glob("*") if path.suffix in (".xml", ".txt"))
    return (*existing(folder, TABLE), *found)


def read_csv(folder: Path) -> Boxes:
    """``boxes.csv`` as it stands, corners that are no numbers as NaN; a bone of another name is an ``unknown-bone``.

    Raises:
        UserError: it is damaged, or a column is missing.
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
    boxes = boxes.assign(id=_names(table)).drop_duplicates(["id", *COLUMNS[1:]])
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


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """How far two readers' boxes agree on the pictures that both boxed.

    Both tables have ``file``, ``bone`` and corners, at most one box a bone and picture; pictures are matched by name without
    folder and ending.

    Returns:
        One row a bone: ``bone``, ``pictures``, ``iou_mean``, ``iou_median``, ``above`` (share of pictures with an IoU above
        ``radstack.images.boxes.GOOD``), ``center_px`` and ``center_share`` (median distance of the centers, in pixels and as
        a share of the root of the first box's area), ``width_ratio`` and ``height_ratio`` (medians, second to first: readers
        who agree on the place may still differ in how much of the bone they take).
    """
    named = [table[COLUMNS].assign(id=_names(table)) for table in (first, second)]
    both = named[0].merge(named[1], on=["id", "bone"], suffixes=("", "_second"), validate="one_to_one")
    a, b = both[CORNERS].to_numpy(float), both[[f"{name}_second" for name in CORNERS]].to_numpy(float)
    sides, distance, overlap = a[:, 2:] - a[:, :2], center_errors(b, a), iou(a, b)
    ratio = (b[:, 2:] - b[:, :2]) / sides
    scores = both[["bone"]].assign(iou=overlap, above=overlap > GOOD, px=distance, width=ratio[:, 0], height=ratio[:, 1],
                                   share=distance / np.sqrt(sides.prod(axis=1)))  # fmt: skip
    return scores.groupby("bone").agg(
        pictures=("iou", "size"), iou_mean=("iou", "mean"), iou_median=("iou", "median"), above=("above", "mean"),
        center_px=("px", "median"), center_share=("share", "median"), width_ratio=("width", "median"),
        height_ratio=("height", "median")).reset_index()  # fmt: skip


def _names(table: pd.DataFrame) -> pd.Series:
    """File names without folder and ending."""
    return pd.Series([Path(file).stem for file in table["file"]], table.index, dtype="str")


def _parted(table: pd.DataFrame, wrong: dict[str, pd.Series | np.ndarray], detail: pd.Series) -> Boxes:
    """Usable boxes apart from the faulty ones; the first fault counts."""
    reason = np.select(list(wrong.values()), list(wrong), default="")
    bad = table.assign(reason=reason, detail=detail)[reason != ""]
    return Boxes(table[reason == ""].reset_index(drop=True), bad[FAULT_COLUMNS].reset_index(drop=True))
