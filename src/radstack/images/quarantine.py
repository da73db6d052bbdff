"""The quarantine of stage 01: every row or file that cannot be used, with the reason, so that none is lost in silence."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.say import Report
from radstack.images.dicom import Unreadable

QUARANTINE_COLUMNS = ["id", "split", "path", "reason", "detail"]
"""``path`` is "" where there is no file; ``reason`` is a name by which rows are counted, ``detail`` a sentence."""


class Labels(NamedTuple):
    """The label tables of a competition, checked."""

    table: pd.DataFrame  # The usable rows
    quarantine: pd.DataFrame  # ``QUARANTINE_COLUMNS`` of the rows that cannot be used
    repeated: int  # Rows dropped because they repeat another exactly

    @classmethod
    def parted(cls, judged: pd.DataFrame, columns: list[str], repeated: Any = 0, **names: str) -> "Labels":
        """``columns`` of a table after :func:`judge` where usable; its other rows by :func:`set_aside` with ``names``."""
        usable = judged.loc[judged["reason"] == "", columns].reset_index(drop=True)
        return cls(usable, set_aside(judged, **names), int(np.sum(repeated)))


def examine(look: Callable[..., dict[str, Any]], key: str, blank: dict[str, Any],
            chunk: list[Sequence[Any]]) -> pd.DataFrame:
    """Look at files: one row an item of ``chunk``, whose first value is its ``key``.

    ``look`` gets the values of the item and gives its columns; where it raises :class:`Unreadable`, these are ``blank``, and
    ``reason`` and ``detail``, else "", are those raised.
    """
    return pd.DataFrame([{key: item[0], **blank, **fault(look, *item)} for item in chunk])


def fault(look: Callable[..., dict[str, Any]], *item: Any) -> dict[str, Any]:
    """What ``look(*item)`` finds, with ``reason`` and ``detail`` of what it raised, both "" for nothing."""
    try:
        return look(*item) | {"reason": "", "detail": ""}
    except Unreadable as error:
        return {"reason": error.reason, "detail": error.detail}


def judge(rows: pd.DataFrame, wrong: Mapping[str, tuple[Any, Any]]) -> pd.DataFrame:
    """``rows`` with ``reason`` and ``detail`` of the first fault of each, both "" where there is none.

    ``wrong`` is reason -> (which rows have the fault, bool [rows]; a text, or one for each row).
    """
    masks, texts = zip(*wrong.values())
    return rows.assign(reason=np.select(masks, list(wrong), default=""), detail=np.select(masks, texts, default=""))


def set_aside(rows: pd.DataFrame, *, id: str = "id", path: str = "path", reason: str = "reason",
              detail: str = "detail") -> pd.DataFrame:
    """The rows that have a reason, as ``QUARANTINE_COLUMNS``; the keywords say what these are called in ``rows``."""
    columns = {id: "id", "split": "split", path: "path", reason: "reason", detail: "detail"}
    return rows.loc[rows[reason] != "", list(columns)].rename(columns=columns).reset_index(drop=True)


def mark_copies(rows: pd.DataFrame, content: str, key: str, reason: str, detail: str) -> None:
    """Give ``reason`` and ``detail``, in place, to each train row whose ``content`` an earlier usable row has.

    Test rows come first, then train rows by ``key``. A copy in train of a test picture would be trained on; of two copies in
    train one is enough.
    """
    ordered = rows[rows["reason"] == ""].sort_values(["split", key])
    copies = ordered.index[ordered.duplicated(content) & (ordered["split"] == "train")]
    rows.loc[copies, "reason"], rows.loc[copies, "detail"] = reason, detail


class NothingUsable(UserError):
    """A folder holds no usable picture; ``quarantine`` says why, file by file."""

    quarantine: pd.DataFrame


def nothing_usable(what: str, folder: Path, quarantine: pd.DataFrame) -> NothingUsable:
    """The error of a folder without one usable ``what``; it tells the first row of the quarantine."""
    told = "".join(f"; the first says: {row.path}: {row.reason} ({row.detail})" for row in quarantine.head(1).itertuples())
    error = NothingUsable(f"no usable {what} below {folder}{told}")
    error.quarantine = quarantine
    return error


def tell_faulty(faulty: pd.Series, report: Report) -> None:
    """Report how often which optional field was faulty and counted as absent; ``faulty``: comma-joined names."""
    for name, count in faulty[faulty != ""].str.split(",").explode().value_counts().sort_index().items():
        report(f"files with a faulty {name}, which was taken for absent: {count}")


def tell_reasons(quarantine: pd.DataFrame, report: Report) -> None:
    """Report how many rows of each split were quarantined for which reason."""
    for (split, reason), count in quarantine.groupby(["split", "reason"]).size().items():
        report(f"{split}: {count} quarantined as {reason}")
