"""From artifacts to jobs: decide what must be made, then run it here, on Ray, or under torchrun."""

import json
import os
from dataclasses import dataclass
from typing import Any

from radstack.core.artifact import Artifact
from radstack.running.context import Context
from radstack.running.job import Job
from radstack.running.jobs import run_jobs


@dataclass(frozen=True)
class Work:
    """One artifact that some job makes."""

    name: str
    """As shown in progress lines, e.g. ``se_resnext50 fold 0``."""
    artifact: Artifact
    kwargs: dict[str, Any]
    """JSON values for the job's function, beside the context."""


def finish(context: Context, works: list[Work], function: str) -> None:
    """Make what is missing or changed of ``works`` by calling ``function(context=..., **kwargs)`` for each.

    Under torchrun every process comes here and runs the same jobs in the same order.
    """
    jobs = [Job(work.name, function, {"context": context.plain(), **work.kwargs})
            for work in works if announced(context, work)]
    if context.options.dry_run or not jobs:
        return
    options = context.options
    needs_gpu = options.gpus if options.device != "cpu" and has_gpu() else 0
    run_jobs(jobs, report=lambda line: print(f"  {line}", flush=True), at_once=options.jobs,
             ray=options.ray or None, gpus_per_job=needs_gpu, cpus_per_job=max(options.workers, 1))


def announced(context: Context, work: Work) -> bool:
    """Say whether ``work`` is kept or why it is made; return whether it must be made."""
    why = context.why(work.artifact)
    verb = "kept" if not why else "would make" if context.options.dry_run else "to make"
    print(f"  {verb} {work.name}{': ' + why if why else ''}", flush=True)
    return bool(why)


def shared(context: Context, function: str, **kwargs: Any) -> bool:
    """Let the ``--gpus`` processes that torchrun starts do the job ``function(context=..., **kwargs)``.

    Returns:
        Whether they did; False where one process is enough, and in those processes themselves.
    """
    if context.options.gpus == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return False
    from radstack.core.say import say
    from radstack.training.distributed import torchrun

    arguments = [function, json.dumps({"context": context.plain(), **kwargs})]
    torchrun("radstack.running.job", arguments, context.options.gpus, say)
    return True


def has_gpu() -> bool:
    """Whether torch sees a GPU (imported here: stages with nothing to do must start at once)."""
    import torch

    return torch.cuda.is_available()
