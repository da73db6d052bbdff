"""A disk that fails at the n-th write: python tests/kill/faults.py [--only radius_ulna] [--samples 4 | --every | --kinds]

A library put before the system's (``shim.c``, compiled by cc) answers each write, open, rename and the like below a folder
with ENOSPC, EIO or EACCES from the n-th on. A stage of the shortened demo (``short.py``) must end with status 1 and one line
that names a file, and without it the same command must end with the bytes of a run that no disk disturbed. Linux alone.

Where there are hundreds of writes, ``--kinds`` takes the first of each kind: of those that do the same (open, write, sync,
rename ...) to files whose names differ by digits and digests alone. Its error is one of the three in turn.
"""

import argparse
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from kill import SIZES, STAGES, Fault, Run, words_of
from scripts import run_script
from short import write_competitions

ERRORS = ("ENOSPC", "EIO", "EACCES")
OWN = re.compile(r"\.tmp\w{6}|\.\d+@[\w-]+\.part|(?<![a-z])[0-9a-f]{8,}|\d+")
"""What tells two files of a kind apart: numbers, digests, and the names of files on the way."""


@dataclass
class Plan:
    """Which writes fail."""

    samples: int = 4
    """Of each stage and error; 0 for each write, -1 for the first of each kind."""
    stages: tuple[str, ...] = tuple(one[:2] for one in STAGES)
    until: float = float("inf")
    """After which no more do, by time.monotonic()."""
    met: Counter = field(default_factory=Counter)
    """Runs that ended at one, by stage and error."""
    faults: list[str] = field(default_factory=list)
    """What was wrong."""

    def places(self, writes: list[str]) -> list[tuple[int, str]]:
        """Numbers of writes with the error that is met from there on."""
        if self.samples < 0:
            kinds: dict[str, int] = {}
            for number, write in enumerate(writes, 1):
                kinds.setdefault(OWN.sub("#", write), number)
            return [(at, ERRORS[turn % len(ERRORS)]) for turn, at in enumerate(kinds.values())]
        step = max(1, len(writes) // self.samples) if self.samples else 1
        shift = step // len(ERRORS) if self.samples else 0
        return sorted((at, error) for number, error in enumerate(ERRORS)
                      for at in range(1 + number * shift, len(writes) + 1, step))


def build(folder: Path) -> Path | None:
    """The compiled library; None where there is no compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "shim.c"), "-ldl"], check=True)
    return library


def stage(run: Run, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a stage in one process, which the library watches."""
    return run_script(script, *run.words, "--all-stages", "--jobs", "1", "--workers", "1", "--out-dir", run.place,
                      RADSTACK_COMPETITIONS=str(run.competitions), OMP_NUM_THREADS="1", **environment)


def counted(run: Run, script: str, file: Path) -> list[str]:
    """Run a stage undisturbed; the writes that it made, as what was done and the file, of the process that made most."""
    file.unlink(missing_ok=True)
    done = stage(run, script, FAULT_DIR=str(run.place), FAULT_COUNT=str(file))
    if done.returncode:
        raise Fault(f"{script} without faults: {done.stdout[-300:]}{done.stderr[-2000:]}")
    lines = [line.split(" ", 2) for line in file.read_text().splitlines()] if file.exists() else []
    most = Counter(process for process, _, _ in lines).most_common(1)
    return [write for process, _, write in lines if process == most[0][0]]


def fail(run: Run, script: str, at: int, name: str) -> bool:
    """Run a stage whose writes fail with ``name`` from number ``at`` on; whether it came so far."""
    done = stage(run, script, FAULT_DIR=str(run.place), FAULT_AT=str(at), FAULT_ERRNO=str(getattr(errno, name)))
    lines, said = done.stderr.strip().splitlines(), done.stdout + done.stderr
    wrong = ("a traceback" if "Traceback" in said else "not one line" if len(lines) > 1 else
             f"status {done.returncode}" if done.returncode not in (0, 1) else
             "no file" if done.returncode and str(run.place) not in lines[-1] else "")
    if wrong:
        raise Fault(f"{script}, {name} at write {at}: {wrong}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    print(f"    {script}, {name} from write {at} on: {lines[-1][:170] if lines else 'all was done before'}", flush=True)
    return done.returncode == 1


def compare(whole: Run, cut: Run, script: str) -> None:
    """Raise unless both have the same files."""
    one, other = whole.products(), cut.products()
    wrong = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    if wrong:
        raise Fault(f"{whole.name}: {len(wrong)} files differ after {script}: {', '.join(wrong[:5])}")


def disturb(cut: Run, whole: Run, script: str, writes: list[str], before: Path, plan: Plan) -> None:
    """Let the stage meet the faults of ``plan``; ``before`` is what was there before it."""
    for at, error in plan.places(writes):
        if time.monotonic() > plan.until:
            return
        try:
            stopped = fail(cut, script, at, error)
            plan.met[f"{script[:2]} {error}"] += stopped
        except Fault as fault:
            stopped = True
            plan.faults.append(str(fault))
            print(f"FAULT: {fault}", flush=True)
        if not stopped:  # what the runs before have kept was enough to end before that write: from the beginning
            compare(whole, cut, script)
            shutil.rmtree(cut.place)
            if before.exists():
                shutil.copytree(before, cut.place)


def journey(name: str, work: Path, plan: Plan) -> None:
    """All stages of one competition."""
    write_competitions(work / "competitions", (name,))
    whole, cut = (Run(name, place, work / "competitions", words_of(name, place))
                  for place in (work / name / "whole", work / name / "cut"))
    for script in STAGES:
        writes, before = counted(whole, script, work / "count"), work / "before"
        if cut.place.exists():
            shutil.copytree(cut.place, before)
        if script[:2] in plan.stages:
            disturb(cut, whole, script, writes, before, plan)
        counted(cut, script, work / "count")
        compare(whole, cut, script)
        shutil.rmtree(before, ignore_errors=True)
        print(f"  {script}: {len(writes)} writes, the same files after all", flush=True)


def main() -> None:
    """Run from the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default="radius_ulna", help=f"of {','.join(SIZES)}")
    arguments.add_argument("--samples", type=int, default=4, help="writes that fail of each stage and kind of error")
    arguments.add_argument("--stages", default=",".join(Plan.stages), help="those that are disturbed: 02,04")
    arguments.add_argument("--every", action="store_true", help="each write in turn")
    arguments.add_argument("--kinds", action="store_true", help="the first write of each kind")
    arguments.add_argument("--minutes", type=float, default=0, help="meet no fault after so long")
    args = arguments.parse_args()
    samples = 0 if args.every else -1 if args.kinds else args.samples
    until = time.monotonic() + (args.minutes * 60 or float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        if library is None:
            print("there is no C compiler here, so no disk fails")
            return
        # Before the process starts that all stages are forked from.
        os.environ.update(LD_PRELOAD=str(library), PYTHONPATH=os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        plans = {name: Plan(samples, tuple(args.stages.split(",")), until) for name in args.only.split(",")}
        for name, plan in plans.items():
            journey(name, Path(folder), plan)
            print(f"{name}: {plan.met.total()} runs ended at a fault, {len(plan.faults)} of them wrongly: {dict(plan.met)}",
                  flush=True)
    if any(plan.faults for plan in plans.values()):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"FAULT: {fault}")
