"""LightGBM in level two against the bare fits of the same tables, in turn in one run.

    OMP_NUM_THREADS=1 python benchmarks/boosting.py --scale 0.34             # about 25 minutes of one core
    OMP_NUM_THREADS=1 python benchmarks/boosting.py --rounds 100             # full size, 8 GB

The bare fits get their tables ready made, a class after the other; a table is cut by fold, binned, and boosted with the same
settings, start and patients to stop by. Nothing is predicted, read or scored. What stands beside them is the whole
stack: joined by id, features, fits, predictions and nested score; with columns that classes share binned once a fold,
and without. Draws the table and ten members as ``tabular_scale.py`` does. Prints CPU seconds as a markdown table.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tabular_scale import TASK, deal, draw, draw_members

from radstack.recipes.stacker import Stacker
from radstack.stack import trees
from radstack.stack.adjust import platt
from radstack.stack.features import class_features
from radstack.stack.nested import fit_stack
from radstack.stack.rows import Rows, join


def main() -> None:
    """Draw, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--rounds", type=int, default=300, help="most trees a class and fold")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    index, logits = draw(options.scale, rng)
    known = index[index["split"] == "train"]
    folds = deal(known)
    members = draw_members(index, folds, logits, 10, rng)
    print(f"{len(known):,} rows, {options.rounds} rounds\n")
    print("| way | CPU s | of the bare fits | peak GB so far | trees; score |\n|---|---:|---:|---:|---|")
    method = trees.LightGBM(rounds=options.rounds)

    def stacked(shared_above: float) -> str:
        trees.SAMPLED = shared_above  # type: ignore[assignment]
        recipe = Stacker("lightgbm", "lightgbm", tuple(members), {"rounds": options.rounds})
        made = fit_stack(recipe, members, index, folds, TASK)
        count = sum(one["trees"] for notes in made.learned.values() for one in notes.values())
        return f"{count}; {made.score}"

    sampled = trees.SAMPLED
    own = timed(lambda: stacked(sampled))
    anew = timed(lambda: stacked(np.inf))
    bare = timed(lambda: bare_fits(method, join(members, index, folds, TASK)[0]), paused=True)
    ways = {"bare fits": bare, "stack, bins shared": own, "stack, each class binned anew": anew}
    for way, (seconds, peak, said) in ways.items():
        print(f"| {way} | {seconds:.0f} | {seconds / bare[0]:.3f} | {peak:.2f} | {said} |")


def timed(work: Callable[[], Any], paused: bool = False) -> tuple[float, float, str]:
    """CPU seconds, peak GB of the process so far, and what ``work`` says; ``paused``: it says the seconds as well."""
    start = time.process_time()
    made = work()
    seconds, said = made if paused else (time.process_time() - start, made)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, said


def bare_fits(method: trees.LightGBM, rows: Rows) -> tuple[float, str]:
    """CPU seconds of the fits of all classes and folds, without those of their features; and the number of trees."""
    seconds, count = 0.0, 0
    for target in range(len(TASK.targets)):
        x, names = class_features(rows, target, method.reach, method.columns)
        for fold in np.unique(rows.fold):
            kept = rows.fold != fold
            part = rows.take(kept)
            y, blend = part.truth[:, target], part.blend[:, target]
            watch = trees.held_out_rows(part, target, method.held_out, method.seed)
            scale, bias = platt(blend[~watch], y[~watch])
            start = time.process_time()
            grown = method.boost(x[kept], y, scale * blend + bias, watch, names, objective="binary")
            seconds, count = seconds + time.process_time() - start, count + grown.best_iteration
    return seconds, f"{count}"


if __name__ == "__main__":
    main()
