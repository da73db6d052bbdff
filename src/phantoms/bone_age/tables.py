"""The organizer's two label tables (§2), and the landmarks as VGG Image Annotator exports them (§3.2)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from phantoms.bone_age.plan import Entry
from radstack.core.files import write_table

VIA_COLUMNS = ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
               "region_attributes"]
"""Of a VIA 2 CSV export."""


def write_tables(folder: Path, truth: pd.DataFrame, entries: list[Entry]) -> None:
    """Write boneage-training-dataset.csv, boneage-test-dataset.csv (no ages) and annotations/landmarks.csv.

    ``truth`` is the table of :func:`phantoms.bone_age.read_truth`, in the order of ``entries``.
    """
    train, test = (truth[truth["split"] == split] for split in ("train", "test"))
    write_table(folder / "boneage-training-dataset.csv", pd.DataFrame(
        {"id": train["id"], "boneage": train["boneage"].round().astype(int), "male": train["male"].astype(bool)}))
    write_table(folder / "boneage-test-dataset.csv", pd.DataFrame(
        {"Case ID": test["id"], "Sex": np.where(test["male"] == 1, "M", "F")}))
    annotated = truth[[entry.annotated for entry in entries]]
    rows = [via_row(hand.id, point, getattr(hand, f"p{point}x"), getattr(hand, f"p{point}y"))
            for hand in annotated.itertuples() for point in (1, 2, 3)]
    write_table(folder / "annotations" / "landmarks.csv", pd.DataFrame(rows, columns=VIA_COLUMNS))


def via_row(name: str, point: int, x: float, y: float) -> list[object]:
    """The row of one point of picture ``name``; the size of the file, which nothing reads, is -1.

    Annotators click whole pixels of pictures three times as large as the demo's: hence one decimal.
    """
    shape = {"name": "point", "cx": round(x, 1), "cy": round(y, 1)}
    return [f"{name}.png", -1, "{}", 3, point - 1, json.dumps(shape), json.dumps({"point": f"P{point}"})]
