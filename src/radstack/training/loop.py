"""The training loop of every network here: resume, step, guard, save and log, from top to bottom.

Where the loss or the gradient is not finite it skips the step, then rolls back, then stops and names the rows.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from radstack.core.errors import UserError
from radstack.core.limits import STEPS, keep_memory
from radstack.core.progress import Log, track
from radstack.core.say import Report
from radstack.training import checkpoint
from radstack.training.distributed import distributed, same_everywhere

T = TypeVar("T")
NAMED = 8
"""How many rows a message names."""


class RollBack(Exception):
    """Too many bad steps in a row: go back to the last checkpoint."""


@dataclass(frozen=True)
class Step:
    """What became of an optimizer step."""

    moved: bool
    """Whether the gradient was finite, so that the weights moved; the same in all processes, which share the gradient."""
    loss: float
    rate: float
    """Learning rate."""
    images: int
    """Pictures met by all processes."""
    names: Sequence[str] | np.ndarray
    """Of the rows that this process met."""
    losses: torch.Tensor
    """Their losses [rows], to tell which are bad."""

    @property
    def figures(self) -> dict[str, float]:
        """For the progress line; a loss that is not finite would spoil the mean."""
        return ({"loss": self.loss} if self.moved else {}) | {"lr": self.rate, "images": self.images}


@dataclass
class Guard:
    """Counts steps that did not move the weights."""

    limit: int
    """Bad steps in a row before rolling back."""
    advice: str
    """What to type against it, for the last error."""
    report: Report
    bad: int = 0
    suspects: list[str] = field(default_factory=list)

    def judge(self, step: Step) -> None:
        """Count ``step``, which has already been left out where it was bad.

        One bad step may be chance (fp16 overflows while its scale adapts), ``limit`` in a row are not: they raise RollBack.
        """
        if step.moved:
            self.bad = 0
            return
        self.bad += 1
        infinite = [name for name, loss in zip(step.names, step.losses.tolist()) if not abs(loss) < float("inf")]
        named = (infinite or list(step.names))[:NAMED]
        self.suspects = list(dict.fromkeys([*self.suspects, *named]))[-NAMED:]
        self.report(f"step skipped ({self.bad} in a row): loss or gradient not finite at {', '.join(named)}")
        if self.bad >= self.limit:
            raise RollBack

    def give_up(self) -> UserError:
        """The error of a run that rolled back and met the same again."""
        return UserError(f"loss not finite again after rolling back; rows met: {', '.join(self.suspects)}; {self.advice}")


@dataclass
class Position:
    """Where a run stands; kept in its checkpoints."""

    stretch: int = 0
    """Epochs or phases done."""
    step: int = 0
    """Optimizer steps done in this epoch or phase."""
    done: int = 0
    """Optimizer steps done in all."""
    rate_factor: float = 1.0
    """Factor on the learning rate; halved by rolling back."""


class Trainable(Protocol):
    """What the loop drives: networks with their optimizer, which give batches, make a step and state themselves."""

    stretches: int
    """Epochs, or phases with an optimizer of their own."""
    total: int
    """Optimizer steps in all, as well as that is known beforehand."""
    bad_steps: int
    """Steps in a row that may be skipped before the run rolls back."""
    advice: str
    """What to type when the loss stays not finite; ends the error."""

    def batches(self, at: Position) -> Iterable[Any]:
        """Give this process's batches from ``at`` to the end of the epoch: a function of seed, fold and ``at`` alone.

        At step 0 also begins the epoch (a seed, a fresh optimizer). ``at`` moves on while the batches are read.
        """

    def step(self, batch: Any, at: Position) -> Step:
        """One optimizer step, which leaves the weights as they are where the gradient is not finite."""

    def end(self, at: Position, tell: Callable[..., None]) -> None:
        """Do what follows an epoch's last step, by default nothing; ``tell`` takes figures for the progress line."""
        return None

    def state(self) -> dict[str, Any]:
        """Everything that changes while training, but random states: tensors, numbers, strings, lists and dicts."""

    def restore(self, state: dict[str, Any], at: Position) -> None:
        """Undo :meth:`state`, which was taken at ``at``."""


@dataclass
class Loop:
    """Trains ``learner`` from wherever the last checkpoint stands. In several processes each runs one on its share."""

    learner: Trainable
    file: Path
    """The checkpoint, ``fold0.checkpoint``; ``fold0_log`` beside it gets the figures."""
    key: str
    """Of the artifact; a checkpoint of another key is not resumed."""
    seconds: float
    """Between two checkpoints within an epoch."""
    report: Report
    what: str = "train"
    """Starts each progress line."""

    def run(self) -> float:
        """Train to the last step; return the pictures that all processes saw a second.

        A UserError where the loss is not finite even after rolling back, naming what was met.
        """
        keep_memory(STEPS)
        learner, first = self.learner, distributed()[0] == 0  # of several processes one alone says how far it is
        guard, at = Guard(learner.bad_steps, learner.advice, self.report), self.resume()
        log = Log(self.file.with_name(f"{self.file.stem}_log"), at.done) if first else None
        told: Report = self.report if first else lambda _: None
        images, start = 0, time.monotonic()
        with track(learner.total, self.what, done=at.done, report=told, log=log) as progress:
            while at.stretch < learner.stretches:
                saved = time.monotonic()
                try:
                    for batch, wait in _waited(learner.batches(at)):
                        step = learner.step(batch, at)
                        at.step, at.done, images = at.step + 1, at.done + 1, images + step.images
                        guard.judge(step)
                        progress.step(1, **step.figures, wait=wait)
                        # Rank 0's clock decides for all. Not amid bad steps: rolling back would return into them.
                        if guard.bad == 0 and same_everywhere(time.monotonic() - saved) >= self.seconds:
                            self.save(at)
                            saved = time.monotonic()
                    learner.end(at, partial(progress.step, 0))
                    at.stretch, at.step = at.stretch + 1, 0
                    self.save(at)
                except RollBack:
                    at = self.roll_back(at, guard)
                    progress.done = at.done
        return images / max(time.monotonic() - start, 1e-9)

    def resume(self) -> Position:
        """Restore the newest checkpoint; without one begin, and write it, so that rolling back has where to go."""
        kept = checkpoint.load(self.file, self.key, self.report)
        if kept is None:
            self.save(Position())
            return Position()
        at = Position(**kept["position"])
        self.learner.restore(kept["learner"], at)
        self.report(f"going on at epoch {at.stretch} step {at.step}")
        return at

    def roll_back(self, at: Position, guard: Guard) -> Position:
        """Return to the last checkpoint with half the learning rate; a second time is an error."""
        if at.rate_factor < 1.0:  # the same again: neither chance nor the rate is to blame, a person must look
            raise guard.give_up()
        at = self.resume()
        at.rate_factor, guard.bad = 0.5, 0
        self.save(at)  # killed now, the run goes on with the half
        met = ", ".join(guard.suspects)
        self.report(f"rolled back after {guard.limit} bad steps, learning rate halved; rows met: {met}")
        return at

    def save(self, at: Position) -> None:
        """Write a checkpoint, in which every process's random states are."""
        checkpoint.save(self.file, {"key": self.key, "position": asdict(at), "learner": self.learner.state()})


def _waited(batches: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Each batch with the seconds that it took to come."""
    start = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - start
        start = time.perf_counter()
