"""The series vote: one label vector for a whole series. A table for people, and an ablation; it is never submitted.

Labels differ from slice to slice, so that the vote costs log loss. Stack ``calibrate`` on it to measure that without the
cost of probabilities that are exactly 0 or 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from radstack.scoring.metrics import sigmoid
from radstack.stack.features import series_counts
from radstack.stack.method import Method
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class Vote(Method):
    """Every slice of a series gets the series' voted 0/1 vector."""

    learns: ClassVar[bool] = False
    guarded: ClassVar[bool] = False
    union: str = "any"
    """Target that is the OR of all others."""
    threshold: float = 0.5
    """A slice shows a target from this probability on."""

    def predict(self, rows: Rows, state: None) -> np.ndarray:
        """The vote as 0 and 1, float32."""
        return series_vote(sigmoid(rows.blend), rows.series, rows.task.place(self.union), self.threshold).astype(np.float32)


def series_vote(p: np.ndarray, series: np.ndarray, union: int, threshold: float = 0.5) -> np.ndarray:
    """Voted labels, bool [rows, targets], for probabilities ``p`` [rows, targets] of ``series`` [rows].

    A series bleeds when at least half of its slices show ``union``. It then gets the most frequent vector among those
    slices (on a tie, the one with the higher summed probability of ``union``); otherwise all zeros.
    """
    seen = p >= threshold
    ballots = pd.DataFrame({"series": series, "code": seen @ (1 << np.arange(p.shape[1])), "p": p[:, union]})
    bleeding = seen[:, union]
    tally = ballots[bleeding].groupby(["series", "code"])["p"].agg(["size", "sum"]).reset_index()
    winner = tally.sort_values(["size", "sum"]).groupby("series")["code"].last()
    enough = 2 * ballots["series"].map(ballots[bleeding].groupby("series").size()) >= series_counts(series)
    code = np.where(enough, ballots["series"].map(winner).fillna(0), 0).astype(np.int64)
    return (code[:, None] >> np.arange(p.shape[1]) & 1).astype(bool)


def series_report(table: pd.DataFrame, targets: tuple[str, ...], union: str = "any", threshold: float = 0.5) -> pd.DataFrame:
    """What each series shows, for people, from ``group``, ``series``, ``position`` and a probability column a target.

    One row a series and target, in the order of the table: ``group``, ``series``, ``target``, ``slices`` (positions that
    show it, such as ``4-9,11``), ``count``, ``peak`` (position of the highest probability), ``probability`` (that highest
    one) and ``voted`` (the :func:`series_vote`, 0/1).
    """
    table = table.sort_values(["series", "position"], ignore_index=True)
    series = pd.factorize(table["series"])[0]
    p = table[list(targets)].to_numpy(np.float64)
    voted = series_vote(p, series, targets.index(union), threshold)
    first = np.flatnonzero(np.diff(series, prepend=-1))
    parts = [_of_target(table, series, first, p[:, place], voted[:, place], threshold).assign(target=name, place=place)
             for place, name in enumerate(targets)]
    report = pd.concat(parts).sort_values(["number", "place"], ignore_index=True)
    return report[["group", "series", "target", "slices", "count", "peak", "probability", "voted"]]


def _of_target(table: pd.DataFrame, series: np.ndarray, first: np.ndarray, p: np.ndarray, voted: np.ndarray,
               threshold: float) -> pd.DataFrame:
    peak = pd.Series(p).groupby(series).idxmax().to_numpy()
    seen = p >= threshold
    position = table["position"].to_numpy()
    slices = _ranges(position[seen], series[seen]).reindex(range(len(first)), fill_value="").to_numpy()
    return pd.DataFrame({
        "number": np.arange(len(first)), "group": table["group"].to_numpy()[first],
        "series": table["series"].to_numpy()[first], "slices": slices,
        "count": np.bincount(series, weights=seen).astype(int), "peak": position[peak], "probability": p[peak],
        "voted": voted[first].astype(int)})


def _ranges(position: np.ndarray, series: np.ndarray) -> pd.Series:
    """Positions of each series number as text; consecutive ones become ``first-last``."""
    if not len(position):
        return pd.Series(dtype=object)
    starts = np.flatnonzero((np.diff(position, prepend=-2) != 1) | (np.diff(series, prepend=-1) != 0))
    ends = np.append(starts[1:], len(position)) - 1
    texts = [f"{a}-{b}" if b > a else f"{a}" for a, b in zip(position[starts], position[ends])]
    return pd.Series(texts, dtype=object).groupby(series[starts]).agg(",".join)
