"""The archive of head CT: what is drawn of a series, and the organizer's two tables, duplicated rows included."""

from pathlib import Path

import numpy as np
import pandas as pd

from competitions.ich.labels import TARGETS
from phantoms import archive
from phantoms.archive import Facts, Progress, Request, draw_missing, write_truth
from phantoms.ich import files
from phantoms.ich.law import NOISE, draw_labels, majority, marked, with_any
from phantoms.ich.plan import TRUNCATED, Entry, holder_id, plan, slice_id
from phantoms.ich.render import Series, draw_series, draw_study
from radstack.core.errors import UserError
from radstack.core.files import write_table

SLICES = 40
"""Slices of a series on average, to foresee the disk they need."""
DUPLICATED = 4
"""Images listed twice in stage_2_train.csv, with the same labels."""


def draw(folder: Path, *, series: int, workers: int = 2, size: int = 512, seed: int = 0, noise: str = "realistic",
         test_share: float = 0.25, progress: Progress | None = None) -> None:
    """Draw ``series`` phantom series below ``folder`` in the organizer's layout; keep what a killed run has drawn.

    Args:
        folder: becomes ``input/ich-demo``: stage_2_train.csv, stage_2_sample_submission.csv, stage_2_train/,
            stage_2_test/, and truth.npz for the report, written last.
        series: at least 2, one of each split.
        workers: processes; 1 draws in this one.
        size: rows and columns in pixels.
        seed: series i of a seed is always the same, whatever the number of series and workers.
        noise: ``clean``, ``realistic`` or ``adjudicated`` labels (law.py).
        test_share: share of the patients in the test split.
        progress: called with the number of series done and the number of all.

    Raises:
        UserError: an argument is out of range, the folder holds another archive, or the disk is full.
    """
    if noise not in NOISE:
        raise UserError(f"there is no label noise '{noise}'; choose one of {', '.join(NOISE)}")
    if series < 2 or not 0 < test_share <= 0.5 or size < 32:
        raise UserError(f"cannot draw {series} series of {size} pixels with test share {test_share}; "
                        "needs 2 series, 32 pixels and a share in (0, 0.5]")
    request = {"seed": seed, "size": size, "noise": noise, "test_share": test_share, "version": 1}
    parts = draw_missing(folder, request, plan(seed, series, test_share), draw_entry, what="series",
                         pictures="stage_2_train", entry_bytes=SLICES * (2 * size * size + 1000), workers=workers,
                         progress=progress)
    if parts:
        truth = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        write_tables(folder, truth, seed)
        write_truth(folder, truth)


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone.

    Returns:
        ``id``, ``split``, one float32 column a target with the label (test rows too), and ``q_<target>``, the true
        probability that it is 1.

    Raises:
        UserError: there is no finished archive.
    """
    truth = archive.read_truth(folder, "ich")
    table = pd.DataFrame({"id": truth["id"], "split": truth["split"]})
    table[list(TARGETS)] = truth["y"].astype(np.float32)
    table[[f"q_{target}" for target in TARGETS]] = truth["q"]
    return table


def draw_entry(folder: Path, request: Request, entry: Entry) -> Facts:
    """Draw one series and write its files; the facts are arrays with a row a slice."""
    seed, noise = request["seed"], NOISE[request["noise"]]
    rng = np.random.default_rng((seed, 4, entry.number))
    drawn = draw_series(draw_study(seed, entry.patient, entry.visit), rng, request["size"])
    count = len(drawn.pixels)
    ids = [TRUNCATED if entry.split == "train" and entry.truncated and position == count // 2
           else slice_id(seed, entry.number, position) for position in range(count)]
    wrong = np.arange(count) == (count // 2 + rng.integers(1, count)) % count  # never the truncated one
    wrong &= entry.wrong_intercept and not entry.signed
    _write_slices(folder, seed, entry, drawn, ids, wrong, several_windows=bool(rng.random() < 0.3))
    q = with_any(majority(marked(drawn.area, drawn.contrast, noise), noise.votes if entry.split == "test" else 1))
    return {"id": np.array(ids), "split": np.full(count, entry.split), "q": q, "y": draw_labels(rng, q),
            "area": drawn.area, "contrast": drawn.contrast,
            "group": np.full(count, holder_id(seed, "patient", entry.patient)),
            "series": np.full(count, entry.number), "position": np.arange(count), "wrong_intercept": wrong}


def _write_slices(folder: Path, seed: int, entry: Entry, drawn: Series, ids: list[str], wrong: np.ndarray,
                  several_windows: bool) -> None:
    """The DICOM files of one series. They become whole with their mark: without that, all are drawn again."""
    data = files.header(seed, entry, drawn.slices, several_windows)
    middle, place = len(ids) // 2, folder / f"stage_2_{entry.split}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        for position, name in enumerate(ids):
            stored, intercept = files.store(drawn.pixels[position], entry, wrong[position])
            files.write_slice(place / f"{name}.dcm", data, drawn.slices.positions[position],
                              stored, intercept, truncated=entry.truncated and position == middle)
    except OSError as error:
        raise UserError(f"cannot write below {folder}: {error.strerror or error}; free some disk and run it again"
                        ) from error


def write_tables(folder: Path, truth: dict[str, np.ndarray], seed: int) -> None:
    """Write stage_2_train.csv (0/1, four images twice) and stage_2_sample_submission.csv (0.5), six rows a slice.

    The slices stand in the order of their ids, which says nothing about their place in the head.
    """
    order = np.argsort(truth["id"], kind="stable")
    train, test = (order[truth["split"][order] == split] for split in ("train", "test"))
    twice = np.random.default_rng((seed, 5)).choice(len(train), min(DUPLICATED, len(train)), replace=False)
    listed = np.insert(train, np.sort(twice) + 1, train[np.sort(twice)])
    write_table(folder / "stage_2_train.csv", _rows(truth["id"][listed], truth["y"][listed]))
    write_table(folder / "stage_2_sample_submission.csv", _rows(truth["id"][test], np.full((len(test), 6), 0.5)))


def _rows(ids: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Table of ``ID_<slice>_<class>`` and Label."""
    names = [f"{name}_{kind}" for name in ids for kind in TARGETS]
    return pd.DataFrame({"ID": names, "Label": labels.ravel()})
