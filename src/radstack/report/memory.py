"""What the manifests remember: every artifact of a competition, what it was made from, and whether that still holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from radstack.core.artifact import content_hash, manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json
from radstack.core.paths import Paths

FOLDERS = ("folds", "cache", "weights", "oof", "submissions")
"""Where artifacts lie, as properties of :class:`radstack.core.paths.Paths`; the reports themselves are left out."""


@dataclass(frozen=True)
class Made:
    """One artifact."""

    name: str
    """Path of its first file from the folder of all outputs, without the competition: ``oof/resnet/fold0.parquet``."""
    told: Mapping[str, Any]
    """Its manifest."""
    path: Path
    """Its first file."""

    @property
    def label(self) -> str:
        """What it is one of: ``oof/resnet`` for each fold's table, ``cache/shard-*.npy`` for each shard."""
        return re.sub(r"\d+(?=[^/]*$)", "*", re.sub(r"/fold\d+\.\w+$", "", self.name))

    @property
    def fold(self) -> int | None:
        """The fold it was made for; None where one artifact serves all."""
        recipe = self.told.get("recipe")
        return recipe.get("fold") if isinstance(recipe, dict) else None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return float(self.told.get("seconds", 0.0))


@dataclass(frozen=True)
class Memory:
    """All artifacts of one competition."""

    made: dict[str, Made]
    """By name, in the order of the stages."""
    hashes: dict[str, str]
    """SHA-256 that each file has by its own manifest; files as ``folder/file``, the way manifests name their inputs."""
    maker: dict[str, str]
    """The artifact that holds the file, by name; files as in ``hashes``."""
    sources: Mapping[str, Path]
    """Files that no stage makes (labels, the sample file), likewise."""

    def parents(self, name: str) -> list[str]:
        """Artifacts that ``name`` was made from, as far as they are still known."""
        return list(dict.fromkeys(self.maker[file] for file in self.made[name].told["inputs"] if file in self.maker))

    def outside(self, name: str) -> dict[str, str]:
        """Inputs of ``name`` that no known artifact holds (raw data, label files) and their hashes."""
        return {file: value for file, value in self.made[name].told["inputs"].items() if file not in self.maker}

    @cached_property
    def raw(self) -> str:
        """Digest of the raw files when they were indexed; "" when that is not known."""
        index = self.made.get("folds/index.parquet")
        return index.told["inputs"].get("raw files", "") if index else ""

    @cached_property
    def now(self) -> dict[str, str]:
        """What each input of any artifact is now, as far as it can be told without reading raw data."""
        asked = {file for made in self.made.values() for file in made.told["inputs"]}
        own = {file: content_hash(path) for file, path in self.sources.items() if file in asked and path.exists()}
        return {**own, **({"raw files": self.raw} if self.raw else {}), **self.hashes}

    def troubles(self, name: str) -> list[str]:
        """Why ``name`` no longer is what its manifest says, in words: inputs made again since, files gone or edited.

        Files are compared by size, not read again.
        """
        made = self.made[name]
        changed = [f"{file} changed since" for file, value in made.told["inputs"].items()
                   if self.now.get(file, value) != value]
        stamp = made.told["files"][made.path.name]
        if not made.path.exists():
            return [*changed, "the file is gone"]
        return changed + (["the file was edited"] if made.path.stat().st_size != stamp.get("size") else [])

    def levels(self, start: list[str]) -> dict[str, int]:
        """Everything that ``start`` descends from: name -> steps from ``start``, by the longest way.

        Every artifact comes after those that are made from it.
        """
        level = dict.fromkeys(start, 0)
        for name in self._newest_first(start):
            for parent in self.parents(name):
                level[parent] = max(level.get(parent, 0), level[name] + 1)
        return dict(sorted(level.items(), key=lambda item: item[1]))

    def _newest_first(self, start: list[str]) -> list[str]:
        """``start`` and its ancestors, each after all that is made from it (depth-first, without recursion)."""
        done: dict[str, None] = {}
        stack = [(name, False) for name in start]
        while stack:
            name, left = stack.pop()
            if left:
                done[name] = None
            elif name not in done:
                stack.append((name, True))
                stack += [(parent, False) for parent in self.parents(name) if parent not in done]
        return list(reversed(done))

    @cached_property
    def own_seconds(self) -> dict[str, float]:
        """Seconds of each artifact without those of the networks that were trained while it was made.

        Stage 02 makes a fold's networks and their findings in one go, and the findings' time holds the networks'.
        """
        within: dict[tuple[str, int | None], float] = {}
        for made in self.made.values():
            if made.name.startswith("weights/"):
                within[made.told["stage"], made.fold] = within.get((made.told["stage"], made.fold), 0.0) + made.seconds
        return {made.name: max(made.seconds - self._inside(made, within), 0.0) for made in self.made.values()}

    @staticmethod
    def _inside(made: Made, within: dict[tuple[str, int | None], float]) -> float:
        outer = made.name.startswith("cache/") and made.fold is not None
        return within.get((made.told["stage"], made.fold), 0.0) if outer else 0.0


def remember(paths: Paths, sources: tuple[Path, ...] = ()) -> Memory:
    """Read every manifest below the folders of ``paths``; one that is not readable is passed over.

    Args:
        paths: of the competition.
        sources: files that no stage makes, whose content manifests record.
    """
    told = [(where, path, manifest) for where in FOLDERS for path, manifest in manifests(getattr(paths, where))]
    firsts = [Made(f"{where}/{path.relative_to(getattr(paths, where)).as_posix()}", manifest, path)
              for where, path, manifest in told if next(iter(manifest["files"])) == path.name]
    firsts.sort(key=lambda made: (made.told["stage"], made.name))
    by_content = {_identity(made.told): made.name for made in firsts}
    files = {"/".join(path.parts[-2:]): (manifest["files"][path.name]["sha256"], by_content.get(_identity(manifest)))
             for _, path, manifest in told}
    return Memory({made.name: made for made in firsts}, {file: value for file, (value, _) in files.items()},
                  {file: name for file, (_, name) in files.items() if name},
                  {"/".join(path.parts[-2:]): path for path in sources})


def manifests(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Files below ``folder`` that have a manifest, and that."""
    found = []
    for path in sorted(folder.rglob("*.json")):
        file = path.with_name(path.name.removesuffix(".json"))
        try:
            known = read_json(manifest_of(file))
        except UserError:
            continue
        if isinstance(known, dict) and {"key", "stage", "inputs", "files"} <= known.keys() and file.name in known["files"]:
            found.append((file, known))
    return found


def _identity(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the manifests beside all files of one artifact share, and no other's have."""
    return manifest["key"], *manifest["files"]
