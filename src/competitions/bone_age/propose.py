"""Which hands to annotate next, with what the networks find in them, to be corrected in the VGG Image Annotator.

Label, train, correct, train again, as Iglovikov et al. 2018 came by their masks: hands in which the networks are unsure or
that are unlike the annotated ones are worth most. The corrected file is read back into ``annotations/``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from competitions.bone_age.annotations import (
    FOLDER,
    LANDMARKS,
    POINTS,
    mask_path,
    read_landmarks,
    read_regions,
    region_point,
)
from competitions.bone_age.localizer import FINE, found_mask, has_points
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_json, read_table, replacing, write_json
from radstack.core.paths import Paths
from radstack.images.radiograph import read
from radstack.images.shards import Shards
from radstack.recipes.localizer import has_mask
from radstack.running.context import Context

HAND, CHECKED = "hand", "checked"
"""Name of the outlines in the project, and the attribute of a picture that says that a person corrected it."""
OUTLINE = 0.002
"""How far an outline's corners may lie from it, as a share of the longer side: fewer corners are easier to move."""
THUMBNAIL = 16
"""Side of the copies by which pictures are compared, pixels."""
DOUBT = 3.0
"""How much more a hand counts in which the networks are most unsure, beside one in which they are sure."""


def propose(context: Context, count: int) -> Path:
    """Write ``reports/<name>/propose/via.json``, a VIA 2 project of ``count`` hands with proposals, and their pictures.

    Raises:
        UserError: stage 02 is not done, or every hand is annotated.
    """
    paths = context.paths
    rows = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    rows = rows[rows["split"] == "train"].reset_index(drop=True)
    chosen = choose(looks(paths, rows), doubts(paths, rows), has_mask(rows) & has_points(rows), count)
    if not len(chosen):
        raise UserError(f"every training hand below {paths.input} is annotated; there is nothing to propose")
    folder = paths.reports / "propose"
    need_disk(paths.out, 4_000_000 * len(chosen), "the pictures to annotate")
    entries = [entry(paths, row, folder / "pictures") for row in rows.loc[chosen].itertuples()]
    write_json(folder / "via.json", project(entries, folder / "pictures"))
    return folder / "via.json"


def choose(features: np.ndarray, doubt: np.ndarray, annotated: np.ndarray, count: int) -> list[int]:
    """Row numbers of the hands worth annotating, the best first, never an annotated one.

    Each is the one farthest from all annotated and chosen ones (Gonzalez 1985), its distance stretched by the networks'
    doubt: so hands that are both strange and unsure come first, and no two of a kind. ``features`` are float [rows, n],
    ``doubt`` float [rows] from 0 to 1, ``annotated`` bool [rows].
    """
    start = features[annotated] if annotated.any() else features.mean(axis=0, keepdims=True)
    near = np.min([np.linalg.norm(features - one, axis=1) for one in start], axis=0)
    free, chosen = ~annotated, list[int]()
    while free.any() and len(chosen) < count:
        best = int(np.argmax(np.where(free, near * (1 + DOUBT * doubt), -1.0)))
        chosen.append(best)
        free[best] = False
        near = np.minimum(near, np.linalg.norm(features - features[best], axis=1))
    return chosen


def looks(paths: Paths, rows: pd.DataFrame) -> np.ndarray:
    """What pictures are compared by: small copies, age and sex, each part of equal weight; float [rows, n]."""
    small = Shards(paths.cache / "prepared")
    copies = np.stack([cv2.resize(small(shard, slot), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
                       for shard, slot in zip(rows["map_shard"], rows["map_slot"])])
    facts = rows[["boneage", "male"]].to_numpy(float)
    return np.concatenate([_scaled(copies.astype(float)) / copies.shape[1] ** 0.5,
                           _scaled(facts) / facts.shape[1] ** 0.5], axis=1)


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)


def doubts(paths: Paths, rows: pd.DataFrame) -> np.ndarray:
    """How unsure networks are of each hand, float [rows] from 0 to 1: by rank of what the mask leaves open; 1 if flagged.

    All 0 where no network has looked.
    """
    if not rows["parts"].any():
        return np.zeros(len(rows))
    maps = Shards(paths.cache / "maps")
    open_share = [_undecided(maps(shard, slot)[0]) for shard, slot in zip(rows["map_shard"], rows["map_slot"])]
    return np.where(rows["flag"] != "", 1.0, pd.Series(open_share).rank(pct=True).to_numpy())


def _undecided(probability: np.ndarray) -> float:
    """Area that is neither hand nor background over that of the hand."""
    share = probability.astype(float) / 255
    return float((4 * share * (1 - share)).sum() / max(share.sum(), 1.0))


def entry(paths: Paths, row: Any, folder: Path) -> dict[str, Any]:
    """One picture of the project, written into ``folder`` as PNG, with the outline and the landmarks that were found."""
    file, pixels = folder / f"{row.id}.png", read(paths.input / row.path)
    with replacing(file) as part:
        part.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    regions = [*(_polygons(found_mask(paths, row)) if row.parts else ()), *_points(row)]
    return {"filename": file.name, "size": file.stat().st_size, "regions": regions, "file_attributes": {CHECKED: "no"}}


def _polygons(mask: np.ndarray) -> Iterator[dict[str, Any]]:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        corners = cv2.approxPolyDP(outline, OUTLINE * max(mask.shape), True).reshape(-1, 2)
        if len(corners) > 2:
            yield {"shape_attributes": {"name": "polygon", "all_points_x": corners[:, 0].tolist(),
                                        "all_points_y": corners[:, 1].tolist()}, "region_attributes": {"name": HAND}}


def _points(row: Any) -> Iterator[dict[str, Any]]:
    places = np.array([getattr(row, f"raw_{name}") for name in FINE]).reshape(3, 2)
    for name, (x, y) in zip(POINTS, places.tolist(), strict=True):
        if np.isfinite([x, y]).all():
            yield {"shape_attributes": {"name": "point", "cx": round(x, 1), "cy": round(y, 1)},
                   "region_attributes": {"name": name}}


def project(entries: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """A VIA 2 project of pictures in ``folder``: names to choose from, and a switch for pictures that are corrected."""
    keys = [f"{one['filename']}{one['size']}" for one in entries]
    names = dict.fromkeys((HAND, *POINTS), "")
    return {
        "_via_settings": {"ui": {}, "core": {"buffer_size": 18, "filepath": {},
                                             "default_filepath": f"{folder.resolve()}/"},
                          "project": {"name": "hands to correct"}},
        "_via_img_metadata": dict(zip(keys, entries, strict=True)),
        "_via_attributes": {
            "region": {"name": {"type": "dropdown", "description": "", "options": names, "default_options": {}}},
            "file": {CHECKED: {"type": "radio", "description": "corrected by a person",
                               "options": {"yes": "", "no": ""}, "default_options": {"no": True}}}},
        "_via_data_format_version": "2.0.10", "_via_image_id_list": keys}


def read_back(context: Context, corrected: Path) -> tuple[int, int]:
    """Write what was corrected below ``annotations/``: a mask a hand, points into ``landmarks.json`` beside those in it.

    Only pictures whose ``checked`` is yes are taken. Returns how many were, and how many were not. All is checked before
    anything is written.

    Raises:
        UserError: the file is not VIA's, a hand is not of this data set or has an outline of less than three corners or
            without room, or its points are not P1, P2, P3.
    """
    folder, index = context.paths.input, read_table(context.paths.folds / "index.parquet", context.command("01_make_folds"))
    shapes = index.set_index("id")[["height", "width"]]
    content = _content(corrected)
    done = {Path(one["filename"]).stem: one for one in content.values()
            if str((one.get("file_attributes") or {}).get(CHECKED)) == "yes"}
    if strange := next((hand for hand in done if hand not in shapes.index), ""):
        raise UserError(f"{corrected}: {strange} is no hand below {folder}; correct the file that propose.py wrote")
    masks: dict[str, np.ndarray] = {}
    points: dict[str, list[Any]] = {}
    for where, hand, shape, attributes in read_regions(corrected):
        if hand in done and isinstance(shape, dict) and shape.get("name") == "polygon":
            filled = _filled(where, shape, (int(shapes.at[hand, "height"]), int(shapes.at[hand, "width"])))
            masks[hand] = masks.get(hand, filled) | filled
        elif hand in done:
            points.setdefault(hand, []).append(region_point(where, hand, shape, attributes))
    _check_points(corrected, points)
    for hand, mask in masks.items():
        with replacing(mask_path(folder, hand)) as part:
            part.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())
    _write_points(folder, points)
    return len(done), len(content) - len(done)


def _content(corrected: Path) -> dict[str, Any]:
    """The pictures of a VIA file; that their regions are sound is seen by :func:`read_regions`."""
    content = read_json(corrected) if corrected.exists() else {}
    pictures = content.get("_via_img_metadata", content) if isinstance(content, dict) else {}
    if not pictures or not all(isinstance(one, dict) and "filename" in one for one in pictures.values()):
        raise UserError(f"{corrected} is no VIA 2 project or export; save the project in VIA and give that file")
    return pictures


def _filled(where: str, shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """A polygon as bool [height, width]; its outline belongs to it."""
    try:
        corners = np.column_stack([shape["all_points_x"], shape["all_points_y"]]).astype(float)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: its outline has no corners; draw it again") from error
    canvas = np.zeros(size, np.uint8)
    if len(corners) > 2 and np.isfinite(corners).all():
        cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 1)
    if not canvas.any():
        raise UserError(f"{where}: its outline encloses nothing of the picture; draw it again")
    return canvas.astype(bool)


def _check_points(corrected: Path, points: dict[str, list[Any]]) -> None:
    for hand, found in points.items():
        if sorted(name for name, _, _ in found) != list(POINTS):
            named = ", ".join(name or "unnamed" for name, _, _ in found)
            raise UserError(f"{corrected}: {hand} has the points {named}, not P1, P2 and P3; mend it in VIA")


def _write_points(folder: Path, points: dict[str, list[Any]]) -> None:
    """Put landmarks into ``landmarks.json`` beside those of other hands; a hand in ``landmarks.csv`` is refused."""
    file, table = folder / FOLDER / "landmarks.json", folder / FOLDER / "landmarks.csv"
    before = read_landmarks(folder).set_index("id")[list(LANDMARKS)]
    elsewhere = {hand for _, hand, *_ in read_regions(table)} if table.exists() else set()
    if twice := next((hand for hand in points if hand in elsewhere), ""):
        raise UserError(f"{twice} stands in {table}, too; delete its rows there")
    kept = {hand: list(zip(POINTS, row[::2], row[1::2])) for hand, row in zip(before.index, before.to_numpy().tolist())
            if hand not in elsewhere}
    if points:
        write_json(file, {f"{hand}.png": _picture(hand, found) for hand, found in {**kept, **points}.items()})


def _picture(hand: str, found: list[Any]) -> dict[str, Any]:
    regions = [{"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": {"name": name}}
               for name, x, y in found]
    return {"filename": f"{hand}.png", "size": -1, "regions": regions, "file_attributes": {}}
