"""What jobs on Ray do in ``test_ray.py``, besides those of ``jobs.py``. Quick to import, as each job does it anew."""

import os
from multiprocessing.connection import Client
from pathlib import Path
from unittest import mock

from radstack.running.tasks import Task, run_tasks

VARIABLES = ("CUDA_VISIBLE_DEVICES", "RADSTACK_COMPETITIONS")


def learn(folder, port):
    """The real training code on a tiny set. Once a checkpoint is there it tells the test at ``port``, and waits for a word.

    Returns the weights, and what was said of going on.
    """
    import ray
    import tiny

    from radstack.training.loop import Loop

    save, told, lines = Loop.save, [], []

    def save_and_tell(loop, at):
        save(loop, at)
        if at.done and not told:
            told.append(at.done)
            with Client(("127.0.0.1", port)) as test:
                test.send((folder, ray.get_runtime_context().get_node_id(), os.getpid()))
                test.recv()

    with mock.patch.object(Loop, "save", save_and_tell):
        weights = tiny.train(tiny.make_run(Path(folder), checkpoint_seconds=0.0, lines=lines))
    return weights, [line for line in lines if line.startswith("going on")]


def hold(name, port):
    """Tells the test at ``port`` who it is, who started it and what :data:`VARIABLES` say, and waits for a word."""
    with Client(("127.0.0.1", port)) as test:
        test.send((name, os.getpid(), os.getppid(), [os.environ.get(one) for one in VARIABLES]))
        test.recv()


def drive(address, port):
    """A driver of two jobs that never end."""
    run_tasks([Task(name, hold, (name, int(port))) for name in "ab"], report=print, ray=address, cpus_per_task=0.5)
