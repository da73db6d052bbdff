"""Stage 09 at the size of RSNA 2019: 20,000 series with generated predictions of every model of ``ich``.

    python benchmarks/report_scale.py                 # full size: minutes, 4 GB of memory, 3 GB of temporary files
    python benchmarks/report_scale.py --series 2000   # a tenth

Labels, patients and correlated predictions are drawn as in ``tabular_scale.py``; pictures are a few noisy gradients that all
rows share, so that the case browser has something to show. Prints seconds, peak memory and bytes of the page.
"""

import argparse
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tabular_scale import SERIES, TASK, deal, draw

from competitions import load
from radstack.core.artifact import Artifact
from radstack.core.files import write_table
from radstack.core.folds import fold_hash, fold_of
from radstack.images.shards import shard_path, write_shard
from radstack.report.stage import report
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.scoring.metrics import sigmoid
from radstack.stack.predictions import fold_files

PICTURES = 64
"""Drawn once; row r shows the r-th of them, modulo."""


def main() -> None:
    """Generate everything that stage 09 reads, run it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=20_000, help="training series")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(load("ich"), Options(data_dir=folder, out_dir=folder))
        rows = generate(context, options.series / SERIES)
        before, start = peak(), time.perf_counter()
        report(context)
        seconds, page = time.perf_counter() - start, context.paths.reports / "index.html"
        print(f"\n{rows:,} training rows of {options.series:,} series: {seconds:.0f} s, peak {peak():.2f} GB "
              f"({before:.2f} GB while generating), page {page.stat().st_size / 1e6:.1f} MB")


def peak() -> float:
    """Largest memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def generate(context: Context, scale: float) -> int:
    """Write index, folds, cache and the tables of every model; return the number of training rows."""
    rng = np.random.default_rng(0)
    index, logits = draw(scale, rng)
    index["path"] = "pictures/" + index["id"] + ".dcm"
    folds = deal(index[index["split"] == "train"])
    paths, count = context.paths, len(index)
    rows = index.assign(shard=0, slot=np.arange(count) % PICTURES, z=index["position"] * 5.0, box_flag="", head_flag="")
    for path, table in ((paths.folds / "index.parquet", index), (paths.folds / "folds.csv", folds),
                        (paths.cache / "boxes.parquet", rows.drop(columns=["shard", "slot"])),
                        (paths.cache / "rows.parquet", rows)):
        write_table(path, table)
    draw_pictures(context)
    fold, shared = fold_of(index, folds).to_numpy(), rng.normal(0, 1, logits.shape)
    for number, recipe in enumerate(context.competition.recipes):
        noisy = logits + (1 + number / 20) * (shared + rng.normal(0, 1, logits.shape))
        write_model(context, recipe.name, index["id"].to_numpy(), fold, fold_hash(folds), sigmoid(noisy))
    return int((index["split"] == "train").sum())


def draw_pictures(context: Context) -> None:
    """One shard of gradients that turn, in Hounsfield units around the brain window, with the noise of a CT (which is what
    pictures take room for).
    """
    size = context.competition.cache.size
    y, x = np.mgrid[-1:1:complex(size[0]), -1:1:complex(size[1])]
    angles, rng = np.linspace(0, 2 * np.pi, PICTURES), np.random.default_rng(0)
    write_shard(shard_path(context.paths.cache, 0), [
        partial(lambda angle: (40 + 60 * (x * np.cos(angle) + y * np.sin(angle)) + rng.normal(0, 8, size)).astype(np.int16),
                angle) for angle in angles], size)


def write_model(context: Context, name: str, ids: np.ndarray, fold: np.ndarray, key: str, predicted: np.ndarray) -> None:
    """The tables of one model, fold by fold, with their manifests."""
    table = pd.DataFrame(predicted.astype(np.float32), columns=list(TASK.targets))
    table.insert(0, "id", ids)
    table.insert(1, "fold", fold)
    folder = context.paths.oof / name
    for number in range(context.competition.folds.count):
        for file, rows in zip(fold_files(folder, number), (table[fold == number], table[fold < 0])):
            write_table(file, rows)
        Artifact("05_predict", 1, fold_files(folder, number), {"generated": name}).record(0.0, fold_hash=key)


if __name__ == "__main__":
    main()
