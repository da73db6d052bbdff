"""What to do when the loss or the gradient is not finite: skip the step, then roll back, then stop and name the rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from radstack.core.errors import UserError
from radstack.core.say import Report

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
