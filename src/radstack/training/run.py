"""One experiment on one fold: its rows, batches and steps, for the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from radstack.core.say import Report
from radstack.nets.backbones import Net
from radstack.recipes.experiment import Experiment
from radstack.training.augment import pipeline
from radstack.training.distributed import distributed, seed_everything
from radstack.training.guard import Step
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
from radstack.training.loop import Loop, Position, Trainable


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
    report: Report
    labels: RowLabels | None = None
    """What is learned of each row; None for the columns ``targets`` of ``rows``."""
    what: str = "train"
    """Starts each progress line, after the job's name."""


def fit(run: Run, net: Net) -> tuple[Learner, dict[str, Any]]:
    """Train ``net`` by :class:`radstack.training.loop.Loop`; return the learner and facts for the manifest.

    Raises:
        UserError: the loss is not finite even after rolling back, naming the rows met.
    """
    learner = Learner(run.experiment, run.targets, net, run.device)
    seed_everything(run.experiment.train.seed, run.fold, distributed()[0])
    lessons = Lessons(run, learner)
    rate = Loop(lessons, run.checkpoint, run.key, run.checkpoint_seconds, run.report, run.what).run()
    return learner, {"images_per_second": round(rate, 1), "started_from": net.start}


class Lessons(Trainable):
    """A learner and the pictures that it learns from, as the loop drives them."""

    advice = "look at these pictures, or use --set train.precision=fp32 or a lower optim.lr"

    def __init__(self, run: Run, learner: Learner) -> None:
        """Open the pictures of ``run``."""
        recipe = run.experiment.train
        self.run, self.learner, self.pictures = run, learner, training_pictures(run)
        self.ids, self.accumulate = run.rows["id"].to_numpy(), recipe.accumulate
        self.stretches, self.bad_steps = recipe.epochs, recipe.bad_steps
        self.steps = len(epoch_batches(run, 0)) // recipe.accumulate
        self.total = recipe.epochs * self.steps

    def batches(self, at: Position) -> Iterator[list[Batch]]:
        """The micro-batches of each step that the epoch has left."""
        batches = epoch_batches(self.run, at.stretch)
        self.steps = len(batches) // self.accumulate
        left = batches[at.step * self.accumulate:]
        micros = loader(self.pictures, left, self.run.workers, self.run.device.type == "cuda")
        return iter(lambda: list(islice(micros, self.accumulate)), [])

    def step(self, batch: list[Batch], at: Position) -> Step:
        """One optimizer step over accumulated micro-batches."""
        moved, loss, losses = self.learner.step(batch, at.stretch + at.step / self.steps, at.done, at.rate_factor)
        rows = torch.cat([micro.rows for micro in batch]).numpy()
        return Step(moved, loss, self.learner.rate, len(rows) * distributed()[1], self.ids[rows], losses)

    def state(self) -> dict[str, Any]:
        """The learner's; pictures have no state."""
        return self.learner.state()

    def restore(self, state: dict[str, Any], at: Position) -> None:
        """Undo :meth:`state`."""
        self.learner.restore(state)


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
