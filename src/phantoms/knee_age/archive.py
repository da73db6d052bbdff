"""The whole archive below one folder: drawn in parallel, resumable volume by volume, finished by ``truth.csv``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from phantoms.knee_age.files import write_tables, write_volume
from phantoms.knee_age.law import BONES, best_age
from phantoms.knee_age.people import Person
from phantoms.knee_age.plan import Entry, label_age, plan
from phantoms.knee_age.render import Drawn, draw_volume
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_json, read_table, replacing, write_json, write_table
from radstack.core.parallel import in_processes

PARTS = ".phantom"
"""Folder of what is known about each drawn volume; kept, so that a bigger archive only draws the new ones."""
VOXELS = 24 * 4
"""Voxels of a volume, in squares of ``size``: 24 slices of a frame twice as wide; 41 of 1.43 are fewer."""
MADE_BY = "python src/00_get_data.py knee_age --demo"


@dataclass(frozen=True)
class Request:
    """What decides every byte of a volume."""

    seed: int
    size: int
    tau: float
    annotated: float
    version: int = 1
    """Raised when the drawing changes."""


def draw(folder: Path, *, volumes: int, size: int, seed: int, workers: int, tau: float = 0.63, annotated: float = 0.5,
         progress: Callable[[int, int], None] | None = None) -> None:
    """Draw ``volumes`` phantom knees below ``folder`` in the layout of the article; keep what a killed run has drawn.

    Args:
        folder: becomes ``input/knee_age-demo``: data/<Study>/MHD and VOI_LABEL, volumes.csv, sample_submission.csv, and
            truth.csv for the report, written last.
        volumes: at least 4, to have both sources and both splits; about 1.6 of each man.
        size: rows and columns of the square around the joint; frames are 2 (Jopp) and 1.43 (Epi) times as wide.
        seed: volume i of a seed is always the same, whatever the number of volumes and workers.
        workers: processes; 1 draws in this one.
        tau: SD in years by which men are ahead of their age: .63 makes .48 years the least possible error, 1.0 makes .66.
        annotated: share of the training volumes that have a label volume.
        progress: called with the number of volumes done and the number of all.

    Raises:
        UserError: an argument is out of range, the folder holds another archive, or the disk is full.
    """
    _check(folder, Request(seed, size, tau, annotated), volumes)
    entries = plan(seed, volumes, tau, annotated)
    if len(held := _held(folder)) == volumes and (folder / "truth.csv").exists():
        return
    (folder / "truth.csv").unlink(missing_ok=True)
    todo = [pair for pair in entries if pair[0].number not in held]
    need_disk(folder, 3 * len(todo) * VOXELS * size * size, f"drawing {len(todo)} volumes")
    for done, _ in enumerate(in_processes(partial(_draw_entry, folder, seed, size), todo, workers), 1):
        if progress:
            progress(len(entries) - len(todo) + done, len(entries))
    write_tables(folder, entries)
    facts = [read_json(_part(folder, entry.number)) for entry, _ in entries]
    truth = pd.DataFrame([_latents(entry, person) | fact for (entry, person), fact in zip(entries, facts)])
    mean = truth[[f"s_{bone}" for bone in BONES]].to_numpy().mean(1)
    write_table(folder / "truth.csv", truth.assign(q_age_years=best_age(mean, tau)))


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; one row a volume, test and defective ones included.

    Returns:
        ``series`` (``<subject>_<visit>``), ``split``, ``subject``, ``visit``, ``source``, ``annotated``, ``defect`` ("",
        flipped, truncated, absent, female), ``age_years`` (true label), ``q_age_years`` (best possible prediction: median
        of the age given the mean of S_b), ``s_<bone>`` (S_b, years), ``share_<bone>`` (of the bone pixels), ``joint_row``,
        ``joint_column`` (pixels of the frame).

    Raises:
        UserError: there is no finished archive.
    """
    truth = read_table(folder / "truth.csv", MADE_BY)
    return truth.assign(defect=truth["defect"].astype("object").fillna("").astype("str"))


def read_masks(folder: Path, number: int) -> np.ndarray:
    """The true bones of the volume in row ``number`` of the truth, bool [3, slices, frame, frame] as ``BONES``.

    Unlike the label volumes they have no annotator's errors, and exist for test volumes too. Slices go front to back.

    Raises:
        UserError: there is no such volume.
    """
    path = _part(folder, number).with_suffix(".npz")
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: {MADE_BY}")
    with np.load(path, allow_pickle=False) as kept:
        shape = tuple(kept["shape"])
        return np.unpackbits(kept["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)


def _draw_entry(folder: Path, seed: int, size: int, pair: tuple[Entry, Person]) -> None:
    """Draw one volume, write its files, then the facts about it, which say that it is whole."""
    cv2.setNumThreads(1)
    entry, person = pair
    drawn = draw_volume(np.random.default_rng((seed, 1, entry.number)), person, entry.visit, entry.source, size)
    write_volume(folder, entry, person, drawn)
    facts = _part(folder, entry.number)
    with replacing(facts.with_suffix(".npz")) as part, part.open("wb") as handle:
        np.savez_compressed(handle, bits=np.packbits(drawn.masks), shape=drawn.masks.shape)
    write_json(facts, _facts(drawn))


def _facts(drawn: Drawn) -> dict[str, float]:
    """Share of each bone in the bone pixels of the window, and where the joint is."""
    pixels = drawn.masks.sum((1, 2, 3))
    shares = {f"share_{bone}": round(float(count / pixels.sum()), 4) for bone, count in zip(BONES, pixels)}
    return shares | {"joint_row": round(drawn.scan.joint[0], 2), "joint_column": round(drawn.scan.joint[1], 2)}


def _latents(entry: Entry, person: Person) -> dict[str, object]:
    """Columns of the truth that do not depend on the picture."""
    maturity = {f"s_{bone}": float(value) for bone, value in zip(BONES, person.maturity(entry.visit))}
    return {"series": entry.series, "split": entry.split, "subject": entry.subject, "visit": entry.visit + 1,
            "source": entry.source, "annotated": entry.annotated, "defect": entry.defect,
            "age_years": label_age(entry, person), "q_age_years": np.nan} | maturity


def _check(folder: Path, request: Request, volumes: int) -> None:
    """Refuse impossible requests, and folders that hold an archive made by another one."""
    if volumes < 4 or request.size < 32 or not request.tau > 0 or not 0 <= request.annotated <= 1:
        raise UserError(f"cannot draw {volumes} volumes of {request.size} pixels, tau {request.tau}, {request.annotated} of "
                        "them annotated; needs 4 volumes, 32 pixels, a positive tau and a share in [0, 1]")
    note = folder / PARTS / "request.json"
    if not note.exists():
        if (folder / "data").exists():
            raise UserError(f"{folder} holds volumes that are no phantoms; choose another folder")
        write_json(note, asdict(request))
    if read_json(note) != asdict(request):
        raise UserError(f"{folder} holds phantoms of another request ({note}); delete the folder to draw these")
    if len(held := _held(folder)) > volumes:
        raise UserError(f"{folder} holds {len(held)} volumes, more than {volumes}; ask for {len(held)} or delete the folder")


def _held(folder: Path) -> set[int]:
    """Numbers of the volumes that are drawn."""
    return {int(path.stem) for path in (folder / PARTS).glob("[0-9]*.json")}


def _part(folder: Path, number: int) -> Path:
    return folder / PARTS / f"{number:06d}.json"
