"""One experiment on one fold: network, batches and steps, for the training loop; again where it did not converge."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from radstack.core.files import write_table
from radstack.core.progress import track
from radstack.core.recipe import change
from radstack.core.say import Report
from radstack.nets.backbones import Net
from radstack.nets.objectives import objective
from radstack.nets.optim import moving_average, optimizer, schedule, set_rate
from radstack.nets.precision import precision
from radstack.recipes.experiment import Experiment
from radstack.training import checkpoint, loader
from radstack.training.augment import pipeline
from radstack.training.distributed import averaging, distributed, main_process_first, same_everywhere, seed_everything
from radstack.training.loop import Loop, Position, Step, Trainable
from radstack.training.warp import warped

APART = 1000
"""Between the seeds of two attempts."""


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
    labels: loader.RowLabels | None = None
    """What is learned of each row; None for the columns ``targets`` of ``rows``."""
    what: str = "train"
    """Starts each progress line, after the job's name."""
    judge: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None
    """``judge(row numbers, what the network says of them)`` -> figures by name, of the held-out fold after each epoch, for
    ``held_out.csv`` in the log folder; None where nobody asked for it. It changes no result."""


class Learner:
    """Everything that changes while training, so that a checkpoint of it is a checkpoint of the run."""

    def __init__(self, experiment: Experiment, targets: tuple[str, ...], net: Net, device: torch.device) -> None:
        """Bring ``net`` to ``device`` and make its optimizer, precision and average by the recipe."""
        recipe = experiment.train
        self.experiment, self.device = experiment, device
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.net: Net = net.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.loss = objective(experiment.loss, targets).to(device)
        self.precision = precision(recipe.precision, device)
        # Before prepare: Apex O2 halves the weights in place, and an average of halves would stand still.
        self.average = moving_average(self.net, recipe.ema) if recipe.ema else None
        self.averages = [moving_average(self.net, decay) for decay in recipe.averages]
        self.snapshots: list[dict[str, torch.Tensor]] = []
        prepared, self.optimizer = self.precision.prepare(self.net, optimizer(experiment.optim, self.net))
        self.model = averaging(prepared, device).train()
        self.normalize = loader.normalizer(experiment.view.mean, experiment.view.std, device)
        self._statistics = [buffer for buffer in self.net.buffers() if buffer.is_floating_point()]
        self._before = [buffer.clone() for buffer in self._statistics]

    def step(self, micros: list[loader.Batch], epoch: float, number: int,
             rate_factor: float = 1.0) -> tuple[bool, float, torch.Tensor]:
        """One optimizer step over ``accumulate`` micro-batches; ``epoch`` (with a fraction) and ``number`` steps are done.

        Returns whether the weights moved, the mean loss, and every row's loss [rows]. Where they did not, batch statistics
        are as before, too.
        """
        recipe = self.experiment
        peak = recipe.optim.lr * rate_factor
        set_rate(self.optimizer, peak * schedule(recipe.schedule, epoch, recipe.train.epochs))
        if not self.net.training:  # else it walks through all modules for nothing, while a GPU waits
            self.model.train()
        _copy(self._statistics, self._before)
        losses, rows = zip(*(self._backward(batch, len(micros)) for batch in micros))
        norm = self.precision.step(self.optimizer, recipe.optim.clip_norm)
        moved = math.isfinite(norm)
        if not moved:  # the forward pass has already put the bad values into the norms' running means
            _copy(self._before, self._statistics)
        for average in [*([self.average] if self.average else []), *self.averages] if moved else []:
            average.update(self.net, number + 1)
        return moved, float(torch.stack(losses).mean()), torch.cat(rows)

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def result(self) -> nn.Module:
        """The network to keep: the average where there is one."""
        return self.average.module if self.average is not None else self.net

    def snapshot(self) -> None:
        """Keep the network as it is now, in the computer's memory and in checkpoints."""
        weights = self.result.state_dict()
        self.snapshots.append({name: value.detach().to("cpu", copy=True) for name, value in weights.items()})

    def networks(self) -> list[dict[str, torch.Tensor]]:
        """Weights of all that the run leaves: the result, then as ``kept`` of the recipe names them."""
        return [self.result.state_dict(), *self.snapshots, *(average.module.state_dict() for average in self.averages)]

    def state(self) -> dict[str, Any]:
        """Tensors and numbers from which :meth:`restore` goes on."""
        parts = {name: part.state_dict() if part is not None else {} for name, part in self._parts().items()}
        return parts | {"snapshots": self.snapshots}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        for name, part in self._parts().items():
            if part is not None:
                part.load_state_dict(state[name])
        self.snapshots = list(state["snapshots"])

    def _parts(self) -> dict[str, Any]:
        more = {f"average {place}": average for place, average in enumerate(self.averages)}
        return {"net": self.net, "optimizer": self.optimizer, "precision": self.precision, "average": self.average, **more}

    def _backward(self, batch: loader.Batch, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.normalize(batch.images).contiguous(memory_format=self.layout)
        with self.precision.autocast():
            outputs = self.model(images, batch.columns.to(self.device, non_blocking=True))
        loss, rows = self.loss(outputs, batch.targets.to(self.device, non_blocking=True))
        self.precision.backward(loss / parts, self.optimizer)
        return loss.detach(), rows


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    """Copy tensors into others of their shapes, at once: one by one they would hold up a GPU."""
    if source:
        torch._foreach_copy_(target, source)


def fit(run: Run, net: Net) -> tuple[Learner, dict[str, Any]]:
    """Train ``net`` by the loop, which may raise a UserError; return the learner and facts for the manifest."""
    learner = Learner(run.experiment, run.targets, net, run.device)
    seed_everything(run.experiment.train.seed, run.fold, distributed()[0])
    lessons = Lessons(run, learner)
    rate = Loop(lessons, run.checkpoint, run.key, run.checkpoint_seconds, run.report, run.what).run()
    return learner, {"images_per_second": round(rate, 1), "started_from": net.start}


class Lessons(Trainable):
    """A learner and the pictures that it learns from, as the loop drives them."""

    advice = "look at these pictures, or use --set train.precision=fp32 or a lower optim.lr"

    def __init__(self, run: Run, learner: Learner) -> None:
        recipe = run.experiment.train
        self.run, self.learner, self.pictures = run, learner, training_pictures(run)
        self.ids, self.accumulate = run.rows["id"].to_numpy(), recipe.accumulate
        self.stretches, self.bad_steps = recipe.epochs, recipe.bad_steps
        self.steps = len(epoch_batches(run, 0)) // recipe.accumulate
        self.total = recipe.epochs * self.steps

    def batches(self, at: Position) -> Iterator[list[loader.Batch]]:
        """The micro-batches of each step that the epoch has left."""
        batches = epoch_batches(self.run, at.stretch)
        self.steps = len(batches) // self.accumulate
        left = batches[at.step * self.accumulate:]
        micros = loader.loader(self.pictures, left, self.run.workers, self.run.device.type == "cuda")
        return iter(lambda: list(islice(micros, self.accumulate)), [])

    def step(self, batch: list[loader.Batch], at: Position) -> Step:
        """One optimizer step over accumulated micro-batches."""
        moved, loss, losses = self.learner.step(batch, at.stretch + at.step / self.steps, at.done, at.rate_factor)
        rows = torch.cat([micro.rows for micro in batch]).numpy()
        return Step(moved, loss, self.learner.rate, len(rows) * distributed()[1], self.ids[rows], losses)

    def end(self, at: Position, tell: Callable[..., None]) -> None:
        """Take a snapshot where one is due; note how well the held-out fold is told by now, if that was asked for."""
        if at.stretch + 1 in self.run.experiment.snapshot_epochs:
            self.learner.snapshot()
        if self.run.judge is None:
            return
        found = held_out(self.run, self.learner)
        if found and distributed()[0] == 0:
            file = held_out_file(self.run.checkpoint)
            known = pd.read_csv(file) if file.exists() and at.stretch else pd.DataFrame({"step": []})
            now = pd.DataFrame([{"step": at.done, "epoch": at.stretch + 1, **found}])
            write_table(file, pd.concat([known[known["step"] < at.done], now], ignore_index=True))

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
    candidates = loader.training_rows(run.rows, taught(run), run.fold, experiment.sampling.keep)
    order = loader.epoch_order(experiment.sampling, candidates, run.rows, seed)
    return loader.training_batches(experiment, order, seed, *distributed())


def taught(run: Run) -> np.ndarray:
    """``fold_of_row``, int [rows], and -1 also where none of the run's own targets is labeled."""
    if run.labels is not None:
        return run.fold_of_row
    return np.where(loader.labeled_rows(run.rows[list(run.targets)].to_numpy(np.float32)), run.fold_of_row, -1)


def training_pictures(run: Run) -> loader.Pictures:
    """The run's rows as augmented pictures with their labels."""
    experiment = run.experiment
    labels = run.rows[list(run.targets)].to_numpy(np.float32) if run.labels is None else run.labels
    columns = loader.columns_of(run.rows, experiment.head.columns)
    reader = experiment.view.reader(run.cache, run.rows)
    moves = experiment.loss.moves_with_picture
    augment = pipeline(experiment.augment, experiment.view.size, moves)
    if experiment.drawn:
        return loader.Pictures(reader, labels, columns, augment, experiment.drawn.painter(reader, run.targets))
    return loader.Pictures(reader, labels, columns, augment,
                           warped=None if moves else warped(experiment.augment, experiment.view, reader))


def train(run: Run, make: Callable[[], Net]) -> tuple[Learner, dict[str, Any]]:
    """Seed, make the network, :func:`fit`; again with another seed as the recipe's ``restarts`` say (Pietz 2018, by hand).

    A killed run goes on with the attempt whose checkpoint it finds. The last attempt counts, converged or not. Returns as
    ``fit``, and raises as it; also, before it trains, a UserError for restarts of a loss for which no constant is known.
    """
    recipe = run.experiment.train
    if recipe.restarts:
        objective(run.experiment.loss, run.targets).check_constant()
    attempts = [_attempt(run, number) for number in range(recipe.restarts + 1)]
    begun = checkpoint.key_in(run.checkpoint)
    first = next((number for number, one in enumerate(attempts) if one.key == begun), 0)
    for number, one in enumerate(attempts[first:], first):
        seed_everything(one.experiment.train.seed, one.fold)
        with main_process_first():  # one download, which the other processes find
            net = make()
        learner, facts = fit(one, net)
        if not recipe.restarts:
            break
        share = share_of_constant(one, learner)
        facts |= {"restarts": number, "share_of_constant": round(share, 4)}
        if share < recipe.converged:
            break
        last = number == recipe.restarts
        run.report(f"did not converge: {share:.2f} of the best constant's loss; {'kept, the last try' if last else 'again'}")
        if not last:
            checkpoint.remove(run.checkpoint)
    return learner, facts


def _attempt(run: Run, number: int) -> Run:
    if not number:
        return run
    seeded = change(run.experiment, train__seed=run.experiment.train.seed + APART * number)
    return replace(run, experiment=seeded, key=f"{run.key}-{number}")


def held_out_file(weights: Path) -> Path:
    """``fold0_log/held_out.csv`` beside ``fold0.safetensors`` or its checkpoint: step, epoch, loss, what the judge says."""
    return weights.with_name(f"{weights.name.partition('.')[0]}_log") / "held_out.csv"


def looks(run: Run, rows: np.ndarray) -> loader.Visits:
    """Batches of row numbers that a network looks at without learning from them."""
    return loader.plain_batches(rows, loader.at_once(run.device, run.experiment.view.size))


@torch.inference_mode()
def held_out(run: Run, learner: Learner) -> dict[str, float]:
    """``loss``, the mean of the fold that is held out, and what the run's judge says of it; one view, fp32.

    Nothing where no row of the fold is labeled.
    """
    rows = np.flatnonzero(taught(run) == run.fold)
    if not len(rows):
        return {}
    net = learner.result.eval()
    losses, said = [], []
    for batch in loader.loader(training_pictures(run), looks(run, rows), 0, False):
        outputs = net(learner.normalize(batch.images), batch.columns.to(run.device))
        losses.append(learner.loss(outputs, batch.targets.to(run.device))[1])
        said.append(learner.loss.answer(outputs))
    assert run.judge is not None
    return {"loss": float(torch.cat(losses).mean()), **run.judge(rows, torch.cat(said).cpu().numpy())}


@torch.inference_mode()
def share_of_constant(run: Run, learner: Learner) -> float:
    """Mean loss of the training rows, not augmented and without dropout, over that of the best constant output.

    A UserError where the recipe's loss knows no constant.
    """
    rows = loader.training_rows(run.rows, taught(run), run.fold, run.experiment.sampling.keep)
    labels = run.rows[list(run.targets)].to_numpy(np.float32)[rows]
    net = learner.result.eval()  # what would be kept: the average where there is one
    losses = []
    pictures, batches = training_pictures(run), looks(run, rows)
    read = loader.loader(pictures, batches, run.workers, run.device.type == "cuda")
    with track(len(rows), "look whether it converged", report=run.report, brief=True) as steps:
        for batch in read:
            outputs = net(learner.normalize(batch.images), batch.columns.to(run.device))
            losses.append(learner.loss(outputs, batch.targets.to(run.device))[1])
            steps.step(len(batch.rows), images=len(batch.rows))
    return same_everywhere(float(torch.cat(losses).mean()) / learner.loss.constant(torch.from_numpy(labels)))
