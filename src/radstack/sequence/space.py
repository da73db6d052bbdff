"""The folds' networks of one member do not share an embedding space; a Space reads all rows in fold k's."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from radstack.core.errors import UserError
from radstack.sequence.arrays import Arrays, ByFold

SAMPLE = 20_000
"""Rows an alignment is fitted on at most (about ten a dimension for 2048-wide embeddings)."""


class Rotation(NamedTuple):
    """``x @ matrix + shift`` maps one network's embeddings into another's space."""

    matrix: torch.Tensor
    """float32 [width, width], orthogonal."""
    shift: torch.Tensor
    """float32 [width]."""


class Space:
    """One member's embeddings as the sequence model of one fold reads them."""

    def __init__(self, embeddings: ByFold, nets: np.ndarray, rotations: dict[int, Rotation], device: torch.device):
        """Read row r from network ``nets[r]``, rotated by ``rotations[nets[r]]`` where there is one.

        Args:
            embeddings: fold -> float16 or float32 [rows, width].
            nets: int [rows].
            rotations: fold -> rotation; a network without one is read as it is.
            device: where rows are put.
        """
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

    The rotations are fitted on training rows of ``fold`` alone, without labels.

    Raises:
        UserError: a training fold's network has no embeddings.
    """
    embeddings, nets = arrays.embeddings[member], arrays.nets(fold)
    train = np.flatnonzero((arrays.fold != fold) & ~arrays.is_test)
    rows = train[:: -(-len(train) // SAMPLE)]
    rotations = {}
    for net in np.unique(nets[nets != fold]).tolist():
        if net not in embeddings:
            raise UserError(f"{member} has no embeddings of fold {net}, which space=procrustes needs; "
                            "predict that fold (05_predict) or use --set space=own")
        rotations[net] = procrustes(embeddings[net][rows], embeddings[fold][rows])
    return Space(embeddings, nets, rotations, device)


SPACES: dict[str, Callable[[Arrays, str, int, torch.device], Space]] = {"own": own, "procrustes": aligned}
"""``Sequence.space`` -> how to read a member."""
