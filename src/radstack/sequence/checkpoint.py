"""Checkpoints of a sequence model: one file a fold, replaced after every epoch, read without pickle."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from radstack.core.errors import UserError
from radstack.core.files import replacing
from radstack.core.recipe import digest
from radstack.recipes.sequence import Sequence
from radstack.sequence.arrays import Arrays

SAMPLE = 256
"""Rows of each embedding table that enter the key; the stages' manifests hold the whole file's hash."""


def checkpoint_path(folder: Path, fold: int) -> Path:
    """Where fold ``fold`` keeps its checkpoint. It may be deleted once the fold's predictions are written."""
    return folder / f"fold{fold}.checkpoint.pt"


def key_of(recipe: Sequence, arrays: Arrays, fold: int, weights: np.ndarray) -> str:
    """A digest of all that decides the weights: recipe, fold, class weights, and the data by content (sampled)."""
    content = hashlib.sha256()
    tables = [arrays.embeddings[member][net] for member in recipe.members for net in sorted(arrays.embeddings[member])]
    tables += [arrays.probs[member][net] for member in recipe.members for net in sorted(arrays.probs.get(member, {}))]
    for values in [arrays.labels, arrays.fold, arrays.z, arrays.start, weights, *(_sample(table) for table in tables)]:
        content.update(np.ascontiguousarray(values).tobytes())
    return digest(recipe, fold, content.hexdigest())


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and strings, atomically."""
    with replacing(path) as part:
        torch.save(state, part)


def load(path: Path, key: str) -> dict[str, Any] | None:
    """The checkpoint at ``path``; None when there is none, or one made by another recipe or other data.

    Raises:
        UserError: the file is not a whole checkpoint.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state if state["key"] == key else None
    except Exception as error:
        raise UserError(f"{path} is not a checkpoint of this program ({type(error).__name__}); "
                        "delete it and run the same command again") from error


def _sample(table: np.ndarray) -> np.ndarray:
    return np.asarray(table[:: -(-len(table) // SAMPLE)])
