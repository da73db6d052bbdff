"""From rows to batches: which rows an epoch visits, in which order, with which augmentation seed.

Every sample's augmentation depends on (seed, epoch, place in the epoch) alone, so neither the number of workers nor a
resumed run changes a pixel (as they do where workers seed NumPy alike, PyTorch issue 5059).
"""

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from radstack.core.errors import UserError
from radstack.core.lifetime import die_with_parent
from radstack.core.parallel import leave_to_parent
from radstack.core.registry import check_name
from radstack.core.say import say
from radstack.recipes.experiment import Experiment, Painter, Reader, Sampling
from radstack.training.augment import Augment
from radstack.training.distributed import spread
from radstack.training.warp import Warped


class Batch(NamedTuple):
    """One micro-batch."""

    images: torch.Tensor
    """uint8 [batch, channels, height, width]"""
    targets: torch.Tensor
    """float32 [batch, targets], NaN for test rows; or uint8 masks [batch, height, width]"""
    columns: torch.Tensor
    """float32 [batch, columns], given to the network beside the picture"""
    rows: torch.Tensor
    """int64 [batch], row numbers of the row table"""


class RowLabels(Protocol):
    """What a network learns of a row, by row number: an array, or something that reads masks."""

    def __getitem__(self, row: int) -> np.ndarray:
        """Return float32 [targets] or a uint8 mask [height, width]."""


CACHED_PIXELS = 2**18
"""Of a batch in :func:`at_once`."""

Visits = list[list[tuple[int, int]]]
"""Batches of (row, augmentation seed); a seed below 0 means: not augmented."""
Sample = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Picture uint8 [channels, height, width], label, columns float32 [columns], row."""


class Pictures(Dataset):
    """(row, seed) of :data:`Visits` -> picture, label and columns."""

    def __init__(self, reader: Reader, labels: RowLabels, columns: np.ndarray, augment: Augment | None = None,
                 paint: Painter | None = None, warped: Warped | None = None) -> None:
        """``warped`` does what ``reader`` and ``augment`` do together, and is taken in their place."""
        self.reader, self.labels, self.columns, self.augment, self.paint = reader, labels, columns, augment, paint
        self.warped = warped

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        """Return one sample."""
        row, seed = item
        picture, label = self._changed(row, seed) if seed >= 0 else (self.reader(row), self.labels[row])
        return planes(picture), label, self.columns[row], row

    def _changed(self, row: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if self.warped is not None:
            return self.warped(row, seed), self.labels[row]
        picture, label = self.reader(row), self.labels[row]
        if self.paint is not None:
            picture, label = self.paint(row, picture, label, seed)
        return self.augment(picture, label, seed) if self.augment is not None else (picture, label)


def planes(picture: np.ndarray) -> np.ndarray:
    """uint8 [height, width, channels] -> [channels, height, width], four times as fast as NumPy copies it."""
    height, width, channels = picture.shape
    apart = np.empty((channels, height, width), np.uint8)
    cv2.split(picture, list(apart))
    return apart


def columns_of(rows: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    """The columns given to a network beside the picture, float32 [rows, names]; a UserError where the table lacks one."""
    for name in names:
        check_name(list(rows.columns), name, "column of the row table for head.columns,")
    return rows[list(names)].to_numpy(np.float32)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples without a copy per element."""
    *arrays, rows = zip(*samples)
    images, labels, columns = (torch.from_numpy(np.stack(array)) for array in arrays)
    return Batch(images, labels, columns, torch.tensor(rows))


def loader(pictures: Pictures, batches: Visits, workers: int, pin: bool) -> Iterator[Batch]:
    """Iterate over ``batches`` in order, decoded by ``workers`` processes (0, or no shared memory: in this one).

    The loader gets a generator of its own: by default each new iterator draws from torch's, and a run resumed within an
    epoch would go on with other dropout masks.
    """
    workers = workers if workers and _shares_memory() else 0
    extra: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
    return iter(DataLoader(pictures, batch_sampler=batches, num_workers=workers, collate_fn=collate, pin_memory=pin,
                           worker_init_fn=partial(_begin, os.getpid()), generator=torch.Generator(), **extra))


@functools.cache
def _shares_memory() -> bool:
    """Whether processes can hand over pictures, and the queue's locks; says once what it means that they cannot."""
    try:
        multiprocessing.Lock()
        torch.zeros(1).share_memory_()
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        say(f"shared memory cannot be written ({cause}): one process reads all pictures from their files, more slowly; "
            "mount /dev/shm so that it can be written")
        return False
    return True


def _begin(parent: int, _: int) -> None:
    """In a process of the loader. OpenCV's threads times the loader's processes would fight over the cores."""
    die_with_parent(parent)
    leave_to_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def training_rows(rows: pd.DataFrame, fold: np.ndarray, scored_fold: int, keep: str) -> np.ndarray:
    """Row numbers that may train the network scored on ``scored_fold``; ``fold`` is int [rows], -1 for test.

    ``keep`` is a pandas query for rows worth training on, '' for all; a UserError where it is wrong or leaves nothing.
    """
    usable = (fold >= 0) & (fold != scored_fold)
    if keep:
        try:
            usable &= rows.eval(keep).to_numpy(bool)
        except Exception as error:
            raise UserError(f"sampling.keep='{keep}' cannot be evaluated on the row table: {error}") from error
    if not usable.any():
        raise UserError(f"fold {scored_fold}: no row to train on" + (
            f", none of the other folds has {keep} (sampling.keep); see what localization said of them" if keep else
            "; check the fold table"))
    return np.flatnonzero(usable)


def labeled_rows(labels: np.ndarray) -> np.ndarray:
    """Rows of ``labels`` [rows, targets] that teach something: those in which not all targets are blank, bool [rows]."""
    return ~np.isnan(labels).all(axis=1)


def epoch_order(sampling: Sampling, candidates: np.ndarray, rows: pd.DataFrame, seed: tuple[int, ...]) -> np.ndarray:
    """Row numbers of one epoch in order, out of ``candidates``; depends on its arguments alone.

    ``rows`` is the row table (for ``series`` and the rare class), ``seed`` is (seed, fold, epoch).
    """
    rng = np.random.default_rng(seed)
    visit = candidates
    if sampling.per_series:
        # The first few of each series in a random order are a random draw from it.
        shuffled = rng.permutation(candidates)
        series = pd.Series(rows["series"].to_numpy()[shuffled])
        visit = shuffled[(series.groupby(series).cumcount() < sampling.per_series).to_numpy()]
    if sampling.rare_class and sampling.rare_copies:
        rare = visit[rows[sampling.rare_class].to_numpy()[visit] > 0.5]
        visit = np.concatenate([visit, np.repeat(rare, sampling.rare_copies)])
    if sampling.weight:
        check_name(list(rows.columns), sampling.weight, "column of the row table for sampling.weight,")
        share = rows[sampling.weight].to_numpy(np.float64)[visit]
        visit = np.repeat(visit, np.floor(share / share.mean() + rng.random(len(visit))).astype(int))
    if sampling.balance:
        held = [(rows[list(names)].to_numpy()[visit] > 0.5).any(axis=1) for names in sampling.balance]
        visit = _balanced(visit, held, rng)
    return rng.permutation(np.repeat(visit, sampling.copies) if sampling.copies > 1 else visit)


def _balanced(visit: np.ndarray, classes: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Row numbers ``visit``, those of each class (bool [visited] each) repeated to the size of the largest."""
    # Whole rounds, then a draw for what is left: the rows of a class are seen equally often, up to once.
    most = max(int(held.sum()) for held in classes)
    parts = [visit[held] for held in classes if held.any()]
    return np.concatenate([part for own in parts for part in (np.tile(own, most // len(own)),
                                                              rng.choice(own, most % len(own), replace=False))])


def training_batches(experiment: Experiment, order: np.ndarray, seed: tuple[int, ...], rank: int, world: int) -> Visits:
    """Micro-batches of (row, augmentation seed) of one rank for one epoch.

    A step is ``batch_size`` rows over all ranks and accumulated micro-batches; the last, short step is dropped unless
    it is the only one, which is filled with the rows again, augmented otherwise.
    """
    recipe = experiment.train
    parts = world * recipe.accumulate
    if recipe.batch_size % parts:
        raise UserError(f"batch_size {recipe.batch_size} does not divide into {parts} micro-batches (GPUs x accumulate); "
                        f"use --set train.batch_size={-(-recipe.batch_size // parts) * parts}")
    order = np.resize(order, max(len(order), recipe.batch_size))
    # Seeds are drawn for the whole epoch before it is split, so that the number of GPUs and workers changes no picture.
    seeds = np.random.default_rng((*seed, 1)).integers(0, 2**31 - 1, len(order))
    pairs = list(zip(order.tolist(), seeds.tolist()))
    size = recipe.batch_size // parts
    micro = [pairs[start:start + size] for start in range(0, len(pairs) // recipe.batch_size * recipe.batch_size, size)]
    return spread(micro, rank, world)


def at_once(device: torch.device, size: tuple[int, int]) -> int:
    """How many pictures of ``size`` a network looks at together where it does not learn.

    On a processor few large ones, as its caches hold, and many small ones, since each batch has its cost
    (``benchmarks/batches.py``).
    """
    return min(max(CACHED_PIXELS // (size[0] * size[1]), 4), 64) if device.type == "cpu" else 64


def plain_batches(rows: np.ndarray, size: int) -> Visits:
    """Batches without augmentation, in order, for prediction."""
    pairs = [(int(row), -1) for row in rows]
    return [pairs[start:start + size] for start in range(0, len(pairs), size)]


def normalizer(mean: tuple[float, ...], std: tuple[float, ...],
               device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """uint8 [b, c, h, w] on any device -> float32 on ``device``, standardized there: a quarter of the bytes travel."""
    middle = torch.tensor(mean, device=device).view(1, -1, 1, 1)
    scale = 1 / torch.tensor(std, device=device).view(1, -1, 1, 1)
    return lambda images: (images.to(device, non_blocking=True).float() - middle) * scale
