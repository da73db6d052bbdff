"""The organizer's label files: ``ID,Label`` with six rows a slice."""

from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import read_text_table
from radstack.images.quarantine import QUARANTINE_COLUMNS, Labels

TRAIN_CSV, SAMPLE_CSV = "stage_2_train.csv", "stage_2_sample_submission.csv"
"""The label file and the list of test slices."""
TARGETS = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
"""In the order of the rows of the file; ``any`` is the OR of the others."""


def label_files(folder: Path) -> tuple[Path, ...]:
    """The organizer's two tables."""
    return folder / TRAIN_CSV, folder / SAMPLE_CSV


def sample_file(folder: Path) -> Path:
    """The sample submission."""
    return folder / SAMPLE_CSV


def read_labels(path: Path) -> Labels:
    """Read ``stage_2_train.csv``: ``id`` and one float32 column a target, in the order of the file; none is quarantined.

    24 rows of the file, 4 slices listed twice, repeat others exactly.

    Raises:
        UserError: missing file, other columns than ``ID,Label``, a malformed ID or an unknown class, a label that is
            not 0 or 1, two rows that disagree, a slice without its six rows, ``any`` that is not the OR of the others;
            each names the first offender.
    """
    rows = _read(path)
    spelled, texts = pd.factorize(rows["Label"])  # of which there are few, in 4,500,000 rows
    labels = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(np.float32)[spelled]
    _refuse(path, rows["ID"], ~np.isin(labels, (0, 1)), "has a Label that is not 0 or 1")
    ids, code, klass = _split(path, rows["ID"])
    wide = np.full((len(ids), len(TARGETS)), np.nan, np.float32)
    wide[code, klass] = labels
    _refuse(path, rows["ID"], wide[code, klass] != labels, "is listed twice with different labels")
    _refuse(path, ids, wide[:, :-1].max(axis=1) != wide[:, -1], "has an 'any' that is not the OR of its five subtypes")
    table = pd.DataFrame(wide, columns=list(TARGETS))
    table.insert(0, "id", ids)
    return Labels(table, pd.DataFrame(columns=QUARANTINE_COLUMNS), len(rows) - len(table) * len(TARGETS))


def read_sample_ids(path: Path) -> pd.Series:
    """Slice ids of ``stage_2_sample_submission.csv``, each once, in the order of the file; errors as :func:`read_labels`."""
    return _split(path, _read(path)["ID"])[0]


def _read(path: Path) -> pd.DataFrame:
    rows = read_text_table(path, ())
    if not {"ID", "Label"} <= set(rows):
        raise UserError(f"{path} has the columns {', '.join(map(str, rows.columns))}, not ID, Label; fetch it again")
    return rows[["ID", "Label"]]


def _split(path: Path, keys: pd.Series) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """Split ``id_class`` at the last underscore: the unique ids, and for each key the number of its id and class."""
    klass = np.full(len(keys), -1)
    for number, name in enumerate(TARGETS):
        klass[keys.str.endswith(f"_{name}").to_numpy(bool)] = number
    slices = keys.str.replace("(?s)^(.*)_[^_]*$", r"\1", regex=True)
    wrong = (klass < 0) | (slices == "").to_numpy(bool)
    _refuse(path, keys, wrong, f"is not <slice>_<class> with a class of {', '.join(TARGETS)}")
    code, unique = pd.factorize(slices)
    ids = pd.Series(unique, dtype="str", name="id")
    seen = np.zeros((len(ids), len(TARGETS)), bool)
    seen[code, klass] = True
    _refuse(path, ids, seen.sum(axis=1) < len(TARGETS), "does not have its six rows; the file is cut, fetch it again")
    return ids, code, klass


def _refuse(path: Path, names: pd.Series, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        more = f" (and {wrong.sum() - 1} more)" if wrong.sum() > 1 else ""
        raise UserError(f"{path}: {names.to_numpy()[wrong.argmax()]!r} {what}{more}")
