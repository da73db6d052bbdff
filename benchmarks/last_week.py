"""What a last week's steps bring on a finished solution: seeds, snapshots, pseudo-labels, more data, a teammate, all rows.

    bash run_all.sh ich --demo --demo-size 120
    python benchmarks/last_week.py ich --demo --network resnet --cycle 1
    python benchmarks/last_week.py ich --recipes small --network windows --source FOLDER LABELS.csv --test-labels CSV

Each step is the command that a user types; what is made is kept, so a killed run goes on. A gain is the loss without less
the loss with, paired by patient, with its 95 % interval. Seconds are those of training and predicting the variant, all folds
together, by its manifests. The teammate is the network of snapshots, given by tables in percent. The demo's other source is
phantoms of another seed. Test labels are read for the fit on all rows alone, which has no other score.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SRC = Path(__file__).resolve().parents[1] / "src"
sys.path.insert(0, str(SRC))

from competitions import load
from radstack.core.files import read_json
from radstack.report.stage import truth_of
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_rows
from radstack.scoring.intervals import difference
from radstack.stack.predictions import read_member, read_networks
from radstack.stages.stack import stack_folds, task_of
from radstack.submission.outside import Wanted, read_predictions

DRAWN, SEED = 60, 7
"""Series of the demo's other source, and what they are drawn by."""


def main() -> None:
    """Run each step, then print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("competition")
    arguments.add_argument("--demo", action="store_true")
    arguments.add_argument("--recipes", default="small")
    arguments.add_argument("--network", required=True, help="the one whose variants are trained")
    arguments.add_argument("--cycle", default="2", help="epochs of a snapshot's period")
    arguments.add_argument("--source", nargs=2, type=Path, metavar=("FOLDER", "LABELS"))
    arguments.add_argument("--test-labels", type=Path, metavar="CSV", help="of real pictures, as a submission")
    arguments.add_argument("--folder", default=".", help="where the solution was made")
    args = arguments.parse_args()
    known = load(args.competition if args.demo else f"{args.competition}-{args.recipes}", args.demo)
    context = make_context(known, Options(data_dir=args.folder, out_dir=args.folder))
    if context.competition.phantoms is None and not (args.source and args.test_labels):
        arguments.error("pictures are real: give --source FOLDER LABELS and --test-labels CSV")
    shared = [args.competition, *(["--demo"] if args.demo else ["--recipes", args.recipes]), "--data-dir", args.folder,
              "--out-dir", args.folder]
    table = pd.DataFrame([*networks(context, shared, args), *teammate(context, shared, args.network),
                          all_rows(context, shared, args.test_labels)])
    print("\n" + table.fillna("").to_string(index=False))


def script(name: str, shared: list[str], *options: str) -> float:
    """Run a script of ``src`` and return its seconds."""
    start = time.monotonic()
    subprocess.run([sys.executable, str(SRC / f"{name}.py"), *shared, *options], check=True)
    return time.monotonic() - start


def networks(context: Context, shared: list[str], args: argparse.Namespace) -> list[dict[str, object]]:
    """Variants of one network beside one seed of it."""
    base = args.network
    several = next(one for one in context.recipes if one.name == base).train.seeds > 1
    seeds = base if several else variant(shared, base, f"{base}_seeds", "--set", "train.seeds=3")
    snapshots = variant(shared, base, f"{base}_snapshots", "--set", "train.seeds=1", "--set", "train.snapshots=3", "--set",
                        "schedule.name=cyclic", "--set", f"schedule.cycle={args.cycle}")
    pseudo = variant(shared, base, f"{base}_pseudo", "--set", "train.seeds=1", "--pseudo", context.competition.models.final)
    source = args.source or drawn(context)
    print(f"  source added in {script('add_source', shared, 'more', *map(str, source), '--patients', 'other'):.0f} s")
    more = variant(shared, base, f"{base}_more", "--set", "train.seeds=1", "--set", 'sources=["more"]')
    one = said(context, base, "seed 0") if several else said(context, base)
    names = {"three seeds": seeds, "snapshots": snapshots, "pseudo-labels": pseudo, "more data": more}
    return [gained(context, what, said(context, name), one, seconds_of(context, name)) for what, name in names.items()]


def variant(shared: list[str], base: str, name: str, *options: str) -> str:
    """Train and predict ``base`` with ``options`` under ``name``."""
    script("04_train", shared, "--only", base, "--name", name, *options)
    script("05_predict", shared, "--only", name)
    return name


def drawn(context: Context) -> tuple[Path, Path]:
    """Phantoms of another seed: the folder of their pictures, and their labels."""
    assert context.competition.phantoms
    folder = context.paths.input.with_name(f"{context.competition.name}-other")
    draw: Any = context.competition.phantoms.draw  # that of the four demos takes a seed
    draw(folder, series=DRAWN, workers=1, seed=SEED)
    return folder / "stage_2_train", folder / "stage_2_train.csv"


def teammate(context: Context, shared: list[str], network: str) -> list[dict[str, object]]:
    """Tables of a teammate on equal folds, as a member of the plain mean; and a fold table, given to stage 01."""
    targets = list(task_of(context).targets)
    tables = read_member(context.paths.oof / f"{network}_snapshots", stack_folds(context, network))
    members = next(one for one in context.recipes if one.name == "mean").members
    with tempfile.TemporaryDirectory() as folder:
        files = {"oof": tables.oof, "test": tables.test.groupby("id", as_index=False)[targets].mean()}
        for name, table in files.items():
            theirs = table.assign(id=table["id"] + ".png", **{one: (100 * table[one]).round(4) for one in targets})
            theirs.sample(frac=1, random_state=0).to_csv(f"{folder}/{name}.csv", index=False)
        seconds = script("add_member", shared, "mate", f"{folder}/oof.csv", f"{folder}/test.csv")
        tables.oof[["id", "fold"]].to_csv(f"{folder}/folds.csv", index=False)
        given = script("01_make_folds", [*shared, "--out-dir", folder], "--folds-from", f"{folder}/folds.csv")
    quoted = ",".join(f'"{one}"' for one in (*members, "mate"))
    seconds += script("07_stack", shared, "--only", "mean", "--set", f"members=[{quoted}]", "--name", "mean_mate")
    return [gained(context, "a teammate's tables", said(context, "mean_mate"), said(context, "mean"), seconds),
            {"step": "given folds", "seconds": round(given)}]


def all_rows(context: Context, shared: list[str], labels: Path | None) -> dict[str, object]:
    """The fit on all rows beside the folds' own, on test."""
    networks = ",".join(one.name for one in context.competition.models.experiments)
    for name in ("04_train", "05_predict"):
        script(name, shared, "--folds", "all", "--only", networks)
    script("08_submit", shared, "--all-rows")
    final, paths, targets = context.competition.models.final, context.paths, list(task_of(context).targets)
    test = read_rows(context, "test")[0][["id", "group"]]
    wanted = Wanted(task_of(context), context.competition.submission, test, pd.Series(dtype=str))
    if labels:
        truth = test.assign(**dict(zip(targets, read_predictions(labels, wanted).values.T, strict=True)))
    else:
        known = truth_of(context)
        assert known is not None
        truth = test.merge(known[["id", *targets]], on="id", how="left")
    with_all, without = (read_predictions(paths.submissions / f"{final}{end}.csv", wanted).values
                         for end in ("_all_rows", ""))
    return compared(context, "fit on all rows (test)", truth, with_all, without, seconds_of(context, "*", "all*"))


def said(context: Context, name: str, network: str = "") -> pd.DataFrame:
    """What a model, or one network of it, says out of fold."""
    folder, folds = context.paths.oof / name, stack_folds(context, name)
    return read_networks(folder, folds)[network] if network else read_member(folder, folds, tests=False).oof


def gained(context: Context, step: str, one: pd.DataFrame, without: pd.DataFrame, seconds: float) -> dict[str, object]:
    """A row of the table from two out-of-fold tables."""
    rows, targets = read_rows(context, "train")[0], list(task_of(context).targets)
    more, less = (table.set_index("id").loc[rows["id"], targets].to_numpy(np.float64) for table in (one, without))
    return compared(context, step, rows, more, less, seconds)


def compared(context: Context, step: str, rows: pd.DataFrame, one: np.ndarray, without: np.ndarray,
             seconds: float) -> dict[str, object]:
    """Both scores, and what was gained in pairs by patient."""
    task = task_of(context)
    losses = [task.metric.row_losses(rows[list(task.targets)].to_numpy(np.float64), values) for values in (one, without)]
    gain = difference(losses[1], losses[0], rows["group"].to_numpy())
    return {"step": step, "score": f"{losses[0].mean():.4f}", "without": f"{losses[1].mean():.4f}",
            "gain": f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]", "seconds": round(seconds)}


def seconds_of(context: Context, name: str, files: str = "fold*") -> float:
    """Of training and predicting, by the manifests."""
    folders = (context.paths.weights, context.paths.oof)
    return sum(read_json(file)["seconds"] for folder in folders for file in folder.glob(f"{name}/{files}.json")
               if "seconds" in read_json(file))


if __name__ == "__main__":
    main()
