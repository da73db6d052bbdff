"""Batches as tensors."""

from dataclasses import dataclass

import numpy as np
import torch

from radstack.core.errors import UserError
from radstack.recipes.sequence import Sequence, TwoLevel
from radstack.scoring.metrics import logit
from radstack.sequence.arrays import Arrays, held_out_probs
from radstack.sequence.batches import Picks
from radstack.sequence.space import SPACES, Space


@dataclass(frozen=True)
class Batch:
    """Tensors of a batch, zero on padding."""

    rows: np.ndarray
    """int64 [series, slices], row numbers; -1 on padding."""
    features: list[torch.Tensor]
    """A float32 [series, slices, width] for each block of features."""
    probs: torch.Tensor
    """float32 [series, slices, members, targets], held-out probabilities."""
    spacing: torch.Tensor
    """float32 [series, slices], ln(1 + millimeters) to the next slice read (the last repeats the one before)."""
    labels: torch.Tensor
    """float32 [series, slices, targets]."""
    mask: torch.Tensor
    """bool [series, slices], True on real slices."""


class Feed:
    """Makes batches on a device."""

    def __init__(self, spaces: list[Space], probs: np.ndarray, labels: np.ndarray, z: np.ndarray, device: torch.device):
        """Take feature blocks and, per row, probs [rows, members, targets], labels [rows, targets] and z [rows]."""
        self.spaces, self.probs, self.labels, self.z, self.device = spaces, probs, labels, z, device

    @property
    def widths(self) -> list[int]:
        """Channels of each feature block."""
        return [space.width for space in self.spaces]

    def batch(self, picks: Picks) -> Batch:
        """The tensors of ``picks``, as long as its longest series."""
        rows, mask = picks.rows()
        real, where = rows[mask], torch.from_numpy(mask).to(self.device)
        features = [self._padded(space.take(real), where) for space in self.spaces]
        probs, labels, spacing = (self._padded(torch.from_numpy(values).to(self.device), where)
                                  for values in (self.probs[real], self.labels[real], self._spacing(rows, mask)))
        return Batch(rows, features, probs, spacing, labels, where)

    def _spacing(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 [real slices]; the spacing of a one-slice series is 0."""
        gap = np.abs(np.diff(self.z[rows], axis=1, append=0.0))
        last = np.arange(len(rows)), mask.sum(axis=1) - 1
        gap[last] = np.where(last[1] > 0, gap[last[0], last[1] - 1], 0.0)
        return np.log1p(gap[mask]).astype(np.float32)

    @staticmethod
    def _padded(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Spread ``values`` [real slices, …] over [series, slices, …]."""
        return values.new_zeros((*mask.shape, *values.shape[1:])).index_put((mask,), values)


def make_feed(recipe: Sequence, arrays: Arrays, fold: int, device: torch.device) -> Feed:
    """The batches of ``recipe`` as fold ``fold`` reads them."""
    if recipe.space not in SPACES:
        raise UserError(f"space {recipe.space!r} is unknown; choose one of {', '.join(SPACES)}")
    spaces = [SPACES[recipe.space](arrays, member, fold, device) for member in recipe.members]
    probs = np.empty((len(arrays.fold), 0, arrays.labels.shape[1]), np.float32)
    if recipe.logits or isinstance(recipe.model, TwoLevel):
        probs = held_out_probs(arrays, recipe.members, fold)
    if recipe.logits:
        spaces.append(Space({fold: logit(probs).reshape(len(probs), -1).astype(np.float32)},
                            np.full(len(probs), fold), {}, device))
    return Feed(spaces, probs, arrays.labels, arrays.z, device)
