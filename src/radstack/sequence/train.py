"""Train the sequence model of one fold and predict the rows it never saw."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from radstack.core.errors import UserError
from radstack.core.progress import Log, track
from radstack.nets.objectives import Objective, objective
from radstack.recipes.losses import BinaryCrossEntropy, Regression
from radstack.recipes.sequence import Sequence
from radstack.scoring.metrics import normalized
from radstack.sequence import checkpoint
from radstack.sequence.arrays import Arrays, check_arrays
from radstack.sequence.batches import epoch_batches, whole
from radstack.sequence.feed import Batch, make_feed
from radstack.sequence.models import build
from radstack.sequence.predict import Tell, autocast, predict

BAD_STEPS = 10
"""Steps in a row that may be skipped for a loss or gradient that is not finite."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """What one fold's model gives; rows are ascending index rows."""

    rows: np.ndarray
    """int64 [scored rows], the rows of the fold."""
    predictions: np.ndarray
    """float32 [scored rows, targets], probabilities or values."""
    test_rows: np.ndarray
    """int64 [test rows]."""
    test_predictions: np.ndarray
    """float32 [test rows, targets], probabilities or values."""
    state: dict[str, torch.Tensor]
    """Weights after the last epoch, on the CPU."""
    losses: list[float]
    """Mean training loss of each epoch."""


def fit_fold(recipe: Sequence, arrays: Arrays, fold: int, class_weights: tuple[float, ...], folder: Path,
             device: str | torch.device, report: Report) -> Fitted:
    """Train on the rows of all folds but ``fold``; average the last ``recipe.bag`` epochs' predictions.

    A checkpoint in ``folder`` is written after every epoch; a killed run goes on from it, on the CPU to the same bits.
    ``fold<n>_log/`` beside it gets the figures (:class:`radstack.core.progress.Log`).

    Args:
        recipe: what to train.
        arrays: embeddings, probabilities, labels, folds and series.
        fold: the fold that is held out and scored.
        class_weights: one a target, of any sum.
        folder: for the checkpoint and the log.
        device: ``cpu`` or ``cuda:n``.
        report: takes progress lines.

    Raises:
        LeakError: a patient of ``fold`` is also trained on.
        UserError: something is missing, or training does not stay finite.
    """
    check_arrays(arrays, recipe.members, fold)
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = Trainer(recipe, arrays, fold, class_weights, folder, device, report)
        trainer.run()
    return trainer.result()


class Trainer:
    """Model, optimizer and progress of one fold; randomness is drawn anew each epoch from (seed, fold, epoch)."""

    def __init__(self, recipe: Sequence, arrays: Arrays, fold: int, class_weights: tuple[float, ...], folder: Path,
                 device: torch.device, report: Report):
        """Build the model and take up the checkpoint, if there is one."""
        self.recipe, self.arrays, self.fold, self.report = recipe, arrays, fold, report
        self.name = f"{recipe.name} fold {fold}"
        self.feed, self.amp = make_feed(recipe, arrays, fold, device), autocast(recipe.precision, device)
        targets = arrays.labels.shape[1]
        self.objective = make_objective(recipe.loss, class_weights, targets).to(device)
        self.reseed(0)
        self.model = build(recipe.model, self.feed.widths, self.feed.probs.shape[1], targets).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), recipe.lr, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        fold_of_series = arrays.fold[arrays.start]
        series = whole(arrays.start, arrays.stop)
        self.train_picks = series[(fold_of_series != fold) & (fold_of_series >= 0)]
        self.wanted_picks = series[(fold_of_series == fold) | (fold_of_series < 0)]
        self.wanted = np.flatnonzero((arrays.fold == fold) | arrays.is_test)
        self.bag, self.losses = np.zeros((len(self.wanted), targets), np.float32), list[float]()
        self.path, self.logs = checkpoint.checkpoint_path(folder, fold), folder / f"fold{fold}_log"
        self.tell: Tell = lambda *_, **__: None
        self.key = checkpoint.key_of(recipe, arrays, fold, normalized(class_weights))
        self.resume()

    def run(self) -> None:
        """Train the epochs that are left."""
        batches, epochs = -(-len(self.train_picks) // self.recipe.batch_size), self.recipe.epochs
        done = len(self.losses) * batches
        with track(epochs * batches, "train", done=done, report=self.report, log=Log(self.logs, done)) as steps:
            self.tell = steps.step
            for epoch in range(len(self.losses), epochs):
                self.losses.append(self.train_epoch(epoch))
                if epoch >= epochs - self.recipe.bag:
                    self.bag += self.predict()
                self.save()

    def train_epoch(self, epoch: int) -> float:
        """Every training series once; the mean loss."""
        rng = self.reseed(epoch + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.recipe, epoch)
        self.model.train()
        losses, bad = [], 0
        for picks in epoch_batches(self.train_picks, self.recipe, rng):
            start = time.perf_counter()
            batch = self.feed.batch(picks)
            wait = time.perf_counter() - start
            value, fine = self.step(batch)
            self.tell(loss=float(value) if fine else None, lr=rate(self.recipe, epoch), images=int(picks.count.sum()),
                      wait=wait)
            losses.append(value if fine else torch.full_like(value, torch.nan))
            bad = 0 if fine else bad + 1
            if not fine:
                self.complain(epoch, batch, bad)
        mean = float(torch.stack(losses).nanmean())
        if not np.isfinite(mean):
            raise UserError(f"{self.name} epoch {epoch + 1}: no finite step; use --set precision=fp32 or a lower lr")
        return mean

    def step(self, batch: Batch) -> tuple[torch.Tensor, bool]:
        """One optimizer step, left out where loss or gradient is not finite. Returns the loss and whether it was."""
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        with self.amp:
            outputs = self.model(batch)
        value = loss(outputs, batch, self.objective)
        self.optimizer.zero_grad()
        self.scaler.scale(value).backward()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm or torch.inf)
        fine = bool(torch.isfinite(norm) & torch.isfinite(value))
        if fine:
            self.scaler.step(self.optimizer)
        else:  # the forward pass has already put the bad values into the norms' running means
            for buffer, old in zip(self.model.buffers(), statistics):
                buffer.copy_(old)
        self.scaler.update()
        return value.detach(), fine

    def complain(self, epoch: int, batch: Batch, bad: int) -> None:
        """Say that a step is skipped; after too many in a row raise. The last good epoch is in the checkpoint."""
        rows = ", ".join(str(row) for row in batch.rows[:, 0])
        said = f"{self.name} epoch {epoch + 1}: loss or gradient not finite, series from index rows {rows}"
        if bad > BAD_STEPS:
            raise UserError(f"{said}, as in {BAD_STEPS} steps before; use --set precision=fp32 or a lower lr")
        self.report(f"{said}; step skipped")

    def predict(self) -> np.ndarray:
        """Predictions of the scored and test rows with the weights as they are, float32 [wanted rows, targets]."""
        out = predict(self.model, self.feed, self.wanted_picks, self.amp, self.recipe.reverse_tta, self.objective.answer,
                      partial(self.tell, 0))  # no step of the training, but shown while it lasts
        out = out[self.wanted]
        bad = self.wanted[~np.isfinite(out).all(axis=1)]
        if len(bad):
            raise UserError(f"{self.name}: {len(bad)} predictions are not finite, the first of index row {bad[0]}; "
                            f"predict {', '.join(self.recipe.members)} again (05_predict --force)")
        return out

    def reseed(self, stage: int) -> np.random.Generator:
        """Seed torch for ``stage`` (0 is initialization, n the n-th epoch); a numpy generator for the order."""
        seeds = np.random.SeedSequence([self.recipe.seed, self.fold, stage])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        return np.random.default_rng(seeds)

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.path, {"key": self.key, "losses": self.losses, "bag": torch.from_numpy(self.bag),
                                    "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                                    "scaler": self.scaler.state_dict()})

    def resume(self) -> None:
        """Take up the checkpoint if it belongs to this recipe and data."""
        state: dict[str, Any] | None = checkpoint.load(self.path, self.key)
        if state is None:
            if self.path.exists():
                self.report(f"{self.name} starts over: {self.path} is of another recipe or other data")
            return
        for part in ("model", "optimizer", "scaler"):
            getattr(self, part).load_state_dict(state[part])
        self.bag, self.losses = state["bag"].numpy(), state["losses"]
        self.report(f"{self.name} goes on after epoch {len(self.losses)}")

    def result(self) -> Fitted:
        """Mean over the bag, split into scored and test rows."""
        mean = self.bag / min(self.recipe.bag, self.recipe.epochs)
        test = self.arrays.is_test[self.wanted]
        state = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        return Fitted(self.wanted[~test], mean[~test], self.wanted[test], mean[test], state, self.losses)


def rate(recipe: Sequence, epoch: int) -> float:
    """Learning rate of ``epoch`` (from 0)."""
    times = sum(epoch >= milestone for milestone in recipe.milestones) if recipe.milestones else epoch
    return recipe.lr * recipe.gamma**times


def make_objective(recipe: BinaryCrossEntropy | Regression, class_weights: tuple[float, ...], targets: int) -> Objective:
    """The objective of ``targets`` columns; those of probabilities weigh as ``class_weights`` unless the recipe says."""
    if isinstance(recipe, BinaryCrossEntropy) and not recipe.class_weights:
        recipe = replace(recipe, class_weights=class_weights)
    return objective(recipe, tuple(f"target {place}" for place in range(targets)))


def loss(outputs: Iterable[torch.Tensor], batch: Batch, how: Objective) -> torch.Tensor:
    """The objective's mean over real slices, in fp32; levels add."""
    return torch.stack([how(level[batch.mask], batch.labels[batch.mask])[0] for level in outputs]).sum()
