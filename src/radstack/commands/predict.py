"""Predict a folder of pictures by this bundle alone; it needs neither the repository nor a network.

reads    FOLDER (pictures, nested at will) and the files of this bundle, each checked against manifest.json
writes   OUT.csv in the columns of the competition, OUT_quarantine.csv (each file without an answer, with its reason)
command  python predict.py FOLDER OUT.csv [--columns CSV] [--sample-submission CSV] [--device cpu] [--workers N]
         and whatever else src/apply.py takes
needs    the packages of apply.txt:  pip install -r apply.txt      (--report: those of report.txt)
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FORMAT = 1
"""Of the manifest; raised when a bundle is laid out otherwise."""
SHOWN = 4
"""Other versions that the one line about them names."""
sys.dont_write_bytecode = True  # in the processes that are started as well: nothing is ever written into a bundle


def read_manifest(bundle: Path) -> dict[str, Any]:
    """What a bundle says of itself; ends the program with one line where that is not readable, or of another format."""
    file = bundle / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {file} cannot be read ({' '.join(str(error).split())}); copy the bundle anew")
    made = manifest.get("format") if isinstance(manifest, dict) else None
    if made != FORMAT:
        sys.exit(f"error: {bundle} is of format {made}, and this predict.py reads {FORMAT}; make it anew with bundle.py")
    if not sound(manifest):
        sys.exit(f"error: {file} lacks a value or holds one of the wrong kind; copy the bundle anew")
    return manifest


def sound(manifest: dict[str, Any]) -> bool:
    """Whether all values are there and of the right kind, and every file lies in the bundle."""
    try:
        files, packages = manifest["files"], manifest["packages"]
        texts = [manifest["competition"], manifest["name"], manifest["python"], *manifest["edits"], *files, *packages,
                 *packages.values(), *manifest["members"], *(one["sha256"] for one in files.values())]
        folds = [fold for own in manifest["members"].values() for fold in own]
        numbers = [manifest["limit"], *(one["size"] for one in files.values()), *folds]
    except (KeyError, TypeError, AttributeError):
        return False
    outside = any(Path(name).is_absolute() or ".." in Path(name).parts for name in files)
    return not outside and all(isinstance(one, str) for one in texts) and all(isinstance(one, int) for one in numbers)


def faults(bundle: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """What is not as the manifest says, a few words each: a missing fold, a missing or changed file, a strange module."""
    weights = f"weights/{manifest['name']}"
    for member, folds in manifest["members"].items():
        yield from (f"fold {fold} of {member} is missing" for fold in folds
                    if f"{weights}/{member}/fold{fold}.safetensors" not in manifest["files"]
                    or not (bundle / f"{weights}/{member}/fold{fold}.safetensors").is_file())
    for name, known in manifest["files"].items():
        path = bundle / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != known["size"] or sha256(path) != known["sha256"]:
            yield f"{name} was changed"
    for path in (bundle / "src").rglob("*"):
        if path.is_file() and path.relative_to(bundle).as_posix() not in manifest["files"]:
            yield f"{path.relative_to(bundle).as_posix()} is not of this bundle"


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    found = hashlib.sha256()  # not file_digest: this much must work in any Python, to say which one is meant
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def other_versions(manifest: dict[str, Any]) -> str:
    """What is installed here otherwise than where the bundle was made, in a few words; "" where nothing is."""
    here = {name: _version(name) for name in manifest["packages"]}
    pairs = [(name, made, here[name]) for name, made in manifest["packages"].items() if made != here[name]]
    python = platform.python_version()
    if python.split(".")[:2] != manifest["python"].split(".")[:2]:
        pairs.insert(0, ("Python", manifest["python"], python))
    shown = [f"{name} {there or 'missing'} (made with {made})" for name, made, there in pairs[:SHOWN]]
    return ", ".join(shown + ([f"and {len(pairs) - SHOWN} more"] if len(pairs) > SHOWN else []))


def _version(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def main(words: list[str]) -> None:
    """Check the bundle, then let its ``apply.py`` work with its weights; ``words`` are those of the command line."""
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        sys.exit(0 if words else 2)
    manifest = read_manifest(HERE)
    if fault := next(faults(HERE, manifest), ""):
        sys.exit(f"error: {HERE}: {fault}; copy the bundle anew")
    other = other_versions(manifest)
    if other:
        print(f"other versions than this bundle was made with: {other}; trying", file=sys.stderr, flush=True)
    os.environ.pop("RADSTACK_COMPETITIONS", None)  # none but that of the bundle
    sys.path.insert(0, str(HERE / "src"))
    edits = [word for edit in manifest["edits"] for word in ("--set", edit)]
    limit = ["--limit", str(manifest["limit"])] if manifest["limit"] else []
    sys.argv = [sys.argv[0], manifest["competition"], *words, *edits, *limit, "--out-dir", str(HERE)]
    try:
        import_module("radstack.running.cli").run(import_module("apply").main)
    except Exception as error:
        if not other:
            raise
        sys.exit(f"error: {' '.join(f'{type(error).__name__}: {error}'.split())}; other versions are installed ({other}): "
                 f"pip install -r {HERE / 'apply.txt'}")


if __name__ == "__main__":
    main(sys.argv[1:])
