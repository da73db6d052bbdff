"""Many jobs, one runner: in this process, in a few processes of this machine, or on Ray over GPUs and machines."""

import contextlib
import json
import os
import shlex
import sys
from functools import partial
from typing import Any

from radstack.core.errors import LeakError, UserError
from radstack.core.parallel import in_processes
from radstack.core.say import Report, to_stdout
from radstack.running.job import Job, Outcome, attempt

SHOWN = 3
"""Failed jobs that the last error describes; each has already said why in its own lines."""


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
        from radstack.running.jobs_ray import run_on_ray
        outcomes = run_on_ray(jobs, ray, gpus_per_job, cpus_per_job, retries, report)
    _raise_failures(jobs, outcomes)
    return [outcome.value for outcome in outcomes]


def _attempt_here(jobs: list[Job], at_once: int, report: Report) -> list[Outcome]:
    if at_once == 1 or len(jobs) == 1:
        return [attempt(job, report) for job in jobs]
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
    return attempt(job, to_stdout)


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
