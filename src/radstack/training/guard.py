"""What to do when the loss or the gradient is not finite: skip the step, then roll back, then stop and name the rows."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from radstack.core.errors import UserError

NAMED = 8
"""How many ids a message names."""


class RollBack(Exception):
    """Too many bad steps in a row: go back to the last checkpoint."""


@dataclass
class Guard:
    """Counts steps that did not move the weights."""

    ids: np.ndarray
    """Id of every row of the row table."""
    limit: int
    """Bad steps in a row before rolling back."""
    report: Callable[[str], None]
    bad: int = 0
    suspects: list[str] = field(default_factory=list)

    def judge(self, finite: bool, rows: torch.Tensor, row_losses: torch.Tensor) -> None:
        """Take one step's verdict with its row numbers [batch] and row losses [batch].

        Raises:
            RollBack: ``limit`` bad steps in a row.
        """
        if finite:
            self.bad = 0
            return
        self.bad += 1
        infinite = ~torch.isfinite(row_losses.cpu())
        named = self.ids[rows[infinite].numpy() if infinite.any() else rows.numpy()][:NAMED].tolist()
        self.suspects = list(dict.fromkeys([*self.suspects, *named]))[-NAMED:]
        self.report(f"step skipped ({self.bad} in a row): loss or gradient not finite at {', '.join(named)}")
        if self.bad >= self.limit:
            raise RollBack

    def give_up(self) -> UserError:
        """The error of a run that rolled back and met the same again."""
        return UserError(f"loss not finite again after rolling back; rows met: {', '.join(self.suspects)}; look at "
                         "these pictures, or use --set train.precision=fp32 or a lower optim.lr")
