"""Thousands of damaged files through the readers: what became of them, by kind.

    python tests/fuzz/run.py --count 10000          # by hand
    python tests/fuzz/run.py --seconds 150          # the short form
    python tests/fuzz/run.py --only RLE --first 17 --count 1 --verbose

Each file is read in a child whose memory is limited, and must be read or refused with a reason within 120 seconds, by a
process that lives on. One that is read must have the pixels that two independent decoders give where these agree, and a
harmless change must leave the pixels as they were. Prints a markdown table; ends with status 1 where a file broke a rule.
"""

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import numpy as np
from mutants import FILES, KINDS, NATIVE, mutant, sound
from pydicom.uid import UID, RLELossless

from competitions.radius_ulna.join import read_sheet
from radstack.core.errors import UserError
from radstack.core.files import read_text_table
from radstack.images import itk
from radstack.images.dicom import Unreadable, decoder, read_header, read_stored, stream
from radstack.images.dicom.file import FACTS
from radstack.images.radiograph import read_picture
from radstack.images.volumes import read_volume

WATCHDOG = 120.0  # Seconds for one file
MOST_MEMORY = 1 << 30  # Bytes resident, of the reading process or of its helper
LIMIT = 6 << 30  # Bytes of addresses of the reading process, so that a fault does not take the machine with it
OTHERS = ("gdcm", "pylibjpeg", "pydicom")
OUTCOMES = ("read", "undecodable", "wrong-size", "truncated", "bad-header", "others")


def other_helper(plugin: str) -> decoder.Helper:
    """A process that decodes by one plugin alone, whatever is in its way."""
    start = ("import sys; sys.path.insert(0, sys.argv[1]); from radstack.images.dicom import child; "
             f"child.plugin = lambda *_: {plugin!r}; "
             "child._check_length = lambda *_: None; child.LENIENT = (); child.serve()")
    return decoder.Helper(start)


def references(path: Path, helpers: dict[str, decoder.Helper]) -> dict[str, np.ndarray | None]:
    """What each other decoder gives for a compressed file, None where it refuses or dies."""
    header, found = read_header(path), {}
    frame = stream.frame_of(path.read_bytes(), header.pixel_offset, True)
    facts = {name: getattr(header, name) for name in FACTS}
    for plugin in OTHERS[1:] if UID(header.transfer_syntax) == RLELossless else OTHERS[:2]:
        try:
            answer, pixels = helpers[plugin].ask(facts, frame)
            found[plugin] = None if "error" in answer else np.frombuffer(pixels, answer["dtype"]).reshape(answer["shape"])
        except decoder.Died:
            found[plugin] = None
    return found


def read(kind: str, path: Path) -> np.ndarray:
    """The pixels of any kind of file, or the numbers of a table."""
    if kind not in FILES:
        return read_stored(path)[0]
    if kind in ("PNG", "JPEG", "TIFF"):
        return read_picture(path)[0]
    if kind in ("CSV", "xlsx"):
        table = read_text_table(path, ("id", "age", "sex")) if kind == "CSV" else read_sheet(path)
        return np.array([zlib.crc32(table.to_csv().encode())])
    return read_volume(path).pixels


def judge(kind: str, number: int, folder: Path, whole: Path, truth: np.ndarray, helpers: Any) -> dict[str, Any]:
    """Make one mutant and read it: its outcome, and what is wrong with that."""
    made = mutant(kind, number, whole, folder / whole.name)
    said: dict[str, Any] = {"kind": kind, "number": number, "how": made.how, "wrong": "", "other": ""}
    try:
        pixels = read(kind, made.path)
    except Unreadable as error:
        return said | {"outcome": error.reason, "detail": error.detail,
                       "wrong": f"harmless, and refused: {error}" if made.harmless else ""}
    except UserError as error:
        return said | {"outcome": "user error", "detail": str(error),
                       "wrong": "a refusal of several lines" if len(str(error).splitlines()) != 1 else ""}
    said |= {"outcome": "read", "same": bool(np.array_equal(pixels, truth))}
    if kind == "xlsx" and not said["same"] and "member" not in made.how:
        said["wrong"] = "read with other cells than its check sums allow"
    if made.harmless and not said["same"]:
        said["wrong"] = "harmless, and read with other pixels"
    if kind in FILES or kind in NATIVE or read_header(made.path).transfer_syntax not in COMPRESSED:
        return said
    others = references(made.path, helpers)
    one, two = others.values()
    if one is not None and two is not None and _equal(one, two, LOSSY.get(kind, 0)):
        if not _equal(pixels, one, LOSSY.get(kind, 0)):
            said["wrong"] = "two decoders agree on other pixels"
    else:
        said["other"] = "refuses" if one is None or two is None else "differs"
    return said


def _equal(one: np.ndarray, two: np.ndarray, tolerance: int) -> bool:
    return one.shape == two.shape and int(np.abs(one.astype(int) - two).max()) <= tolerance


LOSSY = {"JPEG baseline": 2}
"""Gray levels by which sound decoders of a lossy syntax differ: the standard leaves the rounding of its transform open."""
COMPRESSED = {str(one) for one in map(UID, ("1.2.840.10008.1.2.5", *(f"1.2.840.10008.1.2.4.{number}" for number in
                                                                    (50, 51, 57, 70, 80, 81, 90, 91))))}


def serve(kinds: list[str]) -> None:
    """The child: read ``kind number`` lines, answer a line of JSON each."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    helpers = {plugin: other_helper(plugin) for plugin in OTHERS}
    with tempfile.TemporaryDirectory() as place:
        wholes = {kind: sound(kind, Path(place, f"sound{number}")) for number, kind in enumerate(kinds)}
        truths = {kind: read(kind, path) for kind, path in wholes.items()}
        folder = Path(place, "mutant")
        folder.mkdir()
        answers.write("ready\n")
        for line in sys.stdin:
            kind, number = line.rsplit(maxsplit=1)
            said = judge(kind, int(number), folder, wholes[kind], truths[kind], helpers)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            answers.write(json.dumps(said | {"peak": max(peak, _helper_peak())}) + "\n")
            for file in folder.iterdir():
                file.unlink()


def _helper_peak() -> int:
    """Peak resident bytes of the expendable processes that run now."""
    peaks = [0]
    for process in (decoder.HELPER.process, itk.HELPER.process):
        status = Path(f"/proc/{process.pid}/status") if process else None
        found = status.read_text().splitlines() if status and status.exists() else []
        peaks += [int(line.split()[1]) * 1024 for line in found if line.startswith("VmHWM")]
    return max(peaks)


class Child:
    """A reading process that is watched, and started anew after it died."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self.start()

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", "--only", ",".join(self.kinds)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        bufsize=1)
        self.process.stdout.readline()  # when it is ready: its start counts for no file

    def ask(self, kind: str, number: int) -> dict[str, Any]:
        """What became of one mutant; a crash and a hang are outcomes, too."""
        lost = {"kind": kind, "number": number, "how": "", "other": "", "peak": 0}
        try:
            self.process.stdin.write(f"{kind} {number}\n")
            if not select.select([self.process.stdout], [], [], WATCHDOG)[0]:
                self.end()
                return lost | {"outcome": "hang", "wrong": f"no answer within {WATCHDOG:.0f} s"}
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            return lost | {"outcome": "crash", "wrong": f"the reader ended: {self.end()}"}

    def end(self) -> int:
        """End it and start another; its exit status."""
        self.process.kill()
        self.process.stdin = None
        self.process.communicate()
        status = self.process.returncode
        self.start()
        return status


def report(said: list[dict[str, Any]], kinds: list[str]) -> None:
    """The table of outcomes by kind."""
    print("| kind | mutants | " + " | ".join(OUTCOMES) + " | read: as before | other decoder refuses / differs | "
          "reached the decoder | broke a rule | peak MB |")
    print("|---|" + "---:|" * (len(OUTCOMES) + 6))
    for kind in kinds:
        own = [one for one in said if one["kind"] == kind]
        count = Counter(one["outcome"] if one["outcome"] in OUTCOMES else "others" for one in own)
        same, wrong = (sum(bool(one.get(name)) for one in own) for name in ("same", "wrong"))
        reached = (count["read"] + count["undecodable"]) / max(len(own), 1)
        other = Counter(one["other"] for one in own)
        print(f"| {kind} | {len(own)} | " + " | ".join(str(count[name]) for name in OUTCOMES) + f" | {same} | "
              f"{other['refuses']} / {other['differs']} | {reached:.0%} | {wrong} | "
              f"{max((one['peak'] for one in own), default=0) >> 20} |")


def main() -> int:
    """Read mutants of all kinds in turn until there are enough, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="mutants of all kinds together, at most")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant of each kind")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--verbose", action="store_true", help="tell each mutant")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kinds = options.only.split(",")
    if options.serve:
        serve(kinds)
        return 0
    child, said, start = Child(kinds), [], time.monotonic()
    for place in range(options.count):
        if time.monotonic() - start > options.seconds:
            break
        said.append(child.ask(kinds[place % len(kinds)], options.first + place // len(kinds)))
        if said[-1]["peak"] > MOST_MEMORY and not said[-1]["wrong"]:
            said[-1]["wrong"] = f"{said[-1]['peak'] >> 20} MB"
            child.end()  # the peak of a process is never less again
        if options.verbose or said[-1]["wrong"]:
            print(said[-1], file=sys.stderr, flush=True)
    child.process.kill()
    report(said, kinds)
    lazy = [kind for kind in kinds if kind not in FILES and not _half_reached([one for one in said if one["kind"] == kind])]
    if lazy:
        print(f"fewer than half of the mutants reached the decoder: {', '.join(lazy)}", file=sys.stderr)
    return 1 if lazy or any(one["wrong"] for one in said) else 0


def _half_reached(own: list[dict[str, Any]]) -> bool:
    return sum(one["outcome"] in ("read", "undecodable") for one in own) * 2 >= len(own)


if __name__ == "__main__":
    sys.exit(main())
