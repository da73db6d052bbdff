"""Scripts run as a shell would run them, in a process each, but without the seconds in which they import torch and its like.

One process imports the large libraries, and forks for every script that a test runs. Nothing of this repository is imported
before the fork. That scripts also start from nothing is held by ``test_structure.py`` and by ``.ci/run``.
Run as a program this file is that process.
"""

import atexit
import faulthandler
import functools
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[1] / "src"
LARGE = ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.ndimage", "sklearn.ensemble", "cv2",
         "torch", "torchvision", "timm", "torch.utils.tensorboard", "albumentations", "pydicom", "SimpleITK", "lightgbm",
         "matplotlib.pyplot", "safetensors.torch", "rich.progress", "jinja2")
WRITE = os.O_WRONLY | os.O_CREAT | os.O_APPEND
HANGS_SECONDS = 600
"""Far beyond any script of a test on a slow machine: one that hangs ends then, and its standard error has its stacks."""


def run_script(script: str | Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script, named as in ``src`` or by its path, with the variables of this process and those of ``environment``."""
    return _run(script, arguments, [environment])


def run_together(script: Path, *arguments: str | Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a script in several processes that join as torchrun's do: with the variables that it sets, and ended all with the
    first that fails, whose status is told.

    For what processes do together. That torchrun itself starts and ends them is held by ``test_launch.py``.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0",
              "TORCHELASTIC_USE_AGENT_STORE": "True", "PYTHONPATH": str(SRC)}
    return _run(script, arguments, [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)])


def _run(script: str | Path, arguments: Iterable[str | Path], environments: list[dict[str, str]]
         ) -> subprocess.CompletedProcess[str]:
    """Run a script in a process for each of ``environments``."""
    command = [str(SRC / f"{script}.py" if isinstance(script, str) else script), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        order = [{"command": command, "environment": {**os.environ, **own}, "folder": str(Path.cwd()), "out": str(out),
                  "err": str(err)} for own in environments]
        forker = _forker()
        print(json.dumps(order), file=forker.stdin, flush=True)
        status = int(forker.stdout.readline())
        return subprocess.CompletedProcess(command, status, out.read_text("utf-8"), err.read_text("utf-8"))


@functools.cache
def _forker() -> Any:
    forker = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(forker.wait)
    atexit.register(forker.stdin.close)  # called first: the forker then ends
    return forker


def _serve() -> None:
    """Fork for each order that comes in; tell how its script ended. A negative number is the signal that killed it."""
    if "PYTEST_VERSION" in os.environ:
        os.fsync = lambda handle: None  # as in conftest.py; the disks of tests/kill/faults.py fail at it
    gc.disable()  # while so much is made that stays
    for name in LARGE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what the libraries made is then neither walked through nor copied in each script: 0.1 s instead of 2
    gc.enable()
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        scripts = [fork.Process(target=_become, kwargs=order) for order in json.loads(line)]
        for script in scripts:
            script.start()
        print(_end(scripts), flush=True)
    os._exit(0)  # at an ordinary end some of what is frozen would be reported as a leak


def _end(scripts: list[Any]) -> int:
    """Wait for all, or for the first that fails, with which the others are ended; its status, else 0."""
    running = list(scripts)
    while running:
        wait([script.sentinel for script in running])
        for script in [one for one in running if not one.is_alive()]:
            running.remove(script)
            script.join()
            if script.exitcode:
                for other in running:
                    other.kill()
                    other.join()
                return script.exitcode
    return 0


def _become(command: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    for number, (file, how) in enumerate(((os.devnull, os.O_RDONLY), (out, WRITE), (err, WRITE))):
        os.dup2(os.open(file, how, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True, file=2)
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    _serve()
