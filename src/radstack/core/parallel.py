"""Map a function over many small items in processes, keeping each finished chunk on disk so that a kill loses little."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.passing import holds_passing
from radstack.core.progress import track
from radstack.core.recipe import digest


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
        stale.unlink()
    tables = [pd.read_parquet(file) for file in files]
    for file, table in zip(files, tables):
        if holds_passing(table):  # a file that could not be opened just now is asked again by the next run
            file.unlink()
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def in_processes(function: Callable[[Any], Any], items: list[Any], workers: int) -> Iterator[tuple[int, Any]]:
    """Yield (number, function(item)) as they finish. Fresh processes (spawn): forking after torch's threads can hang.

    Raises:
        UserError: a process was killed, by the system for memory as a rule.
    """
    if workers <= 1 or len(items) <= 1:
        yield from ((number, function(item)) for number, item in enumerate(items))
        return
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(function, item): number for number, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError("a process was killed (out of memory?); what is done is kept: run the same command again, "
                            "with fewer --workers or --jobs") from error
        finally:
            pool.shutdown(cancel_futures=True)
