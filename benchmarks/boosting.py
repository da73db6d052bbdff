"""LightGBM in level two against the bare fits of the same tables, fold by fold in turn.

    OMP_NUM_THREADS=1 python benchmarks/boosting.py --scale 0.34 --folds 1   # about five minutes of one core
    OMP_NUM_THREADS=2 python benchmarks/boosting.py --ways shared            # full size, two cores, without binning anew
    OMP_NUM_THREADS=2 python benchmarks/boosting.py --settings --scale 0.1   # what cheaper settings cost in loss

The bare fits get the features ready made: a table is binned and boosted for each class, with the same settings, start and
patients to stop by. What stands beside them begins with the members' tables: features, calibration of the start, binning and
boosting of all classes, with columns that classes share binned once and without; then the answers for the held-out fold.
Draws the table and ten members as ``tabular_scale.py`` does. Prints CPU seconds and those of the clock as a markdown table.

``--settings`` compares fewer bins, fewer rows a tree and more rounds instead, and prints the loss of each.
"""

import argparse
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tabular_scale import TASK, deal, draw, draw_members

from radstack.stack import trees
from radstack.stack.adjust import platt
from radstack.stack.features import class_features
from radstack.stack.rows import Rows, join

SHARED, ANEW, BARE, ANSWERS = "fit, bins shared", "fit, each class binned anew", "bare fits", "answers for the fold"
T = TypeVar("T")
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "3,000 rounds": {"num_iterations": 3000},
    "63 bins": {"max_bin": 63},
    "15 bins": {"max_bin": 15},
    "half of the rows a tree": {"bagging_fraction": 0.5, "bagging_freq": 1},
    "GOSS (Ke 2017)": {"data_sample_strategy": "goss"},
    "a third of the columns a tree": {"feature_fraction": 0.33},
}
"""LightGBM's parameters besides those of level two."""


@dataclass(frozen=True)
class Tried(trees.LightGBM):
    """The boosting of level two with further parameters of LightGBM."""

    further: dict[str, Any] = field(default_factory=dict)

    def settings(self, **objective: Any) -> dict[str, Any]:
        """These, and the further ones in their place."""
        return super().settings(**objective) | self.further


def main() -> None:
    """Draw, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--rounds", type=int, default=300, help="most trees a class and fold")
    parser.add_argument("--folds", type=int, default=5, help="of five")
    parser.add_argument("--ways", choices=("shared", "both"), default="both", help="both: bins of each class anew as well")
    parser.add_argument("--settings", action="store_true", help="compare settings instead")
    options = parser.parse_args()
    rows = table(options.scale)
    if options.settings:
        compare_settings(rows, options)
    else:
        compare_ways(rows, options)


def compare_settings(rows: Rows, options: argparse.Namespace) -> None:
    """One line for each of ``SETTINGS``: what it takes, and the loss of the held-out folds."""
    print(f"{len(rows):,} rows, {options.rounds} rounds, {options.folds} of 5 folds\n")
    print("| settings | CPU s | s | trees | loss of the folds |\n|---|---:|---:|---:|---:|")
    for name, further in SETTINGS.items():
        method = Tried(rounds=further.get("num_iterations", options.rounds), further=further)
        seconds, losses, grown = np.zeros(2), [], 0
        for fold in range(options.folds):
            part, held = rows.take(rows.fold != fold), rows.take(rows.fold == fold)
            spent, fitted = timed(method.fit, part)
            seconds += spent
            grown += sum(one["trees"] for one in fitted.notes.values())
            losses.append(TASK.metric.score(held.truth, fitted.predict(held)))
        print(f"| {name} | {seconds[0]:.0f} | {seconds[1]:.0f} | {grown} | {np.mean(losses):.5f} |", flush=True)


def compare_ways(rows: Rows, options: argparse.Namespace) -> None:
    """Ours beside the bare fits, as the head of this file says."""
    method = trees.LightGBM(rounds=options.rounds)
    seconds, losses = defaultdict[str, np.ndarray](partial(np.zeros, 2)), defaultdict[str, float](float)
    grown = Counter[str]()
    ways = {SHARED: 0, ANEW: len(rows)} if options.ways == "both" else {SHARED: 0}
    for fold in range(options.folds):
        part, held = rows.take(rows.fold != fold), rows.take(rows.fold == fold)
        for way, shared_above in ways.items():
            trees.SAMPLED = shared_above
            spent, fitted = timed(method.fit, part)
            seconds[way] += spent
            grown[way] += sum(one["trees"] for one in fitted.notes.values())
            spent, answers = timed(fitted.predict, held)
            losses[way] += TASK.metric.score(held.truth, answers) / options.folds
        seconds[ANSWERS] += spent
        for target in range(len(TASK.targets)):
            spent, count = bare_fit(method, part, target)
            seconds[BARE] += spent
            grown[BARE] += count
    print(f"{len(rows):,} rows, {options.rounds} rounds, {options.folds} of 5 folds, "
          f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB\n")
    print("| way | CPU s | of the bare fits | s | trees | loss of the folds |\n|---|---:|---:|---:|---:|---:|")
    for way in (BARE, *ways, ANSWERS):
        loss = f"{losses[way]:.5f}" if way in losses else ""
        (spent, passed), share = seconds[way], seconds[way][0] / seconds[BARE][0]
        print(f"| {way} | {spent:.0f} | {share:.3f} | {passed:.0f} | {grown[way] or ''} | {loss} |")


def table(scale: float) -> Rows:
    """Training rows of ten members."""
    rng = np.random.default_rng(0)
    index, logits = draw(scale, rng)
    folds = deal(index[index["split"] == "train"])
    return join(draw_members(index, folds, logits, 10, rng), index, folds, TASK)[0]


def timed(work: Callable[..., T], *args: Any, **options: Any) -> tuple[np.ndarray, T]:
    """Seconds of the CPU and of the clock, and what ``work`` returns."""
    start = np.array([time.process_time(), time.perf_counter()])
    made = work(*args, **options)
    return np.array([time.process_time(), time.perf_counter()]) - start, made


def bare_fit(method: trees.LightGBM, part: Rows, target: int) -> tuple[np.ndarray, int]:
    """Seconds of one class's fit, as :func:`timed` has them, without those of its features, and the number of trees."""
    x, names = class_features(part, target, method.reach, method.columns)
    y, blend = part.truth[:, target], part.blend[:, target]
    watch = trees.held_out_rows(part, target, method.held_out, method.seed)
    scale, bias = platt(blend[~watch], y[~watch])
    spent, booster = timed(method.boost, x, y, scale * blend + bias, watch, names, objective="binary")
    return spent, booster.best_iteration


if __name__ == "__main__":
    main()
