"""The index: one row a picture with its patient, split and labels; and the quarantine of what cannot be used."""

from pathlib import Path

import pandas as pd

from competitions._template.labels import TARGETS, read_labels
from radstack.core.say import Report
from radstack.images.quarantine import fault, nothing_usable, set_aside, tell_reasons
from radstack.images.radiograph import read_header

PICTURES = "pictures"
"""Folder of the picture files."""


def build_index(folder: Path, workers: int, parts: Path, report: Report = print) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every listed picture is in the index or in the quarantine; see :class:`radstack.recipes.competition.Index`.

    Reasons of the quarantine are those of :func:`read_labels` and :class:`radstack.images.dicom.Unreadable`.

    Raises:
        UserError: no picture is usable.
    """
    labels = read_labels(folder)
    rows = labels.table.assign(path=PICTURES + "/" + labels.table["id"] + ".png")  # CHANGE: where the file of an id lies
    # CHANGE: for DICOM files and volumes there are radstack.images.dicom and radstack.images.volumes
    # CHANGE: what else of a header the index should hold
    rows = rows.join(pd.DataFrame([fault(look, folder / path) for path in rows["path"]], columns=["reason", "detail"]))
    quarantine = pd.concat([labels.quarantine, set_aside(rows)], ignore_index=True)
    usable = rows[rows["reason"] == ""]
    if usable.empty:
        raise nothing_usable("picture", folder, quarantine)
    tell_reasons(quarantine, report)
    # CHANGE: ``group`` (the patient) lies in one fold; slices of a series share ``series``, ordered by ``position``.
    index = usable.assign(group=usable["patient"], series=usable["id"], position=0)
    return index[["id", "split", "group", "series", "position", "path", *TARGETS]].reset_index(drop=True), quarantine


def look(path: Path) -> dict[str, int]:
    """Size and kind of a picture, from its header; Unreadable where it has none."""
    return read_header(path)._asdict()
