"""Predict a competition's test set in a Kaggle notebook, without a network. This file is the code of that notebook.

It needs the standard library alone. The bundle and the test set are searched for, since Kaggle mounts them in more than
one way. The data set of a bundle is flat; its layout file says where each file belongs.
"""

import csv
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"  # Every bundle has one; its SHA-256 tells the bundles apart
DEEPEST = 8  # Levels below the inputs that are looked at; the links of a mount may lead in circles
COPIED = 1 << 20
"""Bytes up to which a file of the bundle is copied. Python looks for modules beside the real file of a script, so that code
must not be a link; weights may be one."""


class Stop(RuntimeError):
    """One line: what is wrong in the notebook and what to do about it."""


def folders(top: Path) -> Iterator[Path]:
    """``top`` and all folders below it, level by level.

    The next level is listed only when it is asked for: a folder of a million pictures is not read to find a file above it.
    """
    level = [top]
    for _ in range(DEEPEST):
        yield from level
        level = [Path(entry.path) for folder in level for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def find_bundle(inputs: Path, digest: str, source: str) -> Path:
    """The folder below ``inputs`` whose ``manifest.json`` has the SHA-256 ``digest``; ``source`` is the data set's name."""
    others = []
    for folder in folders(inputs):
        if (folder / MANIFEST).is_file():
            if hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() == digest:
                return folder
            others.append(str(folder))
    seen = f" (another one lies in {', '.join(others)})" if others else ""
    raise Stop(f"the bundle is not below {inputs}{seen}; add the data set {source} to the notebook's input, in the version "
               "that was pushed with it")


def put_together(found: Path, layout: str, into: Path) -> tuple[Path, Path]:
    """The bundle's folder and its wheels' folder; a flat data set is laid out below ``into`` as its file ``layout`` says.

    A folder without that file is a bundle that already has its shape.
    """
    if not (found / layout).is_file():
        return found, found / "wheels"
    entries = json.loads((found / layout).read_text(encoding="utf-8"))
    bad = [entry["name"] for entry in entries if not _arrived(found / entry["name"], entry["bytes"])]
    if bad:
        raise Stop(f"{len(bad)} of {len(entries)} files of the bundle are missing or short (first: {bad[0]}); push it again")
    for entry in entries:
        _place(found / entry["name"], into / entry["part"], entry["path"], entry["bytes"])
    return into / "bundle", into / "wheels"


def _arrived(path: Path, size: int) -> bool:
    return size == 0 or (path.is_file() and path.stat().st_size == size)  # empty files are not sent


def _place(source: Path, folder: Path, path: str, size: int) -> None:
    if ".." in Path(path).parts or Path(path).is_absolute():
        raise Stop(f"the bundle's layout names {path!r}, which lies outside of it; do not use this data set")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if size > COPIED:
        target.symlink_to(source.resolve())
    elif size:
        shutil.copyfile(source, target)
    else:
        target.touch()


def find_marker(inputs: Path, marker: str, source: str) -> Path:
    """The file or folder called ``marker`` that lies highest below ``inputs``; ``source`` is the competition's name."""
    for folder in folders(inputs):
        if (folder / marker).exists():
            return folder / marker
    raise Stop(f"{marker} is not below {inputs}; add {source} to the notebook's input and accept its rules")


def test_pictures(marker: Path, names: Sequence[str]) -> Path:
    """The folder of the test pictures: ``marker`` if it is one, else the first of ``names`` that lies beside it.

    Where none of them does, the only folder beside it whose name has "test" in it.
    """
    if marker.is_dir():
        return marker
    beside = [Path(entry.path) for entry in _entries(marker.parent) if entry.is_dir()]
    named = [marker.parent / name for name in names if marker.parent / name in beside][:1]
    found = named or [folder for folder in beside if "test" in folder.name.lower()]
    if len(found) != 1:
        raise Stop(f"which folder beside {marker} holds the test pictures? It has {', '.join(f.name for f in beside)}; "
                   "name one when the kernel is written")
    return found[0]


def lacking(packages: Sequence[str]) -> list[str]:
    """Those of ``packages`` that this Python does not have."""

    def is_there(name: str) -> bool:
        try:
            return bool(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            return False

    return [name for name in packages if not is_there(name)]


def install(packages: Sequence[str], wheels: Path) -> None:
    """Install those of ``packages`` that are lacking and have a wheel; the others are named in one line."""
    shipped = {re.sub("[-_.]+", "-", path.name.partition("-")[0]).lower() for path in wheels.glob("*.whl")}
    missing = lacking(packages)
    if without := [name for name in missing if name not in shipped]:
        print(f"this image lacks {', '.join(without)}, of which the bundle has no wheel: trying without", flush=True)
    if named := [name for name in missing if name in shipped]:
        show([sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels), *named],
             "the wheels do not fit this image; write the kernel again with the list of its packages (pip freeze)")


def show(command: Sequence[str], advice: str) -> None:
    """Run ``command`` and print its lines as they come: what a child writes by itself does not reach a notebook."""
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    if child.returncode:
        raise Stop(f"{Path(command[1]).name} ended with status {child.returncode} ({last}); {advice}")


def rows(path: Path) -> int:
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        return sum(1 for row in csv.reader(handle) if row)


def main(settings: dict[str, Any]) -> Path:
    """Write ``submission.csv`` as ``settings`` (of ``radstack.submission.kernel``) say, and return its path.

    ``RADSTACK_KAGGLE_INPUT`` and ``RADSTACK_KAGGLE_WORKING`` stand for ``/kaggle/input`` and ``/kaggle/working`` in a
    rehearsal.
    """
    inputs = Path(os.environ.get("RADSTACK_KAGGLE_INPUT", "/kaggle/input"))
    working = Path(os.environ.get("RADSTACK_KAGGLE_WORKING", "/kaggle/working"))
    print("the hidden test set" if os.environ.get("KAGGLE_IS_COMPETITION_RERUN") else "the public test set", flush=True)
    marker = find_marker(inputs, settings["marker"], settings["competition"])
    pictures = test_pictures(marker, settings["pictures"])
    columns = str(find_marker(inputs, settings["columns"], settings["competition"])) if settings["columns"] else ""
    found = find_bundle(inputs, settings["manifest"], settings["dataset"])
    with tempfile.TemporaryDirectory() as scratch:  # what is made on the way may be larger than /kaggle/working
        bundle, wheels = put_together(found, settings["layout"], Path(scratch) / "there")
        install(settings["packages"], wheels)
        out = Path(scratch) / "out/submission.csv"
        out.parent.mkdir()
        listed = [] if marker.is_dir() else ["--sample-submission", str(marker)]
        more = [word.replace("{marker}", str(marker)).replace("{columns}", columns) for word in settings["arguments"]]
        show([sys.executable, str(bundle / "predict.py"), str(pictures), str(out), *listed, *more],
             "read its lines above")
        if listed and rows(out) != rows(marker):
            raise Stop(f"the answer has {rows(out)} rows, {marker.name} {rows(marker)}; its quarantine says why")
        for path in sorted(out.parent.glob("*.csv")):
            shutil.copyfile(path, working / path.name)
    print(f"{working / out.name}: {rows(working / out.name) - 1:,} rows", flush=True)
    return working / out.name
