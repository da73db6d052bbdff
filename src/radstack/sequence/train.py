"""The sequence model of one fold: its series, epochs and steps, for the training loop, and predictions of rows unseen."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from radstack.core.errors import UserError, command
from radstack.core.recipe import digest
from radstack.core.say import Report
from radstack.nets.objective_base import Objective
from radstack.nets.objectives import objective
from radstack.nets.optim import set_rate
from radstack.nets.precision import precision, served
from radstack.recipes.losses import BinaryCrossEntropy, Regression
from radstack.recipes.sequence import Sequence
from radstack.scoring.metrics import normalized
from radstack.sequence.arrays import Arrays, check_arrays
from radstack.sequence.feed import Batch, Feed, Picks, epoch_batches, make_feed, whole
from radstack.sequence.models import build
from radstack.training.distributed import averaging, distributed, same_everywhere
from radstack.training.loop import Loop, Position, Step, Trainable

BAD_STEPS = 10  # Steps in a row that may be skipped for a loss or gradient that is not finite
SAMPLE = 256
"""Rows of each embedding table that enter the key; the stages' manifests hold the whole file's hash."""
Tell = Callable[..., None]
"""Takes figures of a step, see :meth:`radstack.core.progress.Track.step`."""
Answer = Callable[[torch.Tensor], torch.Tensor]
"""Outputs [rows, targets] -> predictions."""
PREDICT_SERIES = 32  # Series predicted at once
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""``Sequence.precision`` -> type of matrix products."""


@dataclass(frozen=True)
class Fitted:
    """What one fold's model gives; rows are ascending index rows."""

    rows: np.ndarray  # int64 [scored rows], the rows of the fold
    predictions: np.ndarray  # float32 [scored rows, targets], probabilities or values
    losses: list[float]  # Mean training loss of each epoch (of rank 0's share)
    weights: dict[str, torch.Tensor]
    """``0.<parameter>``, ``1.<parameter>`` ... on the CPU: the models of the last ``bag`` epochs, for :func:`apply_fold`."""


def fit_fold(recipe: Sequence, arrays: Arrays, fold: int, class_weights: tuple[float, ...], folder: Path,
             device: str | torch.device, report: Report, checkpoint_seconds: float = 300.0) -> Fitted:
    """Train on the rows of all folds but ``fold``; average the last ``recipe.bag`` epochs' predictions.

    A killed run goes on from its checkpoint in ``folder``, on the CPU to the same bits.
    ``folder`` is for the checkpoint (:func:`checkpoint_path`), at least every ``checkpoint_seconds``, and the log
    (``fold<n>_log``); ``class_weights`` are one a target, of any sum; ``report`` takes progress lines.

    Raises:
        LeakError: a patient of ``fold`` is also trained on.
        UserError: something is missing, or training does not stay finite.
    """
    check_arrays(arrays, recipe.members, fold)
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        feed = make_feed(recipe, arrays, fold, device)  # once: rotations take longer than the epochs of few patients
        if recipe.inner:
            recipe = replace(recipe, epochs=ending(recipe, arrays, fold, class_weights, feed, report), inner=0)
        key = key_of(recipe, arrays, fold, normalized(class_weights))
        trainer = Trainer(recipe, arrays, fold, class_weights, feed)
        Loop(trainer, checkpoint_path(folder, fold), key, checkpoint_seconds, report).run()
    return trainer.result()


def ending(recipe: Sequence, arrays: Arrays, fold: int, class_weights: tuple[float, ...], feed: Feed,
           report: Report) -> int:
    """After how many epochs the loss of patients held out inside the training rows is least, 1 to ``recipe.epochs``.

    ``recipe.inner`` parts of the patients; the rows of ``fold`` have no say. Arguments as for :func:`fit_fold`; a run that
    was killed finds the same.
    """
    patient = np.unique(arrays.group[arrays.start], return_inverse=True)[1]
    fold_of_series = arrays.fold[arrays.start]
    learned = (fold_of_series != fold) & (fold_of_series >= 0)
    patients = np.random.default_rng([recipe.seed, fold]).permutation(np.unique(patient[learned]))
    losses = np.zeros(recipe.epochs)
    for part in np.array_split(patients, min(recipe.inner, len(patients))) if len(patients) > 1 else ():
        held = learned & np.isin(patient, part)
        trainer = Trainer(recipe, arrays, fold, class_weights, feed, learned & ~held, held)
        for epoch in range(recipe.epochs):
            for batch in trainer.batches(Position(epoch)):
                trainer.step(batch, Position(epoch))
            losses[epoch] += trainer.held_loss() * held.sum()
    if not losses.any():  # a single patient has nobody to be held out for
        return recipe.epochs
    # Of several processes each holds out by its own batch statistics, and all must end together.
    best = int(same_everywhere(int(np.nan_to_num(losses, nan=np.inf).argmin()) + 1))
    report(f"{recipe.name} ends after {best} of {recipe.epochs} epochs, by patients held out in training")
    return best


def apply_fold(recipe: Sequence, arrays: Arrays, fold: int, weights: dict[str, torch.Tensor], device: str | torch.device,
               class_weights: tuple[float, ...], tell: Tell = lambda *_, **__: None) -> np.ndarray:
    """Mean prediction of fold ``fold``'s models over series that none of them was trained on.

    Args:
        recipe: what was trained.
        arrays: rows to predict, all of fold -1, with the embeddings and tables of fold ``fold``'s networks.
        fold: whose networks and models.
        weights: as :attr:`Fitted.weights`.
        device: ``cpu`` or ``cuda:n``.
        class_weights: one a target, of any sum.
        tell: takes the count of ``images`` of each batch.

    Returns:
        float32 [rows, targets], probabilities or values.

    Raises:
        UserError: a prediction is not finite.
    """
    trainer = Trainer(recipe, arrays, fold, class_weights, make_feed(recipe, arrays, fold, torch.device(device)))
    models = 1 + max(int(name.partition(".")[0]) for name in weights)  # the recipe knows only the most
    for number in range(models):
        own = f"{number}."
        trainer.model.load_state_dict({name.removeprefix(own): value for name, value in weights.items()
                                       if name.startswith(own)})
        trainer.bag += trainer.predict(tell)
    return trainer.bag / models


def checkpoint_path(folder: Path, fold: int) -> Path:
    """Where fold ``fold`` keeps its checkpoint. It may be deleted once the fold's predictions are written."""
    return folder / f"fold{fold}.checkpoint"


def key_of(recipe: Sequence, arrays: Arrays, fold: int, weights: np.ndarray) -> str:
    """A digest of all that decides the weights: recipe, fold, class weights, and the data by content (sampled)."""
    content = hashlib.sha256()
    tables = [arrays.embeddings[member][net] for member in recipe.members for net in sorted(arrays.embeddings[member])]
    tables += [arrays.probs[member][net] for member in recipe.members for net in sorted(arrays.probs.get(member, {}))]
    sampled = [np.asarray(table[:: -(-len(table) // SAMPLE)]) for table in tables]
    for values in [arrays.labels, arrays.fold, arrays.z, arrays.start, weights, *sampled]:
        content.update(np.ascontiguousarray(values).tobytes())
    return digest(recipe, fold, content.hexdigest())


class Trainer(Trainable):
    """Model and optimizer of one fold as the loop drives them; each epoch is seeded anew by (seed, fold, epoch)."""

    advice = "use --set precision=fp32 or a lower lr"

    def __init__(self, recipe: Sequence, arrays: Arrays, fold: int, class_weights: tuple[float, ...], feed: Feed,
                 learned: np.ndarray | None = None, held: np.ndarray | None = None) -> None:
        """``feed`` is of the same recipe, rows and fold.

        ``learned`` and ``held``, bool [series], are other series to train on and to predict than the fold says.
        """
        self.recipe, self.arrays, self.fold, self.feed, device = recipe, arrays, fold, feed, feed.device
        name = served(recipe.precision, device, "fp32")  # on a CPU an LSTM has no half precision
        self.amp = autocast(name, device)
        targets = arrays.labels.shape[1]
        named = arrays.targets or tuple(f"target {place}" for place in range(targets))
        self.objective = make_objective(recipe.loss, class_weights, named).to(device)
        torch.manual_seed(self._seed(0))
        self.model = build(recipe.model, self.feed.widths, self.feed.probs.shape[1], targets).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), recipe.lr, fused=True)
        self.precision = precision(name, device)
        self.learning = averaging(self.model, device)
        fold_of_series = arrays.fold[arrays.start]
        series = whole(arrays.start, arrays.stop)
        self.train_picks = series[(fold_of_series != fold) & (fold_of_series >= 0) if learned is None else learned]
        asked = (fold_of_series == fold) | (fold_of_series < 0) if held is None else held
        self.wanted_picks = series[asked]
        self.wanted = np.flatnonzero(np.repeat(asked, arrays.stop - arrays.start))
        self.bag = np.zeros((len(self.wanted), targets), np.float32)
        self.losses, self.steps, self.kept = list[float](), list[float](), list[dict[str, torch.Tensor]]()
        self.stretches, self.bad_steps = recipe.epochs, BAD_STEPS
        self.total = recipe.epochs * -(-len(self.train_picks) // recipe.batch_size)

    def batches(self, at: Position) -> Iterator[tuple[Batch, float]]:
        """The series of each step that the epoch has left, and the weight of this process's loss (:func:`share`)."""
        rng = np.random.default_rng(np.random.SeedSequence([self.recipe.seed, self.fold, at.stretch + 1]))
        if at.step == 0:
            torch.manual_seed(self._seed(at.stretch + 1, distributed()[0]))
            self.steps = []
        left = islice(epoch_batches(self.train_picks, self.recipe, rng), at.step, None)
        shares = (share(picks, *distributed()) for picks in left)
        return ((self.feed.batch(picks), weight) for picks, weight in shares)

    def step(self, batch: tuple[Batch, float], at: Position) -> Step:
        """One optimizer step, left out where the gradient is not finite."""
        series, weight = batch
        lr = rate(self.recipe, at.stretch) * at.rate_factor
        set_rate(self.optimizer, lr)
        self.learning.train()
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        with self.amp:
            outputs = self.learning(series)
        value = loss(outputs, series, self.objective)
        self.precision.backward(value * weight, self.optimizer)
        moved = bool(np.isfinite(self.precision.step(self.optimizer, self.recipe.clip_norm)))
        if not moved:  # the forward pass has already put the bad values into the norms' running means
            for buffer, old in zip(self.model.buffers(), statistics):
                buffer.copy_(old)
        value = value.detach().cpu()
        self.steps.append(float(value) if moved else float("nan"))
        names = [f"index row {row}" for row in series.rows[:, 0]]
        slices = int((series.rows >= 0).sum()) * distributed()[1]
        return Step(moved, float(value), lr, slices, names, value.expand(len(names)))

    def end(self, at: Position, tell: Tell) -> None:
        """Note the epoch's mean loss; one of the last ``bag`` epochs predicts."""
        mean = float(torch.tensor(self.steps).nanmean())
        if not np.isfinite(mean):
            raise UserError(f"{self.recipe.name} epoch {at.stretch + 1}: no finite step; {self.advice}")
        self.losses.append(mean)
        if at.stretch >= self.recipe.epochs - self.recipe.bag:
            self.bag += self.predict(tell)
            self.kept.append({name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()})

    def predict(self, tell: Tell) -> np.ndarray:
        """Predictions of the scored and test rows with the weights as they are, float32 [wanted rows, targets]."""
        out = predict(self.model, self.feed, self.wanted_picks, self.amp, self.recipe.reverse_tta, self.objective.answer,
                      tell)[self.wanted]
        bad = self.wanted[~np.isfinite(out).all(axis=1)]
        if len(bad):
            raise UserError(f"{self.recipe.name}: {len(bad)} predictions are not finite, the first of index row {bad[0]}; "
                            f"predict again: {command('05_predict', ','.join(self.recipe.members))} --force")
        return out

    @torch.inference_mode()
    def held_loss(self) -> float:
        """Mean loss over the series to predict, as the weights are."""
        self.model.eval()
        total, count = 0.0, 0
        for picks in alike(self.wanted_picks):
            batch = self.feed.batch(picks)
            with self.amp:
                outputs = self.model(batch)
            rows = int((batch.rows >= 0).sum())
            total, count = total + rows * float(loss(outputs[-1:], batch, self.objective)), count + rows
        return total / count

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, loss scale, losses, the bag's models and the sum of their predictions so far."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "precision": self.precision.state_dict(), "bag": torch.from_numpy(self.bag), "losses": self.losses,
                "steps": self.steps, "kept": self.kept}

    def restore(self, state: dict[str, Any], at: Position) -> None:
        """Undo :meth:`state`."""
        for part in ("model", "optimizer", "precision"):
            getattr(self, part).load_state_dict(state[part])
        self.bag, self.losses, self.steps, self.kept = state["bag"].numpy(), *(state[name]
                                                                               for name in ("losses", "steps", "kept"))

    def result(self) -> Fitted:
        """Mean over the bag, of the scored rows."""
        mean, scored = self.bag / min(self.recipe.bag, self.recipe.epochs), ~self.arrays.is_test[self.wanted]
        weights = {f"{number}.{name}": value for number, kept in enumerate(self.kept) for name, value in kept.items()}
        return Fitted(self.wanted[scored], mean[scored], self.losses, weights)

    def _seed(self, stage: int, rank: int = 0) -> int:
        """Torch's seed for ``stage`` (0 is initialization, n the n-th epoch); each process drops channels of its own."""
        entropy = [self.recipe.seed, self.fold, stage, *([rank] if rank else [])]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def share(picks: Picks, rank: int, world: int) -> tuple[Picks, float]:
    """The series of a step that process ``rank`` learns from, and what its mean loss weighs among the processes'.

    A mean over more slices weighs more, so that all together average as one process does. Where there are fewer series
    than processes the others take along the first, which then weighs nothing: each must take part in every step.
    """
    mine = np.arange(rank, len(picks), world)
    if not len(mine):
        return picks[np.array([0])], 0.0
    return picks[mine], world * float(picks.count[mine].sum() / picks.count.sum())


def rate(recipe: Sequence, epoch: int) -> float:
    """Learning rate of ``epoch`` (from 0)."""
    times = sum(epoch >= milestone for milestone in recipe.milestones) if recipe.milestones else epoch
    return recipe.lr * recipe.gamma**times


def make_objective(recipe: BinaryCrossEntropy | Regression, class_weights: tuple[float, ...],
                   targets: tuple[str, ...]) -> Objective:
    """The objective of the columns ``targets``; those of probabilities weigh as ``class_weights`` unless the recipe says."""
    if isinstance(recipe, BinaryCrossEntropy) and not recipe.class_weights:
        recipe = replace(recipe, class_weights=class_weights)
    return objective(recipe, targets)


def loss(outputs: Iterable[torch.Tensor], batch: Batch, how: Objective) -> torch.Tensor:
    """The objective's mean over real slices, in fp32; levels add."""
    return torch.stack([how(level[batch.mask], batch.labels[batch.mask])[0] for level in outputs]).sum()


def autocast(precision: str, device: torch.device) -> torch.amp.autocast:
    """The context of the forward pass; UserError for an unknown name. See :func:`radstack.nets.precision.served`."""
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r} is unknown; choose one of {', '.join(DTYPES)}")
    return torch.amp.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def alike(picks: Picks) -> Iterator[Picks]:
    """The series in batches of ``PREDICT_SERIES`` of about equal length, so that little is padded; each exactly once."""
    order = np.argsort(picks.count, kind="stable")
    return (picks[order[at : at + PREDICT_SERIES]] for at in range(0, len(order), PREDICT_SERIES))


@torch.inference_mode()
def predict(model: nn.Module, feed: Feed, picks: Picks, amp: torch.amp.autocast, reverse: bool,
            answer: Answer = torch.sigmoid, tell: Tell = lambda *_, **__: None) -> np.ndarray:
    """Predictions float32 [index rows, targets] of the rows of ``picks``, NaN elsewhere; ``answer`` makes them of outputs.

    With ``reverse`` the mean of the series read forward and backward. Rows carry their numbers, so nothing has to be
    turned back. ``tell`` takes the count of ``images`` of each batch.
    """
    model.eval()
    out = np.full(feed.labels.shape, np.nan, np.float32)
    for chosen in alike(picks):
        for read in (chosen, chosen.reversed()) if reverse else (chosen,):
            batch = feed.batch(read)
            with amp:
                outputs = model(batch)[-1]
            rows = batch.rows[batch.rows >= 0]
            found = answer(outputs.float()[batch.mask]).cpu().numpy()
            out[rows] = found if read is chosen else (out[rows] + found) / 2
        tell(images=len(rows))
    return out
