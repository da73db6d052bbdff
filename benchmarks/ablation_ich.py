"""Is each step of ich worth it? Trains the ablation's recipes on a larger phantom set and compares them by patient.

    python benchmarks/ablation_ich.py [--series 500] [--folder DIR] [--tables]

Every comparison is paired: the difference of two models' weighted log losses on the same rows, with a 95 % interval from a
bootstrap over patients. Out-of-fold rows and test phantoms are both compared. Work already done is kept: a killed run
goes on. About 40 minutes on two cores.
"""

import argparse
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SRC = Path(__file__).resolve().parents[1] / "src"
sys.path.insert(0, str(SRC))

from competitions import load
from competitions.ich.ablation import WINDOWS
from radstack.report.stage import made_folds, models, predictions, score_table, truth_of
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_rows
from radstack.scoring.intervals import Interval, difference
from radstack.scoring.metrics import row_log_losses, weighted_log_loss
from radstack.scoring.task import Task
from radstack.stack.predictions import read_member
from radstack.stack.rows import Member
from radstack.stages.stack import task_of

STAGES = ("01_make_folds", "02_localize", "03_cache", "04_train", "05_predict", "06_sequence", "07_stack")
PAIRS = (
    ("three windows beat one", "windows", "brain"),
    ("neighbors beat single slices", "neighbors", "windows"),
    ("the blend beats its best network", "blend", "neighbors"),
    ("the BiLSTM beats the best 2-D blend", "bilstm_own", "blend"),
    ("the two-level model beats the best 2-D blend", "two_level", "blend"),
    ("own space against rotated out-of-fold space", "bilstm_own", "bilstm_procrustes"),
    ("the stack beats the BiLSTM", "final", "bilstm_own"),
    ("the stack beats the two-level model", "final", "two_level"),
    ("the stack beats the trees", "final", "forest"),
    ("per-slice output beats the vote", "final", "vote"),
)
"""Claim, the model that should win, its rival."""


def main() -> None:
    """Run the stages, then print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--series", type=int, default=500)
    arguments.add_argument("--folder", default=".")
    arguments.add_argument("--tables", action="store_true", help="only print the tables of a finished run again")
    args = arguments.parse_args()
    if not args.tables:
        run_stages(args.folder, args.series)
    context = make_context(load("ich-ablation"), Options(data_dir=args.folder, out_dir=args.folder))
    print(f"\n{args.series} series, {platform.processor() or platform.machine()}, 2 cores\n")
    members = {name: read_member(context.paths.oof / name, made_folds(context, name)) for name in models(context)}
    print(score_table(context, members).iloc[:, :7].to_string(index=False, float_format="{:.4f}".format))
    print("\n" + compared(context, members).to_string(index=False))
    if not args.tables:
        print("\n" + shuffled(context))


def run_stages(folder: str, series: int) -> None:
    """Make whatever is missing, from the phantoms to the stack."""
    stage(folder, "00_get_data", "--demo-size", str(series))
    for script in STAGES:
        stage(folder, script, "--jobs", "2", "--all-stages")


def stage(folder: str, script: str, *options: str) -> None:
    """Run one stage script on the ablation."""
    command = [sys.executable, str(SRC / f"{script}.py"), "ich-ablation", "--data-dir", folder, "--out-dir", folder]
    subprocess.run([*command, *options], check=True)


def compared(context: Context, members: dict[str, Member]) -> pd.DataFrame:
    """One row a claim: rival's loss less winner's, with its interval, out of fold and on test."""
    task = task_of(context)
    rows, _ = read_rows(context)
    truth = truth_of(context)
    assert truth is not None, "the phantoms' truth file is missing"
    labeled = {"train": rows, "test": rows[["id", "group"]].merge(truth[truth["split"] == "test"], on="id")}
    found = []
    for claim, winner, rival in PAIRS:
        row = {"claim": claim, "model": winner, "rival": rival}
        for split, name in (("train", "out of fold"), ("test", "test")):
            tables = predictions(context, {one: members[one] for one in (winner, rival)}, split)
            gain = _gain(tables[winner], tables[rival], labeled[split], task)
            row[name] = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        found.append(row)
    return pd.DataFrame(found)


def _gain(model: pd.DataFrame, rival: pd.DataFrame, labeled: pd.DataFrame, task: Task) -> Interval:
    targets = list(task.targets)
    by_id = labeled.set_index("id").loc[model["id"]]
    truth = by_id[targets].to_numpy()
    theirs, ours = (row_log_losses(truth, table.set_index("id").loc[model["id"], targets].to_numpy(), task.metric.weights)
                    for table in (rival, model))
    return difference(theirs, ours, by_id["group"])


def shuffled(context: Context) -> str:
    """Train on labels permuted over rows: whoever scores better than their prior has found a leak."""
    import torch

    from radstack.images.shards import Shards
    from radstack.nets.backbones import build
    from radstack.training.inference import predict
    from radstack.training.run import Run, fit

    rows, fold = read_rows(context)
    targets, train = list(context.competition.targets), np.flatnonzero(fold >= 0)
    permuted = np.random.default_rng(0).permutation(train)
    rows.loc[train, targets] = rows.loc[permuted, targets].to_numpy()
    cache, checkpoint = Shards(context.paths.cache), context.paths.reports / "shuffled.checkpoint"
    checkpoint.unlink(missing_ok=True)
    run = Run(WINDOWS, 0, context.competition.targets, rows, fold, cache, "shuffled", checkpoint, torch.device("cpu"), 0,
              1e9, print)
    learner, _ = fit(run, build(WINDOWS.backbone, len(targets), 3))
    scored = np.flatnonzero(fold == 0)
    predicted = predict(WINDOWS, learner.net.eval(), context.competition.targets, rows, scored, cache,
                        np.empty((0, 0), np.float16), workers=0, report=lambda _: None)[scored]
    checkpoint.unlink(missing_ok=True)
    truth, weights = rows[targets].to_numpy()[scored], context.competition.metric.weights
    prior = np.broadcast_to(truth.mean(0), truth.shape)
    return (f"shuffled labels, {WINDOWS.name} on fold 0: {weighted_log_loss(truth, predicted, weights):.4f}, "
            f"prior {weighted_log_loss(truth, prior, weights):.4f}")


if __name__ == "__main__":
    main()
