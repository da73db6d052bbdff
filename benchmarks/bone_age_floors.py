"""The least errors anybody can reach on the phantom hands, from their latents alone: nothing is drawn.

    python benchmarks/bone_age_floors.py --hands 4000        (10 seconds of processor time)

Each line is a mean absolute error in months: of the label's conditional median, given what the line says is known.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import gaussian_kde, norm

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from phantoms.bone_age import law

MEAN_ABSOLUTE = (2 / np.pi) ** 0.5
"""Of a standard normal deviate."""


def draw_latents(hands: int, seed: int) -> pd.DataFrame:
    """``male``, ``read`` (months that the bones show), a column a region, ``length`` (mm) and ``robust`` of each hand."""
    people = [law.draw_person(np.random.default_rng((seed, number))) for number in range(hands)]
    return pd.DataFrame([{"male": person.male, "read": law.read_age(person), **law.region_ages(person),
                          "length": person.length, "robust": person.robust} for person in people])


def snapped(table: pd.DataFrame) -> pd.Series:
    """The training labels' floor by sex."""
    found = {}
    for male, group in table.groupby("male"):
        age = group["read"].to_numpy()
        chances = law.probabilities(age, int(male))
        found[male] = law.expected_error(chances, law.best_prediction(age, int(male), test=False)).mean()
    return pd.Series(found)


def region_alone(table: pd.DataFrame, region: str) -> float:
    """One unsnapped reading, when one region is seen and the sex is known: what the others add is noise."""
    rest = [group["read"] - np.polyval(np.polyfit(group[region], group["read"], 1), group[region])
            for _, group in table.groupby("male")]
    return float(MEAN_ABSOLUTE * np.sqrt(law.SIGMA**2 + pd.concat(rest).var()))


def chance_of_boy(table: pd.DataFrame) -> np.ndarray:
    """P(male | maturity, size, robustness) of each hand, by the law of the latents and a kernel density of maturity."""
    maturity = np.where(table["male"] == 1, table["read"], law.mature(table["read"].to_numpy(), 0))
    logs = []
    for male in (0, 1):
        mean, spread = law.HAND_LENGTH[male]
        grown = mean * np.interp(maturity, law.LENGTH_MATURITY, law.LENGTH_SHARE)
        own = (table["male"] == male).to_numpy()
        logs.append(np.log(own.mean() * gaussian_kde(maturity[own])(maturity) + 1e-12)
                    + norm.logpdf(np.log(table["length"] / grown), 0, spread)
                    + norm.logpdf(table["robust"], 1 + law.ROBUST[0] * (male - 0.5), law.ROBUST[1]))
    return 1 / (1 + np.exp(logs[0] - logs[1]))


def sex_unknown(table: pd.DataFrame, boy: np.ndarray) -> float:
    """The training labels' floor, when the sex has to be guessed from the hand."""
    maturity = np.where(table["male"] == 1, table["read"], law.mature(table["read"].to_numpy(), 0))
    chances = (boy[:, None] * law.probabilities(maturity, 1)
               + (1 - boy[:, None]) * law.probabilities(law.aged(maturity, 0), 0))
    median = law.MONTHS[(np.cumsum(chances, axis=1) < 0.5).sum(1).clip(max=len(law.MONTHS) - 1)]
    return float(law.expected_error(chances, median.astype(float)).mean())


def six_readers(table: pd.DataFrame, seed: int) -> float:
    """The test labels' floor, by drawing them."""
    rng = np.random.default_rng(seed)
    return float(np.mean([abs(law.draw_label(rng, age, male, test=True) - age)
                          for age, male in zip(table["read"], table["male"]) for _ in range(4)]))


def constant(table: pd.DataFrame, seed: int) -> float:
    """Error of the training labels' median."""
    rng = np.random.default_rng(seed)
    labels = np.array([law.draw_label(rng, age, male, test=False) for age, male in zip(table["read"], table["male"])])
    return float(np.abs(labels - np.median(labels)).mean())


def floors(hands: int, seed: int) -> dict[str, float]:
    """All of them, by name."""
    table = draw_latents(hands, seed)
    by_sex, boy = snapped(table), chance_of_boy(table)
    return {
        "single reader, no snap": MEAN_ABSOLUTE * law.SIGMA, "single reader, boys": by_sex[1],
        "single reader, girls": by_sex[0],
        "single reader, sex unknown": sex_unknown(table, boy), "six readers": six_readers(table, seed),
        **{f"no snap, {region} alone": region_alone(table, region) for region in law.REGIONS},
        "constant median": constant(table, seed),
        "(share of sexes guessed right)": float(((boy > 0.5) == (table["male"] == 1)).mean()),
    }  # fmt: skip


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, value in floors(args.hands, args.seed).items():
        print(f"{name:32s}{value:7.2f}")


if __name__ == "__main__":
    main()
