"""Runs of ``apply`` killed at random instants, and run again: do they end in the bytes of a run that nobody disturbed?

    OMP_NUM_THREADS=1 python benchmarks/apply_kills.py                 # 300 series, 20 kills: about ten minutes
    OMP_NUM_THREADS=1 python benchmarks/apply_kills.py --series 30 --kills 3

A run is a process of its own, forked from this one. Each trial has a folder of its own: a run is killed (SIGKILL) at an
instant drawn between its start and the time that the undisturbed run took, then the same command runs to its end. One that
had ended before its instant counts as not killed, and another instant is drawn.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from apply_scale import copies, solution

from radstack.commands.apply import Wish, run_apply
from radstack.running.context import Context


def main() -> None:
    """Draw, apply, kill, apply again, compare; exit status 1 where bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=300)
    parser.add_argument("--slices", type=int, default=8, help="of a series")
    parser.add_argument("--part", type=int, default=512, help="slices that are worked on together")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        copies(home / "drawn", home / "in", options.series * options.slices, options.slices)
        context, instants = solution(home, 1), random.Random(options.seed)
        start = time.monotonic()
        assert run(context, home, home / "whole", options.part) == 0
        whole, seconds, killed = made(home / "whole"), time.monotonic() - start, 0
        print(f"undisturbed: {seconds:.1f} s, {sum(map(len, whole.values())):,} bytes", flush=True)
        while killed < options.kills:
            after, trial = instants.uniform(0, seconds), home / "trial"
            if run(context, home, trial, options.part, after) == -signal.SIGKILL:
                killed += 1
                kept = len(list((trial / "work").rglob("*.json")))
                assert run(context, home, trial, options.part) == 0
                equal = made(trial) == whole
                print(f"kill {killed} after {after:.1f} s, {kept} files done: {'equal bytes' if equal else 'OTHER BYTES'}",
                      flush=True)
                if not equal:
                    sys.exit(1)
            shutil.rmtree(trial)
    print(f"{options.kills} kills, {options.series} series of {options.slices} slices: equal bytes each time")


def run(context: Context, home: Path, out: Path, part: int, kill_after: float = -1.0) -> int:
    """Apply in a process of its own, killed after so many seconds unless that is below 0; its exit status."""
    out.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        with (out / "said.txt").open("a") as said:
            os.dup2(said.fileno(), 1)
            run_apply(context, Wish(home / "in", out / "out.csv", work=out / "work", part=part))
        os._exit(0)
    if kill_after >= 0:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)  # no error where it has ended: it is waited for below
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def made(folder: Path) -> dict[str, bytes]:
    """The bytes of the answers and of the quarantine."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}


if __name__ == "__main__":
    main()
