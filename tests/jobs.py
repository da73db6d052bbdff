"""What the jobs of tests do, in a module of its own, which any process can import."""

import os
import signal
from pathlib import Path

from radstack.core.errors import LeakError, UserError
from radstack.core.say import say

STEPS = 10


def double(value):
    say(f"doubling {value}")
    return 2 * value


def fail(kind):
    errors = {"user": UserError("no such fold"), "leak": LeakError("patient 7 is in two folds"), "bug": KeyError("x")}
    raise errors[kind]


def train(folder, die_at=None, after_step=lambda: None):
    """Counts to STEPS, keeps a checkpoint of (step, pids of all attempts), dies once, right after step ``die_at``."""
    checkpoint, folder = Path(folder) / "checkpoint", Path(folder)
    step, *pids = map(int, checkpoint.read_text().split()) if checkpoint.exists() else (0,)
    say(f"from step {step}")
    while step < STEPS:
        step += 1
        (folder / "part").write_text(" ".join(map(str, [step, *pids, os.getpid()])))
        (folder / "part").rename(checkpoint)
        if step == die_at and not pids:
            os.kill(os.getpid(), signal.SIGKILL)
        after_step()
    return {"step": step, "attempts": len({*pids, os.getpid()}), "folder": str(Path.cwd())}
