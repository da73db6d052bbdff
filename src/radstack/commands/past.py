"""What stages took in an earlier run of the same competition, by the seconds in its manifests."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from radstack.running.context import Context

FOLDERS = ("folds", "cache", "oof", "submissions", "reports")
"""Where manifests lie; those in weights/ are of networks, whose rates are known better, or part of what stage 02 counts."""
SIDE_BY_SIDE = "03_cache"
"""The stage whose pieces, with a manifest each, are made by several processes at a time."""
SMALL_RUN = 50
"""Patients of the run that is proposed where there was none."""
UNKNOWN, NO_RUN = "unknown", "no earlier run"
SECONDS = 3600


@dataclass(frozen=True)
class Line:
    """One line of a plan."""

    name: str
    amount: float
    """Hours or bytes; NaN where it is not known."""
    words: str
    """Where the amount comes from."""


@dataclass(frozen=True)
class Past:
    """Seconds of a run by stage, and the pictures that they were for."""

    folder: str
    """Name of the run below ``folds/``; "" where there is none."""
    workers: int
    """Processes of stage 03."""
    rows: dict[str, int] = field(default_factory=dict)
    """Split -> pictures."""
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    """Stage, and what it was made for (``train``, ``test``, or both: "") -> seconds."""

    def line(self, stage: str, rows: int) -> Line:
        """Hours of a stage for ``rows`` pictures, in proportion."""
        spent, count = sum(self.seconds.get((stage, side), 0.0) for side in ("", "train", "test")), sum(self.rows.values())
        return self._line(stage, spent / max(count, 1), count, rows)

    def applied(self, stage: str, rows: int) -> Line:
        """Hours in which what is fitted answers for ``rows`` new pictures: without what was made for training alone."""
        both, test = self.seconds.get((stage, ""), 0.0), self.seconds.get((stage, "test"), 0.0)
        count = sum(self.rows.values())
        return self._line(stage, both / max(count, 1) + test / max(self.rows.get("test", 0), 1), count, rows)

    def _line(self, stage: str, each: float, count: int, rows: int) -> Line:
        if not each:
            return Line(stage, math.nan, NO_RUN)
        share = self.workers if stage == SIDE_BY_SIDE else 1
        how = "measured" if count == rows else "estimate"
        return Line(stage, each * rows / share / SECONDS, f"{how}: {self.folder}, {count:,} pictures")


def past_run(context: Context) -> Past:
    """The largest earlier run in these folders, that with ``--limit`` too."""
    found = Past("", max(context.options.workers, 1))
    for index in sorted((context.paths.out / "folds").glob(f"{context.competition.name}*/index.parquet")):
        name = index.parent.name
        if not re.fullmatch(rf"{re.escape(context.competition.name)}(-limit\d+)?", name):
            continue
        rows = {str(split): int(count) for split, count in pd.read_parquet(index, columns=["split"])["split"].value_counts()
                .items()}
        if sum(rows.values()) > sum(found.rows.values()):
            found = Past(name, found.workers, rows, _seconds(context.paths.out, name))
    return found


def small_run(context: Context) -> str:
    """The command of a run on few patients."""
    return f"bash run_all.sh {' '.join(context.competition.words)} --limit {SMALL_RUN}"


def _seconds(out: Path, name: str) -> dict[tuple[str, str], float]:
    seconds: dict[tuple[str, str], float] = {}
    for stage, side, spent in dict(_manifests(out, name)).values():
        seconds[stage, side] = seconds.get((stage, side), 0.0) + spent
    return seconds


def _manifests(out: Path, name: str) -> Iterator[tuple[str, tuple[str, str, float]]]:
    """Key -> stage, side and seconds of each manifest; files that were made together have one key."""
    for file in (file for folder in FOLDERS for file in (out / folder / name).rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"key", "stage", "seconds"} <= content.keys():
            fold = re.match(r"fold\d+(_test)?[._]", file.name)
            side = ("test" if fold[1] else "train") if fold else ""
            yield content["key"], (content["stage"], side, float(content["seconds"]))


def known_sum(amounts: Iterable[float]) -> float:
    """The sum of what is known; NaN where nothing is."""
    known = [amount for amount in amounts if not math.isnan(amount)]
    return sum(known) if known else math.nan


def sum_known(lines: list[Line]) -> float:
    """The same of lines."""
    return known_sum(line.amount for line in lines)


def lacking_of(lines: list[Line]) -> list[str]:
    """Lines of which not everything is known."""
    return [line.name for line in lines if math.isnan(line.amount) or UNKNOWN in line.words]
