"""Tasks: decide what must be made, then make it in this process, in a few, under torchrun, or on Ray over machines."""

import os
import pickle
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from radstack.core.artifact import Artifact
from radstack.core.disk import disk_error
from radstack.core.errors import LeakError, UserError
from radstack.core.folds import fold_words
from radstack.core.limits import cores
from radstack.core.parallel import Killed, outcomes
from radstack.core.say import Report, saying_to, to_stdout
from radstack.running.context import Context, read_variants
from radstack.running.device import has_gpu
from radstack.running.tables import check_folds_fit

T = TypeVar("T")
SHOWN = 3
"""Failed tasks that the last error describes; each has already said why in its own lines."""


@dataclass(frozen=True)
class Task:
    """One call that means the same on any machine that sees the same files, e.g. one experiment on one fold."""

    name: str
    """Unique among the tasks of a run; starts each of its progress lines, e.g. ``train se_resnext50 fold 0``."""
    function: Callable[..., Any]
    """Of a module, so that another process can import it."""
    arguments: tuple[Any, ...] = ()
    """Picklable; they are written down only on the way to another process."""
    length: float = 0.0
    """How long it takes beside the others of a run, in any unit. The longest begin first where several run at a time: one
    that is left for last keeps all other processes waiting."""
    gpus: float = 0.0
    """GPUs that it holds on Ray; a fraction lets several share one."""


@dataclass(frozen=True)
class Result:
    """What became of a task."""

    value: Any = None
    """Returned by the function."""
    error: UserError | None = None
    """Why it failed; None when it did not."""


def make_all(context: Context, makers: list[tuple[Artifact, Task]]) -> None:
    """Run the task of each artifact that is missing or changed; say of each which, and why.

    In a run of all stages a variant that fails holds up nothing else.
    """
    options, spare = context.options, spared(context)
    tasks = [task for artifact, task in makers
             if tolerated(context, spare & _names(task), partial(announced, context, artifact, task.name))]
    if options.dry_run or not tasks:
        return
    run_tasks([replace(task, gpus=_gpus(context, task)) for task in tasks],
              report=lambda line: print(f"  {line}", flush=True), at_once=options.jobs,
              ray=options.ray or None, cpus_per_task=max(options.workers, 1),
              forgive=lambda task, error: passed_over(context, next(iter(spare & _names(task)), ""), error))


def _gpus(context: Context, task: "Task") -> float:
    """What ``task`` holds on Ray. Whether a cluster has GPUs at all is for :func:`run_on_ray` to see: this machine, from
    which its jobs are started, need not have one.
    """
    options, shares = context.options, dict(context.options.gpu_share)
    if options.device == "cpu" or not options.ray or (options.ray == "local" and not has_gpu()):
        return 0
    return options.gpus * next((shares[name] for name in _names(task) if name in shares), shares.get("", 1.0))


def spared(context: Context) -> set[str]:
    """Recipes without which a run of all stages goes on: the variants, which are nobody's members but other variants'."""
    return set(read_variants(context.paths)) if context.options.all_stages else set()


def tolerated(context: Context, spare: Iterable[str], function: Callable[[], T]) -> T | None:
    """What ``function`` returns; None where it fails with a UserError that is the fault of ``spare``, and that is said."""
    try:
        return function()
    except UserError as error:
        if not passed_over(context, next(iter(spare), ""), error):
            raise
        return None


def passed_over(context: Context, variant: str, error: UserError) -> bool:
    """Say that ``variant`` is passed over and how to be rid of it; False where that is ''."""
    if variant:
        remove = f"{context.command('variants')} --remove {shlex.quote(variant)}"
        print(f"  passed over the variant {variant} ({error}); remove it with: {remove}", flush=True)
    return bool(variant)


def _names(task: "Task") -> set[str]:
    """Names of the recipes that a task works on."""
    return {one.name for one in task.arguments if hasattr(one, "name")}


def per_fold(context: Context, verb: str, recipes: list[Any], artifact_of: Callable[..., Artifact],
             function: Callable[..., None], length: Callable[[Any], float] = lambda recipe: 0.0
             ) -> list[tuple[Artifact, Task]]:
    """For each of ``recipes`` and each of its folds the artifact, and ``function(context, recipe, fold)`` as task, of the
    ``length`` of its recipe.

    UserError where the fold table does not fit, or none of ``recipes`` works on any of ``--folds``.
    """
    check_folds_fit(context)
    calls = [(context, recipe, fold) for recipe in recipes for fold in context.folds_of(recipe)]
    if recipes and not calls and not context.options.all_stages:
        known = sorted({fold for recipe in recipes for fold in recipe.folds})
        raise UserError(f"--folds {','.join(map(str, context.options.folds))}: {', '.join(one.name for one in recipes)} "
                        f"works on fold {', '.join(map(str, known))} alone")
    return [(artifact_of(*call), Task(f"{verb} {call[1].name} {fold_words(call[2])}", function, call, length(call[1])))
            for call in calls]


def announced(context: Context, artifact: Artifact, name: str) -> bool:
    """Say whether ``artifact`` is kept or why it is made; return whether it must be made."""
    why = context.why(artifact)
    verb = "kept" if not why else "would make" if context.options.dry_run else "to make"
    print(f"  {verb} {name}{': ' + why if why else ''}", flush=True)
    return bool(why)


def run_tasks(tasks: list[Task], *, report: Report, at_once: int = 1, ray: str | None = None, cpus_per_task: float = 1,
              retries: int = 2,
              forgive: Callable[[Task, UserError], bool] = lambda task, error: False) -> list[Any]:
    """Run ``tasks`` and return what they returned, in their order. A task that fails does not stop the others.

    Args:
        tasks: with different names.
        report: takes progress lines, each with its task's name, whatever machine they come from.
        at_once: without Ray, tasks at a time: 1 runs them in this process, one after another; more in as many processes
            of this machine, which share its cores (on a CPU two tasks of one thread outrun one task of two).
        ray: None for none; ``"local"`` starts Ray on this machine; anything else is the
            address of a Ray cluster (``"auto"``, ``"host:6379"``) whose nodes see the same files.
        cpus_per_task: CPU cores a task holds on Ray.
        retries: how often a task on Ray is started again after its worker or node died; it resumes from its own
            checkpoint. An error that the task itself raises is not retried.
        forgive: asked about each failure; where it says yes, that is none, and the task's value is None.

    Raises:
        UserError: some tasks failed, with the reason of each and the command to type; LeakError if one was a leak.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"two tasks of the same name: {sorted(name for name in set(names) if names.count(name) > 1)}")
    if ray is None:
        results = _attempt_here(tasks, at_once, report)
    else:
        from radstack.running.tasks_ray import run_on_ray
        results = run_on_ray(tasks, ray, cpus_per_task, retries, report)
    results = [Result() if result.error and forgive(task, result.error) else result
               for task, result in zip(tasks, results, strict=True)]
    _raise_failures(tasks, results)
    return [result.value for result in results]


def attempt(task: Task, report: Report) -> Result:
    """Run ``task`` here. Whatever it raises becomes a result; the traceback of an unforeseen error is reported."""
    def tell(text: str) -> None:
        report(f"{task.name}: {text}")

    with saying_to(tell):
        try:
            return Result(value=task.function(*task.arguments))
        except UserError as error:
            tell(f"failed: {error}")
            return Result(error=error)
        except OSError as error:
            told = disk_error(error)
            if told is None:
                return _unforeseen(error, tell)
            tell(f"failed: {told}")
            return Result(error=told)
        except Exception as error:
            return _unforeseen(error, tell)


def _unforeseen(error: Exception, tell: Report) -> Result:
    tell(traceback.format_exc().rstrip())
    return Result(error=UserError(f"{type(error).__name__}: {error}"))


def _attempt_here(tasks: list[Task], at_once: int, report: Report) -> list[Result]:
    if at_once == 1 or len(tasks) == 1:
        return [attempt(task, report) for task in tasks]
    threads, results, order = max(cores() // at_once, 1), {}, longest_first(tasks)
    for place, result in outcomes(partial(_attempt_apart, threads), [tasks[number] for number in order], at_once):
        number = order[place]
        if isinstance(result, Killed):
            result = Result(error=UserError(f"its process was killed, perhaps for memory {result}; run fewer with --jobs"))
            report(f"{tasks[number].name}: {result.error}")
        results[number] = result
    return [results[number] for number in range(len(tasks))]


def longest_first(tasks: list[Task]) -> list[int]:
    """Places of ``tasks`` in the order in which they are handed out; equally long ones as they come."""
    return sorted(range(len(tasks)), key=lambda number: -tasks[number].length)


def _attempt_apart(threads: int, task: Task) -> Result:
    """Run ``task`` in a process of a pool, on its share of the cores."""
    import torch

    torch.set_num_threads(threads)
    return attempt(task, to_stdout)


def _raise_failures(tasks: list[Task], results: list[Result]) -> None:
    failed = {task.name: result.error for task, result in zip(tasks, results, strict=True) if result.error}
    if not failed:
        return
    kind = LeakError if any(isinstance(error, LeakError) for error in failed.values()) else UserError
    shown = [f"{name} ({' '.join(str(error).split())})" for name, error in list(failed.items())[:SHOWN]]
    reasons = "; ".join(shown + (["and others, see above"] if len(failed) > SHOWN else []))
    raise kind(f"{len(failed)} of {len(tasks)} jobs failed: {reasons}; what is done is kept, mend it and run again: "
               + shlex.join(["python", *sys.argv]))


def shared(context: Context, function: Callable[..., Any], *arguments: Any) -> bool:
    """Let the ``--gpus`` processes that torchrun starts call ``function(*arguments)`` together.

    Returns:
        Whether they did; False where one process is enough, and in those processes themselves.
    """
    if context.options.gpus == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return False
    from radstack.core.say import say
    from radstack.training.distributed import torchrun

    with tempfile.TemporaryDirectory() as folder:  # for this user's eyes only, and for as long as they run
        call = Path(folder) / function.__name__
        call.write_bytes(pickle.dumps((function, arguments)))
        torchrun("radstack.running.tasks", [str(call)], context.options.gpus, say)
    return True


if __name__ == "__main__":  # one of the processes of ``shared``
    function, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - just written by its parent
    try:
        function(*arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
