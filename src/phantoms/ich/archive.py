"""The whole archive below one folder: drawn in parallel, resumable series by series, finished by ``truth.npz``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from competitions.ich.labels import TARGETS
from phantoms.ich import files
from phantoms.ich.law import NOISE, draw_labels, majority, marked, with_any
from phantoms.ich.plan import TRUNCATED, Entry, holder_id, plan, slice_id
from phantoms.ich.render import Series, draw_series, draw_study
from phantoms.ich.tables import write_tables
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_json, replacing, write_json
from radstack.core.parallel import in_processes

Truth = dict[str, np.ndarray]
PARTS = ".phantom"
"""Folder of what is known about each drawn series; kept, so that a longer archive only draws the new ones."""
SLICES = 40
"""Slices of a series on average, to foresee the disk they need."""


@dataclass(frozen=True)
class Request:
    """What decides every byte of a series."""

    seed: int
    size: int
    noise: str
    test_share: float
    version: int = 1
    """Raised when the drawing changes."""


def draw(folder: Path, *, series: int, size: int = 512, seed: int = 0, workers: int = 2, noise: str = "realistic",
         test_share: float = 0.25, progress: Callable[[int, int], None] | None = None) -> None:
    """Draw ``series`` phantom series below ``folder`` in the organizer's layout; keep what a killed run has drawn.

    Args:
        folder: becomes ``input/ich-demo``: stage_2_train.csv, stage_2_sample_submission.csv, stage_2_train/,
            stage_2_test/, and truth.npz for the report, written last.
        series: at least 2, one of each split.
        size: rows and columns in pixels.
        seed: series i of a seed is always the same, whatever the number of series and workers.
        workers: processes; 1 draws in this one.
        noise: ``clean``, ``realistic`` or ``adjudicated`` labels (law.py).
        test_share: share of the patients in the test split.
        progress: called with the number of series done and the number of all.

    Raises:
        UserError: an argument is out of range, the folder holds another archive, or the disk is full.
    """
    request = _checked(folder, Request(seed, size, noise, test_share), series)
    entries = plan(seed, series, test_share)
    if _finished(folder, series):
        return
    todo = [entry for entry in entries if not _part(folder, entry.number).exists()]
    need_disk(folder, len(todo) * SLICES * (2 * size * size + 1000), f"drawing {len(todo)} series")
    for split in ("train", "test"):
        (folder / f"stage_2_{split}").mkdir(parents=True, exist_ok=True)
    for done, _ in enumerate(in_processes(partial(draw_entry, folder, request), todo, workers), 1):
        if progress:
            progress(len(entries) - len(todo) + done, len(entries))
    parts = [_load(_part(folder, entry.number)) for entry in entries]
    truth = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    write_tables(folder, truth, seed)
    _save(folder / "truth.npz", truth)


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone.

    Returns:
        ``id``, ``split``, one float32 column a target with the label (test rows too), and ``q_<target>``, the true
        probability that it is 1.

    Raises:
        UserError: there is no finished archive.
    """
    if not (folder / "truth.npz").exists():
        raise UserError(f"{folder / 'truth.npz'} is missing; make it with: python src/00_get_data.py ich --demo")
    truth = _load(folder / "truth.npz")
    table = pd.DataFrame({"id": truth["id"], "split": truth["split"]})
    table[list(TARGETS)] = truth["y"].astype(np.float32)
    table[[f"q_{target}" for target in TARGETS]] = truth["q"]
    return table


def draw_entry(folder: Path, request: Request, entry: Entry) -> None:
    """Draw one series, write its files, then its part of the truth, which says that it is whole."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng((request.seed, 4, entry.number))
    drawn = draw_series(draw_study(request.seed, entry.patient, entry.visit), rng, request.size)
    count = len(drawn.pixels)
    ids = [TRUNCATED if entry.split == "train" and entry.truncated and position == count // 2
           else slice_id(request.seed, entry.number, position) for position in range(count)]
    wrong = np.arange(count) == (count // 2 + rng.integers(1, count)) % count  # never the truncated one
    wrong &= entry.wrong_intercept and not entry.signed
    _write_slices(folder, request, entry, drawn, ids, wrong, several_windows=bool(rng.random() < 0.3))
    noise = NOISE[request.noise]
    q = with_any(majority(marked(drawn.area, drawn.contrast, noise), noise.votes if entry.split == "test" else 1))
    _save(_part(folder, entry.number), {
        "id": np.array(ids), "split": np.full(count, entry.split), "q": q, "y": draw_labels(rng, q),
        "area": drawn.area, "contrast": drawn.contrast,
        "group": np.full(count, holder_id(request.seed, "patient", entry.patient)),
        "series": np.full(count, entry.number), "position": np.arange(count), "wrong_intercept": wrong})


def _write_slices(folder: Path, request: Request, entry: Entry, drawn: Series, ids: list[str], wrong: np.ndarray,
                  several_windows: bool) -> None:
    """The DICOM files of one series. They become whole with its part of the truth: without that, all are drawn again."""
    data = files.header(request.seed, entry, drawn.slices, several_windows)
    middle = len(ids) // 2
    try:
        for position, name in enumerate(ids):
            stored, intercept = files.store(drawn.pixels[position], entry, wrong[position])
            files.write_slice(folder / f"stage_2_{entry.split}" / f"{name}.dcm", data, drawn.slices.positions[position],
                              stored, intercept, truncated=entry.truncated and position == middle)
    except OSError as error:
        raise UserError(f"cannot write below {folder}: {error.strerror or error}; free some disk and run it again"
                        ) from error


def _checked(folder: Path, request: Request, series: int) -> Request:
    """Refuse impossible requests, and folders that hold an archive made by another one."""
    if request.noise not in NOISE:
        raise UserError(f"there is no label noise '{request.noise}'; choose one of {', '.join(NOISE)}")
    if series < 2 or not 0 < request.test_share <= 0.5 or request.size < 32:
        raise UserError(f"cannot draw {series} series of {request.size} pixels with test share {request.test_share}; "
                        "needs 2 series, 32 pixels and a share in (0, 0.5]")
    note = folder / PARTS / "request.json"
    if not note.exists():
        if (folder / "stage_2_train").exists():
            raise UserError(f"{folder} holds pictures that are no phantoms; choose another folder")
        write_json(note, asdict(request))
    if read_json(note) != asdict(request):
        raise UserError(f"{folder} holds phantoms of another request ({note}); delete the folder to draw these")
    return request


def _finished(folder: Path, series: int) -> bool:
    """Whether the archive is whole; one of another length loses its finish marker, a longer one is refused."""
    held = len(list((folder / PARTS).glob("[0-9]*.npz")))
    if held > series:
        raise UserError(f"{folder} holds {held} series, more than {series}; ask for {held} or delete the folder")
    if not (folder / "truth.npz").exists():
        return False
    if len(np.unique(_load(folder / "truth.npz")["series"])) == series:
        return True
    (folder / "truth.npz").unlink()
    return False


def _part(folder: Path, number: int) -> Path:
    return folder / PARTS / f"{number:06d}.npz"


def _save(path: Path, arrays: Truth) -> None:
    with replacing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]


def _load(path: Path) -> Truth:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
