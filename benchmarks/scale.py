"""Tables of a million rows and more: seconds and memory of each step, and the power of the rows that both grow with.

    python benchmarks/scale.py                                # 0.1, 0.3 and 1 million rows: three minutes, 1.5 GB
    python benchmarks/scale.py --rows 1e6 3e6 1e7 --gb 16     # up to ten times RSNA 2019: half an hour
    python benchmarks/scale.py --rows 1e6 --profile weights   # where the seconds of the steps so called go

Tables are drawn as in ``tabular_scale.py``: 40 slices a patient, six labels, members whose errors are correlated. Each step
runs in a process of its own, on one core: its CPU seconds, and the peak memory of the process, which holds what the step
reads; "nan" where it would take more than ``--gb``. The power is that between the two largest sizes: with smaller ones what
a step costs in any case bends the line. 1 is as it should be; more than 1.1 is not.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tabular_scale import TASK, TEST, TRAIN, draw

from radstack.core.artifact import Artifact, Lesson, Part, split_digests
from radstack.core.files import read_table, write_table
from radstack.core.folds import check_folds, fold_hash, fold_of, make_folds
from radstack.recipes.baseline import PLACE, SLICES, Baseline
from radstack.recipes.stacker import Stacker
from radstack.scoring.metrics import sigmoid
from radstack.scoring.task import score_rows
from radstack.stack.baseline import baseline_table
from radstack.stack.nested import fit_stack
from radstack.stack.predictions import fold_files, prediction_table, read_member
from radstack.stack.rows import Member, join, mean_over_folds
from radstack.submission.forms import validate, write_predictions

MEMBERS, FOLDS, TARGETS = ("m0", "m1", "m2"), range(5), list(TASK.targets)
METHODS = ("mean", "weights", "climb", "smooth", "calibrate")
Work = Callable[[], Any]


def main() -> None:
    """Run all steps of all sizes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 3e5, 1e6], help="of train and test together")
    parser.add_argument("--gb", type=float, default=8, help="most memory of a step, which fails where it needs more")
    parser.add_argument("--profile", default="", metavar="WORDS", help="profile the steps whose names hold these words")
    parser.add_argument("--step", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)  # of a process of its own
    options = parser.parse_args()
    sizes = [round(size) for size in options.rows]
    if options.step:
        name, folder = options.step
        limit = round(options.gb * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        print(json.dumps(measured(name, folder, sizes[0], options.profile)))
        return
    took = [every_step(size, ["--profile", options.profile, "--gb", str(options.gb)]) for size in sizes]
    print(f"| step | {' | '.join(f'{size / 1e6:g} M rows, CPU s | GB' for size in sizes)} | power, s | power, GB |")
    print(f"|---|{'---:|' * (2 * len(sizes) + 2)}")
    bare = took[0]["start"][1]
    for name in [name for name in took[0] if name not in ("start", "draw")]:
        seconds, memory = np.array([one[name] for one in took]).T
        cells = " | ".join(f"{one:.2f} | {gb:.2f}" for one, gb in zip(seconds, memory))
        print(f"| {name} | {cells} | {power(sizes, seconds):.2f} | {power(sizes, memory - bare):.2f} |")


def power(sizes: list[int], values: np.ndarray) -> float:
    """Slope of the logarithm of ``values`` over that of the last two ``sizes``; NaN where there is too little of either."""
    if len(sizes) < 2 or not values[-2:].min() > 0.01:
        return float("nan")
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def every_step(rows: int, options: list[str]) -> dict[str, tuple[float, float]]:
    """Step -> CPU seconds and peak GB."""
    took = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            took[name] = apart(["--step", name, folder, "--rows", str(rows), *options])
            print(f"{rows:,} rows, {name}: {took[name][0]:.2f} CPU s, {took[name][1]:.2f} GB", file=sys.stderr, flush=True)
    return took


def apart(words: list[str]) -> tuple[float, float]:
    """What :func:`measured` says in a process of its own, on one core; NaN where it has too little memory."""
    alone = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, env=alone)
    if done.returncode:
        if "MemoryError" in done.stderr:
            return float("nan"), float("nan")
        raise RuntimeError(done.stderr)
    *said, last = done.stdout.splitlines()
    if "ncalls" in done.stdout:
        print(*said, sep="\n")
    seconds, memory = json.loads(last)
    return seconds, memory


def measured(name: str, folder: str, rows: int, words: str) -> tuple[float, float]:
    """CPU seconds of a step, without what it starts from, and the peak memory of this process in GB."""
    work, profile = STEPS[name](Path(folder), rows), cProfile.Profile()
    before = cpu()
    if words and words in name:
        profile.runcall(work)
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)
    else:
        work()
    return cpu() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cpu() -> float:
    """CPU seconds of this process up to now, those of the kernel included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def draw_all(folder: Path, rows: int) -> Work:
    """Draw the index and what each member says of every row; all later steps start from these files."""
    rng = np.random.default_rng(0)
    index, logits = draw(rows / (TRAIN + TEST), rng)
    index["path"] = "pictures/" + index["id"] + ".dcm"
    index.to_parquet(folder / "drawn.parquet", index=False)
    for number, name in enumerate(MEMBERS):
        noise = rng.standard_normal(logits.shape, np.float32)
        np.save(folder / f"{name}.npy", sigmoid(logits + np.float32(1 + number / 20) * noise))
    return lambda: None


def drawn(folder: Path) -> pd.DataFrame:
    """The index as it was drawn."""
    return pd.read_parquet(folder / "drawn.parquet")


def train_of(folder: Path) -> pd.DataFrame:
    """Its training rows."""
    index = drawn(folder)
    return index[index["split"] == "train"].reset_index(drop=True)


def write_index(folder: Path, rows: int) -> Work:
    """The index and its manifest with the digests of both splits, as stage 01 leaves them."""
    index, file = drawn(folder), folder / "index.parquet"

    def work() -> None:
        write_table(file, index)
        Artifact("01_make_folds", 4, (file,), {}).record(0.0, splits=split_digests(index))

    return work


def deal_folds(folder: Path, rows: int) -> Work:
    """Patients into folds, and the table on disk."""
    train = train_of(folder)
    return lambda: write_table(folder / "folds.csv", make_folds(train["group"], train[TARGETS], len(FOLDS), 0))


def folds_of(folder: Path) -> pd.DataFrame:
    """The fold table."""
    return read_table(folder / "folds.csv")


def check_leaks(folder: Path, rows: int) -> Work:
    """No patient in two folds, each row in one."""
    index, folds = drawn(folder), folds_of(folder)
    return lambda: (check_folds(folds, index, TARGETS), fold_of(index, folds))


def digest_lesson(folder: Path, rows: int) -> Work:
    """What the networks of two folds learn from, as a key of stage 04."""
    parts = [Part(folder / "index.parquet", "train", Lesson(TASK.targets, TASK.targets, "", folder / "folds.csv", fold))
             for fold in (0, 1)]
    return lambda: [part.digest() for part in parts]


def write_members(folder: Path, rows: int) -> Work:
    """Out-of-fold and test tables of every fold with their manifests."""
    index, folds = drawn(folder), folds_of(folder)
    fold, ids, key = fold_of(index, folds).to_numpy(), index["id"].to_numpy(), fold_hash(folds)
    said = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in MEMBERS}

    def work() -> None:
        for name, number in [(name, number) for name in MEMBERS for number in FOLDS]:
            files = fold_files(folder / name, number)
            for file, own, chosen in ((files[0], number, fold == number), (files[1], -1, fold < 0)):
                write_table(file, prediction_table(ids[chosen], own, said[name][chosen], TASK.targets))
            Artifact("05_predict", 1, files, {}).record(0.0, fold_hash=key)

    return work


def members_of(folder: Path, tests: bool = True) -> dict[str, Member]:
    """The tables of every member."""
    return {name: read_member(folder / name, [*FOLDS], tests) for name in MEMBERS}


def align(folder: Path, rows: int) -> Work:
    """Members' rows brought into the order of the index."""
    members, index, folds = members_of(folder), drawn(folder), folds_of(folder)
    return lambda: join(members, index, folds, TASK)


def stack(folder: Path, rows: int, method: str) -> Work:
    """A stack out of fold, as stage 07 fits it."""
    members, index, folds = members_of(folder, tests=False), train_of(folder), folds_of(folder)
    return lambda: fit_stack(Stacker(method, method, MEMBERS), members, index, folds, TASK, rivals=())


def fit_baselines(folder: Path, rows: int) -> Work:
    """What slice position and the number of slices say."""
    index, folds = drawn(folder), folds_of(folder)
    fold = fold_of(index, folds).to_numpy()
    both = Baseline("position", (PLACE,), parts=12), Baseline("series", (SLICES,), parts=4)
    return lambda: [baseline_table(one, index, fold, TASK) for one in both]


def score(folder: Path, rows: int) -> Work:
    """The score table with its intervals."""
    models, train = {name: member.oof for name, member in members_of(folder, tests=False).items()}, train_of(folder)
    constant = TASK.metric.constant(train[TARGETS])
    return lambda: score_rows("out of fold", models, train, constant, None, TASK)


def sample(folder: Path) -> pd.DataFrame:
    """What is submitted; the organizer's file is written beside it."""
    test = mean_over_folds(read_member(folder / MEMBERS[0], [*FOLDS]).test, TASK.targets)
    names = np.stack([test["id"] + f"_{target}" for target in TARGETS], axis=1).reshape(-1)
    pd.DataFrame({"ID": names, "Label": 0.5}).to_csv(folder / "sample.csv", index=False)
    return test


def submit(folder: Path, rows: int) -> Work:
    """The submission; a hundred pictures have no prediction."""
    test = sample(folder)
    return lambda: write_predictions(folder / "out.csv", test.iloc[100:], folder / "sample.csv", TASK.targets)


STEPS: dict[str, Callable[[Path, int], Work]] = {
    "start": lambda folder, rows: lambda: None,
    "draw": draw_all,
    "write the index": write_index,
    "read the index": lambda folder, rows: partial(read_table, folder / "index.parquet"),
    "deal folds": deal_folds,
    "check folds for leaks": check_leaks,
    "key of two trainings": digest_lesson,
    "write predictions": write_members,
    "read predictions": lambda folder, rows: partial(members_of, folder),
    "align predictions": align,
    **{f"level two: {method}": partial(stack, method=method) for method in METHODS},
    "baselines": fit_baselines,
    "score table with intervals": score,
    "write the submission": submit,
    "check the submission": lambda folder, rows: partial(validate, folder / "out.csv", folder / "sample.csv")}
"""In the order in which they need each other's files; from the folder and the number of rows each makes what is measured."""


if __name__ == "__main__":
    main()
