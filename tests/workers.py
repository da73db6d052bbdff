"""What tests let processes do; a module that is quick to import, as each process does it anew."""

import os
import signal
from pathlib import Path


class Odd(Exception):
    """Cannot be made again from its arguments, so it cannot travel."""

    def __init__(self, one, two):
        super().__init__(one)


def square(item):
    return item * item


def die(item):
    """Items below 0 kill their process, each time; a path once."""
    if isinstance(item, int):
        return os.kill(os.getpid(), signal.SIGKILL) if item < 0 else item
    if not Path(item).exists():
        Path(item).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(kind):
    from radstack.core.errors import Missing

    raise {"missing": Missing(Path("/x/y")), "odd": Odd(1, 2), "bug": KeyError("x")}[kind]


def sleep(door):
    """Says that it is there in a pipe that it holds open, then sleeps until it is killed."""
    os.write(os.open(door, os.O_WRONLY), b"+")
    while True:
        signal.pause()


def talk(door, made):
    """Two lines, between them a wait for somebody at the other end of the pipe ``door``; then the file ``made``."""
    from radstack.core.say import say

    say("begins")
    with Path(door).open() as handle:
        handle.read(1)
    say("ends")
    Path(made).touch()
