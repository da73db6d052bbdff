"""Tasks on Ray: resources, retries after a death, progress lines gathered at the driver."""

import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from radstack.core.errors import UserError
from radstack.core.say import Report
from radstack.running.tasks import Result, Task, attempt, longest_first

OBJECT_STORE_BYTES = 100_000_000
"""Jobs exchange file names and scores, not arrays; Ray's own default is 30% of the machine's memory."""
COMPETITIONS = "RADSTACK_COMPETITIONS"
"""Variable with folders of competitions outside the repository."""
POLL_SECONDS = 0.5
"""Pause between two looks at tasks and progress lines."""
LAST_LINES_SECONDS = 30.0
"""Patience with the actor for the last lines of a task, and of all."""
KNOCK_SECONDS = 10.0
"""Patience with the machine at the address."""
STARVED_SECONDS = 60.0
"""Pause between two lines saying that no living node is large enough."""


class Lines:
    """An actor that collects progress lines until the driver takes them."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lines: list[str] = []

    def put(self, line: str) -> None:
        """Add one line."""
        self._lines.append(line)

    def take(self) -> list[str]:
        """All lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


def run_on_ray(tasks: list[Task], address: str, cpus: float, retries: int, report: Report) -> list[Result]:
    """Run ``tasks`` on the Ray at ``address`` (``"local"`` starts one) and shut the connection down; see ``run_tasks``.

    Where no node has a GPU, no task asks for one.

    Raises:
        UserError: Ray is not installed, not reachable, or no node is large enough for one task.
    """
    ray = _connect(address)
    try:
        if not _fits(ray, 1e-9, 0):  # any share of a GPU
            tasks = [replace(task, gpus=0.0) for task in tasks]
        gpus = max(task.gpus for task in tasks)
        if not _fits(ray, gpus, cpus):
            raise UserError(f"no node of the Ray at {address} has {gpus:g} GPUs and {cpus:g} CPUs for one task; "
                            "ask for less a task (--gpus, --workers) or add a node")
        return _Run(ray, tasks, cpus, retries, report).finish()
    finally:
        ray.shutdown()


class _Run:
    """The state of one :func:`run_on_ray`.

    Retries are made here rather than by Ray's ``max_retries``: each is then reported with its cause, and a worker
    killed for memory, which Ray restarts without limit by default, counts like any other death.
    """

    def __init__(self, ray: Any, tasks: list[Task], cpus: float, retries: int, report: Report) -> None:
        self.ray, self.tasks, self.cpus, self.report = ray, tasks, cpus, report
        self.lines = _start_lines(ray)
        self.taking = self.lines.take.remote()
        # max_calls=1: a fresh process for each task, so that none inherits another's memory, GPU or open files.
        self.function = ray.remote(max_retries=0, max_calls=1, num_cpus=cpus)(_work)
        self.results: dict[int, Result] = {}
        self.retries = dict.fromkeys(range(len(tasks)), retries)
        # All at once, so that a cluster that grows by demand sees it; Ray hands tasks of equal needs out in this order.
        self.running = {self.submit(number): number for number in longest_first(tasks)}
        self.starved = time.monotonic()

    def submit(self, number: int) -> Any:
        task = self.tasks[number]
        return self.function.options(num_gpus=task.gpus).remote(task, self.lines, str(Path.cwd()))

    def finish(self) -> list[Result]:
        while self.running:
            done, _ = self.ray.wait(list(self.running), timeout=POLL_SECONDS)
            self.pass_lines()
            for ref in done:
                self.collect(ref, self.running.pop(ref))
            self.warn_when_starved()
        self.pass_lines(LAST_LINES_SECONDS)  # asked for before the last task ended
        self.pass_lines(LAST_LINES_SECONDS)
        return [self.results[number] for number in range(len(self.tasks))]

    def collect(self, ref: Any, number: int) -> None:
        name = self.tasks[number].name
        try:
            self.results[number] = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            self.results[number] = Result(error=UserError(f"Ray could not run it: {_last_line(error)}"))
        except self.ray.exceptions.RayError as error:
            if self.retries[number] == 0:
                reason = f"its worker died once too often: {_first_line(error)}"
                self.results[number] = Result(error=UserError(reason))
                return
            self.retries[number] -= 1
            self.report(f"{name}: {_first_line(error)} Starting again, {self.retries[number]} more retries")
            self.running[self.submit(number)] = number

    def pass_lines(self, patience: float = 0) -> None:
        """Report the lines that have come. Where the actor does not answer the tasks go on; lines are a courtesy."""
        if self.ray.wait([self.taking], timeout=patience)[0]:
            with suppress(self.ray.exceptions.RayError):
                for line in self.ray.get(self.taking):
                    self.report(line)
            self.taking = self.lines.take.remote()

    def warn_when_starved(self) -> None:
        if time.monotonic() - self.starved > STARVED_SECONDS:
            self.starved = time.monotonic()
            gpus = max((self.tasks[number].gpus for number in self.running.values()), default=0.0)
            if not _fits(self.ray, gpus, self.cpus):
                self.report(f"waiting: no living node has {gpus:g} GPUs and {self.cpus:g} CPUs")


def _work(task: Task, lines: Any, folder: str) -> Result:
    """In the worker: run ``task`` in the driver's ``folder``, which all machines share."""
    import ray

    last: list[Any] = []

    def say(line: str) -> None:
        last[:] = [lines.put.remote(line)]

    os.chdir(folder)
    result = attempt(task, say)
    if last:  # the process ends with the task; lines arrive in order, so the last one stands for all
        ray.wait(last, timeout=LAST_LINES_SECONDS)
    return result


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed; leave --ray away or type: pip install ray") from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR,
                               "runtime_env": {"env_vars": _environment()}}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        _knock(address)
        ray.init(address, **options)
    except (ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:  # or without the cluster's token
        if address == "local":
            raise UserError(f"Ray cannot start here ({_first_line(error)}); leave --ray away, and take --jobs for several "
                            "jobs at a time") from error
        raise UserError(f"no Ray at {address} ({_first_line(error)}); start one with: ray start --head, "
                        "or use --ray local") from error
    return ray


def _knock(address: str) -> None:
    """Fail at once where nothing listens at ``host:port``; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _environment() -> dict[str, str]:
    """Where workers import from, who inherit their node's variables and not the driver's: its path, ``src/`` first, and
    competitions outside the repository. Absolute, since they import before they enter the driver's folder.
    """
    src = str(Path(__file__).resolve().parents[2])
    own = [str(Path(folder).resolve()) for folder in os.environ.get(COMPETITIONS, "").split(os.pathsep) if folder]
    return {"PYTHONPATH": os.pathsep.join(filter(None, [src, os.environ.get("PYTHONPATH")])),
            COMPETITIONS: os.pathsep.join(own)}


def _start_lines(ray: Any) -> Any:
    """The actor lives on the driver's node, so that no other node's death takes the lines with it."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)(Lines).remote()


def _fits(ray: Any, gpus: float, cpus: float) -> bool:
    return any(node["Alive"] and node["Resources"].get("GPU", 0) >= gpus and node["Resources"].get("CPU", 0) >= cpus
               for node in ray.nodes())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
