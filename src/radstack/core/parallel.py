"""Map a function over many small items in processes, keeping each finished chunk on disk so that a kill loses little."""

import atexit
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.errors import UserError, reason
from radstack.core.files import write_table
from radstack.core.lifetime import die_with_parent
from radstack.core.limits import keep_memory
from radstack.core.passing import holds_passing
from radstack.core.progress import track
from radstack.core.recipe import digest
from radstack.core.say import lost_file, lost_to


def mapped_rows(function: Callable[[list[Any]], pd.DataFrame], items: list[Any], parts: Path, workers: int,
                what: str, chunk: int = 5000) -> pd.DataFrame:
    """Apply ``function`` (a chunk of items -> a table) to all ``items``; the tables together, in their order.

    Each finished chunk is kept in ``parts``, a folder of this very function: what did not change is not done again, but
    for chunks with a fault that passes (:mod:`radstack.core.passing`).
    ``function`` travels to ``workers`` processes (1: it stays in this one), so it is importable at module level. Items are
    JSON-able: a chunk's file name is their digest. ``what`` is the name of the work in progress lines.
    """
    chunks = [items[start:start + chunk] for start in range(0, len(items), chunk)]
    # Named by what was asked, not by number: after a change of the items only the changed chunks are done again.
    files = [parts / f"{digest(piece)}.parquet" for piece in chunks]
    todo = [number for number, file in enumerate(files) if not file.exists()]
    done = len(items) - sum(len(chunks[number]) for number in todo)
    with track(len(items), what, done=done) as steps:
        for number, table in in_processes(function, [chunks[number] for number in todo], workers):
            write_table(files[todo[number]], table)
            steps.step(len(chunks[todo[number]]))
    for stale in set(parts.glob("*.parquet")) - set(files):
        with suppress(PermissionError):  # another person's, in a folder where all delete their own alone
            stale.unlink()
    tables = [pd.read_parquet(file) for file in files]
    for file, table in zip(files, tables):
        if holds_passing(table):  # a file that could not be opened just now is asked again by the next run
            file.unlink()
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def in_processes(function: Callable[[Any], Any], items: list[Any], workers: int) -> Iterator[tuple[int, Any]]:
    """Yield (number, function(item)) as they finish, from ``workers`` processes (1: from this one).

    An item whose process was killed is tried once more; the others go on in any case.

    Raises:
        UserError: a process was killed twice over the same item, by the system for memory as a rule.
    """
    if workers <= 1 or len(items) <= 1:
        keep_memory()
        yield from ((number, function(item)) for number, item in enumerate(items))
        return
    killed = []
    for number, value in outcomes(function, items, workers, retries=1):
        if isinstance(value, Killed):
            killed.append(value)
        else:
            yield number, value
    if killed:
        raise UserError(f"a process was killed {killed[0]}, perhaps for memory; what is done is kept: run the same command "
                        "again, with fewer --workers or --jobs")


@dataclass(frozen=True)
class Killed:
    """In place of a value: the process that worked on it ended without a word."""

    status: int | None
    """As :attr:`multiprocessing.Process.exitcode`: below 0 the number of a signal."""

    def __str__(self) -> str:
        if self.status is None or self.status >= 0:
            return f"(exit status {self.status})"
        name = signal.Signals(-self.status).name if -self.status in set(signal.Signals) else f"signal {-self.status}"
        return "(SIGBUS: out of disk or shared memory?)" if name == "SIGBUS" else f"({name})"


def outcomes(function: Callable[[Any], Any], items: list[Any], workers: int, retries: int = 0
             ) -> Iterator[tuple[int, Any]]:
    """Yield (number, function(item)) as they finish, :class:`Killed` for an item whose process was killed more than
    ``retries`` times. What ``function`` raises is raised here, after the other processes have ended their items.

    Fresh processes (spawn): forking after torch's threads can hang. They ignore Ctrl-C and a lost terminal, which are this
    process's to answer, and die with it.
    """
    todo, deaths = deque(range(len(items))), dict.fromkeys(range(len(items)), 0)
    crew: list[_Worker] = []
    patient = False
    try:
        while todo or crew:
            while todo and len(crew) < workers:
                crew.append(_Worker(function, items, todo.popleft()))
            ready = wait([worker.pipe for worker in crew])
            for worker in [one for one in crew if one.pipe in ready]:
                number, (kind, value) = worker.number, worker.answer()
                if kind == RAISED:
                    patient = True
                    raise value
                again = kind == DIED and deaths[number] < retries
                if again:
                    deaths[number] += 1
                    todo.appendleft(number)
                if kind == DONE and todo:
                    worker.give(todo.popleft())
                else:
                    crew.remove(worker)
                    worker.end(patient=True)
                if not again:
                    yield number, value
    finally:
        for worker in crew:
            worker.end(patient)


DONE, RAISED, DIED = "done", "raised", "died"


class _Worker:
    """A process that works on one of ``items`` at a time."""

    def __init__(self, function: Callable[[Any], Any], items: list[Any], number: int) -> None:
        self.items = items
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, os.getpid(), lost_file(), function))
        with _signals_wait():  # Ctrl-C while it starts would have it end with a traceback of its own
            self.process.start()
        theirs.close()  # so that the pipe ends with the process
        _alive.add(self.process)
        self.give(number)

    def give(self, number: int) -> None:
        """Let it work on an item."""
        self.number = number
        with suppress(BrokenPipeError):  # it has just been killed: its answer will say so
            self.pipe.send(self.items[number])

    def answer(self) -> tuple[str, Any]:
        """What became of its item."""
        try:
            return pickle.loads(self.pipe.recv_bytes())  # noqa: S301 - from a process of this program
        except (EOFError, OSError):
            self.end(patient=True)
            return DIED, Killed(self.process.exitcode)

    def end(self, patient: bool) -> None:
        """End it, at once or after its item."""
        self.pipe.close()
        if not patient:
            self.process.kill()
        self.process.join()
        _alive.discard(self.process)


SPAWN = get_context("spawn")
_alive: set[Any] = set()
"""Processes that work for this one; where an error left their generator open they are ended with this process."""


@atexit.register
def _end_all() -> None:
    for process in _alive:
        process.kill()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Keep SIGINT and SIGHUP waiting in the block, in a process that is started there until it decides about them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


PARENTS = {getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)}
"""Signals that a terminal sends to all processes, and the first one answers for all."""


def leave_to_parent() -> None:
    """Ignore what a terminal sends to all processes, in a process that is ended by its parent."""
    for number in PARENTS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS)


def _serve(pipe: Any, parent: int, lost: Path | None, function: Callable[[Any], Any]) -> None:
    """In a worker: answer the items that come, until the pipe ends."""
    die_with_parent(parent)
    leave_to_parent()
    lost_to(lost)
    keep_memory()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send_bytes(_answered(function, pipe.recv()))


def _answered(function: Callable[[Any], Any], item: Any) -> bytes:
    try:
        return pickle.dumps((DONE, function(item)))
    except BaseException as error:
        error.add_note(f"In another process:\n{traceback.format_exc()}")
        try:
            written = pickle.dumps((RAISED, error))
            pickle.loads(written)  # noqa: S301 - just written; some exceptions cannot be made again from their arguments
            return written
        except Exception:
            return pickle.dumps((RAISED, RuntimeError(reason(error))))
