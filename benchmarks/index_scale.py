"""Stage 01 of `ich` on as many files as RSNA 2019 has: 874,035 headers with their labels, to the index and the folds.

    python benchmarks/index_scale.py --folder /data/scratch                  # 20,000 files
    python benchmarks/index_scale.py --folder /data/scratch --files 874035   # all: 4 GB and 900,000 inodes, minutes to make

Makes the archive below FOLDER as the organizer ships it: headers as those of real slices, names in no order, pixels that
are a hole in the file, six rows a slice in the label file. Runs stage 01 on it, which deals the folds as well, and prints
seconds, files a second, microseconds a file, and the most memory that one of its processes took; then CPU time a header of
pydicom and of ours on a sample of the same files, in turn. What it made is deleted at the end.
"""

import argparse
import os
import platform
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from tabular_scale import POSITIVES, SERIES_A_PATIENT, TEST, TRAIN

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from competitions.ich.labels import SAMPLE_CSV, TARGETS, TRAIN_CSV
from radstack.core.files import read_table
from radstack.core.parallel import in_processes
from radstack.images.dicom import read_header

SIDE = 512
"""Pixels of a row and of a column."""
SLICES = 35
"""Of a series."""
TOGETHER = SLICES * 23
"""Slices of 23 series, which are those of 20 patients."""


class Scanner(NamedTuple):
    """How one writes its files."""

    implicit: bool
    signed: bool
    stored: int  # Bits
    center: str
    width: str


SCANNERS = (Scanner(False, True, 16, "30", "80"), Scanner(False, False, 12, "00040\\00040", "00080\\00080"),
            Scanner(True, False, 12, "00036\\00036", "00080\\00080"))
"""What differs between the series of the archive, as in those that we have."""
META = [(0x00020002, "UI", "1.2.840.10008.5.1.4.1.1.2"), (0x00020012, "UI", "1.2.40.0.13.1.1.1"),
        (0x00020013, "SH", "dcm4che-1.4.38")]
SPREAD = 0x9E3779B97
"""Odd, so that multiples modulo 2^36 are all different: names in no order."""
Written = tuple[int, str, str | int]
"""Tag, value representation and value of an element."""
PIECE = 5000
"""Slices that a process makes at a time."""
SAMPLE = 2000
"""Headers that are read by pydicom, too."""


def main() -> None:
    """Make the archive, run the stage, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="on a disk with room; what is made there is deleted")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="index_scale_", dir=options.folder) as folder:
        start = time.perf_counter()
        make_archive(Path(folder, "input", "ich"), options.files, options.workers)
        print(f"{options.files:,} files made in {time.perf_counter() - start:.0f} s; {platform.machine()}, Python "
              f"{platform.python_version()}, {options.workers} workers\n")
        run_stage(Path(folder), options.files, options.workers)
        compare(sorted(Path(folder, "input", "ich", "stage_2_train").iterdir())[:SAMPLE])


def make_archive(folder: Path, files: int, workers: int) -> None:
    """The two folders and the two tables of the organizer."""
    count = round(files * TRAIN / (TRAIN + TEST))
    behind = -(-count // TOGETHER) * TOGETHER  # no patient is in both
    train, test = range(count), range(behind, behind + files - count)
    for split, slices in (("stage_2_train", train), ("stage_2_test", test)):
        (folder / split).mkdir(parents=True)
        pieces = [(folder / split, slices[start:start + PIECE]) for start in range(0, len(slices), PIECE)]
        for _ in in_processes(make_files, pieces, workers):
            pass
    subtypes = np.random.default_rng(0).random((len(train), len(POSITIVES))) < POSITIVES
    write_rows(folder / TRAIN_CSV, train, np.c_[subtypes, subtypes.any(axis=1)].astype(int))
    write_rows(folder / SAMPLE_CSV, test, np.full((len(test), len(TARGETS)), 0.5))


def write_rows(path: Path, slices: range, labels: np.ndarray) -> None:
    """Six rows a slice."""
    with path.open("w", encoding="utf-8") as file:
        file.write("ID,Label\n")
        for number, row in zip(slices, labels.tolist()):
            file.write("".join(f"{name(number)}_{target},{label}\n" for target, label in zip(TARGETS, row)))


def name(number: int) -> str:
    """The id of slice ``number``."""
    return f"ID_{number * SPREAD % (1 << 36):09x}"


def make_files(piece: tuple[Path, range]) -> None:
    """Write the slices of ``piece``, a folder and numbers."""
    folder, slices = piece
    for number in slices:
        handle = os.open(folder / f"{name(number)}.dcm", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        written = os.write(handle, header(number))
        os.ftruncate(handle, written + 2 * SIDE * SIDE)
        os.close(handle)


def header(number: int) -> bytes:
    """All bytes of slice ``number`` before its pixels."""
    series, place = divmod(number, SLICES)
    implicit, tilt, study, picture = shared(series)
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    meta = [*META[:1], (0x00020003, "UI", f"9999.{number * SPREAD:040}"), (0x00020010, "UI", syntax), *META[1:]]
    written = b"".join(element(*one) for one in meta)
    position = f"-125\\{-120 - 5 * place * np.sin(tilt):.6f}\\{5 * place * np.cos(tilt):.6f}"
    return b"".join((bytes(128), b"DICM", element(0x00020000, "UL", len(written)), written,
                     element(0x00080018, "UI", name(number), implicit), study,
                     element(0x00200032, "DS", position, implicit), picture))


@lru_cache(1)
def shared(series: int) -> tuple[bool, float, bytes, bytes]:
    """Of the slices of a series: whether they are implicit, tilt, elements before the position, and those after it."""
    rng = np.random.default_rng(series)
    scanner, tilt = SCANNERS[series % len(SCANNERS)], rng.uniform(0, 0.4)
    # Half of the series have the usual field of view.
    spacing = f"{0.48828125 if rng.random() < 0.5 else rng.integers(390, 560) / 1000:.8g}"
    study: list[Written] = [
        (0x00080060, "CS", "CT"), (0x00100020, "LO", f"ID_{int(series / SERIES_A_PATIENT):08x}"),
        (0x0020000D, "UI", f"ID_{series:010x}"), (0x0020000E, "UI", f"ID_{series + (1 << 36):010x}"), (0x00200010, "SH", "")]
    picture: list[Written] = [
        (0x00200037, "DS", f"1\\0\\0\\0\\{np.cos(tilt):.9f}\\{-np.sin(tilt):.9f}"), (0x00280002, "US", 1),
        (0x00280004, "CS", "MONOCHROME2"), (0x00280010, "US", SIDE), (0x00280011, "US", SIDE),
        (0x00280030, "DS", f"{spacing}\\{spacing}"), (0x00280100, "US", 16), (0x00280101, "US", scanner.stored),
        (0x00280102, "US", scanner.stored - 1), (0x00280103, "US", int(scanner.signed)), (0x00281050, "DS", scanner.center),
        (0x00281051, "DS", scanner.width), (0x00281052, "DS", "-1024"), (0x00281053, "DS", "1"),
        (0x7FE00010, "OW", 2 * SIDE * SIDE)]
    before, after = (b"".join(element(*one, implicit=scanner.implicit) for one in part) for part in (study, picture))
    return scanner.implicit, tilt, before, after


def element(tag: int, vr: str, value: str | int, implicit: bool = False) -> bytes:
    """A written element; OW without its value, of which ``value`` is the length."""
    head, kind = struct.pack("<HH", tag >> 16, tag & 0xFFFF), vr.encode()
    if vr == "OW":
        return head + (b"" if implicit else kind + bytes(2)) + struct.pack("<I", value)
    raw = str(value).encode() if isinstance(value, str) else struct.pack("<I" if vr == "UL" else "<H", value)
    raw += (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
    return head + (struct.pack("<I", len(raw)) if implicit else kind + struct.pack("<H", len(raw))) + raw


def run_stage(folder: Path, files: int, workers: int) -> None:
    """Stage 01 in a process of its own: the clock, CPU time of it and its workers, memory of the largest."""
    script = Path(__file__).resolve().parents[1] / "src" / "01_make_folds.py"
    before, start = cpu_seconds(), time.perf_counter()
    subprocess.run([sys.executable, script, "ich", "--workers", str(workers), "--data-dir", folder, "--out-dir", folder],
                   check=True, stdout=subprocess.DEVNULL)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - before
    index = read_table(folder / "folds" / "ich" / "index.parquet")
    if len(index) != files:
        sys.exit(f"{len(index)} rows in the index, {files} files")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print("| files | series | seconds | files/s | us a file and core | CPU us a file | peak GB |\n" + 7 * "|---:" + "|")
    print(f"| {files:,} | {index['series'].nunique():,} | {seconds:.1f} | {files / seconds:,.0f} | "
          f"{seconds * workers / files * 1e6:.0f} | {cpu / files * 1e6:.0f} | {peak:.2f} |\n")


def cpu_seconds() -> float:
    """CPU seconds of the processes that this one started and that ended, the kernel's included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(paths: list[Path]) -> None:
    """CPU time a header by pydicom and by ours: the better of three rounds."""
    ways: dict[str, Callable[[Path], object]] = {
        "pydicom, stop before pixels": partial(pydicom.dcmread, stop_before_pixels=True), "read_header": read_header}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(3):
        for way, read in ways.items():
            start = time.process_time()
            for path in paths:
                read(path)
            best[way] = min(best[way], (time.process_time() - start) / len(paths))
    print("| header | CPU us |\n|---|---:|")
    for way, seconds in best.items():
        print(f"| {way} | {seconds * 1e6:.1f} |")


if __name__ == "__main__":
    main()
