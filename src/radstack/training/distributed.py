"""Several processes for one job: torchrun as a child, and what its processes need to find each other."""

import gc
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.lifetime import die_with_parent
from radstack.core.limits import OURS, THREADS, cores
from radstack.core.say import Report

S = TypeVar("S")
T = TypeVar("T")
TAIL_LINES = 3
"""How many last lines of a failed child its error quotes."""
PARENT = "RADSTACK_PARENT"
"""Variable with the number of the process that started torchrun."""
TORCHRUN_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR",
                  "MASTER_PORT")
"""Variables by which a torchrun child knows its place; a torchrun inside another must not inherit them."""


def torchrun(script: Path | str, args: list[str], processes: int, report: Report) -> None:
    """Run ``script`` (a path, or a module name) with ``args`` in ``processes`` processes of this machine.

    Each process works inside :func:`joined`, which checks that all of them are there. Their output goes line by line to
    ``report``, in a job :func:`radstack.core.say.say`. SIGINT and SIGTERM are passed on, and if this process is killed
    the children end too, so that a restarted job never meets its former self. Where one fails, the last lines that were
    printed are a UserError.
    """
    target = ["-m", script] if isinstance(script, str) else [str(script)]
    command = [sys.executable, "-m", "radstack.training.distributed", "--standalone", "--nproc-per-node", str(processes),
               *target, *args]
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with subprocess.Popen(command, env=_environment(processes), text=True, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
                          ) as child, _passing_signals(child):
        assert child.stdout is not None
        for line in filter(None, map(str.rstrip, child.stdout)):
            tail.append(line)
            report(line)
    if child.returncode:
        raise UserError(f"{shlex.join([str(script), *args[:1]])} on {processes} processes failed: {' | '.join(tail)}")


@contextmanager
def joined(processes: int, device: str = "cpu") -> Iterator[torch.device]:
    """Work together with the other processes of this job: over NCCL for ``device`` ``"cuda"``, gloo for ``"cpu"``.

    Yields the device of this process. With ``processes`` 1 and no torchrun around there is nobody to join. A UserError where
    there are not ``processes`` of them.
    """
    together = "WORLD_SIZE" in os.environ
    if together:
        if PARENT in os.environ:  # started by :func:`torchrun`, whose torchrun may be killed
            die_with_parent(os.getppid())
        # The others may wait for hours for what rank 0 does alone; one that dies ends all by torchrun, not by this limit.
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(days=1))
    assert_world(processes)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        yield torch.device("cuda", torch.cuda.current_device())
    else:
        yield torch.device(device)
    if together:  # left open, its threads can abort a process that was done; after an error it could wait forever
        gc.collect()  # a wrapped model in a cycle of references would hold it beyond its end
        dist.destroy_process_group()
        gc.collect()


def assert_world(expected: int) -> None:
    """Raise a UserError unless ``expected`` processes really work together (some launchers silently start one)."""
    _, world = distributed()
    if world != expected:
        raise UserError(f"{expected} processes were asked for, {world} joined; start them with "
                        f"torchrun --standalone --nproc-per-node {expected}")


def distributed() -> tuple[int, int]:
    """``(rank, world)`` of this process; ``(0, 1)`` when it works alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def same_everywhere(value: float) -> float:
    """The value of rank 0, so that all processes decide alike."""
    if distributed()[1] == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(told, src=0)
    return float(told)


def gathered(value: T) -> list[T]:
    """The picklable values of all processes, in the order of their ranks."""
    values = [value] * distributed()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def averaging(model: nn.Module, device: torch.device) -> nn.Module:
    """``model``, which then has rank 0's weights and averages its gradients over all processes; alone as it is."""
    if distributed()[1] == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def seed_everything(seed: int, fold: int, rank: int = 0) -> None:
    """Seed torch (first weights, dropout, drop path); order and augmentation have generators of their own.

    ``rank`` is for what may differ between processes: two that dropped the same channels would average less away.
    """
    torch.manual_seed(seed * 1000 + fold + 500_000_003 * rank)


def spread(items: S, rank: int, world: int) -> S:
    """Share of ``items`` (array or list) of process ``rank``: every ``world``-th; sizes differ by one at most."""
    return items[rank::world]  # type: ignore[index]


def together(artifact: Artifact, work: Callable[[], dict[str, Any] | None], force: bool) -> None:
    """Make ``artifact`` by ``work``, in which all processes take part; none goes on before it is whole. Without ``force``
    it is kept where another run has made it since this one looked.

    Rank 0 alone writes files: ``work`` must leave that to it (:func:`distributed`).
    """
    rank, world = distributed()
    if world == 1:
        artifact.make(work, force)
        return
    with artifact.turn(force) if rank == 0 else nullcontext(True) as mine:
        if same_everywhere(mine):  # rank 0 alone asks whether another run is at it; all wait here
            artifact.build(work) if rank == 0 else work()
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let rank 0 pass the block before the others enter it, e.g. to download weights that they then find."""
    rank, world = distributed()
    if world > 1 and rank > 0:
        dist.barrier()
    try:
        yield
    finally:
        if world > 1 and rank == 0:
            dist.barrier()


def _environment(processes: int) -> dict[str, str]:
    src = str(Path(__file__).resolve().parents[2])
    threads = max(1, cores() // processes)
    ours = {THREADS} if OURS in os.environ else set()  # of one process alone, to be shared by all
    inherited = {name: value for name, value in os.environ.items() if name not in {*TORCHRUN_NAMES, *ours}}
    path = os.pathsep.join(filter(None, [src, os.environ.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": str(threads), **inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1",
            PARENT: str(os.getpid())}


@contextmanager
def _passing_signals(child: subprocess.Popen) -> Iterator[None]:
    """Hand SIGINT and SIGTERM to ``child``; once it has ended, take them as if they had just arrived.

    The child is in a session of its own, so that Ctrl-C reaches it through here, once.
    """
    caught: list[int] = []

    def hand_on(number: int, _frame: object) -> None:
        caught.append(number)
        child.send_signal(number)

    main = threading.current_thread() is threading.main_thread()  # only there does Python take signal handlers
    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM) if main}
    try:
        yield
        child.wait()
    except BaseException:
        child.terminate()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


def _main(args: list[str]) -> int:
    """The child of :func:`torchrun`: torchrun itself, tied to its parent's life, with a one-line last word."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    logging.disable(logging.ERROR)  # torchrun's own account of a failure would bury the child's last words
    die_with_parent(int(os.environ[PARENT]), signal.SIGTERM)  # torchrun answers it by ending its own children
    try:
        main(args)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        cause = failure.signal_name() if failure.exitcode < 0 else f"exit status {failure.exitcode}"
        sys.stderr.write(f"rank {rank} ended with {cause}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
