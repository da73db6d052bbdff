"""The least possible error of an age read off the phantom knees, by simulation.

    python benchmarks/knee_age_floors.py                                     # 400,000 men a row, 10 s of processor time
    python benchmarks/knee_age_floors.py --folder input/knee_age-demo        # also of the volumes drawn there

Prints, for each spread tau of the men's tempo, the mean absolute error of the best possible prediction from all signs of
maturity, from the front of closure alone, and of the constant, beside earlier figures. The first uses the
closed form that ``read_truth`` gives as ``q_age_years``; the second has none and takes medians within narrow bins.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from phantoms.knee_age import oracle, read_truth
from phantoms.knee_age.law import (
    BONES,
    CLOSED,
    CLOSING_FROM,
    MEAN,
    OFFSET,
    OLDEST,
    SCATTER,
    SPREAD,
    YOUNGEST,
    best_age,
)

EXPECTED = {0.5: (0.401, 0.466), 0.6: (0.460, 0.519), 0.62: (0.470, 0.528), 0.65: (0.488, 0.544), 0.8: (0.567, 0.617),
             1.0: (0.659, 0.701)}  # fmt: skip
"""Noise of a man's tempo -> floors in years that the formulas gave before: of all signs, of the front alone."""
TAUS = (0.5, 0.6, 0.62, 0.63, 0.65, 0.8, 1.0)
MEN_IN_A_BIN = 400


def draw_men(men: int, tau: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ages [men] in years and maturities S_b [men, 3], one visit each."""
    age = MEAN + SPREAD * rng.standard_normal(2 * men)
    age = age[(age >= YOUNGEST) & (age <= OLDEST)][:men, None]
    tempo = tau * rng.standard_normal(age.shape)
    return age[:, 0], age + tempo + OFFSET + SCATTER * rng.standard_normal((len(age), len(BONES)))


def binned_floor(age: np.ndarray, sign: np.ndarray) -> float:
    """Mean absolute error in years of the median age among men of nearly the same ``sign``, both [men]; ties share a bin."""
    rank = pd.Series(sign).rank(method="min").to_numpy()
    bins = pd.Series(age).groupby((rank // MEN_IN_A_BIN).astype(int))
    return float((age - bins.transform("median")).abs().mean())


def floors(men: int, tau: float, seed: int) -> tuple[float, float, float]:
    """Least errors in years: all signs, front alone, constant."""
    age, maturity = draw_men(men, tau, np.random.default_rng(seed))
    everything = float(np.abs(age - best_age(maturity.mean(1), tau)).mean())
    front = binned_floor(age, np.clip(maturity, CLOSING_FROM, CLOSED).mean(1))
    return everything, front, float(np.abs(age - np.median(age)).mean())


def show_drawn(folder: Path) -> None:
    """Print floor and constant of the volumes drawn below ``folder``."""
    truth = read_truth(folder)
    for split in ("train", "test"):
        found = oracle(truth, split)
        print(f"{split:5s} {found['n']:4.0f} volumes: floor {found['floor']:.3f} (SE {found['floor_se']:.3f}), "
              f"constant {found['constant']:.3f} (SE {found['constant_se']:.3f})")


def main() -> None:
    """Simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--men", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="an archive of phantoms")
    args = parser.parse_args()
    print("| tau | floor, all signs | expected | floor, front alone | expected | constant |\n|---|---|---|---|---|---|")
    for tau in TAUS:
        found = floors(args.men, tau, args.seed)
        told = [f"{value:.3f}" for value in EXPECTED.get(tau, ())] or ["", ""]
        print(f"| {tau:.2f} | {found[0]:.3f} | {told[0]} | {found[1]:.3f} | {told[1]} | {found[2]:.3f} |")
    if args.folder:
        show_drawn(args.folder)


if __name__ == "__main__":
    main()
