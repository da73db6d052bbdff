"""Slices per second from file to stored values, and on to three windows, against plain ways of doing the same.

    python benchmarks/decode.py input/ich/stage_2_test [--limit 500]

All ways run on the same files in one run, with one thread and a warm file cache, in turn and repeatedly. The best
round counts, in CPU time (the kernel's included), which other work on the machine disturbs less than the clock.
The bytes of every way are compared with pydicom's on every file first. Prints a markdown table.
"""

import argparse
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from competitions.ich.hu import WINDOWS, to_hu
from radstack.core.limits import keep_memory
from radstack.images.dicom import Header, Unreadable, read_header, read_stored
from radstack.images.windows import apply, reference

THREE = (WINDOWS["brain"], WINDOWS["subdural"], WINDOWS["bone"])


def raw(path: Path) -> bytes:
    """All bytes by one system call."""
    handle = os.open(path, os.O_RDONLY)
    data = os.pread(handle, os.fstat(handle).st_size, 0)
    os.close(handle)
    return data


def plain_pydicom(path: Path) -> np.ndarray:
    """The usual two calls."""
    return pydicom.dcmread(path).pixel_array


def simple_itk(path: Path) -> np.ndarray:
    """SimpleITK; it rescales to HU by itself."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]


def rescale(stored: np.ndarray, header: Header) -> np.ndarray:
    """HU as most solutions write it: float64, no repair of intercepts."""
    return stored * header.slope + header.intercept


def slow_windows(path: Path, header: Header) -> np.ndarray:
    """The usual decoder and the float64 formula."""
    return reference(rescale(plain_pydicom(path), header), THREE)


def mixed_windows(path: Path) -> np.ndarray:
    """The short reader and the float64 formula."""
    stored, header = read_stored(path)
    return reference(to_hu(stored, header), THREE)


def fast_windows(path: Path) -> np.ndarray:
    """What the stages run."""
    return apply(to_hu(*read_stored(path)), THREE)


def check(path: Path, header: Header) -> int:
    """Compare bytes on one file; returns how many windowed bytes differ from plain pydicom without repairs."""
    expected = plain_pydicom(path)
    stored, _ = read_stored(path)
    assert stored.dtype == expected.dtype and np.array_equal(stored, expected), path
    if not np.array_equal(simple_itk(path), rescale(expected, header)):
        print(f"SimpleITK differs from pydicom on {path.name}", file=sys.stderr)
    fast = fast_windows(path)
    assert np.array_equal(fast, mixed_windows(path)), path
    return int(np.count_nonzero(fast != slow_windows(path, header)))


def best_seconds(ways: dict[str, Callable[[Path], object]], paths: list[Path], rounds: int) -> dict[str, float]:
    """CPU seconds a file of each way, the least of ``rounds`` passes."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            for path in paths:
                way(path)
            best[name] = min(best[name], (time.process_time() - start) / len(paths))
    return best


def usable(folder: Path, limit: int) -> dict[Path, Header]:
    """The first readable files below ``folder`` and their headers."""
    headers = {}
    for path in sorted(folder.rglob("*.dcm")):
        try:
            headers[path] = read_stored(path)[1]
        except Unreadable as error:
            print(f"left out {path.name}: {error}", file=sys.stderr)
        if len(headers) == limit:
            break
    return headers


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=500, help="files at most")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    keep_memory()  # as in every process that decodes
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    warnings.simplefilter("ignore")
    logging.disable()
    headers = usable(options.folder, options.limit)
    if not headers:
        parser.error(f"no readable .dcm file below {options.folder}")
    differing = sum(check(path, header) > 0 for path, header in headers.items())
    ways: dict[str, Callable[[Path], object]] = {
        "header: pydicom, stop before pixels": lambda path: pydicom.dcmread(path, stop_before_pixels=True).Rows,
        "header: read_header": read_header,
        "bytes alone (pread)": raw,
        "stored: SimpleITK": simple_itk,
        "stored: pydicom": plain_pydicom,
        "stored: read_stored": read_stored,
        "3 windows: pydicom, float64": lambda path: slow_windows(path, headers[path]),
        "3 windows: read_stored, float64": mixed_windows,
        "3 windows: read_stored, tables": fast_windows,
    }  # fmt: skip
    seconds = best_seconds(ways, list(headers), options.rounds)
    print(f"{len(headers)} slices, one thread of {platform.machine()}, Python {platform.python_version()}, "
          f"pydicom {pydicom.__version__}; stored values equal on all, windows equal on {len(headers) - differing} "
          f"(the others are repaired or clamped)\n")
    print("| way | CPU us a slice | slices/s |\n|---|---:|---:|")
    for name, value in seconds.items():
        print(f"| {name} | {value * 1e6:,.0f} | {1 / value:,.0f} |")


if __name__ == "__main__":
    main()
