"""Train one experiment on one fold, from wherever the last checkpoint stands to the fixed last epoch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from radstack.core.progress import Log, track
from radstack.nets.backbones import Net
from radstack.recipes.experiment import Experiment
from radstack.training import checkpoint
from radstack.training.augment import pipeline
from radstack.training.distributed import distributed
from radstack.training.guard import Guard, RollBack
from radstack.training.learner import Learner
from radstack.training.loader import (
    Batch,
    Pictures,
    RowLabels,
    columns_of,
    epoch_order,
    loader,
    training_batches,
    training_rows,
)


@dataclass(frozen=True)
class Run:
    """One experiment on one fold, and the settings that do not change its result."""

    experiment: Experiment
    fold: int
    targets: tuple[str, ...]
    rows: pd.DataFrame
    """Row table: targets, series, and whatever ``sampling.keep`` names."""
    fold_of_row: np.ndarray
    """int [rows], -1 for test."""
    cache: Any
    """What the view's reader reads pixels from."""
    key: str
    """Of the artifact; a checkpoint of another key is not resumed."""
    checkpoint: Path
    device: torch.device
    workers: int
    checkpoint_seconds: float
    report: Callable[[str], None]
    labels: RowLabels | None = None
    """What is learned of each row; None for the columns ``targets`` of ``rows``."""
    what: str = "train"
    """Starts each progress line, after the job's name."""


def fit(run: Run, net: Net) -> tuple[Learner, dict[str, Any]]:
    """Train ``net``; return the learner and facts for the manifest.

    Raises:
        UserError: the loss is not finite even after rolling back, naming the rows met.
    """
    learner = Learner(run.experiment, run.targets, net, run.device)
    guard = Guard(run.rows["id"].to_numpy(), run.experiment.train.bad_steps, run.report)
    seed_everything(run.experiment.train.seed, run.fold)
    position = resume(run, learner)
    start, images = time.monotonic(), 0
    while True:
        try:
            images += _epochs(run, learner, guard, position)
            break
        except RollBack:
            position = roll_back(run, learner, guard)
    seconds = time.monotonic() - start
    return learner, {"images_per_second": round(images / max(seconds, 1e-9), 1), "started_from": net.start}


def seed_everything(seed: int, fold: int) -> None:
    """Seed torch (dropout, drop path); order and augmentation have generators of their own."""
    torch.manual_seed(seed * 1000 + fold)


def resume(run: Run, learner: Learner) -> dict[str, int]:
    """Where to go on: epoch, optimizer steps done in it, and in all. Zeros without a checkpoint, which is then written."""
    state = checkpoint.load(run.checkpoint, run.key, run.report)
    if state is None:
        position = {"epoch": 0, "step": 0, "done": 0}
        _save(run, learner, position)
        return position
    learner.restore(state["learner"])
    position = {name: int(value) for name, value in state["position"].items()}
    run.report(f"going on at epoch {position['epoch']} step {position['step']}")
    return position


def roll_back(run: Run, learner: Learner, guard: Guard) -> dict[str, int]:
    """Return to the last checkpoint with half the learning rate; a second time is an error."""
    if learner.rate_factor < 1.0:
        raise guard.give_up()
    position = resume(run, learner)
    learner.rate_factor, guard.bad = 0.5, 0
    _save(run, learner, position)
    run.report(f"rolled back after {guard.limit} bad steps, learning rate halved; rows met: {', '.join(guard.suspects)}")
    return position


def epoch_batches(run: Run, epoch: int) -> list[list[tuple[int, int]]]:
    """Micro-batches of this process for one epoch."""
    experiment = run.experiment
    seed = (experiment.train.seed, run.fold, epoch)
    candidates = training_rows(run.rows, run.fold_of_row, run.fold, experiment.sampling.keep)
    order = epoch_order(experiment.sampling, candidates, run.rows, seed)
    return training_batches(experiment, order, seed, *distributed())


def training_pictures(run: Run) -> Pictures:
    """The run's rows as augmented pictures with their labels."""
    experiment = run.experiment
    labels = run.rows[list(run.targets)].to_numpy(np.float32) if run.labels is None else run.labels
    return Pictures(experiment.view.reader(run.cache, run.rows), labels, columns_of(run.rows, experiment.head.columns),
                    pipeline(experiment.augment, experiment.view.size, experiment.loss.moves_with_picture))


def _epochs(run: Run, learner: Learner, guard: Guard, position: dict[str, int]) -> int:
    """Run to the last epoch; return the number of pictures seen. Of several processes rank 0 alone says how far it is."""
    recipe, first = run.experiment.train, distributed()[0] == 0
    pictures = training_pictures(run)
    total = recipe.epochs * (len(epoch_batches(run, 0)) // recipe.accumulate)
    log = Log(run.checkpoint.parent / f"fold{run.fold}_log", position["done"]) if first else None
    images = 0
    with track(total, run.what, done=position["done"], report=run.report if first else _nobody, log=log) as steps:
        while position["epoch"] < recipe.epochs:
            images += _one_epoch(run, learner, guard, position, pictures, steps.step)
            position |= {"epoch": position["epoch"] + 1, "step": 0}
            _save(run, learner, position)
    return images


def _nobody(line: str) -> None:
    """Takes the lines of all ranks but the first."""


def _one_epoch(run: Run, learner: Learner, guard: Guard, position: dict[str, int], pictures: Pictures,
               tell: Callable[..., None]) -> int:
    """Run the rest of an epoch, keeping ``position`` true; return the number of pictures seen."""
    accumulate = run.experiment.train.accumulate
    batches = epoch_batches(run, position["epoch"])
    steps = len(batches) // accumulate
    batches = batches[position["step"] * accumulate:]
    seen, saved = 0, time.monotonic()
    for micros, wait in _grouped(loader(pictures, batches, run.workers, run.device.type == "cuda"), accumulate):
        fraction = position["epoch"] + position["step"] / steps
        moved, loss, row_losses = learner.step(micros, fraction, position["done"])
        guard.judge(moved, torch.cat([batch.rows for batch in micros]), row_losses)
        position |= {"step": position["step"] + 1, "done": position["done"] + 1}
        count = sum(len(batch.rows) for batch in micros) * distributed()[1]
        seen += count
        tell(loss=loss if moved else None, lr=learner.rate, images=count, wait=wait)
        if time.monotonic() - saved >= run.checkpoint_seconds and guard.bad == 0:
            _save(run, learner, position)
            saved = time.monotonic()
    return seen


def _grouped(batches: Iterator[Batch], size: int) -> Iterator[tuple[list[Batch], float]]:
    """``size`` batches at a time, with the seconds spent waiting for them."""
    while True:
        start = time.perf_counter()
        micros = list(islice(batches, size))
        if not micros:
            return
        yield micros, time.perf_counter() - start


def _save(run: Run, learner: Learner, position: dict[str, int]) -> None:
    """Write a checkpoint; rank 0 alone does, the others meet it again at the next step."""
    if distributed()[0] == 0:
        checkpoint.save(run.checkpoint, {"key": run.key, "position": dict(position), "learner": learner.state()})
