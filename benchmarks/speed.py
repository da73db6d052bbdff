"""What this library does and what is used instead, in turn in one run: seconds of each, and their ratio.

    python benchmarks/speed.py                              # all rows, at the size of RSNA 2019: some minutes
    python benchmarks/speed.py --only intervals --rounds 5
    python benchmarks/speed.py --scale 0.01                 # a hundredth of the rows

The least CPU seconds (children's and the kernel's included) of the rounds count: other work disturbs them less than the
clock. The results of both are compared first. Set OMP_NUM_THREADS=1 where the cores are shared. Prints a markdown table.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tabular_scale import TRAIN, draw_split

from radstack.scoring.intervals import group_sums, interval, intervals

MODELS = 20


class Row(NamedTuple):
    """One line of the table."""

    work: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    by: str  # What the peer is
    alike: Callable[[Any, Any], bool]  # Whether the two results are the same within rounding


def intervals_of_models(scale: float) -> Iterator[Row]:
    """95 % intervals over patients of the mean losses of 20 models."""
    rng, rows = np.random.default_rng(0), draw_split("train", TRAIN, scale, np.random.default_rng(0))
    group, losses = rows["group"], rng.exponential(0.1, (MODELS, len(rows)))

    def ours() -> np.ndarray:
        codes = pd.factorize(group)[0]
        return np.array([(one.low, one.high) for one in intervals([group_sums(loss, codes) for loss in losses])])

    def one_by_one() -> np.ndarray:
        return np.array([(one.low, one.high) for one in (interval(loss, group) for loss in losses)])

    work = f"intervals of {MODELS} models, {len(rows):,} rows, {group.nunique():,} patients"
    yield Row(work, ours, lambda: scipy_intervals(losses, group),
              "pandas sums by patient, scipy.stats.bootstrap", lambda own, other: np.allclose(own, other, rtol=0.01))
    yield Row(work, ours, one_by_one, "the same, model by model", np.array_equal)


def scipy_intervals(losses: np.ndarray, group: pd.Series) -> np.ndarray:
    """Percentile intervals of as many draws, [models, 2]; other random numbers."""
    from scipy.stats import bootstrap

    found = []
    for loss in losses:
        sums = pd.DataFrame({"loss": loss, "rows": 1.0}).groupby(group.to_numpy(), sort=False).sum()
        made = bootstrap((sums["loss"].to_numpy(), sums["rows"].to_numpy()), lambda x, y, axis: x.sum(axis) / y.sum(axis),
                         paired=True, vectorized=True, n_resamples=1000, batch=50, method="percentile", rng=0)
        found.append(made.confidence_interval)
    return np.array(found)


def starts(scale: float) -> Iterator[Row]:
    """What a stage needs before it looks for something to do: its imports and the recipes."""
    code = ("import sys; sys.path.insert(0, 'src'); from competitions import load; load('ich', demo=True); "
            "import radstack.running.cli; ")
    stages = ("folds", "localize", "cache", "train", "predict", "sequence", "stack", "submit")
    yield Row(f"start of {len(stages)} stages", lambda: [_python(f"{code}import radstack.stages.{one}") for one in stages],
              lambda: [_python("import pandas") for _ in stages], "import pandas, as often", lambda own, other: True)


def _python(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[1]).returncode


ROWS: dict[str, Callable[[float], Iterator[Row]]] = {"intervals": intervals_of_models, "start": starts}


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def seconds_of(work: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = cpu_seconds()
    work()
    return cpu_seconds() - start


def main() -> None:
    """Compare, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| work | ours, CPU s | instead | CPU s | ours / instead |\n|---|---:|---|---:|---:|")
    for name in options.only:
        for row in ROWS[name](options.scale):
            assert row.alike(row.ours(), row.peer()), f"{row.work}: {row.by} gives another result"
            own, other = np.min([(seconds_of(row.ours), seconds_of(row.peer)) for _ in range(options.rounds)], axis=0)
            print(f"| {row.work} | {own:.3g} | {row.by} | {other:.3g} | {own / other:.3g} |", flush=True)


if __name__ == "__main__":
    main()
