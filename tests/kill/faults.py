"""A disk that fails at the n-th write: python tests/kill/faults.py [--only radius_ulna] [--samples 4 | --every]

A library put before the system's (``shim.c``, compiled by cc) answers each write, open, rename and the like below a folder
with ENOSPC, EIO or EACCES from the n-th on. A stage of the shortened demo (``short.py``) must end with status 1 and one line
that names a file, and without it the same command must end with the bytes of a run that no disk disturbed. Linux alone.
"""

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from kill import SIZES, STAGES, Fault, Run
from scripts import run_script
from short import write_competitions

ERRORS = ("ENOSPC", "EIO", "EACCES")


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
    return run_script(script, run.demo, "--demo", "--all-stages", "--jobs", "1", "--workers", "1", "--demo-size",
                      str(SIZES[run.name]), "--checkpoint-seconds", "0.5", "--data-dir", run.place, "--out-dir", run.place,
                      RADSTACK_COMPETITIONS=str(run.competitions), OMP_NUM_THREADS="1", **environment)


def counted(run: Run, script: str, file: Path) -> int:
    """Run a stage undisturbed; the writes that it made."""
    file.unlink(missing_ok=True)
    done = stage(run, script, FAULT_DIR=str(run.place), FAULT_COUNT=str(file))
    if done.returncode:
        raise Fault(f"{script} without faults: {done.stdout[-300:]}{done.stderr[-2000:]}")
    return int(file.read_text()) if file.exists() else 0


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


def places(writes: int, samples: int) -> list[tuple[int, str]]:
    """Numbers of writes with the error that is met from there on; with 0 samples each error at each write."""
    step = max(1, writes // samples) if samples else 1
    shift = step // len(ERRORS) if samples else 0
    return sorted((at, error) for number, error in enumerate(ERRORS)
                  for at in range(1 + number * shift, writes + 1, step))


def compare(whole: Run, cut: Run, script: str) -> None:
    """Raise unless both have the same files."""
    one, other = whole.products(), cut.products()
    wrong = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    if wrong:
        raise Fault(f"{whole.name}: {len(wrong)} files differ after {script}: {', '.join(wrong[:5])}")


def journey(name: str, work: Path, samples: int, stages: list[str]) -> tuple[int, list[str]]:
    """All stages of one competition; faults met, and what was wrong."""
    write_competitions(work / "competitions", (name,))
    whole, cut = (Run(name, work / name / kind, work / "competitions") for kind in ("whole", "cut"))
    met, faults = 0, []
    for script in STAGES:
        writes, before = counted(whole, script, work / "count"), work / "before"
        if cut.place.exists():
            shutil.copytree(cut.place, before)
        for at, error in places(writes, samples) if script[:2] in stages else ():
            try:
                met += (stopped := fail(cut, script, at, error))
            except Fault as fault:
                stopped = True
                faults.append(str(fault))
                print(f"FAULT: {fault}", flush=True)
            if not stopped:  # what the runs before have kept was enough to end before that write: from the beginning
                compare(whole, cut, script)
                shutil.rmtree(cut.place)
                if before.exists():
                    shutil.copytree(before, cut.place)
        counted(cut, script, work / "count")
        compare(whole, cut, script)
        shutil.rmtree(before, ignore_errors=True)
        print(f"  {script}: {writes} writes, the same files after all", flush=True)
    return met, faults


def main() -> None:
    """Run from the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default="radius_ulna", help="competitions")
    arguments.add_argument("--samples", type=int, default=4, help="writes that fail of each stage and kind of error")
    arguments.add_argument("--stages", default=",".join(one[:2] for one in STAGES), help="those that are disturbed: 02,04")
    arguments.add_argument("--every", action="store_true", help="each write in turn")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        if library is None:
            print("there is no C compiler here, so no disk fails")
            return
        # Before the process starts that all stages are forked from.
        os.environ.update(LD_PRELOAD=str(library), PYTHONPATH=os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        for name in args.only.split(","):
            met, faults = journey(name, Path(folder), 0 if args.every else args.samples,
                                  args.stages.split(","))
            print(f"{name}: {met} runs ended at a fault, {len(faults)} of them wrongly")
            if faults:
                sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"FAULT: {fault}")
