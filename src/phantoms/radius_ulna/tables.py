"""The layout of the archive: PNG pictures, labels, boxes and the sample submission (specification §2)."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from competitions.radius_ulna.phases import TARGETS
from phantoms.radius_ulna.plan import Entry
from phantoms.radius_ulna.render import BONES
from radstack.core.files import replacing, write_table

CORNERS = ("x1", "y1", "x2", "y2")
BOX = [f"{bone}_{corner}" for bone in BONES for corner in CORNERS]
"""``radius_x1`` .. ``ulna_y2``."""
KEPT = 0.6
"""Share of the truncated file that is there."""
TINT = (0.86, 0.95, 1.0)
"""Blue, green, red of the color picture, as shares of its gray level: a photographed film."""


def picture_path(entry: Entry) -> str:
    """Path below the input folder."""
    return f"pictures/{entry.id}.png"


def write_picture(path: Path, picture: np.ndarray, defect: str) -> None:
    """Write uint8 [height, width] as PNG, with the defect; an absent one is taken away."""
    if defect == "absent":
        path.unlink(missing_ok=True)
        return
    levels = np.rint(picture[:, :, None] * np.array(TINT)).astype(np.uint8) if defect == "color" else picture
    data = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    with replacing(path) as part:
        part.write_bytes(data[:int(KEPT * len(data))] if defect == "truncated" else data)


def write_tables(folder: Path, entries: list[Entry], truth: pd.DataFrame) -> None:
    """Write labels.csv (stages empty in test), boxes.csv (train) and sample_submission.csv (test).

    ``truth`` is the table of :func:`phantoms.radius_ulna.read_truth`, in the order of ``entries``.
    """
    write_table(folder / "labels.csv", pd.DataFrame([_label(entry) for entry in entries]))
    write_table(folder / "boxes.csv", pd.DataFrame([box for entry, row in zip(entries, truth[BOX].to_numpy())
                                                    if entry.split == "train" for box in _boxes(entry, row)]))
    test = pd.DataFrame({"file": [picture_path(entry) for entry in entries if entry.split == "test"]})
    guess = {name: round(1 / len(names), 4) for names in TARGETS.values() for name in names}
    write_table(folder / "sample_submission.csv", test.assign(radius_phase="stagnation", ulna_phase="stagnation", **guess))


def _label(entry: Entry) -> dict[str, object]:
    """A row of labels.csv."""
    hidden = entry.split == "test"
    return {"file": picture_path(entry), "date": entry.day, "serial": entry.serial,
            "child": f"c{entry.child.number + 1:04d}" if entry.named else "",
            "radius_stage": "" if hidden else f"R{entry.radius}", "ulna_stage": "" if hidden else f"U{entry.ulna}",
            "sex": ("F", "M")[entry.child.male] if entry.described else "", "age": entry.age if entry.described else ""}


def _boxes(entry: Entry, corners: np.ndarray) -> list[dict[str, object]]:
    """Two rows of boxes.csv: ``corners`` [8] rounded to whole pixels, as annotators click them."""
    return [{"file": picture_path(entry), "bone": bone} | dict(zip(CORNERS, np.rint(box).astype(int).tolist()))
            for bone, box in zip(BONES, corners.reshape(2, 4))]
