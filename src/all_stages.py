"""Run stages one after another, each in a process of its own: what ``run_all.sh`` calls.

command  python src/all_stages.py "03_cache 04_train" ich --demo      (stages, then what each of them is given)

A stage with nothing to do takes mostly the import of pandas and its like. Here one process imports them once, and forks for
each stage. Nothing of this repository is imported before the fork: a stage runs the code that is there when it begins.
"""

import contextlib
import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NoReturn

COMMON = ("argparse", "importlib.metadata", "multiprocessing.connection", "numpy", "pandas", "pyarrow.parquet", "cv2")
"""What every stage imports, also with nothing to do. None of it computes in threads before it is asked to."""
FORKS = hasattr(os, "fork") and sys.platform != "darwin"
"""Whether stages are forked: Windows cannot, and what macOS brings along may not be used after a fork."""
ANSWER = signal.getsignal(signal.SIGINT)
"""What a new process does at Ctrl-C."""
SIGNALED = 128
"""A shell's exit status of a process that a signal ended: this and the signal's number."""

_interrupts: list[int] = []


def main() -> int:
    """Run the stages that the first argument names; the exit status of the first that fails, else 0.

    Ctrl-C reaches the running stage, too, which answers it; this process only waits for its end.
    """
    stages, *given = sys.argv[1:]
    signal.signal(signal.SIGINT, lambda number, _: _interrupts.append(number))
    if FORKS:
        for name in COMMON:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # else each stage would walk through what is here, and so copy it
    for stage in stages.split():
        if _interrupts:
            break
        _write(1, f"\n== {stage}\n")
        command = [str(Path(sys.argv[0]).parent / f"{stage}.py"), "--all-stages", *given]
        status = _forked(command) if FORKS else subprocess.run([sys.executable, *command]).returncode
        if status < 0 and -status != signal.SIGINT:
            _write(2, f"error: {stage} was ended by signal {-status} ({signal.strsignal(-status)}); run the same command to "
                      "go on\n")
        if status:
            return status if status > 0 else SIGNALED - status
    if _interrupts:  # between two stages, or when one was over
        from radstack.core.lifetime import INTERRUPTED

        _write(2, f"{INTERRUPTED}\n")
        return SIGNALED + signal.SIGINT
    return 0


def _write(number: int, text: str) -> None:
    """Write to an open file at once; where nobody reads it any more the stages go on."""
    with contextlib.suppress(OSError):
        os.write(number, text.encode())


def _forked(command: list[str]) -> int:
    """Run a script in a fork of this process; its exit status, below 0 the number of the signal that ended it."""
    parent, mask = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    with warnings.catch_warnings():
        # Python 3.12 warns of all threads. Here are those of OpenBLAS and jemalloc, which see to forks themselves.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _become(command, parent, mask)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    ended = status = 0
    while ended != child:  # as a container's first process it is told of others as well
        ended, status = os.wait()
    return os.waitstatus_to_exitcode(status)


def _become(command: list[str], parent: int, mask: set[int | signal.Signals]) -> NoReturn:
    """Run a script in this process as if Python had been started with it."""
    from radstack.core.lifetime import die_with_parent  # with it Ctrl-C is a line, not a traceback

    die_with_parent(parent, signal.SIGTERM)  # so that whatever the stage started ends as well
    signal.signal(signal.SIGINT, ANSWER)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # a Ctrl-C since the fork is answered here
    import numpy as np

    np.random.seed()  # noqa: NPY002 - for libraries that draw from it: all forks would draw the same
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    sys.exit(main())
