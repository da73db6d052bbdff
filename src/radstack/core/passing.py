"""Faults of this machine at this moment, which say nothing of a file: they are never stored as its property.

A share that is away, missing rights, a package that is not installed: each run tries these files again.
"""

import os
from pathlib import Path

import pandas as pd

from radstack.core.errors import UserError
from radstack.core.say import Report

NO_ACCESS, NO_DECODER = "no-access", "no-decoder"
MOST = 0.01
"""Share of the files above which it is the folder or the machine that wants mending, before anything is learned."""
MEND = {NO_ACCESS: "could not be opened", NO_DECODER: "need a package that is not installed here"}
HOW = {NO_ACCESS: "see to the folder's rights and its mount", NO_DECODER: "type: pip install -r requirements.txt"}


def passing(reasons: pd.Series) -> pd.Series:
    """Which of the ``reasons`` of a quarantine pass by themselves, bool; those of boxes stand behind ``box-``."""
    return reasons.astype("str").str.removeprefix("box-").isin(MEND)


def holds_passing(table: pd.DataFrame) -> bool:
    """Whether a column of reasons (``reason``, ``mask_reason`` ...) of ``table`` holds one that passes."""
    return any(passing(table[name]).any() for name in table if str(name).endswith("reason"))


def check_passing(usable: pd.DataFrame, quarantine: pd.DataFrame, folder: Path, report: Report, strict: bool = True) -> int:
    """The number of files of ``quarantine`` (``path`` below ``folder``) that are to be tried again; reports it.

    Raises:
        UserError: they are more than ``MOST`` of all files, and ``strict``; names their folder and what to do.
    """
    rows = quarantine[passing(quarantine["reason"])].drop_duplicates("path")
    total = len({*usable["path"], *quarantine["path"]})
    if rows.empty:
        return 0
    first = rows.iloc[0]
    reason = str(first["reason"]).removeprefix("box-")
    where = os.path.commonpath([(folder / path).parent for path in rows["path"]])
    what = f"{len(rows)} of {total} files below {where} {MEND[reason]}, the first is {first['path']} ({first['detail']})"
    if strict and len(rows) > MOST * total:
        raise UserError(f"{what}; {HOW[reason]}, and run the same command again")
    report(f"  {what}; each run tries them again")
    return len(rows)
