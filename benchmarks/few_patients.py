"""Members that mislead, and few patients: what is kept of them by each way of level two, three folds by patient.

    python benchmarks/few_patients.py [--draws 10]

Drawn series of 24 slices with runs of hemorrhage; a member's errors are alike within a patient. ``screen`` shrinks the
classes on which a member is worse than the constant; ``lines`` fits scale and bias of each class freely; ``shrink`` holds
them near those of all classes. The constant is that of the other folds, which is all that can be known.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from radstack.core.folds import fold_hash
from radstack.recipes.stacker import Stacker
from radstack.scoring.metrics import sigmoid, weighted_log_loss
from radstack.scoring.task import Metric, Task
from radstack.stack.baseline import constant_table
from radstack.stack.method import CONSTANT
from radstack.stack.nested import fit_stack
from radstack.stack.rows import Member

PREVALENCE = {"epidural": 0.07, "intraparenchymal": 0.03, "intraventricular": 0.01, "subarachnoid": 0.007, "subdural": 0.022}
TARGETS, SLICES, FOLDS = (*PREVALENCE, "any"), 24, 3
TASK = Task(TARGETS, Metric("weighted log loss", (1, 1, 1, 1, 1, 2)))
KINDS = ("good", "overconfident", "sampled double", "noise", "anti-informative")
WAYS = {"screen": Stacker("screen", "mean", ("one",)), "lines": Stacker("lines", "shrink", ("one",), {"hold": 0.0}),
        "shrink": Stacker("shrink", "shrink", ("one",))}


def labels_of(patients: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [rows, targets]: each subtype in one run of slices of some patients, ``any`` where there is one."""
    y = np.zeros((patients, SLICES, len(TARGETS)))
    for patient, (place, share) in ((patient, one) for patient in range(patients) for one in enumerate(PREVALENCE.values())):
        if rng.random() < 3 * share:
            long = rng.integers(4, 18)
            start = rng.integers(0, SLICES - long)
            y[patient, start:start + long, place] = 1
    y[..., -1] = y[..., :-1].max(axis=2)
    return y.reshape(-1, len(TARGETS))


def member_of(kind: str, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log odds [rows, targets] of a member of one of ``KINDS``."""
    shares = np.array([*PREVALENCE.values(), 0.127])
    prior, patients = np.log(shares / (1 - shares)), len(y) // SLICES
    noise = 0.7 * np.repeat(rng.normal(size=(patients, len(TARGETS))), SLICES, axis=0) + 0.7 * rng.normal(size=y.shape)
    good = prior + 2.4 * (y - 0.1) + noise
    return {"good": good, "overconfident": 3 * good, "sampled double": good + 1.5, "noise": prior + 2 * noise,
            "anti-informative": 2 * prior - good}[kind]


def losses(kind: str, patients: int, seed: int) -> dict[str, float]:
    """Loss of the constant, the member as it is, and each way, out of fold."""
    rng = np.random.default_rng([seed, patients])
    y = labels_of(patients, rng)
    p, number = sigmoid(member_of(kind, y, rng)), np.arange(len(y)) // SLICES
    group = [f"p{one}" for one in number]
    rows = pd.DataFrame({"id": [f"r{row}" for row in range(len(y))], "split": "train", "group": group, "series": group,
                         "position": np.arange(len(y)) % SLICES, **dict(zip(TARGETS, y.T))})
    folds = pd.DataFrame({"group": pd.unique(np.array(group)), "fold": np.arange(patients) % FOLDS})
    table = rows[["id"]].assign(fold=number % FOLDS, **dict(zip(TARGETS, p.T)))
    member = {"one": Member(table, table.iloc[:0], fold_hash(folds))}
    constant = constant_table(rows, number % FOLDS, TASK)[list(TARGETS)].to_numpy(np.float64)
    found = {"constant": weighted_log_loss(y, constant, TASK.metric.weights),
             "as it is": weighted_log_loss(y, p, TASK.metric.weights)}
    for name, stacker in WAYS.items():
        found[name] = fit_stack(stacker, member, rows, folds, TASK, (CONSTANT,)).score.value
    return found


def main() -> None:
    """Print one line a kind of member and number of patients: mean losses over the draws."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--draws", type=int, default=10)
    draws = arguments.parse_args().draws
    for kind in KINDS:
        for patients in (10, 20, 40, 80):
            table = pd.DataFrame([losses(kind, patients, seed) for seed in range(draws)])
            said = ", ".join(f"{name} {value:.3f}" for name, value in table.mean().items())
            print(f"{kind:18} {patients:3} patients: {said}", flush=True)


if __name__ == "__main__":
    main()
