"""Checkpoints of all networks: plain tensors and numbers, written whole or not at all, the previous one kept."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from radstack.core.files import replacing
from radstack.core.say import Report
from radstack.training.distributed import distributed, gathered, main_process_first


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists and dicts of them) and the random states; all processes call it.

    The file before it stays as ``<name>.previous``: a disk that lies about what it synced costs one interval, not the run.
    """
    states = gathered(random_states())  # each process draws dropout masks of its own
    if distributed()[0] == 0:
        with replacing(path) as part:
            with part.open("wb") as handle:  # ours: torch's own says "file write failed" whatever the system's reason was
                torch.save(state | {"random": states}, handle)
            if path.exists():
                path.replace(previous(path))


def load(path: Path, key: str, report: Report) -> dict[str, Any] | None:
    """The newest readable checkpoint with this ``key``, this process's random states restored; None when there is none.

    A checkpoint of another recipe or other data is left where it is until a new one replaces it. A process more than
    there were keeps its random states as they are.
    """
    rank = distributed()[0]
    for candidate in filter(Path.exists, (path, previous(path))):
        try:
            state = torch.load(candidate, map_location="cpu", weights_only=True)
        except Exception as error:  # a truncated zip raises what it likes
            report(f"{candidate.name} cannot be read ({type(error).__name__}), trying the one before")
            continue
        if state["key"] == key:
            if rank < len(state["random"]):
                restore_random_states(state["random"][rank])
            return state
        report(f"{candidate.name} belongs to another recipe or other data, starting anew")
        break
    return None


def key_in(path: Path) -> str:
    """The key of the newest readable checkpoint; "" without one. Nothing is restored."""
    for candidate in (path, previous(path)):
        try:
            return torch.load(candidate, map_location="cpu", weights_only=True, mmap=True)["key"]
        except Exception:  # a truncated zip raises what it likes
            continue
    return ""


def remove(path: Path) -> None:
    """Delete a checkpoint and the one before it; all processes call it, and none goes on before that is done."""
    with main_process_first():
        for one in (path, previous(path)):
            one.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Where the checkpoint before ``path`` is kept."""
    return path.with_suffix(path.suffix + ".previous")


def random_states() -> dict[str, Any]:
    """States of Python's, NumPy's, torch's and every GPU's generator, as values ``weights_only`` loading allows."""
    state: Any = np.random.get_state()  # noqa: NPY002 (libraries may draw from it)
    name, keys, position, has_gauss, cached = state
    return {"python": list(random.getstate()[1]), "python_gauss": random.getstate()[2],
            "numpy": [name, keys.tolist(), position, has_gauss, cached],
            "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo :func:`random_states`."""
    random.setstate((3, tuple(states["python"]), states["python_gauss"]))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
