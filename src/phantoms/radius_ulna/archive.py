"""The whole archive below one folder: drawn in parallel, resumable picture by picture, finished by ``truth.npz``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from competitions.radius_ulna.phases import LEARNED, TARGETS
from phantoms.radius_ulna.law import NOISE, stage_probabilities
from phantoms.radius_ulna.plan import Entry, plan
from phantoms.radius_ulna.render import BONES, draw_picture
from phantoms.radius_ulna.tables import BOX, picture_path, write_picture, write_tables
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_json, replacing, write_json
from radstack.core.parallel import in_processes

TRUTH = "truth.npz"
PARTS = ".phantom"
"""Folder of what is known about each drawn picture; kept, so that a bigger archive only draws the new ones."""
LEAST = 8
"""Pictures of the smallest archive: the first three children, of whom the last is a test one, have fewer before it."""


@dataclass(frozen=True)
class Request:
    """What decides every byte of a picture and its label."""

    seed: int
    size: int
    noise: str
    version: int = 1
    """Raised when the drawing changes."""


def draw(folder: Path, *, pictures: int, size: int, seed: int, workers: int, noise: str = "default",
         progress: Callable[[int, int], None] | None = None) -> None:
    """Draw ``pictures`` phantom hands below ``folder``, with labels and boxes; keep what a killed run has drawn.

    Args:
        folder: becomes ``input/radius_ulna-demo``: pictures/<day>_<serial>.png, labels.csv, boxes.csv (train),
            sample_submission.csv (test), and truth.npz for the report, written last.
        pictures: at least 8, so that both splits exist; from 50 on with a truncated, an absent and a color picture.
        size: long side in pixels of an upright picture, at least 128; wide ones are 1.08 times as long.
        seed: picture i of a seed is always the same, whatever the number of pictures and workers.
        workers: processes; 1 draws in this one.
        noise: of the rater: ``default`` (ceiling of 95 % for both bones) or ``human`` (about 88 and 92 %).
        progress: called with the number of pictures done and the number of all.

    Raises:
        UserError: an argument is out of range, the folder holds another archive, or the disk is full.
    """
    _check(folder, Request(seed, size, noise), pictures)
    held = _held(folder)
    if len(held) == pictures and (folder / TRUTH).exists():
        return
    (folder / TRUTH).unlink(missing_ok=True)
    entries = plan(seed, pictures, noise)
    todo = [entry for entry in entries if entry.number not in held or entry.defect]  # defects come with the fiftieth picture
    need_disk(folder, 2 * len(todo) * size * size, f"drawing {len(todo)} pictures")
    for done, _ in enumerate(in_processes(partial(draw_entry, folder, seed, size), todo, workers), 1):
        if progress:
            progress(len(entries) - len(todo) + done, len(entries))
    truth = _truth(entries, [read_json(_part(folder, entry.number)) for entry in entries], noise)
    write_tables(folder, entries, truth)
    with replacing(folder / TRUTH) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **{name: np.array(truth[name].tolist()) for name in truth})  # type: ignore[arg-type]


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; one row a picture, test and defective ones included.

    Returns:
        ``id``, ``split``, ``defect`` ("", truncated, absent, color), ``m_radius``, ``m_ulna`` (maturity), ``R5`` .. ``U9``
        (the rater's stages, one-hot floats, test too), ``q_R5`` .. ``q_U9`` (their exact chances given the maturity),
        ``radius_x1`` .. ``ulna_y2`` (tight boxes in pixels), ``mirrored``, ``cast`` (0/1).

    Raises:
        UserError: there is no finished archive.
    """
    if not (folder / TRUTH).exists():
        raise UserError(f"{folder / TRUTH} is missing; make it with: python src/00_get_data.py radius_ulna --demo")
    with np.load(folder / TRUTH, allow_pickle=False) as arrays:
        return pd.DataFrame(dict(arrays)).astype(dict.fromkeys(("id", "split", "defect"), "str"))


def draw_entry(folder: Path, seed: int, size: int, entry: Entry) -> None:
    """Draw one picture, write its file, then the facts about it, which say that it is whole."""
    cv2.setNumThreads(1)
    drawn = draw_picture(seed, entry.number, entry.child, entry.visit, size)
    write_picture(folder / picture_path(entry), drawn.picture, entry.defect)
    boxes = dict(zip(BOX, np.round(drawn.boxes, 2).ravel().tolist()))
    write_json(_part(folder, entry.number), boxes | {"mirrored": int(drawn.mirrored), "cast": int(drawn.cast)})


def _truth(entries: list[Entry], facts: list[dict[str, float]], noise: str) -> pd.DataFrame:
    """The table of :func:`read_truth`."""
    maturity = {bone: np.array([getattr(entry.child, bone)[entry.visit] for entry in entries]) for bone in BONES}
    columns: dict[str, object] = {name: [getattr(entry, name) for entry in entries] for name in ("id", "split", "defect")}
    columns |= {f"m_{bone}": maturity[bone] for bone in BONES}
    for bone in BONES:
        rated = np.array([getattr(entry, bone) for entry in entries])
        columns |= {name: (rated == stage).astype(float) for name, stage in zip(TARGETS[bone], LEARNED[bone])}
    for bone in BONES:
        chances = stage_probabilities(maturity[bone], bone, NOISE[noise][bone])
        columns |= {f"q_{name}": chances[:, place] for place, name in enumerate(TARGETS[bone])}
    return pd.concat([pd.DataFrame(columns), pd.DataFrame(facts)], axis=1)


def _check(folder: Path, request: Request, pictures: int) -> None:
    """Refuse impossible requests, and folders that hold an archive made by another one."""
    if pictures < LEAST or request.size < 128 or request.noise not in NOISE:
        raise UserError(f"cannot draw {pictures} pictures of {request.size} pixels with the noise {request.noise!r}; needs "
                        f"{LEAST} pictures, 128 pixels and one of: {', '.join(NOISE)}")
    note = folder / PARTS / "request.json"
    if not note.exists():
        if (folder / "pictures").exists():
            raise UserError(f"{folder} holds pictures that are no phantoms; choose another folder")
        write_json(note, asdict(request))
    if read_json(note) != asdict(request):
        raise UserError(f"{folder} holds phantoms of another request ({note}); delete the folder to draw these")
    if (held := len(_held(folder))) > pictures:
        raise UserError(f"{folder} holds {held} pictures, more than {pictures}; ask for {held} or delete the folder")


def _held(folder: Path) -> set[int]:
    """Numbers of the pictures that are drawn."""
    return {int(path.stem) for path in (folder / PARTS).glob("[0-9]*.json")}


def _part(folder: Path, number: int) -> Path:
    return folder / PARTS / f"{number:06d}.json"
