"""Part of section Result: scores out of fold against the leaderboard's, from the ledger of what was pushed."""

from itertools import combinations
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Heading, Plot, Table, Words
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, figure, svg
from radstack.report.terminal import some
from radstack.scoring.intervals import ratio_error
from radstack.submission.ledger import as_numbers, edited, losses_file, read_ledger

LIMITS = 1.96
"""Standard errors on either side of a 95 % interval."""
NEWEST = 30
"""Submissions that are compared in pairs."""


def leaderboard(evidence: Evidence) -> list[Block]:
    """Table, plot and verdict of the ledger; nothing where nothing was pushed.

    Both scores are of the competition's metric, lower is better. A submission parts from its score out of fold where its
    leaderboard score lies outside of the interval that is to be expected for as many patients as test has. Two submissions
    are in reversed order where the leaderboard's difference has the other sign and lies outside of the interval that their
    difference out of fold, in pairs by patient, leads one to expect (Bonferroni, over all pairs of submissions).
    """
    folder, index = evidence.context.paths.submissions, evidence.index
    ledger = read_ledger(folder)
    if not len(ledger):
        return []
    patients = index.groupby("split")["group"].nunique().reindex(["train", "test"], fill_value=0)
    widening = widened(*map(int, patients))
    table = compared(ledger, widening)
    scored = table[table["leaderboard"].notna() & table["cv"].notna()]
    shown = table[["time", "file", "message", "cv", "low", "high", "expected from", "expected to", "public", "private",
                   "verdict"]]
    note = (f"Expected: the interval out of fold, widened {widening:.2f} times, by the square root of 1 + patients of train "
            f"/ patients of test ({patients['train']:,} / {patients['test']:,}), for both are samples. If the public board "
            "shows a part of test only, it may scatter more. Hashes and keys are in ledger.csv.")
    blocks: list[Block] = [Heading("Leaderboard"), *verdicts(evidence, folder, scored, widening), Table(
        shown.dropna(axis=1, how="all"), "What was pushed: out of fold (cv, low, high) against the leaderboard",
        dict.fromkeys(("cv", "low", "high", "expected from", "expected to", "public", "private"), ".4f"), note)]
    return [*blocks, *([drawing(scored, str(evidence.task.metric))] if len(scored) else [])]


def widened(train: int, test: int) -> float:
    """How much wider than an interval of ``train`` patients that of a score of ``test`` others, seen from it, is."""
    return float(np.sqrt(1 + train / test)) if test else 1.0


def compared(ledger: pd.DataFrame, widening: float) -> pd.DataFrame:
    """The ledger (as text) with its numbers as such, ``leaderboard`` (the private score where all have one, else the
    public), ``expected from``, ``expected to`` and ``verdict``.
    """
    table = as_numbers(ledger)
    board = "private" if table["private"].notna().sum() >= table["public"].notna().sum() else "public"
    table["leaderboard"] = table[board]
    for column, end in (("expected from", "low"), ("expected to", "high")):
        table[column] = table["cv"] + widening * (table[end] - table["cv"])
    parts = [table["leaderboard"].isna(), table["leaderboard"] > table["expected to"],
             table["leaderboard"] < table["expected from"]]
    words = np.select(parts, [table["status"], "worse than expected", "better than expected"], "as expected")
    return table.assign(verdict=pd.Series(words, table.index) + np.where(edited(ledger), ", edited", ""))


def verdicts(evidence: Evidence, folder: Path, scored: pd.DataFrame, widening: float) -> list[Block]:
    """Whether leaderboard and folds go together, in words."""
    if not len(scored):
        return [Words(f"No leaderboard scores yet; type: {evidence.context.command('08_submit')} --scores")]
    blocks: list[Block] = []
    outside = scored[(scored["leaderboard"] > scored["expected to"]) | (scored["leaderboard"] < scored["expected from"])]
    if len(outside):
        worse = int((outside["leaderboard"] > outside["cv"]).sum())
        blocks.append(Words(
            f"Folds and leaderboard part: {len(outside)} of {len(scored)} submissions score outside of what is expected ("
            f"{worse} worse, {len(outside) - worse} better). Look for a leak between folds, and at the shift from train to "
            "test in section Data.", "warn"))
    pairs = pairs_of(folder, scored.iloc[-NEWEST:], widening)
    reversed_pairs = pairs[pairs["reversed"]]
    if len(reversed_pairs):
        named = [f"{row.better} before {row.worse} ({-row.cv:.4f} better out of fold, {row.leaderboard:.4f} worse there; "
                 f"expected up to {row.most:+.4f})" for row in reversed_pairs.itertuples()]
        blocks.append(Words(f"The leaderboard reverses the order of submissions by more than noise: {some(named, most=3)}. "
                            "The folds do not rank these models as test does.", "warn"))
    if not blocks:
        same = f" {(pairs['leaderboard'] <= 0).sum()} of {len(pairs)} pairs stand in the same order." if len(pairs) else ""
        blocks.append(Words("Folds and leaderboard go together: every score lies within what is expected, and no order is "
                            f"reversed by more than noise.{same}", "good"))
    return blocks


def pairs_of(folder: Path, scored: pd.DataFrame, widening: float) -> pd.DataFrame:
    """Every two submissions of unequal files and scores out of fold.

    Returns:
        ``better``, ``worse`` (out of fold, in words), ``cv`` (better less worse, below 0), ``leaderboard`` (likewise),
        ``most`` (the upper end of what is expected there) and ``reversed``, bool.
    """
    rows, pairs = [], [(one, other) for one, other in combinations([row for _, row in scored.iterrows()], 2)
                       if one["sha256"] != other["sha256"] and one["cv"] != other["cv"]]
    limit = NormalDist().inv_cdf(1 - 0.025 / max(len(pairs), 1))  # the more pairs, the more are reversed by chance
    for one, other in pairs:
        better, worse = (one, other) if one["cv"] < other["cv"] else (other, one)
        cv, board = better["cv"] - worse["cv"], better["leaderboard"] - worse["leaderboard"]
        most = cv + widening * limit * difference_error(folder, better, worse) if board > 0 else np.nan
        rows.append({"better": _name(better), "worse": _name(worse), "cv": cv, "leaderboard": board, "most": most,
                     "reversed": bool(board > max(most, 0.0))})
    columns = ["better", "worse", "cv", "leaderboard", "most", "reversed"]
    return pd.DataFrame(rows, columns=columns).astype({"reversed": bool})


def difference_error(folder: Path, one: "pd.Series[str]", other: "pd.Series[str]") -> float:
    """Standard error of the difference of two submissions' scores out of fold, in pairs by patient.

    Where the patients' losses of one are gone, as if the two had met different patients, which is wider.
    """
    files = [losses_file(folder, row["sha256"]) for row in (one, other)]
    if all(file.exists() for file in files):
        both = pd.merge(*map(pd.read_parquet, files), on=["group", "rows"])
        if len(both) > 1:
            return ratio_error((both["loss_x"] - both["loss_y"]).to_numpy(), both["rows"].to_numpy(float))
    return float(np.hypot(*((row["high"] - row["low"]) / 2 / LIMITS for row in (one, other))))


def _name(row: "pd.Series[str]") -> str:
    return f"{row['file'].removesuffix('.csv')} of {row['time']}"


def drawing(scored: pd.DataFrame, metric: str) -> Plot:
    """Leaderboard scores over those out of fold, with the interval that is expected."""
    made, ax = figure(5.2, 3.9)
    expected = scored[["expected from", "expected to"]].sub(scored["cv"], axis=0).abs().to_numpy().T
    ax.errorbar(scored["cv"], scored["cv"], yerr=expected, fmt="none", color=COLORS[7], linewidth=1, label="expected")
    for place, name in enumerate(one for one in ("public", "private") if scored[one].notna().any()):
        ax.plot(scored["cv"], scored[name], "o", markersize=5, color=COLORS[place], label=name)
    ends = [scored[["cv", "expected from", "public"]].min().min(), scored[["cv", "expected to", "public"]].max().max()]
    ax.plot(ends, ends, color=COLORS[7], linewidth=1, linestyle=":")
    ax.set(xlabel=f"out of fold, {metric}", ylabel="leaderboard")
    made.legend(loc="outside upper left", ncols=3)
    return Plot(svg(made), "Leaderboard against out of fold: on the dotted line both are equal; the bars hold what is "
                "expected of each submission. A common distance from the line is a harder or easier test set.")
