"""The organizer's two tables, duplicated rows included (§2)."""

from pathlib import Path

import numpy as np
import pandas as pd

from competitions.ich.labels import TARGETS
from radstack.core.files import write_table

DUPLICATED = 4
"""Images listed twice in stage_2_train.csv, with the same labels."""


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
