"""What a batch reads: rows of series in which order, embeddings in one space, and both as tensors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from radstack.core.errors import UserError, command
from radstack.recipes.sequence import Sequence, TwoLevel
from radstack.scoring.metrics import logit
from radstack.sequence.arrays import Arrays, ByFold, held_out_probs

JITTER = 4.0
"""Slices by which lengths are blurred before sorting, so that an epoch's batches differ from the last one's."""
THIN_ABOVE = 10  # Only longer series are thinned to every second slice (SeuTao)
SAMPLE = 20_000  # Rows an alignment is fitted on at most (about ten a dimension for 2048-wide embeddings)


@dataclass(frozen=True)
class Picks:
    """Rows ``first, first + step, …`` (``count`` of them) of each series; all fields int64 [series]."""

    first: np.ndarray
    count: np.ndarray
    step: np.ndarray

    def __len__(self) -> int:
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


class Rotation(NamedTuple):
    """``x @ matrix + shift`` maps one network's embeddings into another's space."""

    matrix: torch.Tensor  # float32 [width, width], orthogonal
    shift: torch.Tensor  # float32 [width]


class Space:
    """One member's embeddings as one fold's model reads them; the folds' networks do not share an embedding space.

    Row r is read from network ``nets[r]`` (int [rows]) in ``embeddings`` (fold -> float16 or float32 [rows, width]), rotated
    by ``rotations[nets[r]]`` where there is one.
    """

    def __init__(self, embeddings: ByFold, nets: np.ndarray, rotations: dict[int, Rotation], device: torch.device):
        self.embeddings, self.nets, self.device = embeddings, nets, device
        self.rotations = {net: Rotation(*(part.to(device) for part in rotation)) for net, rotation in rotations.items()}
        self.width = int(next(iter(embeddings.values())).shape[1])

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """float32 [len(rows), width] on the device."""
        nets = self.nets[rows]
        out = torch.empty(len(rows), self.width, device=self.device)
        for net in np.unique(nets):
            at = np.flatnonzero(nets == net)
            values = torch.from_numpy(np.asarray(self.embeddings[int(net)][rows[at]])).to(self.device).float()
            if net in self.rotations:
                values = torch.addmm(self.rotations[net].shift, values, self.rotations[net].matrix)
            out[torch.from_numpy(at).to(self.device)] = values
        return out


def procrustes(source: np.ndarray, target: np.ndarray) -> Rotation:
    """The rotation (with reflection) and shift that bring ``source`` [n, width] nearest to ``target`` [n, width].

    Orthogonal Procrustes (Schönemann 1966) on centered rows; no scaling, so distances between slices are kept.
    """
    source, target = source.astype(np.float32), target.astype(np.float32)
    middle = source.mean(axis=0)
    matrix, _ = orthogonal_procrustes(source - middle, target - target.mean(axis=0))
    shift = target.mean(axis=0) - middle @ matrix
    return Rotation(torch.from_numpy(matrix.astype(np.float32)), torch.from_numpy(shift.astype(np.float32)))


def own(arrays: Arrays, member: str, fold: int, device: torch.device) -> Space:
    """Way (a), the second place's: fold ``fold``'s network for every row."""
    return Space(arrays.embeddings[member], np.full(len(arrays.fold), fold), {}, device)


def aligned(arrays: Arrays, member: str, fold: int, device: torch.device) -> Space:
    """Way (b): each row from the network that held it out, rotated into the space of fold ``fold``'s network.

    The rotations are fitted on training rows of ``fold`` alone, without labels. UserError where a training fold's network
    has no embeddings.
    """
    embeddings, nets = arrays.embeddings[member], arrays.nets(fold)
    train = np.flatnonzero((arrays.fold != fold) & ~arrays.is_test)
    rows = train[:: max(-(-len(train) // SAMPLE), 1)]  # of rows that are all new, none is rotated
    rotations = {}
    for net in np.unique(nets[nets != fold]).tolist():
        if net not in embeddings:
            raise UserError(f"{member} has no embeddings of fold {net}, which space=procrustes needs; "
                            f"predict that fold ({command('05_predict', member)}) or use --set space=own")
        rotations[net] = procrustes(embeddings[net][rows], embeddings[fold][rows])
    return Space(embeddings, nets, rotations, device)


SPACES: dict[str, Callable[[Arrays, str, int, torch.device], Space]] = {"own": own, "procrustes": aligned}
"""``Sequence.space`` -> how to read a member."""


@dataclass(frozen=True)
class Batch:
    """Tensors of a batch, zero on padding."""

    rows: np.ndarray  # int64 [series, slices], row numbers; -1 on padding
    features: list[torch.Tensor]  # A float32 [series, slices, width] for each block of features
    probs: torch.Tensor  # float32 [series, slices, members, targets], held-out probabilities
    spacing: torch.Tensor
    """float32 [series, slices], ln(1 + millimeters) to the next slice read (the last repeats the one before)."""
    labels: torch.Tensor  # float32 [series, slices, targets]
    mask: torch.Tensor  # bool [series, slices], True on real slices


@dataclass(frozen=True)
class Feed:
    """Makes batches on a device."""

    spaces: list[Space]  # A block of features each
    probs: np.ndarray  # float32 [rows, members, targets]
    labels: np.ndarray  # float32 [rows, targets]
    z: np.ndarray  # float32 [rows], NaN where a slice has no place
    device: torch.device

    @property
    def widths(self) -> list[int]:
        """Channels of each feature block."""
        return [space.width for space in self.spaces]

    def batch(self, picks: Picks) -> Batch:
        """The tensors of ``picks``, as long as its longest series."""
        rows, mask = picks.rows()
        real, where = rows[mask], torch.from_numpy(mask).to(self.device)

        def padded(values: torch.Tensor) -> torch.Tensor:  # [real slices, …] over [series, slices, …]
            return values.new_zeros((*where.shape, *values.shape[1:])).index_put((where,), values)

        probs, labels, spacing = (padded(torch.from_numpy(values).to(self.device))
                                  for values in (self.probs[real], self.labels[real], self._spacing(rows, mask)))
        return Batch(rows, [padded(space.take(real)) for space in self.spaces], probs, spacing, labels, where)

    def _spacing(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 [real slices]; 0 in a series of one slice, and beside a slice whose place is not known."""
        gap = np.abs(np.diff(self.z[rows], axis=1, append=0.0))
        last = np.arange(len(rows)), mask.sum(axis=1) - 1
        gap[last] = np.where(last[1] > 0, gap[last[0], last[1] - 1], 0.0)
        return np.log1p(np.nan_to_num(gap[mask])).astype(np.float32)


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
