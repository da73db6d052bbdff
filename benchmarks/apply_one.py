"""How long one head CT of 36 slices takes from the command to its answer, with the networks of the demo, start included.

    bash run_all.sh ich --demo && python benchmarks/apply_one.py       # on a quiet machine; some seconds a turn
    python benchmarks/apply_one.py --bundle bundles/ich-demo           # by a bundle

Slices are those of a test series of the demo, repeated under other ids and positions up to 36. The turns are processes of
their own; the first one may read packages from the disk. At most 15 s on two cores is what a reader is promised.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pydicom

ROOT = Path(__file__).resolve().parents[1]
SLICES = 36


def main() -> None:
    """Write the series, answer it some times, print the seconds of each turn and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle to answer with; the repository unless given")
    parser.add_argument("--home", type=Path, default=ROOT, help="folder that holds input/, folds/ and weights/ of the demo")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    here = ["--demo", "--out-dir", str(options.home)]
    program = [str(options.bundle / "predict.py")] if options.bundle else [str(ROOT / "src/apply.py"), "ich", *here]
    with tempfile.TemporaryDirectory() as folder:
        place, spent = Path(folder), []
        write_series(options.home, place / "in")
        for _ in range(options.turns):
            start = time.monotonic()
            subprocess.run([sys.executable, *program, str(place / "in"), str(place / "out.csv")], check=True,
                           stdout=subprocess.DEVNULL)
            spent.append(time.monotonic() - start)
            print(f"{spent[-1]:.1f} s", flush=True)
        rows = len(pd.read_csv(place / "out.csv"))
    print(f"{SLICES} slices, {rows} answers, median of {options.turns} turns: {sorted(spent)[len(spent) // 2]:.1f} s")


def write_series(home: Path, folder: Path) -> None:
    """``SLICES`` slices of the longest test series of the demo, repeated where it has fewer."""
    index = pd.read_parquet(home / "folds/ich-demo/index.parquet")
    test = index[index["split"] == "test"]
    rows = test[test["series"] == test["series"].value_counts().index[0]].sort_values("position")
    folder.mkdir()
    for place in range(SLICES):
        one = pydicom.dcmread(home / "input/ich-demo" / rows["path"].iloc[place % len(rows)])
        one.SOPInstanceUID = f"ID_{place:09d}"
        one.ImagePositionPatient = [*one.ImagePositionPatient[:2], 5.0 * place]
        one.save_as(folder / f"{one.SOPInstanceUID}.dcm")


if __name__ == "__main__":
    main()
