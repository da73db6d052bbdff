"""The index of the radiographs: one row a picture with its stages and hand-made boxes; and the quarantine of the rest."""

from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from competitions.radius_ulna.boxes import picture_names, read_boxes
from competitions.radius_ulna.labels import TABLE, read_labels
from competitions.radius_ulna.phases import ALL_TARGETS, BONES, TARGETS, one_hot
from radstack.core.files import files_below
from radstack.core.parallel import mapped_rows
from radstack.core.say import Report
from radstack.images.boxes import CORNERS
from radstack.images.dicom import Unreadable
from radstack.images.formats import is_picture, stem_of
from radstack.images.quarantine import (
    QUARANTINE_COLUMNS,
    examine,
    mark_copies,
    nothing_usable,
    set_aside,
    tell_faulty,
    tell_reasons,
)
from radstack.images.radiograph import owner, read_picture

BOX_COLUMNS = [f"{bone}_{corner}" for bone in BONES for corner in CORNERS]
"""``radius_x1`` .. ``ulna_y2``: edges in raw pixels, x to the right, y down."""
COLUMNS = ["id", "split", "group", "series", "position", "path", "height", "width", "channels", "radius_stage", "ulna_stage",
           "sex", "age", *ALL_TARGETS, *BOX_COLUMNS, "faulty"]
"""Of the index."""
VERSION = 2
"""Part of the folder of the parts; raise it when the columns change."""
CHUNK = 100
"""Pictures in one piece of work: some seconds."""


def build_index(folder: Path, workers: int, parts_folder: Path,
                report: Report = lambda line: None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every listed picture is in the index or in the quarantine.

    Every picture is decoded once, so that a cut-off file costs a row here and not a run later. A faulty box costs the box,
    not the picture: it is in the quarantine under the picture's id, and the picture is in the index. Nor does the faulty
    stage of one bone: the picture serves the other one. The arguments are those of
    :class:`radstack.recipes.competition.Index`.

    Returns:
        The index: ``COLUMNS``, train first, then by id; ``group`` is the child, else a DICOM file's patient, else the id;
        stages are -1, ``ALL_TARGETS`` and boxes NaN in test, boxes also where nobody drew them, a stage and its targets also
        where the bone has no usable one. The quarantine:
        ``QUARANTINE_COLUMNS``; reasons are those of :func:`read_labels`, :func:`read_picture`, those of :func:`read_boxes`
        after ``box-``, ``flat`` (all pixels alike) and ``duplicate-picture`` (a train picture with the pixels of another).

    Raises:
        UserError: tables are faulty, or no picture is usable.
    """
    labels = read_labels(folder)
    if labels.repeated:
        report(f"rows of {TABLE} that repeat another, dropped: {labels.repeated}")
    pictures = _read_all(folder, labels.table, workers, parts_folder)
    usable, faulty = pictures["reason"] == "", set_aside(pictures, path="file")
    if not usable.any():
        raise nothing_usable("picture", folder, pd.concat([faulty, labels.quarantine]))
    index, bad_boxes = _add_boxes(folder, _add_labels(pictures[usable]), report)
    quarantine = pd.concat([labels.quarantine, faulty])
    lost = bad_boxes["id"].isin(quarantine["id"]) & (bad_boxes["reason"] == "box-no-picture")
    quarantine = pd.concat([quarantine, bad_boxes[~lost]], ignore_index=True)
    tell_faulty(pictures["faulty"], report)
    _summarize(index, quarantine, report)
    return index, quarantine


def _read_all(folder: Path, table: pd.DataFrame, workers: int, parts_folder: Path) -> pd.DataFrame:
    """``table`` with what :func:`_look` found, train first, then by id; copies of another picture are marked."""
    stats = [(folder / file).stat() for file in table["file"]]
    items = [[key, file, stat.st_size, stat.st_mtime_ns] for key, file, stat in zip(table["id"], table["file"], stats)]
    if not items:
        return table.assign(reason="", detail="")
    blank = {"height": 0, "width": 0, "channels": 0, "content": "", "patient": "", "faulty": ""}
    look = partial(examine, partial(_look, folder), "id", blank)
    found = mapped_rows(look, items, parts_folder / f"pictures-v{VERSION}", workers, "pictures", CHUNK)
    pictures = table.merge(found, on="id", validate="one_to_one")
    mark_copies(pictures, "content", "id", "duplicate-picture", "another file has the same pixels")
    return pictures.sort_values(["split", "id"], ascending=[False, True], ignore_index=True)


def _look(folder: Path, key: str, file: str, *stamp: int) -> dict[str, Any]:
    """The size of a picture, a digest of its pixels; of a DICOM file whose it is, and which optional fields are faulty."""
    pixels, channels = read_picture(folder / file)
    if pixels.min() == pixels.max():
        raise Unreadable("flat", f"all pixels are {pixels.flat[0]}")
    whose = owner(folder / file)
    content = blake2b(pixels.tobytes() + bytes(str(pixels.shape), "ascii"), digest_size=8).hexdigest()
    return {"height": pixels.shape[0], "width": pixels.shape[1], "channels": channels, "content": content,
            "patient": whose["patient"], "faulty": whose["faulty"]}


def _add_labels(pictures: pd.DataFrame) -> pd.DataFrame:
    hot = {bone: one_hot(bone, pictures[f"{bone}_stage"].to_numpy()) for bone in BONES}
    columns = {name: hot[bone][:, place] for bone in BONES for place, name in enumerate(TARGETS[bone])}
    child = pictures["child"].where(pictures["child"] != "", pictures["patient"])
    group = child.where(child != "", pictures["id"])
    return pictures.rename(columns={"file": "path"}).assign(**columns, group=group, series=pictures["id"], position=0)


def _add_boxes(folder: Path, pictures: pd.DataFrame, report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The index, and the faulty boxes and box files as quarantine rows."""
    boxes, faults = read_boxes(folder, pictures[["id", "height", "width"]])
    wide = boxes.pivot(index="id", columns="bone", values=CORNERS)
    wide.columns = [f"{bone}_{corner}" for corner, bone in wide.columns]
    index = pictures.merge(wide.reindex(columns=BOX_COLUMNS), left_on="id", right_index=True, how="left")
    in_test = (index["split"] == "test") & index[BOX_COLUMNS].notna().any(axis=1)
    if in_test.any():
        report(f"test pictures with boxes, which are not used: {in_test.sum()}")
        index.loc[in_test, BOX_COLUMNS] = np.nan
    bad = faults.rename(columns={"file": "path"}).assign(reason="box-" + faults["reason"])
    bad["id"] = picture_names(faults)
    bad["split"] = bad["id"].map(index.set_index("id")["split"]).fillna("train")
    return index[COLUMNS].reset_index(drop=True), bad[QUARANTINE_COLUMNS]


def _summarize(index: pd.DataFrame, quarantine: pd.DataFrame, report: Report) -> None:
    color = index.loc[index["channels"] > 1, "path"]
    if len(color):
        report(f"pictures with color channels, turned to gray: {len(color)} (the first: {color.iloc[0]})")
    train = index[index["split"] == "train"]
    if (train["group"] == train["id"]).all():
        report(f"no two pictures are of one child by the column child of {TABLE} or a DICOM header: each is dealt by itself")
    for bone in BONES:
        unboxed = int(train[f"{bone}_x1"].isna().sum())
        if unboxed:
            report(f"train pictures without a box of the {bone}: {unboxed}")
    tell_reasons(quarantine, report)


def index_new(folder: Path, workers: int, parts_folder: Path, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index every picture below a folder as test rows; ``given`` is not needed.

    Returns:
        The index and the quarantine as :func:`build_index` makes them.

    Raises:
        UserError: no picture is usable.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in files_below(folder) if is_picture(path))
    table = pd.DataFrame({"id": [stem_of(file) for file in files], "file": files, "split": "test", "child": "",
                          "radius_stage": -1, "ulna_stage": -1, "sex": "", "age": np.nan})
    again = table.duplicated("id")
    table.loc[again, "id"] = [file.replace("/", "_") for file in table.loc[again, "file"]]
    pictures = _read_all(folder, table, workers, parts_folder)
    faulty, usable = set_aside(pictures, path="file"), pictures["reason"] == ""
    if not usable.any():
        raise nothing_usable("picture", folder, faulty)
    labeled = _add_labels(pictures[usable]).assign(**dict.fromkeys((*ALL_TARGETS, *BOX_COLUMNS), np.nan))
    return labeled[COLUMNS].reset_index(drop=True), faulty
