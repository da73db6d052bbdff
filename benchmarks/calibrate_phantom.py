"""Measure the joint law of the phantoms: prevalence of each class and the score of the perfect predictor.

    python benchmarks/calibrate_phantom.py --series 80 --seed 79        (6 minutes of processor time)

Draws ``--series`` series of every scenario of law.py without writing them, weighs them by the scenario's share, and prints
the prevalences beside those of the real archive, the oracle for several label noises, and the
shares that would meet the prevalences exactly. Weighing scenarios instead of drawing them makes rare ones cost no more.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import lsq_linear

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from competitions.ich.labels import TARGETS
from phantoms.ich.law import NOISE, SCENARIOS, WEIGHTS, Noise, entropy, marked, with_any
from phantoms.ich.render import draw_series, draw_study

REAL = np.array([0.004, 0.048, 0.035, 0.048, 0.063, 0.144])
"""Shares of positive slices in the real archive, in the order of the classes."""
GRID = [(missed, invented) for missed in (0.03, 0.05, 0.08) for invented in (0.0008, 0.0012, 0.0016, 0.002)]
Measures = tuple[np.ndarray, np.ndarray]


def measure(size: int, seed: int, task: tuple[int, tuple[str, ...]]) -> Measures:
    """Area and contrast [n, 5] of one series that shows the findings of ``task``."""
    cv2.setNumThreads(1)
    number, findings = task
    drawn = draw_series(draw_study(seed, number, 0, findings), np.random.default_rng((seed, 4, number)), size)
    return drawn.area, drawn.contrast


def summarize(drawn: list[Measures], noise: Noise) -> np.ndarray:
    """Mean over series of the sums over slices: q of the six labels, the weighted entropy, the slices [8]."""
    sums = []
    for area, contrast in drawn:
        q = with_any(marked(area, contrast, noise))
        sums.append([*q.sum(0), (entropy(q) @ WEIGHTS).sum(), len(q)])
    return np.mean(sums, axis=0)


def mix(drawn: dict[str, list[Measures]], shares: dict[str, float], noise: Noise) -> np.ndarray:
    """Prevalence of the six labels and the oracle [7] when scenarios have these ``shares``, the rest free of blood."""
    blank = [(np.zeros_like(area), np.zeros_like(area)) for series in drawn.values() for area, _ in series]
    total = (1 - sum(shares.values())) * summarize(blank, noise)
    for name, share in shares.items():
        total = total + share * summarize(drawn[name], noise)
    return total[:7] / total[7]


def refit(drawn: dict[str, list[Measures]], shares: dict[str, float], noise: Noise) -> dict[str, float]:
    """The shares nearest to ``shares`` (relative change) that meet ``REAL``."""
    names = [name for name in shares if name not in ("chronic", "operated")]
    base = mix(drawn, {name: share for name, share in shares.items() if name not in names}, noise)
    slope = np.stack([(mix(drawn, {name: 0.1}, noise) - mix(drawn, {}, noise)) / 0.1 for name in names], axis=1)
    start = np.array([shares[name] for name in names])
    system = np.vstack([100 * slope[:6] * start / REAL[:, None], np.eye(len(names))])
    goal = np.concatenate([100 * (REAL - base[:6]) / REAL, np.ones(len(names))])
    factors = lsq_linear(system, goal, bounds=(0.2, 5)).x
    return dict(zip(names, start * factors))


def show(label: str, row: np.ndarray) -> None:
    """Print one line of percentages and the oracle."""
    oracle = f"   oracle {row[6]:.4f}" if len(row) > 6 else ""
    print(f"{label:28s}" + "".join(f"{100 * value:9.2f}" for value in row[:6]) + oracle)


def main() -> None:
    """Draw, weigh, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100, help="series of each scenario")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=77, help="another one gives an independent measurement")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    tasks = list(enumerate(findings for _, findings in SCENARIOS.values() for _ in range(args.series)))
    with ProcessPoolExecutor(args.workers) as pool:
        results = list(pool.map(partial(measure, args.size, args.seed), tasks, chunksize=8))
    drawn = {name: results[k * args.series:(k + 1) * args.series] for k, name in enumerate(SCENARIOS)}
    shares, noise = {name: share for name, (share, _) in SCENARIOS.items()}, NOISE["realistic"]
    print(f"{'':28s}" + "".join(f"{name[:8]:>9s}" for name in TARGETS))
    for name, series in drawn.items():
        row = summarize(series, noise)
        show(name, row[:6] / row[7])
    show("real archive", REAL)
    show("this law", mix(drawn, shares, noise))
    print("nearest shares:", {name: round(float(share), 4) for name, share in refit(drawn, shares, noise).items()})
    show("with these", mix(drawn, shares | refit(drawn, shares, noise), noise))
    for missed, invented in GRID:
        show(f"eta1 {missed} eta0 {invented}", mix(drawn, shares | refit(drawn, shares, noise), Noise(missed, invented)))


if __name__ == "__main__":
    main()
