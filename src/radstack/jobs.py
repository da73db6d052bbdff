"""Many jobs, one runner: in this process, in a few processes of this machine, or on Ray over GPUs and machines."""

import contextlib
import importlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from radstack.errors import LeakError, UserError

Report = Callable[[str], None]
SHOWN = 3
"""Failed jobs that the last error describes; each has already said why in its own lines."""


@dataclass(frozen=True)
class Job:
    """One call that can be made on any machine that sees the same files, e.g. one experiment on one fold."""

    name: str
    """Unique among the jobs of a run; starts each of its progress lines."""
    function: str
    """``"module:function"``, importable with ``src/`` on the path."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments, JSON values only: they must mean the same on another machine."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    value: Any = None
    """Returned by the function."""
    error: UserError | None = None
    """Why it failed; None when it did not."""


def run_jobs(jobs: list[Job], *, report: Report, at_once: int = 1, ray: str | None = None, gpus_per_job: float = 0,
             cpus_per_job: float = 1, retries: int = 2) -> list[Any]:
    """Run ``jobs`` and return what they returned, in their order. A job that fails does not stop the others.

    Args:
        jobs: with different names.
        report: takes progress lines, each with its job's name, whatever machine they come from.
        at_once: without Ray, jobs at a time: 1 runs them in this process, one after another; more in as many processes
            of this machine, which share its cores (on a CPU two jobs of one thread outrun one job of two).
        ray: None for none; ``"local"`` starts Ray on this machine; anything else is the
            address of a Ray cluster (``"auto"``, ``"host:6379"``) whose nodes see the same files.
        gpus_per_job: GPUs a job holds on Ray; a fraction lets several share one.
        cpus_per_job: CPU cores a job holds on Ray.
        retries: how often a job on Ray is started again after its worker or node died; it resumes from its own
            checkpoint. An error that the job itself raises is not retried.

    Raises:
        UserError: some jobs failed, with the reason of each and the command to type; LeakError if one was a leak.
    """
    _check(jobs)
    if ray is None:
        outcomes = _attempt_here(jobs, at_once, report)
    else:
        from radstack.jobs_ray import run_on_ray
        outcomes = run_on_ray(jobs, ray, gpus_per_job, cpus_per_job, retries, report)
    _raise_failures(jobs, outcomes)
    return [outcome.value for outcome in outcomes]


def progress(text: str) -> None:
    """Say how far the running job is. Outside a job (a script, a torchrun child) the line goes to standard output."""
    _sink(text)


def attempt(job: Job, report: Report) -> Outcome:
    """Run ``job`` here. Whatever it raises becomes an outcome; the traceback of an unforeseen error is reported."""
    def say(text: str) -> None:
        report(f"{job.name}: {text}")

    with _progress_to(say):
        try:
            return Outcome(value=find(job.function)(**job.kwargs))
        except UserError as error:
            say(f"failed: {error}")
            return Outcome(error=error)
        except Exception as error:
            say(traceback.format_exc().rstrip())
            return Outcome(error=UserError(f"{type(error).__name__}: {error}"))


def _attempt_here(jobs: list[Job], at_once: int, report: Report) -> list[Outcome]:
    if at_once == 1 or len(jobs) == 1:
        return [attempt(job, report) for job in jobs]
    from radstack.parallel import in_processes

    outcomes = [Outcome(error=UserError("its process was killed, perhaps for memory; run fewer with --jobs"))] * len(jobs)
    threads = max((os.cpu_count() or 1) // at_once, 1)
    with contextlib.suppress(UserError):
        for number, outcome in in_processes(partial(_attempt_apart, threads), jobs, at_once):
            outcomes[number] = outcome
    return outcomes


def _attempt_apart(threads: int, job: Job) -> Outcome:
    """Run ``job`` in a process of a pool, on its share of the cores."""
    import torch

    torch.set_num_threads(threads)
    return attempt(job, _to_stdout)


def find(path: str) -> Callable[..., Any]:
    """The function that ``"module:function"`` names; a UserError when there is none."""
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"no function {path}: {error}; a job's function is written module:function") from error
    return function


def _to_stdout(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


_sink: Report = _to_stdout


@contextlib.contextmanager
def _progress_to(sink: Report) -> Iterator[None]:
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


def _check(jobs: list[Job]) -> None:
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise ValueError(f"two jobs of the same name: {sorted(name for name in set(names) if names.count(name) > 1)}")
    for job in jobs:
        json.dumps(job.kwargs)


def _raise_failures(jobs: list[Job], outcomes: list[Outcome]) -> None:
    failed = {job.name: outcome.error for job, outcome in zip(jobs, outcomes, strict=True) if outcome.error}
    if not failed:
        return
    kind = LeakError if any(isinstance(error, LeakError) for error in failed.values()) else UserError
    shown = [f"{name} ({' '.join(str(error).split())})" for name, error in list(failed.items())[:SHOWN]]
    reasons = "; ".join(shown + (["and others, see above"] if len(failed) > SHOWN else []))
    raise kind(f"{len(failed)} of {len(jobs)} jobs failed: {reasons}; what is done is kept, mend it and run again: "
               + shlex.join(["python", *sys.argv]))
