"""The best possible accuracy on the phantom wrists, by simulation.

    python benchmarks/radius_ulna_ceilings.py                                     # 200,000 wrists a figure
    python benchmarks/radius_ulna_ceilings.py --folder input/radius_ulna-demo     # also of the pictures drawn there

A rater names the stage of maturity + error, SD sigma in stages; who knows the maturity exactly, and thus P(class), is right
in E max P of cases. Prints that for radius and ulna, phases and single grades, maturity uniform within a class and classes
balanced, beside earlier figures.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from competitions.radius_ulna.phases import LEARNED, LEARNED_PHASES, PHASES
from phantoms.radius_ulna import read_truth
from phantoms.radius_ulna.law import NOISE, ceilings, phase_probabilities, stage_probabilities

EXPECTED = {0.08: (96.9, 97.9, 94.6, 94.7), 0.10: (96.1, 97.4, 93.2, 93.4), 0.12: (95.3, 96.9, 91.8, 92.1),
             0.15: (94.1, 96.1, 89.8, 90.1), 0.19: (92.5, 95.0, 87.1, 87.4), 0.25: (90.1, 93.4, 83.0, 83.4),
             0.33: (86.9, 91.3, 77.5, 78.1)}  # fmt: skip
"""Noise -> ceilings in percent that were worked out before: radius phases, ulna phases, radius grades, ulna grades."""


def draw_maturity(bone: str, wrists: int, graded: bool, rng: np.random.Generator) -> np.ndarray:
    """Maturities [wrists] uniform within a phase (or grade) that is drawn uniformly."""
    learned = LEARNED[bone]
    classes = [(stage,) for stage in learned] if graded else [PHASES[bone][phase] for phase in LEARNED_PHASES[bone]]
    edges = np.array([(max(stages[0], learned[0]), stages[-1] + 1) for stages in classes if stages[-1] >= learned[0]])
    low, high = edges[rng.integers(len(edges), size=wrists)].T
    return rng.uniform(low, high)


def ceiling(bone: str, sigma: float, graded: bool, wrists: int, rng: np.random.Generator) -> float:
    """Best possible accuracy in percent."""
    chances = stage_probabilities(draw_maturity(bone, wrists, graded, rng), bone, sigma)
    return 100 * float((chances if graded else phase_probabilities(chances, bone)).max(1).mean())


def row(sigma: float, wrists: int, seed: int) -> tuple[float, ...]:
    """Ceilings in percent for one ``sigma``, in the order of ``EXPECTED``."""
    rng = np.random.default_rng(seed)
    return tuple(ceiling(bone, sigma, graded, wrists, rng) for graded in (False, True) for bone in ("radius", "ulna"))


def main() -> None:
    """Simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrists", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="an archive of phantoms")
    args = parser.parse_args()
    titles = [f"{bone} {classes} | expected" for classes in ("phases", "grades") for bone in LEARNED]
    print(" | ".join(["| sigma", *titles]) + " |\n" + "|---" * 9 + "|")
    for sigma in sorted({*EXPECTED, *(sigma for bones in NOISE.values() for sigma in bones.values())}):
        told = [f"{value:.1f}" for value in EXPECTED.get(sigma, ())] or [""] * 4
        pairs = zip((f"{value:.1f}" for value in row(sigma, args.wrists, args.seed)), told)
        print(f"| {sigma:.2f} | " + " | ".join(cell for pair in pairs for cell in pair) + " |")
    for split in ("train", "test") if args.folder else ():
        found = {bone: f"{value:.1%}" for bone, value in ceilings(read_truth(args.folder), split).items()}
        print(f"{split}: {found}")


if __name__ == "__main__":
    main()
