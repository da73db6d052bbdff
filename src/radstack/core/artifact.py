"""An artifact is a file (or a few) and its manifest ``<file>.json``, written last.

The key is a hash of recipe, stage version and the inputs' content. Work whose key is unchanged is kept, changed work is
made again, and a file that no longer matches its manifest is an error that names it.
"""

import functools
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.disk import need_readable
from radstack.core.errors import Missing, UserError
from radstack.core.files import read_json, read_table, sha256, write_json
from radstack.core.folds import ALL
from radstack.core.lock import working_on
from radstack.core.recipe import as_dict, digest
from radstack.core.say import say

PACKAGES = ("torch", "timm", "numpy", "pandas", "scikit-learn", "lightgbm", "albumentations", "pydicom")


@dataclass(frozen=True)
class Lesson:
    """What a network learns from the training rows: a label that it never meets must not cost its training."""

    labels: tuple[str, ...]
    """All label columns of the table."""
    learned: tuple[str, ...] = ()
    """Those that it learns from."""
    keep: str = ""
    """A pandas query for the rows whose labels it learns from; "" for all."""
    folds: Path | None = None
    """Table of ``group`` and ``fold``; None where rows of all folds count."""
    fold: int = -1
    """The fold whose rows it is kept from."""


@dataclass(frozen=True)
class Part:
    """The rows of one split of a table, as an input: what learns must not change with the test set."""

    path: Path
    split: str
    """``train`` or ``test``."""
    lesson: Lesson | None = None
    """None where all columns of all these rows count."""

    @property
    def name(self) -> str:
        """What it is called among the inputs."""
        own = ""
        if self.lesson:
            held_out = self.lesson.folds and self.lesson.fold != ALL
            own = f" but fold {self.lesson.fold}" if held_out else " learned" if self.lesson.learned else " without labels"
        return "/".join(self.path.parts[-2:]) + f": {self.split} rows{own}"

    def digest(self) -> str:
        """Digest of these rows, from the table's manifest (:func:`split_digests`), or of the rows where it has none.

        Raises:
            Missing: the table is not there.
            UserError: it differs from what its own manifest recorded.
        """
        content_hash(self.path)
        manifest = manifest_of(self.path)
        known = read_json(manifest) if manifest.exists() else {}
        if self.lesson:
            if self.lesson.folds:
                content_hash(self.lesson.folds)
            return digest(_learned(self, _seen(self.path), _seen(self.lesson.folds)), known.get("recipe"))
        return (known.get("splits") or split_digests(pd.read_parquet(self.path)))[self.split]


def _seen(path: Path | None) -> tuple[int, int]:
    stat = path.stat() if path else None
    return (stat.st_size, stat.st_mtime_ns) if stat else (0, 0)


@functools.lru_cache(maxsize=256)
def _learned(part: Part, table_seen: tuple[int, int], folds_seen: tuple[int, int]) -> str:
    """Digest of a lesson: the rows without labels (pixels of any of them may be looked at), and the labels that count."""
    lesson = part.lesson
    assert lesson is not None
    table, columns = _hashed(part.path, lesson.labels, lesson.keep, table_seen)
    own = table["split"] == part.split
    if lesson.folds:
        folds = read_table(lesson.folds)
        own &= ~table["group"].astype(str).isin(folds.loc[folds["fold"] == lesson.fold, "group"])
    taught = table.loc[own & table["kept"], ["bare", *lesson.learned]]
    return digest(columns, _bytes(table.loc[own, "bare"]), list(lesson.learned),
                  _bytes(pd.util.hash_pandas_object(taught, index=False)))


def _bytes(values: pd.Series) -> str:
    return hashlib.sha256(values.to_numpy().tobytes()).hexdigest()


@functools.lru_cache(maxsize=4)
def _hashed(path: Path, labels: tuple[str, ...], keep: str, seen: tuple[int, int]) -> tuple[pd.DataFrame, list[str]]:
    """``split``, ``group``, the labels, ``kept`` (bool), and ``bare``, the hash of a row without its labels; its columns."""
    table = pd.read_parquet(path)
    bare = table.drop(columns=[*labels], errors="ignore")
    bare = bare.astype(dict.fromkeys(bare.select_dtypes("object"), str))  # mixed values cannot be hashed
    kept = table.eval(keep).to_numpy(bool) if keep else True
    known = [name for name in labels if name in table]
    return (table[["split", "group", *known]].assign(kept=kept, bare=pd.util.hash_pandas_object(bare, index=False)),
            list(bare))


def split_digests(table: pd.DataFrame, *settings: Any) -> dict[str, str]:
    """Split -> digest of its rows of ``table`` and of ``settings``; a build returns them as ``splits``."""
    found = {}
    for split in ("train", "test"):
        rows = table[table["split"] == split]
        rows = rows.astype(dict.fromkeys(rows.select_dtypes("object"), str))  # mixed values cannot be hashed
        content = pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
        found[split] = digest(list(rows), hashlib.sha256(content).hexdigest(), *settings)
    return found


@dataclass(frozen=True)
class Artifact:
    """What a stage makes from what. ``inputs`` are files (their content counts) or the rows of one split of a table.

    Where the build notes a number of files as ``passing`` (:mod:`radstack.core.passing`), it is made again by each run.
    """

    stage: str  # Script that makes it, e.g. ``04_train``.
    version: int  # Raised by hand whenever the stage's code changes what it writes
    files: tuple[Path, ...]  # What is made together
    recipe: Any  # Dataclass or JSON value that decides the content
    inputs: tuple[Path | Part, ...] = ()  # What is read
    facts: dict[str, str] = field(default_factory=dict)
    """Digests of inputs that are not one file, e.g. a listing of the raw folder."""

    @property
    def manifest(self) -> Path:
        """Path of the manifest that is written last."""
        return manifest_of(self.files[0])

    @cached_property
    def input_hashes(self) -> dict[str, str]:
        """Input, as ``folder/file`` -> SHA-256 of its content, ``folder/file: train rows`` -> digest of these rows."""
        hashes = {}
        for one in self.inputs:
            if isinstance(one, Part):
                hashes[one.name] = one.digest()
            else:
                hashes["/".join(one.parts[-2:])] = content_hash(one)
        return hashes | self.facts

    @cached_property
    def key(self) -> str:
        """Hash of recipe, stage, version and inputs."""
        return digest(as_dict(self.recipe), self.stage, self.version, self.input_hashes)

    def why(self) -> str:
        """Why it must be made: a few words, or '' when it is there and unchanged.

        UserError where an input is missing, or a file differs from what its manifest recorded (edited by hand, or damaged).
        """
        key = self.key
        if not self.manifest.exists():
            return "new" if not self.files[0].exists() else "unfinished"
        known = read_json(self.manifest)
        for path in self.files:
            if not path.exists():
                return f"{path.name} is gone"
        listed = [path for path in self.files if path.name in known["files"]]
        for path in listed:
            check_unedited(path, known["files"][path.name])
        if unlisted := [path.name for path in self.files if path not in listed]:  # there were fewer files meanwhile
            return f"{unlisted[0]} is of an earlier run"
        if known["key"] == key:
            return f"{known['passing']} files could not be opened" if known.get("passing") else ""
        if known["version"] != self.version:
            return "the stage changed"
        changed = [name.split("/")[-1] for name, value in self.input_hashes.items() if known["inputs"].get(name) != value]
        return f"{', '.join(changed)} changed" if changed else "the recipe changed"

    def record(self, seconds: float, **facts: Any) -> None:
        """Write the manifest, beside each file so that whoever reads one alone can check it; the first file's comes last.

        Beside ``seconds`` it holds :func:`peaks`; neither enters the key.
        """
        content = {
            "key": self.key, "stage": self.stage, "version": self.version, "recipe": as_dict(self.recipe),
            "inputs": self.input_hashes, "files": {path.name: _stamp(path) for path in self.files},
            "seconds": round(seconds, 2), **peaks(), "packages": packages(), **facts}
        for path in reversed(self.files):
            write_json(manifest_of(path), content)

    def make(self, build: Callable[[], dict[str, Any] | None], force: bool = True) -> None:
        """Run ``build`` (it writes ``files`` and may return facts for the manifest), then write the manifest.

        Where another run is making it, that is waited for, and its result kept; without ``force`` also where another has
        made it by now.
        """
        with self.turn(force) as mine:
            if mine:
                self.build(build)

    @contextmanager
    def turn(self, force: bool = True) -> Iterator[bool]:
        """Let no other run make this in the block; yields whether it is still to be made, which ``force`` says it is."""
        with working_on(self.files[0]) as waited:
            done = (waited or not force) and not self.why()
            if done:
                say(f"kept {self.files[0].name}: another run has made it")
            yield not done

    def build(self, build: Callable[[], dict[str, Any] | None]) -> None:
        """Make it, in one's :meth:`turn`."""
        self.manifest.unlink(missing_ok=True)
        start = time.monotonic()
        facts = build() or {}
        self.record(time.monotonic() - start, **facts)


def manifest_of(path: Path) -> Path:
    """The manifest beside a file: ``<file>.json``."""
    return path.with_name(path.name + ".json")


def content_hash(path: Path) -> str:
    """SHA-256 of a file, taken from its manifest when size and time stamp still match it.

    Missing where it is not there, another UserError where it differs from what its own manifest recorded.
    """
    if not path.exists():
        raise Missing(path)
    need_readable(path)
    manifest = manifest_of(path)
    recorded = read_json(manifest)["files"].get(path.name, {}) if manifest.exists() else {}
    return check_unedited(path, recorded) if recorded else sha256(path)


def check_unedited(path: Path, recorded: dict[str, Any]) -> str:
    """Return the recorded hash of ``path``, reading the file again only when its stamp changed."""
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (recorded.get("size"), recorded.get("mtime_ns")):
        return recorded["sha256"]
    found = sha256(path)
    if found != recorded.get("sha256"):
        raise UserError(f"{path} was edited or damaged after it was made; put it back, or delete it and run the stage "
                        "again")
    return found


def peaks() -> dict[str, int]:
    """Peak memory in MB of this process up to now: ``peak_mb``, with CUDA in use also ``peak_gpu_mb``.

    ``peak_mb`` is resident memory, the larger of this process's and of its largest finished child's (getrusage(2); nothing
    on Windows). It is the artifact's own where its job has a process of its own, as on Ray; else it may be from work before.
    ``peak_gpu_mb`` is what torch allocated on its fullest GPU.
    """
    found = {}
    try:
        import resource
        unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # Linux counts kibibytes
        used = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        found["peak_mb"] = round(max(used) / unit)
    except ImportError:
        pass
    torch = sys.modules.get("torch")  # never imported for this: most stages do without
    if torch and torch.cuda.is_initialized():
        allocated = (torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
        found["peak_gpu_mb"] = round(max(allocated) / 1e6)
    return found


def _stamp(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"sha256": sha256(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


@functools.cache  # 4 ms, and a stage may write hundreds of manifests
def packages() -> dict[str, str]:
    """Version of each of ``PACKAGES``, as manifests hold it."""
    return {name: metadata.version(name) for name in PACKAGES}
