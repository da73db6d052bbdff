"""Stages 00 to 09 of ``ich`` once more when all is done: what each costs to find out that there is nothing to do.

    python benchmarks/nothing_to_do.py                          # 20,000 slices: a minute
    python benchmarks/nothing_to_do.py --slices 874035          # RSNA 2019: some minutes, 2 GB of memory, a million files

A finished project is made without pixels or training: every file that a stage reads or writes is there with its manifest,
in the real number; tables are drawn, files that only their size and time are asked of hold a few bytes. Then each stage
is started by hand: least CPU seconds (the kernel's included) of the rounds. Once more under ``cProfile`` the shares say what
the time went to; where one part calls another both count. In the end all ten run as ``run_all.sh`` has them, forked from one
process.
"""

import argparse
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SRC = Path(__file__).resolve().parents[1] / "src"
sys.path.insert(0, str(SRC))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tabular_scale import TASK, TEST, TRAIN, deal, draw

from competitions import load
from competitions.ich.index import FOLDERS, HEADER_COLUMNS
from competitions.ich.labels import SAMPLE_CSV, TRAIN_CSV
from radstack.core.artifact import Artifact, split_digests
from radstack.core.files import files_below, write_json, write_table
from radstack.core.folds import fold_hash
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.report.stage import report
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.stages.cache import cache, placed
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize
from radstack.stages.predict import predict
from radstack.stages.sequence import sequence
from radstack.stages.stack import stack_all
from radstack.stages.submit import submit, submit_constant
from radstack.stages.train import train
from radstack.submission.kaggle import EVERYTHING, RECORD

STAGES = sorted(path.stem for path in SRC.glob("[0-9]*.py"))
MAKES = ("making", "to make", "would make")
"""What a line begins with where a stage finds something to do."""
PARTS = {"imports": ("_find_and_load",), "listing": ("listing_digest",), "JSON": ("read_json",),
         "tables": ("read_table", "read_parquet", "read_csv"), "hashing": ("sha256", "hash_pandas_object", "digest")}
"""Heading -> names of functions, of which the outermost count."""


@dataclass(frozen=True)
class Filled(Context):
    """A context that has made whatever is asked for: a table of ``tables``, else a few bytes, and the manifest."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Name of a file -> what it holds."""

    def why(self, artifact: Artifact) -> str:
        """Make it, and find that there is nothing to do."""
        if artifact.why():
            for path in artifact.files:
                self._fill(path)
            table = self.tables.get(artifact.files[0].name, pd.DataFrame())
            artifact.record(0.0, fold_hash=fold_hash(self.tables["folds.csv"]),
                            **({"splits": split_digests(table)} if "split" in table else {}))
        return artifact.why()

    def _fill(self, path: Path) -> None:
        if path.name in self.tables:
            write_table(path, self.tables[path.name])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(path.name.encode())


def main() -> None:
    """Make the project, run the stages again, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=20_000, help="of train and test together")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each stage, of which the least counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = finish(Path(folder), options.slices)
        print(f"{made:,} slices, {sum(1 for _ in files_below(Path(folder))):,} files\n")
        print(f"| stage | CPU s | s | {' | '.join(PARTS)} |\n|---|---:|---:|{'---:|' * len(PARTS)}", flush=True)
        cpu = clock = 0.0
        for stage in STAGES:
            took = [again(Path(folder), stage) for _ in range(options.rounds)]
            least, soonest = min(one for one, _ in took), min(one for _, one in took)
            shares = " | ".join(f"{share:.0%}" for share in spent(Path(folder), stage))
            print(f"| {stage} | {least:.2f} | {soonest:.2f} | {shares} |", flush=True)
            cpu, clock = cpu + least, clock + soonest
        print(f"| all {len(STAGES)} | {cpu:.2f} | {clock:.2f} |{' |' * len(PARTS)}")
        took = [again(Path(folder), "all_stages", " ".join(STAGES)) for _ in range(options.rounds)]
        least, soonest = min(one for one, _ in took), min(one for _, one in took)
        print(f"| run_all.sh | {least:.2f} | {soonest:.2f} |{' |' * len(PARTS)}")
        print(f"\nrun_all.sh: {least / cpu:.2f} of the CPU seconds of ten processes, {soonest / clock:.2f} of the clock's")
        bare = min(run([sys.executable, "-c", "import pandas"], Path(folder))[0] for _ in range(options.rounds))
        print(f"`import pandas` alone: {bare:.2f} CPU s")


def finish(folder: Path, slices: int) -> int:
    """Make the project below ``folder``; the number of its slices."""
    rng = np.random.default_rng(0)
    index, _ = draw(slices / (TRAIN + TEST), rng)
    index = with_headers(index, rng)
    write_input(folder / "input/ich", index)
    write_json(folder / "input/ich" / RECORD, [EVERYTHING])
    context = make_context(load("ich"), Options(data_dir=str(folder), out_dir=str(folder)))
    boxes = localized(index, rng)
    rows = boxes.assign(**placed(boxes["split"].to_numpy(), context.competition.cache.per_shard))
    nothing = pd.DataFrame(columns=QUARANTINE_COLUMNS, dtype="str")
    tables = {"index.parquet": index, "quarantine.csv": nothing, "folds.csv": deal(index[index["split"] == "train"]),
              "boxes.parquet": boxes, "rows.parquet": rows, "scores.csv": scores(context)}
    filled = Filled(context.competition, context.paths, context.options, tables)
    with redirect_stdout(StringIO()):
        for work in (make_index, deal_folds, localize, cache, train, predict, sequence, stack_all, submit_constant,
                     partial(submit, name=context.competition.models.final), report):
            work(filled)
    return len(index)


def with_headers(index: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The index with the columns of stage 01 that come from headers: a few words and numbers that most slices share."""
    count, split = len(index), index["split"].to_numpy()
    headers: dict[str, Any] = {name: rng.choice([0.488281, 0.5, 0.46875], count) for name in HEADER_COLUMNS}
    headers |= dict.fromkeys(("modality", "photometric", "transfer_syntax", "faulty", "order_flag"), "CT")
    folders = {name: known[0] for name, known in FOLDERS.items()}
    path = np.array([folders[one] for one in folders])[(split == "test").astype(int)] + "/" + index["id"] + ".dcm"
    headers |= {"rows": 512, "columns": 512, "study": index["series"], "series_uid": index["series"]}
    return index.assign(z=index["position"] * 5.0, path=path, **headers)


def localized(index: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The index with the columns of stage 02."""
    count = len(index)
    whole = {name: rng.integers(0, 400, count) for name in ("brain_range", "air", "top", "left", "side")}
    return index.assign(crc=rng.integers(2**32, size=count), **whole, head_share=rng.random(count),
                        brain_ratio=rng.random(count), head_flag="", hu_flag="", box_flag="")


def write_input(folder: Path, index: pd.DataFrame) -> None:
    """Empty pictures, and the organizer's two tables in full."""
    for name in index["path"].str.partition("/")[0].unique():
        (folder / name).mkdir(parents=True)
    for path in index["path"]:
        os.close(os.open(folder / path, os.O_CREAT | os.O_WRONLY))  # a million: Path.touch takes three times as long
    for file, split in ((TRAIN_CSV, "train"), (SAMPLE_CSV, "test")):
        rows = index[index["split"] == split]
        names = np.stack([rows["id"] + f"_{target}" for target in TASK.targets], axis=1).reshape(-1)
        pd.DataFrame({"ID": names, "Label": rows[list(TASK.targets)].fillna(0.5).to_numpy().reshape(-1)}).to_csv(
            folder / file, index=False)


def scores(context: Context) -> pd.DataFrame:
    """A score table of every model, all alike."""
    names = ["constant", *(one.name for one in context.competition.pages.baselines),
             *(one.name for one in context.competition.recipes)]
    return pd.DataFrame({"split": "out of fold", "model": names, "rows": 1, "score": 0.1, "low": 0.09, "high": 0.11})


def again(folder: Path, script: str, *first: str, python: tuple[str, ...] = ()) -> tuple[float, float]:
    """CPU and clock seconds of a script; an AssertionError where a stage finds something to do."""
    words = [*first, "ich", "--all-stages", "--kaggle", "--data-dir", str(folder), "--out-dir", str(folder)]
    cpu, clock, said = run([sys.executable, *python, str(SRC / f"{script}.py"), *words], folder)
    made = [line for line in said.splitlines() if line.strip().startswith(MAKES)]
    assert not made, f"{script} found something to do: {made[0]}"
    return cpu, clock


def run(command: list[str], folder: Path) -> tuple[float, float, str]:
    """CPU seconds, clock seconds and what it said of a command; RuntimeError with its errors where it fails."""
    before, start = cpu_of_children(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return cpu_of_children() - before, time.perf_counter() - start, done.stdout


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent(folder: Path, stage: str) -> list[float]:
    """Share of each of ``PARTS`` in the time of a stage under ``cProfile``."""
    file = folder / "profile"
    again(folder, stage, python=("-m", "cProfile", "-o", str(file)))
    profile: Any = pstats.Stats(str(file))
    return [sum(part_of(profile, name) for name in names) / profile.total_tt for names in PARTS.values()]


def part_of(profile: Any, name: str) -> float:
    """Seconds in the functions called so."""
    return max((cumulative for (_, _, own), (_, _, _, cumulative, _) in profile.stats.items() if own == name), default=0.0)


if __name__ == "__main__":
    main()
