"""A tiny data set of int16 pictures with a bright square where the label is 1, and a run of the real training code on it.

Run as a script it trains, and kills itself after so many checkpoints:  python tests/tiny.py FOLDER SECONDS [CHECKPOINTS]
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from radstack.images.shards import Shards, shard_path, write_shard
from radstack.images.views import Channel, Slices
from radstack.nets.backbones import build
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Sampling, Schedule, Train
from radstack.recipes.losses import BinaryCrossEntropy
from radstack.stages.train import write_weights
from radstack.training.distributed import seed_everything
from radstack.training.loop import Loop, Position
from radstack.training.run import Run, fit

SIDE, TARGETS = 32, ("left", "right")

EXPERIMENT = Experiment(
    name="tiny",
    view=Slices((Channel((50.0, 100.0)), Channel((50.0, 200.0), (-1, 0, 1))), SIDE, (100.0, 100.0), (60.0, 60.0)),
    backbone=Backbone("timm/test_resnet", pretrained=False, dropout=0.3),
    augment=(Op("VerticalFlip", {"p": 0.5}), Op("Affine", {"rotate": (-10, 10), "p": 0.5})),
    loss=BinaryCrossEntropy(class_weights=(1, 1), rare_class="right", rare_weight=2.0),
    optim=Optim("adam", lr=3e-3, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.5),
    sampling=Sampling(rare_class="right", rare_copies=1),
    train=Train(epochs=2, batch_size=8, accumulate=2, precision="fp32", ema=0.9),
)


def make_rows(series: int = 16, length: int = 6, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Row table (the last quarter of the series is test) and pictures, int16 [rows, SIDE, SIDE]."""
    rng = np.random.default_rng(seed)
    number = np.arange(series * length) // length
    labels = (rng.random((len(number), 2)) < [0.4, 0.25]).astype(np.float32)
    pictures = rng.normal(20, 15, (len(number), SIDE, SIDE)).astype(np.int16)
    for row, (left, right) in enumerate(labels):
        pictures[row, 8:20, 4:14] += np.int16(90 * left)
        pictures[row, 8:20, 18:28] += np.int16(90 * right)
    test = number >= series * 3 // 4
    rows = pd.DataFrame({"id": [f"r{row}" for row in range(len(number))], "split": np.where(test, "test", "train"),
                         "group": [f"p{one}" for one in number], "series": [f"s{one}" for one in number],
                         "position": np.arange(len(number)) % length, "z": np.arange(len(number)) % length * 5.0,
                         "shard": 0, "slot": np.arange(len(number))})
    rows[list(TARGETS)] = np.where(test[:, None], np.nan, labels)
    return rows, pictures


def make_run(folder: Path, experiment: Experiment = EXPERIMENT, checkpoint_seconds: float = 1e9, fold: int = 0,
             lines: list[str] | None = None, spoil: tuple[int, ...] = ()) -> Run:
    """A run on the tiny set with its cache below ``folder``; labels of the rows ``spoil`` are NaN."""
    rows, pictures = make_rows()
    if not shard_path(folder, 0).exists():
        write_shard(shard_path(folder, 0), [lambda picture=picture: picture for picture in pictures], (SIDE, SIDE))
    rows.loc[list(spoil), "left"] = np.nan
    train = (rows["split"] == "train").to_numpy()
    fold_of_row = np.where(train, rows["group"].str[1:].astype(int) % 3, -1)
    return Run(experiment, fold, TARGETS, rows, fold_of_row, Shards(folder), "key", folder / "fold0.checkpoint",
               torch.device("cpu"), 0, checkpoint_seconds, (lines if lines is not None else []).append)


def train(run: Run) -> dict[str, torch.Tensor]:
    """Train from the run's checkpoint or from the start; the weights that would be kept."""
    experiment = run.experiment
    seed_everything(experiment.train.seed, run.fold)
    net = build(experiment.backbone, len(TARGETS), len(experiment.view.mean))
    learner, _ = fit(run, net)
    return {name: value.clone() for name, value in learner.result.state_dict().items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, left, save = Path(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 0, Loop.save

    def save_and_die(self: Loop, at: Position) -> None:
        """Save, and be killed after the last checkpoint that is wanted."""
        global left
        save(self, at)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Loop.save = save_and_die  # type: ignore[method-assign]
    run = make_run(place, checkpoint_seconds=float(sys.argv[2]))
    seed_everything(0, 0)
    learner, _ = fit(run, build(EXPERIMENT.backbone, len(TARGETS), 2))
    write_weights(place / "fold0.safetensors", learner.result.state_dict())
