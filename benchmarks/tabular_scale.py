"""Folds, stacks and the submission at the size of RSNA 2019: 752,803 training and 121,232 test slices, ten members.

    python benchmarks/tabular_scale.py                # full size: about half an hour on two idle cores, 3 GB
    python benchmarks/tabular_scale.py --scale 0.1    # a tenth

LightGBM's threads wait for each other: with other work on the cores, OMP_NUM_THREADS=1 is several times faster.

Draws a table with the real prevalences, patients and series lengths, and members whose errors are correlated; prints
seconds, peak memory so far and the nested score of each step as a markdown table.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy.optimize import brentq

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from radstack.core.errors import LeakError
from radstack.core.folds import check_folds, fold_hash, fold_of, make_folds
from radstack.recipes.stacker import Stacker
from radstack.scoring.metrics import logit, sigmoid, weighted_log_loss
from radstack.scoring.task import Metric, Task
from radstack.stack.nested import fit_stack
from radstack.stack.rows import Member, mean_over_folds
from radstack.submission.forms import validate, write_predictions

TASK = Task(("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any"),
            Metric("weighted log loss", (1, 1, 1, 1, 1, 2)))
POSITIVES = np.array([3145, 36118, 26205, 35675, 47166]) / 752803
TRAIN, TEST, SERIES, SERIES_A_PATIENT = 752_803, 121_232, 21_744, 1.15
T = TypeVar("T")


def main() -> None:
    """Run all steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=300, help="most trees a class and fold")
    options = parser.parse_args()
    print("| step | seconds | peak GB so far | result |\n|---|---|---|---|")
    rng = np.random.default_rng(0)
    index, logits = timed("draw the table", lambda: draw(options.scale, rng), lambda made: f"{len(made[0]):,} rows")
    known = index[index["split"] == "train"]
    folds = timed("folds by patient, checked", lambda: deal(known), lambda made: f"{len(made):,} patients")
    members = timed(f"draw {options.members} members", lambda: draw_members(index, folds, logits, options.members, rng))
    truth = known[list(TASK.targets)].to_numpy()
    prior = weighted_log_loss(truth, np.broadcast_to(truth.mean(0), truth.shape), TASK.metric.weights)
    print(f"| constant prior | | | {prior:.5f} |")
    stacks: dict[str, dict[str, object]] = {"mean": {}, "weights": {}, "climb": {}, "calibrate": {}, "smooth": {},
              "lightgbm": {"rounds": options.rounds}}
    for method, args in stacks.items():
        recipe = Stacker(method, method, tuple(members), args)
        result = timed(f"stack: {method}", partial(fit_stack, recipe, members, index, folds, TASK),
                       lambda made: f"{made.score}; gain over the best member {made.gain}")
    test = mean_over_folds(result.member.test, TASK.targets)
    with tempfile.TemporaryDirectory() as folder:
        submit(Path(folder), test)
    timed("refuse a member of other folds", lambda: refuse(members, index, folds), str)


def timed(step: str, work: Callable[[], T], say: Callable[[T], str] = lambda _: "") -> T:
    """Run ``work`` and print its row of the table."""
    start = time.perf_counter()
    made = work()
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {step} | {seconds:.1f} | {peak:.2f} | {say(made)} |", flush=True)
    return made


def draw(scale: float, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """The index table and the true logits [rows, targets]; half of the logits' spread is shared within a series."""
    train, test = (draw_split("train", TRAIN, scale, rng), draw_split("test", TEST, scale, rng))
    index = pd.concat([train, test], ignore_index=True)
    index["id"] = [f"ID_{number:09x}" for number in rng.permutation(len(index))]
    subtypes = draw_logits(pd.factorize(index["series"])[0], index["position"].to_numpy(), rng)
    labels = (rng.random(subtypes.shape) < sigmoid(subtypes)).astype(np.float32)
    union = 1 - np.prod(1 - sigmoid(subtypes), axis=1, keepdims=True)
    index[list(TASK.targets)] = np.c_[labels, labels.max(axis=1)]
    index.loc[index["split"] == "test", list(TASK.targets)] = np.nan
    return index, np.c_[subtypes, logit(union)].astype(np.float32)


def draw_split(split: str, rows: int, scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """``split``, ``group``, ``series``, ``position`` of ``rows * scale`` slices, 20 to 60 a series."""
    rows, count = round(rows * scale), round(rows * scale * SERIES / TRAIN)
    lengths = np.clip(rng.normal(rows / count, 6, count).round().astype(int), 20, 60)
    lengths[:abs(rows - lengths.sum())] += np.sign(rows - lengths.sum())
    series = np.repeat(np.arange(count), lengths)[:rows]
    patient = (np.arange(count) / SERIES_A_PATIENT).astype(int)[series]
    start = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return pd.DataFrame({
        "split": split, "group": pd.Series(patient).map(f"{split}_{{:08x}}".format),
        "series": pd.Series(series).map(f"{split}_{{:010x}}".format), "position": np.arange(len(series)) - start[series]})


def draw_logits(series: np.ndarray, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logits [rows, subtypes] with the real prevalences: a bump along some series, at a place of its own in each."""
    count = series.max() + 1
    sick = rng.normal(0, 1, (count, 1)) + rng.normal(0, 0.7, (count, len(POSITIVES)))
    center, width = rng.uniform(5, 30, sick.shape), rng.uniform(2, 6, sick.shape)
    bump = np.exp(-0.5 * ((position[:, None] - center[series]) / width[series]) ** 2)
    shape = 4 * sick[series] * (0.3 + bump)
    return np.stack([column + bias_for(column, share) for column, share in zip(shape.T, POSITIVES)], axis=1)


def bias_for(logits: np.ndarray, share: float) -> float:
    """What to add to ``logits`` so that the mean probability is ``share``."""
    return brentq(lambda bias: sigmoid(logits + bias).mean() - share, -40, 40)


def deal(known: pd.DataFrame) -> pd.DataFrame:
    """Five checked folds."""
    folds = make_folds(known["group"], known[list(TASK.targets)], 5, 0)
    check_folds(folds, known, list(TASK.targets))
    return folds


def draw_members(index: pd.DataFrame, folds: pd.DataFrame, logits: np.ndarray, count: int,
                 rng: np.random.Generator) -> dict[str, Member]:
    """Members that share half of their errors and differ in skill; rows shuffled, test rows once a fold."""
    fold, key, shared = fold_of(index, folds).to_numpy(), fold_hash(folds), rng.normal(0, 1, logits.shape)
    return {f"m{number}": draw_member(index["id"], fold, key, logits + (1 + number / 20) * (
        shared + rng.normal(0, 1, logits.shape)), rng) for number in range(count)}


def draw_member(ids: pd.Series, fold: np.ndarray, key: str, logits: np.ndarray, rng: np.random.Generator) -> Member:
    """One member from its noisy ``logits``."""
    table = pd.DataFrame(sigmoid(logits).astype(np.float32), columns=list(TASK.targets)).assign(id=ids, fold=fold)
    test = table[table["fold"] < 0]
    return Member(table[table["fold"] >= 0].sample(frac=1, random_state=rng.integers(2**31)),
                  pd.concat([test.assign(fold=number) for number in range(5)]), key)


def submit(folder: Path, test: pd.DataFrame) -> None:
    """Write and check the long-form file; a hundred pictures have no prediction."""
    sample = folder / "sample.csv"
    names = np.stack([test["id"] + f"_{target}" for target in TASK.targets], axis=1).reshape(-1)
    pd.DataFrame({"ID": names, "Label": 0.5}).to_csv(sample, index=False)
    timed("write the submission", lambda: write_predictions(folder / "out.csv", test.iloc[100:], sample, TASK.targets),
          lambda filled: f"{len(filled)} rows filled")
    timed("validate it", lambda: validate(folder / "out.csv", sample), lambda rows: f"{rows:,} rows")


def refuse(members: dict[str, Member], index: pd.DataFrame, folds: pd.DataFrame) -> str:
    """The error that a stack on another fold table ends with."""
    other = folds.assign(fold=folds["fold"].to_numpy()[::-1])
    try:
        fit_stack(Stacker("mean", "mean", tuple(members)), members, index, other, TASK)
    except LeakError as error:
        return str(error)
    raise AssertionError("a member of other folds was accepted")


if __name__ == "__main__":
    main()
