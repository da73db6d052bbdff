"""The ledger of what was pushed: each file with its hash, its score out of fold, and what the leaderboard said later.

``submissions/<competition>/ledger.csv`` is text that people may read and correct. ``ledger/<hash>.parquet`` beside it holds
each patient's loss, so that two submissions can be compared in pairs long after their predictions were made again.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_table
from radstack.core.lock import at_work, lock_of, working_on
from radstack.core.recipe import digest
from radstack.scoring.intervals import Interval
from radstack.submission.kaggle import Submission

NAME, LOSSES = "ledger.csv", "ledger"
"""The file and the folder beside the submissions."""
PUSHED = ("time", "file", "sha256", "message", "model", "key", "cv", "low", "high")
"""Known when a file is pushed: UTC; the model's name; the key of the submission's manifest, which hashes recipe and inputs;
the score out of fold and its 95 % interval over patients."""
COLUMNS = (*PUSHED, "status", "public", "private", "ref", "check")
"""Then: where it stands (``uploading``, ``pushed``, Kaggle's ``pending``, ``complete`` and ``error``, or ``lost``), both
scores of the leaderboard, the number of the submission at Kaggle, and a digest of ``PUSHED``."""
NUMBERS = ("cv", "low", "high", "public", "private")
ARRIVED = ("pushed", "pending", "complete")
"""Where pushing the same bytes again would bring the same score."""
FORMAT = "%Y-%m-%dT%H:%M:%SZ"
APART = timedelta(days=1)
"""Most between our clock and Kaggle's for a submission whose number is not known."""
TOLD = 5
"""Lines of one kind that are said one by one."""


def read_ledger(folder: Path) -> pd.DataFrame:
    """The ledger of a folder of submissions as text: ``COLUMNS``, oldest first; without rows where nothing was pushed.

    Raises:
        UserError: a column is missing, or a time or number cannot be read; names the line and says what to do.
    """
    path = folder / NAME
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS), dtype="str")
    ledger = read_text_table(path, COLUMNS)[list(COLUMNS)]
    for name in NUMBERS:
        _refuse(path, ledger, name, (ledger[name] != "") & ~np.isfinite(_number(ledger[name])),
                "write a number with a point, or leave it empty")
    times = pd.to_datetime(ledger["time"], format=FORMAT, errors="coerce")
    _refuse(path, ledger, "time", times.isna(), f"write it as {datetime(2026, 1, 31, 12):{FORMAT}}, UTC")
    return ledger


def _refuse(path: Path, ledger: pd.DataFrame, name: str, wrong: pd.Series, mend: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{path}, line {row + 2}: {name} is '{ledger[name].iloc[row]}'; {mend}")


def _number(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce").astype(float)


def as_numbers(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger with ``NUMBERS`` as float64, NaN where they are not known."""
    return ledger.assign(**{name: _number(ledger[name]) for name in NUMBERS})


def edited(ledger: pd.DataFrame) -> pd.Series:
    """Whose ``PUSHED`` columns are not what was written when the file was pushed, bool [rows]."""
    return pd.Series([_check(row) != row["check"] for _, row in ledger.iterrows()], ledger.index, dtype=bool)


def _check(row: "pd.Series[str]") -> str:
    return digest([row[name] for name in PUSHED])


def named(row: "pd.Series[str]") -> str:
    """A submission in words: its file, when it was pushed, and its message."""
    return f"{row['file']} of {row['time']} ({row['message']})"


def add(folder: Path, file: str, sha256: str, message: str, key: str, score: Interval,
        losses: pd.DataFrame) -> "pd.Series[str]":
    """Write a row with the status ``uploading``, before the upload: what a killed one leaves behind is then known.

    Args:
        folder: the submissions of a competition.
        file: name of the pushed file, ``<model>.csv``.
        sha256: of its bytes.
        message: of the user.
        key: of its manifest, "" where it has none.
        score: out of fold; NaN for a model that answers only some targets.
        losses: ``group``, ``loss`` (sum) and ``rows`` of each patient, out of fold.

    Returns:
        The row, by which :func:`settle` and :func:`withdraw` know it.
    """
    values = (datetime.now(UTC).strftime(FORMAT), file, sha256, " ".join(message.split()), Path(file).stem, key,
              *(f"{value:.8g}" if np.isfinite(value) else "" for value in (score.value, score.low, score.high)))
    row = pd.Series(dict(zip(COLUMNS, (*values, "uploading", "", "", "", ""), strict=True)))
    row["check"] = _check(row)
    write_table(losses_file(folder, sha256), losses)
    with changing(folder):
        write_table(folder / NAME, pd.concat([read_ledger(folder), row.to_frame().T.astype("str")], ignore_index=True))
    return row


def changing(folder: Path) -> AbstractContextManager[bool]:
    """Let no other process change the ledger in the block, in which it is read and written."""
    return working_on(folder / NAME)


def uploading(folder: Path, sha256: str) -> AbstractContextManager[bool]:
    """Let no other process push the same bytes in the block, and let :func:`ended` know that this one does."""
    return working_on(losses_file(folder, sha256))


def settle(folder: Path, row: "pd.Series[str]", ref: int) -> None:
    """Kaggle took the file of a ``row`` of :func:`add` as its submission ``ref`` (0: it did not say)."""
    with changing(folder):
        ledger = read_ledger(folder)
        own = _places(ledger, row)
        own = own[ledger.loc[own, "ref"] == ""]  # else its score was fetched already
        ledger.loc[own, ["status", "ref"]] = ["pushed", str(ref) if ref else ""]
        write_table(folder / NAME, ledger)


def withdraw(folder: Path, row: "pd.Series[str]") -> None:
    """Kaggle did not take the file of a ``row`` of :func:`add`."""
    with changing(folder):
        ledger = read_ledger(folder)
        write_table(folder / NAME, ledger.drop(_places(ledger, row)))


def _places(ledger: pd.DataFrame, row: "pd.Series[str]") -> pd.Index:
    """Where a row stands, if nobody deleted it: others may have been added since. Of equal ones it is the newest."""
    return ledger.index[(ledger[["time", "sha256"]] == row[["time", "sha256"]]).all(axis=1)][-1:]


def ended(folder: Path) -> set[tuple[str, str]]:
    """Time and hash of each row whose upload has come to its end, be it that its process was killed."""
    ledger = read_ledger(folder)
    held = {sha for sha in ledger.loc[ledger["status"] == "uploading", "sha256"].unique()
            if at_work([lock_of(losses_file(folder, sha))])}
    own = ledger[~((ledger["status"] == "uploading") & ledger["sha256"].isin(held))]
    return set(zip(own["time"], own["sha256"]))


def pushed_before(ledger: pd.DataFrame, sha256: str) -> "pd.Series[str] | None":
    """The newest row of the same bytes that arrived at Kaggle; None where there is none."""
    same = ledger[(ledger["sha256"] == sha256) & ledger["status"].isin(ARRIVED)]
    return same.iloc[-1] if len(same) else None


def losses_file(folder: Path, sha256: str) -> Path:
    """Where the patients' losses of a pushed file lie."""
    return folder / LOSSES / f"{sha256[:16]}.parquet"


def fill(ledger: pd.DataFrame, listed: list[Submission], over: set[tuple[str, str]]) -> tuple[pd.DataFrame, list[str]]:
    """Write what Kaggle says of each submission into the ledger.

    What it does not list is lost if it was ``over``, as :func:`ended` said before Kaggle was asked; else it is on its way.

    A row is matched by the number that Kaggle gave when it took the file; one without a number by file name, message and the
    nearest time within ``APART``, each submission once.

    Returns:
        The ledger, and lines for the user: what was filled in, what Kaggle refused or does not have, what the ledger lacks,
        and which of its rows were edited.
    """
    ledger, found = ledger.copy(), _matches(ledger, listed)
    for place, one in found.items():
        ledger.loc[place, ["status", "public", "private", "ref"]] = [one.status, one.public, one.private, str(one.ref)]
    was_over = pd.MultiIndex.from_frame(ledger[["time", "sha256"]]).isin(over)
    gone = ledger.index[was_over].difference(list(found))
    ledger.loc[gone, "status"] = "lost"
    strangers = [one for one in listed if one not in list(found.values())]
    scored = sum(bool(one.public or one.private) for one in found.values())
    lines = [f"{scored} of {len(ledger)} submissions of the ledger have a score"]
    lines += _some(f"{named(ledger.loc[place])}: Kaggle could not score it ({one.error or 'no reason given'})"
                   for place, one in found.items() if one.status == "error")
    lines += _some(f"{named(ledger.loc[place])}: Kaggle does not list it for this account; if it is yours, push it again"
                   for place in gone)
    lines += _some(f"not in the ledger, pushed by other means: {one.file} of {one.time:{FORMAT}} ({one.message}), "
                   f"{one.public or one.status}" for one in strangers)
    lines += _some(f"line {place + 2} was edited after the push and is taken as it stands: {named(ledger.loc[place])}"
                   for place in ledger.index[edited(ledger)])
    return ledger, lines


def _matches(ledger: pd.DataFrame, listed: list[Submission]) -> dict[int, Submission]:
    """Row number -> its submission, in the order of the ledger."""
    known = {str(one.ref): one for one in listed}
    found = {int(place): known[ref] for place, ref in ledger["ref"].items() if ref in known}
    pairs = [(abs(one.time - datetime.strptime(row["time"], FORMAT)), int(place), one)
             for place, row in ledger[ledger["ref"] == ""].iterrows() for one in listed
             if (one.file, " ".join(one.message.split())) == (row["file"], row["message"])]
    for apart, place, one in sorted(pairs, key=lambda pair: pair[:2]):
        if apart <= APART and place not in found and one not in list(found.values()):
            found[place] = one
    return dict(sorted(found.items()))


def _some(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    return every[:TOLD] + ([f"and {len(every) - TOLD} more of these"] if len(every) > TOLD else [])
