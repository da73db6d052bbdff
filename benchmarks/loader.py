"""Pictures per second into training: shards and tables against decoding every slice anew, and what each step adds.

    python benchmarks/loader.py --folder . [--competition ich-demo] [--only resnet] [--pictures 1500]

Needs stages 01 to 03. All ways run on the same pictures in one run on one core; the best of three rounds counts, in CPU
time.
The plain way (pydicom, float64 windows) and the fast one must give the same bytes, which is checked first. Where the view
enlarges the cache's pictures, augmentation is measured step by step and as training does it, in one warp.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from competitions import load
from competitions.ich import head
from radstack.core.limits import STEPS, keep_memory
from radstack.images.dicom import Header, read_header
from radstack.images.shards import Shards, crop_square, resize
from radstack.images.windows import reference
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_rows
from radstack.training.augment import pipeline
from radstack.training.loader import Pictures, loader
from radstack.training.warp import warped


def plain_picture(context: Context, row: Any, view: Any, header: Header) -> np.ndarray:
    """One slice as most solutions make it: decode, rescale, clean, crop, resize, float64 windows."""
    competition = context.competition
    stored = pydicom.dcmread(context.paths.input / row.path).pixel_array
    values = np.clip(stored * header.slope + header.intercept, competition.cache.fill, 3071).astype(np.int16)
    cached = crop_square(head.remove_head_rest(values), row.top, row.left, row.side, competition.cache.size[0],
                         competition.cache.fill)
    return reference(resize(cached, view.side), [channel.window for channel in view.channels])


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """The best of some rounds, in CPU time of this process, the kernel's included."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Compare bytes, then time each way."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", default=".")
    arguments.add_argument("--competition", default="ich-demo")
    arguments.add_argument("--only", default="resnet")
    arguments.add_argument("--pictures", type=int, default=1500)
    args = arguments.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_memory(STEPS)  # as training does, whose loader's processes inherit it
    context = make_context(load(args.competition), Options(data_dir=args.folder, out_dir=args.folder))
    experiment = context.competition.recipe(args.only)
    rows, _ = read_rows(context)
    chosen = np.random.default_rng(0).permutation(len(rows))[:args.pictures].tolist()
    shards = Shards(context.paths.cache)
    reader = experiment.view.reader(shards, rows)
    headers = {row: read_header(context.paths.input / rows["path"][row]) for row in chosen}
    tuples = dict(zip(chosen, rows.iloc[chosen].itertuples()))
    places = rows[["shard", "slot"]].to_numpy().tolist()
    ordinary = [row for row in chosen if headers[row].intercept <= -100]
    same = sum(np.array_equal(plain_picture(context, tuples[row], experiment.view, headers[row]), reader(row))
               for row in ordinary)
    print(f"{platform.machine()}, {len(chosen)} pictures of {args.competition}, view {args.only}; the plain way gives the "
          f"same bytes on {same} of {len(ordinary)} (it does not repair wrong intercepts: those are left out)\n")
    labels, columns = np.zeros((len(rows), 1), np.float32), np.zeros((len(rows), 0), np.float32)
    pictures = Pictures(reader, labels, columns, pipeline(experiment.augment, experiment.view.size))
    once = Pictures(reader, labels, columns, warped=warped(experiment.augment, experiment.view, reader))
    if once.warped:
        differ = np.mean([np.abs(pictures[row, row][0].astype(int) - once[row, row][0]).mean() for row in chosen])
        print(f"interpolated once, the same draws differ by {differ:.2f} of 255 gray levels on average\n")
    batches = [[(row, row) for row in chosen[start:start + 32]] for start in range(0, len(chosen), 32)]
    ways: dict[str, Callable[[], object]] = {
        "plain: pydicom, float64 windows": lambda: [plain_picture(context, tuples[row], experiment.view, headers[row])
                                                    for row in chosen],
        "shard alone (memory map, copied)": lambda: [shards(*places[row]).copy() for row in chosen],
        "view: shard, resize, windows": lambda: [reader(row) for row in chosen],
        "view and augmentation, step by step": lambda: [pictures[row, row] for row in chosen],
        "batches of 32, step by step": lambda: list(loader(pictures, batches, 0, False)),
    }
    if once.warped:  # what training takes, where the view enlarges the cache's pictures
        ways |= {"view and augmentation, one warp": lambda: [once[row, row] for row in chosen],
                 "batches of 32, one warp": lambda: list(loader(once, batches, 0, False))}
    print("| way | CPU us a picture | pictures a CPU second | against plain |\n|---|---:|---:|---:|")
    baseline = 0.0
    for name, work in ways.items():
        each = cpu_seconds(work) / len(chosen)
        baseline = baseline or each
        print(f"| {name} | {each * 1e6:,.0f} | {1 / each:,.0f} | {baseline / each:.1f} |")


if __name__ == "__main__":
    main()
