"""Hand-made annotations: masks as PNG; landmarks as a table, or by the VGG Image Annotator (VIA) 1 and 2.

VIA: Dutta & Zisserman, ACM Multimedia 2019. P1 is the tip of the third distal phalanx, P2 the tip of the thumb's, P3 the
center of the capitate (Iglovikov et al. 2018).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import matching, read_text_table
from radstack.images.dicom import Unreadable
from radstack.images.formats import stem_of
from radstack.images.radiograph import read

FOLDER, MASKS = "annotations", "annotations/masks"
"""Below the input folder."""
POINTS = ("P1", "P2", "P3")
LANDMARKS = ("p1x", "p1y", "p2x", "p2y", "p3x", "p3y")
"""Columns: x to the right and y down in pixels of the raw picture, pixel centers at integers."""
VIA_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
"""Those columns of VIA's CSV that are read."""


Region = tuple[str, str, Any, Any]
"""File and row for messages, id, and shape and attributes as VIA keeps them."""


def mask_path(folder: Path, hand: str) -> Path:
    """Where the hand-made mask of an id is, if there is one."""
    return folder / MASKS / f"{hand}.png"


def is_annotated(folder: Path) -> bool:
    """Whether anything below ``folder``, ``input/<name>``, is annotated: a mask or a file of landmarks."""
    files = (folder / FOLDER / "landmarks.csv", folder / FOLDER / "landmarks.json")
    return any(file.exists() for file in files) or bool(matching(folder / MASKS, "*.png"))


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask, bool [height, width]: True where the PNG (8 bit, 0 and 255) is above 127.

    ``size`` is the height and width of its radiograph, None for any. Unreadable as
    :func:`radstack.images.radiograph.read` says, and as ``wrong-size`` and ``empty-mask``.
    """
    mask = read(path) > 127
    if size is not None and mask.shape != size:
        raise Unreadable("wrong-size", f"the mask has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), "
                                       f"its radiograph {size[0]} x {size[1]}")
    if not mask.any():
        raise Unreadable("empty-mask", "no pixel of the mask is above 127; the hand is 255")
    return mask


def read_landmarks(folder: Path) -> pd.DataFrame:
    """Landmarks of ``annotations/landmarks.csv`` and ``landmarks.json`` (export or project), if there are any.

    The CSV is VIA's, or a plain table of ``id`` and ``LANDMARKS`` (``id,p1x,p1y,p2x,p2y,p3x,p3y``), one row a hand.
    Points are named P1, P2, P3 by any region attribute, or stand in that order without names. Pictures without regions
    are not annotated. One row a hand: ``id`` (the picture's name without its ending) and ``LANDMARKS`` (float64).

    Raises:
        UserError: a file that is not VIA's, a shape that is no point, a hand without exactly its three points, a hand
            annotated twice; each names file and row.
    """
    rows = []
    for path in (folder / FOLDER / "landmarks.csv", folder / FOLDER / "landmarks.json"):
        points = [_point(*region) for region in read_regions(path)] if path.exists() else []
        rows += [_hand(hand) for _, hand in pd.DataFrame(points, columns=["where", "id", "name", "x", "y"]).groupby("id")]
    table = pd.DataFrame(rows, columns=["where", "id", *LANDMARKS])
    twice = table[table["id"].duplicated()]
    if len(twice):
        raise UserError(f"{twice['where'].iloc[0]}: {twice['id'].iloc[0]} is annotated twice; delete one of them")
    return table.drop(columns="where").astype({"id": "str"} | dict.fromkeys(LANDMARKS, float))


def read_regions(path: Path) -> Iterator[Region]:
    """Every region of a VIA file, a CSV or a JSON (export or project): shapes of any kind, as VIA keeps them.

    A UserError where the file is not VIA's.
    """
    return _csv(path) if path.suffix.lower() == ".csv" else _json(path)


def region_point(where: str, hand: str, shape: Any, attributes: Any) -> tuple[str, float, float]:
    """A region that is to be a landmark: its name of ``POINTS`` ("" for none), x, y in pixels; UserError for another."""
    _, _, name, x, y = _point(where, hand, shape, attributes)
    return name, x, y


def _csv(path: Path) -> Iterator[Region]:
    table = read_text_table(path, ()).rename(columns=lambda name: str(name).lstrip("# "))
    plain = table.rename(columns=str.lower)
    if set(LANDMARKS) <= set(plain):
        yield from _plain(path, plain)
        return
    missing = [name for name in VIA_COLUMNS if name not in table]
    if missing:
        raise UserError(f"{path} has no column {missing[0]}; export it from VIA as CSV again")
    for number, cells in enumerate(zip(*(table[name] for name in VIA_COLUMNS)), start=2):
        shape, attributes = (_cell(f"{path} row {number}", cell) for cell in cells[1:])
        # VIA writes one row with an empty shape for a picture without regions.
        if shape:
            yield f"{path} row {number}", Path(cells[0]).stem, shape, attributes


def _plain(path: Path, table: pd.DataFrame) -> Iterator[Region]:
    """Of a table with one row a hand: an id, or the picture's file, and ``LANDMARKS``; rows without numbers are left out."""
    key = next((name for name in ("id", "file", "filename") if name in table), "")
    if not key:
        raise UserError(f"{path} has no column id; it needs id,{','.join(LANDMARKS)}")
    for number, (name, *cells) in enumerate(table[[key, *LANDMARKS]].itertuples(index=False), start=1):
        where, values = f"{path} row {number}", pd.to_numeric(pd.Series(cells), errors="coerce")
        if not any(cells):
            continue
        if not name or not np.isfinite(values).all():
            raise UserError(f"{where}: {name or 'a hand without an id'} has the landmarks {', '.join(cells)}; "
                            "give six numbers, or none")
        for place, point in enumerate(POINTS):
            yield (where, stem_of(name), {"name": "point", "cx": values[2 * place], "cy": values[2 * place + 1]},
                   {"point": point})


def _cell(where: str, text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"{where}: {text[:60]!r} is not JSON; export the file from VIA again") from error


def _json(path: Path) -> Iterator[Region]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        for picture in content.get("_via_img_metadata", content).values():
            regions = picture["regions"]
            # VIA 1 numbered its regions in a dict, VIA 2 has a list.
            for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions):
                yield (f"{path} {picture['filename']} region {number}", Path(picture["filename"]).stem,
                       region["shape_attributes"], region["region_attributes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a VIA 2 export or project ({type(error).__name__}: {error}); "
                        "export it from VIA as JSON again") from error


def _point(where: str, hand: str, shape: Any, attributes: Any) -> tuple[str, str, str, float, float]:
    """A region, checked: where, id, its name of ``POINTS`` ("" where the annotator gave none), x, y."""
    attributes = attributes or {}
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise UserError(f"{where}: its attributes are not VIA's; export the file from VIA again")
    if shape.get("name") != "point":
        raise UserError(f"{where}: {hand} has a {shape.get('name')}, not a point; draw it as a point")
    try:
        x, y = float(shape["cx"]), float(shape["cy"])
    except (KeyError, TypeError, ValueError):
        x = y = np.nan
    if not np.isfinite([x, y]).all():
        raise UserError(f"{where}: {hand} has a point without cx and cy; draw it again")
    names = [str(value).strip().upper() for value in attributes.values()]
    return where, hand, next((name for name in names if name in POINTS), ""), x, y


def _hand(points: pd.DataFrame) -> tuple[Any, ...]:
    """The points of one hand as a row: where, id, six coordinates."""
    where, hand = points[["where", "id"]].iloc[0]
    if sorted(points["name"]) not in (["", "", ""], list(POINTS)):
        given = ", ".join(name or "unnamed" for name in points["name"])
        raise UserError(f"{where}: {hand} has the points {given}, not P1, P2 and P3; "
                        "mend it in VIA, or delete the picture's points")
    # Sorting is stable: unnamed points keep their order.
    return where, hand, *points.sort_values("name", kind="stable")[["x", "y"]].to_numpy().ravel()
