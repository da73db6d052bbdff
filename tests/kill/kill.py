"""Kill runs at random instants and see that nothing is lost: python tests/kill/kill.py [--kills 100 | --minutes 5]

For each competition the shortened demo (``short.py``) runs once undisturbed, or with ``--real FOLDER --limit 40`` the small
recipes on the first forty cases of the data below ``FOLDER/input``. Then the same again in another folder, each
stage killed a few times in a row before it may end: SIGKILL, SIGTERM, SIGINT or SIGHUP, to the script, to one of its workers
or to the whole group, at an instant drawn from the stage's own duration. After each kill no process may be left, after each
stage its files and at the end the submission must have the bytes of the undisturbed run. Linux alone: it looks into /proc.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from short import PREFIX, write_competitions

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"radius_ulna": 24, "ich": 14, "knee_age": 14, "bone_age": 28, "template": 16}
"""Phantoms of each competition; ``template`` is a copy of the one to copy, which takes seconds."""
NAMES = tuple(SIZES)[:-1]
STAGES = tuple(path.stem for path in sorted((ROOT / "src").glob("0[0-9]_*.py")))
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
TARGETS = ("parent", "worker", "group")
WATCHDOG_SECONDS = 120
STAGE_SECONDS = 1800
"""No stage takes as long; it ends one that hangs."""
MARK = "RADSTACK_KILL_TEST"
"""Variable of all processes of a run, by which they are found."""
UNCOMPARED = ("_log/", ".checkpoint", ".part", ".lock", "/parts", "lost_output.log", "reports/", ".phantom/", "index.html")
"""Parts of the names of files that tell of the run or are only on the way."""


class Fault(Exception):
    """What must not happen."""


@dataclass
class Tally:
    """What was done and seen."""

    kills: Counter = field(default_factory=Counter)
    """(competition, stage, signal, whom) -> how often."""
    late: int = 0
    ends: Counter = field(default_factory=Counter)
    longest: float = 0.0


@dataclass
class Run:
    """One competition in one folder."""

    name: str
    place: Path
    competitions: Path
    words: list[str]
    """Which competition, of what size, and where its data is."""

    def start(self, stage: str, log: Path) -> subprocess.Popen:
        """Start a stage in a process group of its own."""
        command = [sys.executable, str(ROOT / "src" / f"{stage}.py"), *self.words, "--all-stages", "--jobs", "2",
                   "--workers", "2", "--out-dir", str(self.place)]
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RADSTACK_COMPETITIONS": str(self.competitions),
                       "PYTHONPATH": path, MARK: str(self.place)}
        with log.open("w", encoding="utf-8") as said:
            return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                    env=environment, start_new_session=True)

    def processes(self) -> list[int]:
        """Numbers of the processes that belong to this run."""
        mark, found = f"{MARK}={self.place}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def products(self) -> dict[str, str]:
        """File below the folder -> digest of its bytes, of a manifest of what does not tell of the run."""
        found = {}
        for path in sorted(self.place.rglob("*")):
            name = str(path.relative_to(self.place))
            if path.is_file() and not any(part in f"/{name}" for part in UNCOMPARED):
                found[name] = _digest(path)
        return found


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        known = json.loads(content)
        if "files" in known:
            # Not the key: in it are the times of the raw files, which each run drew for itself.
            content = json.dumps({name: one["sha256"] for name, one in known["files"].items()}).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def finish(run: Run, stage: str, log: Path) -> float:
    """Run a stage to its end; its seconds."""
    start = time.monotonic()
    status = run.start(stage, log).wait(STAGE_SECONDS)
    if status:
        raise Fault(f"{run.name} {stage} ended with {status} when nobody disturbed it: {_last(log)}")
    nobody_left(run, stage)
    return time.monotonic() - start


def nobody_left(run: Run, what: str) -> float:
    """Wait until no process of the run is left; the seconds that it took."""
    start = time.monotonic()
    while left := run.processes():
        if time.monotonic() - start > WATCHDOG_SECONDS:
            names = [Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200] for number in left]
            for number in left:
                os.kill(number, signal.SIGKILL)
            raise Fault(f"{run.name} {what}: left after {WATCHDOG_SECONDS} s: {names}")
        time.sleep(0.05)
    return time.monotonic() - start


def disturb(run: Run, stage: str, log: Path, seconds: float, dice: random.Random, tally: Tally) -> float:
    """Start a stage and kill it, or a part of it, at an instant within ``seconds``; how long it takes, as known then."""
    name, whom, instant = dice.choice(SIGNALS), dice.choice(TARGETS), dice.uniform(0, seconds)
    start, child = time.monotonic(), run.start(stage, log)
    try:
        child.wait(instant)
        tally.late += 1
        seconds, whom = time.monotonic() - start, "nobody, it was late,"
    except subprocess.TimeoutExpired:
        whom = _send(run, child, signal.Signals[name], whom, dice)
        tally.kills[run.name, stage[:2], name, whom] += 1
    what = f"{stage}, {name} to {whom} after {instant:.1f} s"
    # A worker's death is its parent's to deal with: it ends in its own time.
    status = child.wait(STAGE_SECONDS if whom in ("worker", "nobody") or name == "SIGHUP" else WATCHDOG_SECONDS)
    tally.longest = max(tally.longest, nobody_left(run, what))
    said = log.read_text(encoding="utf-8", errors="replace")
    tally.ends[f"{whom}: {status}"] += 1
    print(f"    {what}: status {status}, {_last(log)[:150]}", flush=True)
    if "Traceback" in said or "Bus error" in said:
        raise Fault(f"{run.name} {what}: a traceback, see {log}")
    if status > 0 and whom == "worker" and "error: " not in said:
        raise Fault(f"{run.name} {what}: no word why it failed, see {log}")
    return seconds


def _send(run: Run, child: subprocess.Popen, number: signal.Signals, whom: str, dice: random.Random) -> str:
    """Send the signal; whom it went to."""
    workers = [one for one in run.processes() if one != child.pid and "resource_tracker" not in _command(one)]
    if whom == "worker" and not workers:
        whom = "parent"
    try:
        if whom == "group":
            os.killpg(child.pid, number)
        else:
            os.kill(dice.choice(workers) if whom == "worker" else child.pid, number)
    except ProcessLookupError:
        return "nobody"
    return whom


def _command(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _last(log: Path) -> str:
    return (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(no word)"])[-1]


def compare(whole: dict[str, str], run: Run, stage: str) -> None:
    """Raise unless the files of the run so far are those of the undisturbed one after the same stage."""
    found = run.products()
    wrong = [name for name in sorted({*whole, *found}) if whole.get(name) != found.get(name)]
    if wrong:
        raise Fault(f"{run.name}: {len(wrong)} files differ after {stage}: {', '.join(wrong[:5])}")


def words_of(name: str, place: Path, real: str = "", limit: int = 0) -> list[str]:
    """Of one competition's demo with its phantoms in ``place``, or of ``limit`` cases in the folder ``real``."""
    if real:
        return [name, "--recipes", "small", "--limit", str(limit), "--data-dir", real, "--checkpoint-seconds", "5"]
    return [f"{PREFIX}{name}", "--demo", "--demo-size", str(SIZES[name]), "--data-dir", str(place),
            "--checkpoint-seconds", "0.3"]


def journey(name: str, work: Path, kills: int, dice: random.Random, tally: Tally, seconds_in_all: float,
            real: str = "", limit: int = 0) -> None:
    """One competition, undisturbed and then with ``kills`` kills a stage; fewer where that takes ``seconds_in_all``."""
    write_competitions(work / "competitions", tuple(SIZES))
    whole, cut = (Run(name, place, work / "competitions", words_of(name, place, real, limit))
                  for place in (work / name / "whole", work / name / "cut"))
    log, seconds, products = work / f"{name}.log", {}, {}
    for stage in STAGES:
        seconds[stage] = finish(whole, stage, log)
        products[stage] = whole.products()
    undisturbed = sum(seconds.values())
    print(f"{name}: undisturbed in {undisturbed:.0f} s, {len(products[STAGES[-1]])} files", flush=True)
    spare, spent = seconds_in_all - 2 * undisturbed, 0.0
    for number, stage in enumerate(STAGES, 1):
        for _ in range(kills):
            # Each stage has its share of the time that two undisturbed runs leave; one kill there is in any case.
            if spent < spare * number / len(STAGES) or not tally.kills:
                start = time.monotonic()
                seconds[stage] = disturb(cut, stage, log, seconds[stage], dice, tally)
                spent += time.monotonic() - start
        finish(cut, stage, log)
        compare(products[stage], cut, stage)
    end, = (path.relative_to(whole.place) for path in whole.place.glob("submissions/*/final.csv"))
    if (whole.place / end).read_bytes() != (cut.place / end).read_bytes():
        raise Fault(f"{name}: the submissions differ")
    parts = [path for path in cut.place.rglob(".*") if path.suffix in (".part", ".lock")]
    print(f"{name}: the same files and submission after {sum(tally.kills.values())} kills in all; {len(parts)} temporary "
          "files of killed processes lie about", flush=True)


def table(kills: Counter) -> str:
    """Lines of Markdown: a row for each competition and stage, a column for each signal, in it parent / worker / group."""
    rows = sorted({key[:2] for key in kills}, key=lambda row: (list(SIZES).index(row[0]), row[1]))
    lines = [f"| competition | stage | {' | '.join(SIGNALS)} |", "|---|---|" + "---|" * len(SIGNALS)]
    for row in rows:
        cells = [" / ".join(str(kills[(*row, name, whom)]) for whom in TARGETS) for name in SIGNALS]
        lines.append(f"| {row[0]} | {row[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=100, help="kills in all, over the stages of the competitions")
    arguments.add_argument("--minutes", type=float, default=0, help="that all may take about, in equal parts by "
                           "competition and, beside its two undisturbed runs, by stage")
    arguments.add_argument("--only", default=",".join(NAMES), help=f"of {','.join(SIZES)}")
    arguments.add_argument("--real", default="", help="folder above input/ of a competition named by --only")
    arguments.add_argument("--limit", type=int, default=40, help="cases of --real")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--work", help="folder to work in, empty or new; else a temporary one")
    args = arguments.parse_args()
    names = args.only.split(",")
    if args.real and len(names) > 1:
        arguments.error("--real takes one competition, named by --only")
    share = args.minutes * 60 / len(names) if args.minutes else float("inf")
    each = max(1, -(-args.kills // (len(names) * len(STAGES))))
    tally, dice = Tally(), random.Random(args.seed)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # behind nohup and the & of a script the stages would ignore these, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            journey(name, Path(args.work or folder).resolve(), each, dice, tally, share,
                    args.real and str(Path(args.real).resolve()), args.limit)
    print(f"{sum(tally.kills.values())} kills, {tally.late} came too late; the last process was gone after at most "
          f"{tally.longest:.1f} s\n  {dict(sorted(tally.ends.items()))}\n{table(tally.kills)}")


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"FAULT: {fault}")
