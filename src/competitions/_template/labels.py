"""The organizer's label tables, checked: which targets there are, which rows can be used, and why others cannot."""

from pathlib import Path

import pandas as pd

from radstack.core.files import read_text_table
from radstack.images.quarantine import Labels, judge

TARGETS = ("diameter",)  # CHANGE: your label columns; several for a competition of several classes or numbers
LARGEST = 40.0
"""Millimeters; what is larger is a slip of the pen."""


def label_files(folder: Path) -> tuple[Path, ...]:
    """The tables whose content decides what is learned: stage 01 runs anew when one of them changes."""
    return folder / "train.csv", folder / "test.csv"  # CHANGE: the organizer's names


def sample_file(folder: Path) -> Path:
    """The table that lists the test pictures, or the sample submission."""
    return folder / "test.csv"


def read_labels(folder: Path) -> Labels:
    """Read ``train.csv`` (``id``, ``patient``, ``diameter`` in mm) and ``test.csv`` (``id``, ``patient``).

    The table has ``id``, ``patient`` (str), ``split`` (train or test) and ``diameter`` (mm, float, NaN in test); rows are
    quarantined as ``duplicate-id`` and ``no-diameter``. It is a UserError where a file is missing or lacks a column.
    """
    rows = pd.concat([_read(folder / "train.csv", *TARGETS), _read(folder / "test.csv")], ignore_index=True)
    rows["diameter"] = pd.to_numeric(rows["diameter"], errors="coerce")
    wrong = (rows["split"] == "train") & ~rows["diameter"].between(0, LARGEST)
    rows = judge(rows, {"duplicate-id": (rows.duplicated("id", keep=False), "its id is listed twice"),
                        "no-diameter": (wrong, f"its diameter is no number from 0 to {LARGEST:g}")})
    return Labels.parted(rows.assign(path=""), ["id", "patient", "split", *TARGETS])


def _read(path: Path, *targets: str) -> pd.DataFrame:
    return read_text_table(path, ("id", "patient", *targets)).assign(split=path.stem)
