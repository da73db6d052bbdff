"""Processes that do not outlive the one that they work for, whichever way it ends (kill -9, out of memory, Ctrl-C)."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent dies."""
SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Windows has none; there SIGTERM ends a process at once."""
STARTED_BY = os.getppid()
"""Number of the process that started this one, as early as it can be asked."""
INTERRUPTED = "interrupted; run the same command to go on"
LOOK_SECONDS = 0.5
"""Between two looks at the parent, where the system sends no signal."""


def die_with_parent(parent: int, number: int = SIGKILL) -> None:
    """End this process by signal ``number`` once the process ``parent`` is gone. The child calls it, first of all.

    On Linux the kernel does it (prctl(2)), also amid a long call into a library; elsewhere a thread looks. On Linux the
    parent counts as gone when the *thread* that started this process ends: start children from a thread that waits for them.

    Args:
        parent: number of the process that started this one, taken there by ``os.getpid()``: here it could be gone already.
        number: SIGKILL needs no cooperation; SIGTERM is for a process that must end children of its own.
    """
    if _by_kernel(number):
        if os.getppid() != parent:  # it went before the kernel was asked, which then sends nothing
            os.kill(os.getpid(), number)
    else:
        threading.Thread(target=_watch, args=(parent, number), daemon=True).start()


def _by_kernel(number: int) -> bool:
    return sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number) == 0


def _watch(parent: int, number: int) -> None:
    """Wait for the end of ``parent``: by the pipe or handle of multiprocessing, or by looking at who the parent is."""
    known = parent_process()
    if known is not None and known.pid == parent:
        known.join()
    else:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), number)


@contextmanager
def answering() -> Iterator[None]:
    """In the block, that of a script: end at Ctrl-C and ``kill -INT``, and go on where the terminal is lost.

    A shell that runs a script has the programs behind its ``&`` ignore SIGINT. SIGHUP ends a process as it always did,
    unless it comes since the terminal that the process had is gone.
    """
    if threading.current_thread() is not threading.main_thread():  # only there does Python take signal handlers
        yield
        return
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL and _on_terminal():
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _hung_up)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hung_up(number: int, _frame: object) -> None:
    if _on_terminal():  # it is there, so a person sent the signal
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _on_terminal() -> bool:
    return any(os.isatty(number) for number in range(3))


def interrupt_in_one_line() -> None:
    """Say :data:`INTERRUPTED` instead of a traceback where Ctrl-C comes before a script's own answer, amid its imports."""
    before = sys.excepthook

    def hook(kind: type[BaseException], *rest: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write(f"{INTERRUPTED}\n")
        else:
            before(kind, *rest)

    sys.excepthook = hook
