"""Ray over several machines: how busy its workers are, and that a node which dies costs nothing but its last steps.

    python benchmarks/ray_nodes.py                    # two and a half minutes: 24 jobs that sleep, two nodes of two workers
    python benchmarks/ray_nodes.py --part nodes       # stage 04 of the four shortened demos, fold 0; --folds 0,1,2 for more

Two raylets on this machine stand for two machines: each has a temporary folder of its own, the project folder is shared.

``workers`` prints the share of time in which the workers were at a job, from the first job's begin to the last one's end, by
the times that the jobs note. Each job has a new process, whose begin is lost time: how much a job loses is printed, and what
this and other orders would give if it lost nothing.

``nodes`` lets one node die (SIGKILL to all of it) when a job there has kept a checkpoint amid its training. The weights of
all jobs must have the bytes of a run that nobody disturbed. Linux alone.
"""

import argparse
import heapq
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PLACES = [str(ROOT / "src"), str(ROOT / "tests" / "kill"), str(Path(__file__).parent)]
"""From which workers and scripts import as well: the second has what shortens a demo."""
sys.path[:0] = PLACES

from kill import SIZES, words_of
from short import PREFIX, write_competitions

from radstack.running.cli import open_context, parser
from radstack.running.tasks import Task, per_fold, run_tasks
from radstack.stages.train import train_fold, weights_artifact
from radstack.training.loop import Loop, Position

JOBS, NODES, WORKERS = 24, 2, 2
"""Jobs that sleep; nodes, and workers of each."""
SHORTEST = 1 / 6
"""The shortest job, over the longest; between them they grow by equal factors."""
MEMORY = 100_000_000
"""Bytes of a node's object store."""


class Slept(NamedTuple):
    """What a sleeping job notes: its node, and seconds since 1970."""

    node: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it was at work."""
        return self.end - self.begin


def sleep(seconds: float) -> Slept:
    """A job of known length."""
    import ray

    begin = time.time()
    time.sleep(seconds)
    return Slept(ray.get_runtime_context().get_node_id(), begin, time.time())


def span(lengths: list[float], workers: int) -> float:
    """Seconds until the last of ``lengths`` ends, each begun in turn by whichever worker is free first."""
    free = [0.0] * workers
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """A Ray of ``NODES`` nodes with ``workers`` CPUs and a temporary folder each; ``nodes`` are those that can be killed."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "600"}  # read when ray is imported
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": workers, "object_store_memory": MEMORY}
    folders = [tempfile.mkdtemp(prefix="ray") for _ in range(NODES)]  # short names: a socket's path has at most 107 letters
    made: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "temp_dir": folders[0]})
    try:
        made.nodes = [made.add_node(**node, temp_dir=folder) for folder in folders[1:]]
        yield made
    finally:
        made.shutdown()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def workers(longest: float) -> None:
    """Print how busy the workers are on :data:`JOBS` jobs, the longest of ``longest`` seconds, given in a random order."""
    lengths = [longest * SHORTEST ** (number / (JOBS - 1)) for number in range(JOBS)]
    random.Random(0).shuffle(lengths)
    count = NODES * WORKERS
    with cluster(WORKERS) as ray:
        slept = run_tasks([Task(f"sleep {number}", sleep, (length,), length) for number, length in enumerate(lengths)],
                          report=print, ray=ray.address)
    begin, end = min(one.begin for one in slept), max(one.end for one in slept)
    busy = sum(one.seconds for one in slept)
    each = [sum(one.node == node for one in slept) for node in sorted({one.node for one in slept})]
    print(f"\n{JOBS} jobs of {min(lengths):.1f} to {longest:.1f} s on {NODES} nodes of {WORKERS} workers, "
          f"{' + '.join(map(str, each))} jobs a node")
    print(f"{(count * (end - begin) - busy) / JOBS:.1f} s of a worker lost for each job: new processes, and the end\n")
    print("| order | busy |\n|---|---:|")
    print(f"| longest first, measured | {busy / count / (end - begin):.1%} |")
    for name, order in (("longest first", sorted(lengths, reverse=True)), ("as given", lengths),
                        ("shortest first", sorted(lengths))):
        print(f"| {name}, if a new process took no time | {busy / count / span(order, count):.1%} |")


class Word(NamedTuple):
    """What a training job says of itself when it has kept its first checkpoint amid training."""

    name: str
    node: str
    pid: int


def watched(task: Task, port: int) -> None:
    """Run a job of stage 04, which tells this benchmark at ``port`` of its first checkpoint, and waits to be let go on."""
    import ray

    save, told = Loop.save, list[Word]()

    def save_and_tell(self: Loop, at: Position) -> None:
        save(self, at)
        if at.done and not told:
            told.append(Word(task.name, ray.get_runtime_context().get_node_id(), os.getpid()))
            with Client(("127.0.0.1", port)) as listener:
                listener.send(tuple(told[0]))  # this module is not one that a process can import
                listener.recv()

    Loop.save = save_and_tell  # type: ignore[method-assign]
    task.function(*task.arguments)


def receive(door: Listener, ray: Any, told: list[Word]) -> None:
    """Take the words of jobs. Once each node has one that waits, the second node dies, then all may go on."""
    waiting: list[tuple[Word, Connection]] = []
    doomed = ray.nodes[0].node_id
    while True:
        guest = door.accept()
        said = guest.recv()
        if said is None:
            return
        word = Word(*said)
        told.append(word)
        waiting.append((word, guest))
        if ray.nodes and len({word.node for word, _ in waiting}) < NODES:
            continue
        if ray.nodes:
            ray.remove_node(ray.nodes.pop(), allow_graceful=False)
            for word, _ in waiting:
                if word.node == doomed:
                    kill(word.pid)
        for word, guest in waiting:
            if word.node != doomed:
                guest.send("go on")
        waiting.clear()


def kill(pid: int) -> None:
    """End a process that its raylet may have taken along by now."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def nodes(name: str, folds: str, work: Path) -> bool:
    """Stage 04 of one competition, undisturbed and with a node that dies; prints a row, returns whether all is well."""
    whole, cut = work / name / "whole", work / name / "cut"
    for stage in ("00_get_data", "01_make_folds", "02_localize", "03_cache"):
        script(stage, *words_of(name, whole), "--all-stages", "--out-dir", str(whole))
    shutil.copytree(whole, cut)
    script("04_train", *place_of(name, whole), "--folds", folds, "--jobs", "2")
    jobs = jobs_of(name, cut, folds)
    told, lines = list[Word](), list[str]()
    with cluster(1) as ray, Listener(("127.0.0.1", 0)) as door:
        dying = ray.nodes[0].node_id
        helper = threading.Thread(target=receive, args=(door, ray, told), daemon=True)
        helper.start()
        run_tasks([Task(one.name, watched, (one, door.address[1]), one.length) for one in jobs],
                  report=lines.append, ray=ray.address)
        with Client(door.address) as bell:
            bell.send(None)
            helper.join()
    made = {place: {file.relative_to(place): file.read_bytes() for file in place.rglob("weights/*/*/*.safetensors")}
            for place in (whole, cut)}
    moved = [word.name for word in told if word.node == dying]
    ends = [len({word.name for word in told if word.node == node}) for node in sorted({word.node for word in told})]
    resumed = {name: line.split(": going on at ")[1] for name in moved for line in lines
               if line.startswith(f"{name}: going on at ")}
    again = [line.split(": ")[0] for line in lines if "more retries" in line]
    same = made[whole] == made[cut]
    print(f"| {name} | {len(jobs)} | {' + '.join(map(str, ends))} | {', '.join(resumed.values())} | {len(made[whole])} "
          f"{'equal' if same else 'NOT EQUAL'} |", flush=True)
    return same and sorted(resumed) == sorted(moved) == sorted(again) != []


def script(stage: str, *words: str) -> None:
    """Run a script; what it says only where it fails."""
    done = subprocess.run([sys.executable, str(ROOT / "src" / f"{stage}.py"), *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{stage}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def place_of(name: str, place: Path) -> list[str]:
    """The words of a command line that say which competition, and where."""
    return [f"{PREFIX}{name}", "--demo", "--data-dir", str(place), "--out-dir", str(place)]


def jobs_of(name: str, place: Path, folds: str) -> list[Task]:
    """The jobs of stage 04 in a folder, with a checkpoint after each step."""
    from competitions import load  # looks at RADSTACK_COMPETITIONS when it is imported

    arguments = parser("", "only", "folds", "checkpoint_seconds")
    context = open_context(arguments.parse_args([*place_of(name, place), "--folds", folds, "--checkpoint-seconds", "1e-6"]),
                           load)
    return [task for _, task in per_fold(context, "train", context.experiments, weights_artifact, train_fold)]


def main() -> None:
    """Run from the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--part", choices=("workers", "nodes"), default="workers")
    arguments.add_argument("--longest", type=float, default=45.0, help="seconds of the longest job that sleeps")
    arguments.add_argument("--only", default=",".join(list(SIZES)[:-1]), help="competitions")
    arguments.add_argument("--folds", default="0", help="of stage 04")
    args = arguments.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(PLACES)
    if args.part == "workers":
        workers(args.longest)
        return
    print("\n| competition | jobs | of them on each node | those of the dead node went on at | weights |\n"
          "|---|---:|---:|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RADSTACK_COMPETITIONS"] = str(Path(folder) / "competitions")
        write_competitions(Path(folder) / "competitions", tuple(SIZES))
        good = [nodes(name, args.folds, Path(folder)) for name in args.only.split(",")]
    if not all(good):
        sys.exit("FAULT: see above")


if __name__ == "__main__":
    main()
