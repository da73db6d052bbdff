"""Children end with their parent, however it ends: by the kernel, and by the thread that does it elsewhere."""

import os
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from events import watchdog

from radstack.core import lifetime
from radstack.core.lifetime import die_with_parent

HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE, HERE.parent / "src")))

PARENT = """
import os, signal, subprocess, sys
from multiprocessing import get_context
from test_lifetime import sleeper
if {how!r} == "subprocess":
    code = "from test_lifetime import sleeper; sleeper(%d, {kernel})"
    child = subprocess.Popen([sys.executable, "-c", code % os.getpid()])
else:
    child = get_context({how!r}).Process(target=sleeper, args=(os.getpid(), {kernel}))
    child.start()
signal.pause()
"""


def sleeper(parent, kernel):
    """Says that it is there, and sleeps for ever: only a signal ends it."""
    if not kernel:
        lifetime._by_kernel = lambda number: False
    die_with_parent(parent)
    os.write(1, b"here\n")
    while True:
        signal.pause()


@pytest.mark.parametrize(("how", "kernel", "number"), [
    ("spawn", True, signal.SIGKILL), ("spawn", False, signal.SIGKILL), ("fork", True, signal.SIGTERM),
    ("fork", False, signal.SIGKILL), ("subprocess", True, signal.SIGKILL), ("subprocess", False, signal.SIGTERM)])
def test_a_child_ends_with_its_parent(how, kernel, number):
    """The child holds the writing end of the pipe, which is read to its end: that comes when no process is left."""
    if kernel and sys.platform != "linux":
        pytest.skip("only Linux's kernel does it")
    code = PARENT.format(how=how, kernel=kernel)
    with watchdog(120), subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                                         env={**os.environ, "PYTHONPATH": PATHS}) as parent:
        assert parent.stdout.readline() == b"here\n"
        parent.send_signal(number)
        assert parent.stdout.read() == b""


def late(pipe):
    """As if the parent had gone before this process asked: its number is not that of the parent."""
    pipe.send("here")
    die_with_parent(os.getppid() + 1)
    pipe.send("still here")


def test_a_parent_that_is_gone_already_is_noticed():
    if sys.platform != "linux":
        pytest.skip("of the kernel's way")
    ours, theirs = get_context("fork").Pipe()
    child = get_context("fork").Process(target=late, args=(theirs,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and ours.recv() == "here" and not ours.poll()
