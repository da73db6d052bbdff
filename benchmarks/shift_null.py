"""How often the shift report sees a shift where there is none, how small a one it finds, and what 750,000 rows take.

    python benchmarks/shift_null.py [--draws 60]

Both sets are drawn by one law: five facts of a series, some of them alike in all series of a patient. Two cores: 3 minutes.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from radstack.report.shift import WIDER, facts_of, shift

SIZES = ((160, 60, 1), (450, 150, 2))
"""Series of training, of the new set, and of one patient."""


def draw(rng: np.random.Generator, series: int, a_patient: int, name: str, moved: float = 0.0) -> pd.DataFrame:
    """Facts of ``series`` series; ``moved`` deviations are added to ``spacing_row``."""
    patient = np.arange(series) // a_patient
    own = rng.normal(size=patient.max() + 1)
    return pd.DataFrame({
        "group": [f"{name}{one}" for one in patient], "spacing_row": rng.normal(size=series) + own[patient] + moved,
        "columns": rng.choice([512.0, 512, 512, 480], series), "kernel": rng.choice(list("ABCD"), len(own))[patient],
        "slices": rng.integers(25, 40, series).astype(float), "tilt": own[patient]})


def main() -> None:
    """Print one line a size and shift, then the time of a large set."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--draws", type=int, default=60)
    draws = arguments.parse_args().draws
    for old, new, a_patient in SIZES:
        for moved in (0.0, 0.5, 1.0):
            found = [told.auc for rng in map(np.random.default_rng, range(draws))
                     if (told := shift(draw(rng, old, a_patient, "p"), draw(rng, new, a_patient, "q", moved)))]
            plain = [one.value + (one.low - one.value) / WIDER > 0.5 for one in found]
            above = sum(one.low > 0.5 for one in found)
            mean = np.mean([one.value for one in found])
            print(f"{old} and {new} series, {a_patient} a patient, moved {moved}: AUC {mean:.3f}; "
                  f"interval above .5 in {above} of {draws} (as wide as the bootstrap: {sum(plain)}), "
                  f"below in {sum(one.high < 0.5 for one in found)}", flush=True)
    rng = np.random.default_rng(0)
    sets = [draw(rng, series, 1, name).assign(series=np.arange(series)).loc[lambda table: table.index.repeat(35)]
            for series, name in ((19_500, "p"), (2_200, "q"))]
    start = time.process_time()
    shift(*map(facts_of, sets))
    print(f"{sum(map(len, sets)):,} rows: {time.process_time() - start:.1f} CPU seconds")


if __name__ == "__main__":
    main()
