"""A demo's solution meets another test set of the same law: what is made again, and how well does it answer?

    bash run_all.sh ich --demo --demo-size 120
    python benchmarks/new_test_set.py ich --size 120

The made demo is copied (as links), phantoms of another seed take the place of its test pictures, and stages 01 to 09 run.
Nothing that was learned may be made again: folds, weights, out-of-fold tables and fits of level two keep their bytes. The
score on the new test set is printed beside the interval of the first.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from competitions import load
from phantoms.archive import TRUTH
from radstack.core.files import sha256
from radstack.scoring.intervals import interval

STAGES = ("01_make_folds", "02_localize", "03_cache", "04_train", "05_predict", "06_sequence", "07_stack", "08_submit",
          "09_report")
FITTED = re.compile(r"folds\.csv|weights/.*(safetensors|txt|_state\.json)|oof/.*/fold\d+(_embeddings)?\.(parquet|npy)")
"""What is learned, or says how well: below ``folds/``, ``weights/`` and ``oof/``."""


def main() -> None:
    """Copy, swap, run, compare; exit status 1 where something learned was made again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("competition", choices=list(SWAPS))
    parser.add_argument("--size", type=int, required=True, help="of the demo, as --demo-size")
    parser.add_argument("--seed", type=int, default=1, help="of the new phantoms")
    options = parser.parse_args()
    name = f"{options.competition}-demo"
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        home, other = Path(folder) / "home", Path(folder) / "other"
        for part in ("input", "folds", "cache", "weights", "oof", "submissions", "reports"):
            shutil.copytree(Path(part) / name, home / part / name, copy_function=os.link)
            for beside in Path(part).glob(f"{name}.*"):
                os.link(beside, home / part / beside.name)
        drawn = load(options.competition, demo=True).phantoms
        assert drawn
        draw: Any = drawn.draw  # that of these four takes a seed
        draw(other, series=options.size, workers=2, seed=options.seed)
        before, first = fitted(home, name), scores(home, name)
        SWAPS[options.competition](home / "input" / name, other)
        # The report measures the masks of knees by drawing each again, by its place in the truth: not of two seeds at once.
        knees = options.competition == "knee_age"
        for stage in STAGES[:-1] if knees else STAGES:
            command = [sys.executable, f"src/{stage}.py", options.competition, "--demo", "--data-dir", home,
                       "--out-dir", home]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after, then = fitted(home, name), ages(home, name) if knees else scores(home, name)
    made = [file for file in before | after if before.get(file) != after.get(file)]
    print(f"{options.competition}: {len(before)} learned files, {len(made)} of them made again", *made[:5])
    for which, score in (("first", first), ("new", then)):
        print(f"  {which} test set {score['score']:.4f} [{score['low']:.4f}, {score['high']:.4f}]")
    sys.exit(1 if made else 0)


def fitted(home: Path, name: str) -> dict[str, str]:
    """Each learned file of the demo, with the digest of its bytes."""
    files = (file for part in ("folds", "weights", "oof") for file in (home / part / name).rglob("*") if file.is_file())
    return {str(file.relative_to(home)): sha256(file) for file in files if FITTED.fullmatch(str(file.relative_to(home)))
            or file.name == "folds.csv"}


def scores(home: Path, name: str) -> pd.Series:
    """The row of the final model on test."""
    table = pd.read_csv(home / "reports" / name / "scores.csv")
    return table[(table["model"] == "final") & (table["split"] == "test")].iloc[0]


def ages(home: Path, name: str) -> pd.Series:
    """Mean absolute error of the submitted ages, its interval over men."""
    key = ["subject", "visit"]
    said = pd.read_csv(home / "submissions" / name / "final.csv", dtype=dict.fromkeys(key, str))
    truth = pd.DataFrame(dict(np.load(home / "input" / name / TRUTH))).astype(dict.fromkeys(key, str))
    rows = said.merge(truth, on=key, suffixes=("", "_true"))
    found = interval((rows["age_years"] - rows["age_years_true"]).abs().to_numpy(), rows["subject"].to_numpy())
    return pd.Series({"score": found.value, "low": found.low, "high": found.high})


def folders(*names: str) -> Callable[[Path, Path], None]:
    """Test pictures and their list lie apart from those of training: put the new ones in their place."""
    def swap(old: Path, new: Path) -> None:
        for name in names:
            remove(old / name)
            (new / name).rename(old / name)
        join_truth(old, new, lambda table: np.ones(len(table["split"]), bool))
    return swap


def swap_knees(old: Path, new: Path) -> None:
    """Volumes by the list of all; a new subject that bears the name of a training subject is left out."""
    key = ["subject", "visit"]
    tables = {place: pd.read_csv(place / "volumes.csv", dtype=str) for place in (old, new)}
    samples = {place: pd.read_csv(place / "sample_submission.csv", dtype=str) for place in (old, new)}
    is_test = {place: pd.MultiIndex.from_frame(tables[place][key]).isin(pd.MultiIndex.from_frame(samples[place][key]))
               for place in (old, new)}
    train = tables[old][~is_test[old]]
    taken = tables[new][is_test[new] & ~tables[new]["subject"].isin(train["subject"])]
    for file in tables[old].loc[is_test[old], "file"]:
        for part in (old / file).parent.glob(f"{Path(file).stem}*"):
            remove(part)
    for file in taken["file"]:
        (old / file).parent.mkdir(parents=True, exist_ok=True)
        for part in (new / file).parent.glob(f"{Path(file).stem}*"):
            part.rename((old / file).parent / part.name)
    write(pd.concat([train, taken]), old / "volumes.csv")
    write(samples[new][samples[new]["subject"].isin(taken["subject"])], old / "sample_submission.csv")
    join_truth(old, new, lambda table: np.isin(table["subject"], taken["subject"]))


def swap_forearms(old: Path, new: Path) -> None:
    """Pictures in one folder, by the list of test; a new one that bears the name of a training picture is left out."""
    samples = {place: pd.read_csv(place / "sample_submission.csv", dtype=str) for place in (old, new)}
    labels = pd.read_csv(old / "labels.csv", dtype=str)
    train = labels[~labels["file"].isin(samples[old]["file"])]
    taken = samples[new][~samples[new]["file"].isin(train["file"])]
    for file in samples[old]["file"]:
        remove(old / file)
    for file in taken["file"]:
        if (new / file).exists():
            (new / file).rename(old / file)
    write(train, old / "labels.csv")
    write(taken, old / "sample_submission.csv")
    join_truth(old, new, lambda table: np.isin(table["id"], taken["file"].map(lambda file: Path(file).stem)))


SWAPS = {"ich": folders("stage_2_test", "stage_2_sample_submission.csv"),
         "bone_age": folders("boneage-test-dataset", "boneage-test-dataset.csv"),
         "knee_age": swap_knees, "radius_ulna": swap_forearms}


def join_truth(old: Path, new: Path, taken: Callable[[dict[str, np.ndarray]], np.ndarray]) -> None:
    """The truth of the old training rows and of the ``taken`` new test rows; the report alone reads it."""
    mine, theirs = (dict[str, Any](np.load(place / TRUTH)) for place in (old, new))
    own, others = mine["split"] == "train", (theirs["split"] == "test") & taken(theirs)
    (old / TRUTH).unlink()
    joined: dict[str, Any] = {name: np.concatenate([mine[name][own], theirs[name][others]]) for name in mine}
    np.savez(old / TRUTH, **joined)


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(table: pd.DataFrame, file: Path) -> None:
    """In place of what is there, which may be a link to another folder's."""
    file.unlink()
    table.to_csv(file, index=False)


if __name__ == "__main__":
    main()
