"""The whole archive below one folder: drawn in parallel, resumable hand by hand, finished by ``truth.npz``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from phantoms.bone_age.imaging import expose, stored
from phantoms.bone_age.law import best_prediction
from phantoms.bone_age.plan import Entry, draw_case, landmarks, plan
from phantoms.bone_age.pose import field_mask
from phantoms.bone_age.render import draw_hand
from phantoms.bone_age.tables import write_tables
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_json, replacing, sweep, write_json
from radstack.core.parallel import in_processes

TRUTH = "truth.npz"
REQUEST = ".phantom.json"
"""What the pictures of a folder were drawn from."""
POINTS = [f"p{point}{axis}" for point in (1, 2, 3) for axis in "xy"]
KEPT = 0.6
"""Share of the truncated file that is there."""


@dataclass(frozen=True)
class Request:
    """What decides every byte of a picture."""

    seed: int
    size: int
    version: int = 1
    """Raised when the drawing changes."""


def draw(folder: Path, *, hands: int, size: int, seed: int, workers: int, annotated: float = 0.25,
         progress: Callable[[int, int], None] | None = None) -> None:
    """Draw ``hands`` phantom hands below ``folder`` in the layout of the Kaggle mirror; keep what a killed run has drawn.

    Args:
        folder: becomes ``input/bone_age-demo``: the two label tables and picture folders, ``annotations/masks/<id>.png``,
            ``annotations/landmarks.csv`` (VIA 2), and truth.npz for the report, written last.
        hands: at least 4, so that both splits exist; from 50 on with one truncated picture and two labels without one.
        size: typical long side in pixels, at least 64.
        seed: hand i of a seed is always the same, whatever the number of hands and workers.
        workers: processes; 1 draws in this one.
        annotated: share of the train hands, the first ones, with masks and landmarks.
        progress: called with the number of hands done and the number of all.

    Raises:
        UserError: an argument is out of range, the folder holds other pictures, or the disk is full.
    """
    request = _checked(folder, Request(seed, size), hands, annotated)
    entries = plan(hands, annotated)
    if _finished(folder, entries):
        return
    (folder / TRUTH).unlink(missing_ok=True)
    todo = [entry for entry in entries if not _drawn(folder, entry)]
    need_disk(folder, 2 * len(todo) * size * size, f"drawing {len(todo)} hands")
    for done, _ in enumerate(in_processes(partial(draw_entry, folder, request), todo, workers), 1):
        if progress:
            progress(len(entries) - len(todo) + done, len(entries))
    truth = _truth(entries, request)
    write_tables(folder, truth, entries)
    with replacing(folder / TRUTH) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **{name: np.array(truth[name].tolist()) for name in truth})  # type: ignore[arg-type]


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone.

    Returns:
        One row a hand: ``id``, ``split``, ``boneage`` (the label, test hands too), ``q_boneage`` (the best possible
        prediction of it), ``b_read`` (the months that the bones show), ``male``, ``mirrored``, ``inverted`` (0/1), and the
        landmarks ``p1x`` .. ``p3y`` in raw pixels.

    Raises:
        UserError: there is no finished archive.
    """
    if not (folder / TRUTH).exists():
        raise UserError(f"{folder / TRUTH} is missing; make it with: python src/00_get_data.py bone_age --demo")
    with np.load(folder / TRUTH, allow_pickle=False) as arrays:
        return pd.DataFrame(dict(arrays)).astype({"id": "str", "split": "str"})


def picture_path(folder: Path, entry: Entry) -> Path:
    """Where the picture of a hand is; the organizer nests its folder."""
    name = "boneage-training-dataset" if entry.split == "train" else "boneage-test-dataset"
    return folder / name / name / f"{entry.id}.png"


def mask_path(folder: Path, entry: Entry) -> Path:
    """Where the mask of an annotated hand is."""
    return folder / "annotations" / "masks" / f"{entry.id}.png"


def draw_entry(folder: Path, request: Request, entry: Entry) -> None:
    """Draw one hand and write its mask, where it has one, then its picture, which says that it is done."""
    cv2.setNumThreads(1)
    case = draw_case(request.seed, entry, request.size)
    hand = draw_hand(case.person, case.skeleton, case.pose)
    picture = expose(np.random.default_rng((request.seed, entry.number, 1)), hand, case.skeleton, case.pose, case.exposure)
    if entry.annotated:
        mask = 255 * (hand.mask & field_mask(case.pose))
        _write(mask_path(folder, entry), np.ascontiguousarray(mask[:, ::-1]) if case.exposure.mirrored else mask)
    _write(picture_path(folder, entry), stored(picture, case.exposure), KEPT if entry.truncated else 1.0)


def _write(path: Path, picture: np.ndarray, kept: float = 1.0) -> None:
    """A PNG, of which the first share ``kept`` of the bytes is written."""
    data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    with replacing(path) as part:
        part.write_bytes(data[:int(kept * len(data))])


def _truth(entries: list[Entry], request: Request) -> pd.DataFrame:
    """The table of :func:`read_truth`; it needs no picture."""
    rows = []
    for entry in entries:
        case = draw_case(request.seed, entry, request.size)
        rows.append([entry.id, entry.split, case.label, case.read, case.person.male, int(case.exposure.mirrored),
                     int(case.exposure.inverted), *landmarks(case).ravel()])
    truth = pd.DataFrame(rows, columns=["id", "split", "boneage", "b_read", "male", "mirrored", "inverted", *POINTS])
    truth.insert(3, "q_boneage", 0.0)
    for (male, split), group in truth.groupby(["male", "split"]):
        truth.loc[group.index, "q_boneage"] = best_prediction(group["b_read"].to_numpy(), int(male), split == "test")
    return truth


def _checked(folder: Path, request: Request, hands: int, annotated: float) -> Request:
    """Refuse impossible requests, and folders that hold anything else."""
    if hands < 4 or request.size < 64 or not 0 <= annotated <= 1:
        raise UserError(f"cannot draw {hands} hands of {request.size} pixels with {annotated:.0%} annotated; needs 4 hands, "
                        "64 pixels and a share in [0, 1]")
    note = folder / REQUEST
    if not note.exists():
        if (folder / "boneage-training-dataset").exists():
            raise UserError(f"{folder} holds pictures that are no phantoms; choose another folder")
        write_json(note, asdict(request))
    if read_json(note) != asdict(request):
        raise UserError(f"{folder} holds phantoms of another request ({note}); delete the folder to draw these")
    return request


def _finished(folder: Path, entries: list[Entry]) -> bool:
    """Whether the archive is whole; a longer one is refused."""
    pictures = [path for path in folder.glob("boneage-*/boneage-*/*.png") if not path.name.startswith(".")]
    strangers = {path.stem for path in pictures} - {entry.id for entry in entries}
    if strangers:
        raise UserError(f"{folder} holds more than {len(entries)} hands, such as {min(strangers)}; ask for more hands, or "
                        "delete the folder")
    for place in {path.parent for path in pictures}:
        sweep(place)
    annotated = (mask_path(folder, entry).exists() for entry in entries if entry.annotated)
    return (folder / TRUTH).exists() and len(read_truth(folder)) == len(entries) and all(annotated)


def _drawn(folder: Path, entry: Entry) -> bool:
    """Whether a hand's files are there. In a smaller archive the hands with defects may have been whole."""
    if entry.absent:
        picture_path(folder, entry).unlink(missing_ok=True)
        return True
    return picture_path(folder, entry).exists() and not entry.truncated and (
        not entry.annotated or mask_path(folder, entry).exists())
