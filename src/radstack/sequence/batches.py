"""Which rows a batch reads, and in which order: numpy, vectorized over series."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from radstack.recipes.sequence import Sequence

JITTER = 4.0
"""Slices by which lengths are blurred before sorting, so that an epoch's batches differ from the last one's."""
THIN_ABOVE = 10
"""Only longer series are thinned to every second slice (SeuTao)."""


@dataclass(frozen=True)
class Picks:
    """Rows ``first, first + step, …`` (``count`` of them) of each series; all fields int64 [series]."""

    first: np.ndarray
    count: np.ndarray
    step: np.ndarray

    def __len__(self) -> int:
        """Number of series."""
        return len(self.first)

    def __getitem__(self, chosen: np.ndarray) -> "Picks":
        """The series ``chosen`` (numbers or a bool mask)."""
        return Picks(self.first[chosen], self.count[chosen], self.step[chosen])

    def reversed(self, which: np.ndarray | bool = True) -> "Picks":
        """The series of ``which`` (bool [series]) backward, the others as they are."""
        last = self.first + self.step * (self.count - 1)
        return Picks(np.where(which, last, self.first), self.count, np.where(which, -self.step, self.step))

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers int64 [series, slices], padded on the right with -1, and the mask of real slices."""
        places = np.arange(self.count.max())
        mask = places < self.count[:, None]
        return np.where(mask, self.first[:, None] + self.step[:, None] * places, -1), mask


def whole(start: np.ndarray, stop: np.ndarray) -> Picks:
    """Every row of each series, in order."""
    return Picks(start, stop - start, np.ones_like(start))


def augmented(picks: Picks, recipe: Sequence, rng: np.random.Generator) -> Picks:
    """Thin to every second slice, crop, reverse, each as the recipe says; never leaves a series empty."""
    thin = (rng.random(len(picks)) < recipe.every_second) & (picks.count > THIN_ABOVE)
    offset = np.where(thin, rng.integers(0, 2, len(picks)), 0)
    count = np.where(thin, (picks.count - offset + 1) // 2, picks.count)
    step = np.where(thin, 2 * picks.step, picks.step)
    kept = np.minimum(count, recipe.crop) if recipe.crop else count
    cut = rng.integers(0, count - kept + 1)
    picks = Picks(picks.first + offset * picks.step + cut * step, kept, step)
    return picks.reversed(rng.random(len(picks)) < recipe.reverse)


def buckets(count: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Series numbers in batches of ``size`` of about equal length, in random order; each series exactly once."""
    order = np.argsort(count + rng.uniform(0, JITTER, len(count)), kind="stable")
    batches = [order[at : at + size] for at in range(0, len(order), size)]
    return (batches[number] for number in rng.permutation(len(batches)))


def epoch_batches(picks: Picks, recipe: Sequence, rng: np.random.Generator) -> Iterator[Picks]:
    """One training epoch, a function of ``rng``'s state alone."""
    picks = augmented(picks, recipe, rng)
    return (picks[chosen] for chosen in buckets(picks.count, recipe.batch_size, rng))


def ordered_batches(picks: Picks, size: int) -> Iterator[Picks]:
    """All series once, shortest first, for prediction."""
    order = np.argsort(picks.count, kind="stable")
    return (picks[order[at : at + size]] for at in range(0, len(order), size))
