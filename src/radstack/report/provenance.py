"""Section provenance: from the submission back to the raw data, what each step took, and its recipe.

The manifests remember every artifact of a competition, what it was made from, and whether that still holds.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.artifact import content_hash
from radstack.core.errors import UserError
from radstack.core.files import read_json
from radstack.core.paths import Paths
from radstack.core.progress import clock
from radstack.core.recipe import as_dict
from radstack.report.blocks import Block, Figures, Heading, Plot, Section, Table, Words
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, INK, figure, svg
from radstack.report.terminal import some

FOLDERS = ("folds", "cache", "weights", "oof", "submissions")
"""Where artifacts lie, as properties of :class:`radstack.core.paths.Paths`; the reports themselves are left out."""


MANY = 12
"""More artifacts of one label than this (shards of pixels) are one row of the full list."""
MEASURES = {"peak_mb": "peak MB", "peak_gpu_mb": "peak GPU MB", "score": "score", "images_per_second": "pictures/s"}
"""Fact of a manifest -> column."""
FORMATS = {"seconds": ",.1f", "peak MB": ",.0f", "peak GPU MB": ",.0f", "score": "#.4g", "pictures/s": ",.0f"}


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
        folder = re.sub(r"/fold\d+(_seed\d+)?\.\w+$", "", self.name)
        # The digits of a model's own name stay.
        return folder if folder != self.name else re.sub(r"\d+(?=[^/]*$)", "*", self.name)

    @property
    def fold(self) -> int | None:
        """The fold it was made for; None where one artifact serves all."""
        recipe = self.told.get("recipe")
        return recipe.get("fold") if isinstance(recipe, dict) else None

    @property
    def stage(self) -> str:
        """The script that made it."""
        return str(self.told["stage"])

    @property
    def seconds(self) -> float:
        """How long it took."""
        return float(self.told.get("seconds", 0.0))


@dataclass(frozen=True)
class Memory:
    """All artifacts of one competition."""

    made: dict[str, Made]
    """By name, in the order of the stages."""
    known: dict[str, tuple[str, str]]
    """``folder/file``, the way manifests name their inputs -> its SHA-256, and the artifact that holds it ("" for none)."""
    sources: Mapping[str, Path]
    """Files that no stage makes (labels, the sample file), likewise."""
    splits: Mapping[str, Mapping[str, str]]
    """Table, likewise -> split -> digest of its rows."""

    def parents(self, name: str) -> list[str]:
        """Artifacts that ``name`` was made from, as far as they are still known."""
        found = (self.known.get(_file_of(file), ("", ""))[1] for file in self.made[name].told["inputs"])
        return list(dict.fromkeys(filter(None, found)))

    def outside(self, name: str) -> dict[str, str]:
        """Inputs of ``name`` that no known artifact holds (raw data, label files) and their hashes."""
        return {file: value for file, value in self.made[name].told["inputs"].items()
                if not self.known.get(_file_of(file), ("", ""))[1]}

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
        raw = {"raw files": self.raw} if self.raw else {}
        # Of the rows of a fold's lesson no table holds a digest: only the stage that learns from them can compare.
        rows = {f"{file}: {split} rows": value for file, splits in self.splits.items() for split, value in splits.items()}
        return {**own, **raw, **rows, **{file: value for file, (value, _) in self.known.items()}}

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
        """Everything that ``start`` descends from: name -> steps from ``start``, by the longest way, nearest first."""
        level: dict[str, int] = {}
        for steps in range(len(self.made)):  # no way is longer
            level |= dict.fromkeys(start, steps)
            start = list(dict.fromkeys(parent for name in start for parent in self.parents(name)))
        return dict(sorted(level.items(), key=lambda item: item[1]))

    @cached_property
    def own_seconds(self) -> dict[str, float]:
        """Seconds of each artifact without those of the networks that were trained while it was made.

        Stage 02 makes a fold's networks and their findings in one go, and the findings' time holds the networks'.
        """
        within: Counter[tuple[str, int | None]] = Counter()
        for made in self.made.values():
            if made.name.startswith("weights/"):
                within[made.stage, made.fold] += made.seconds  # type: ignore[assignment]
        return {made.name: max(made.seconds - within[made.stage, made.fold], 0.0)
                if made.name.startswith("cache/") and made.fold is not None else made.seconds for made in self.made.values()}


def remember(paths: Paths, sources: tuple[Path, ...] = ()) -> Memory:
    """Read every manifest below the folders of ``paths``; ``sources`` are files that no stage makes."""
    told = [(where, path, manifest) for where in FOLDERS for path, manifest in manifests(getattr(paths, where))]
    firsts = sorted((Made(f"{where}/{path.relative_to(getattr(paths, where)).as_posix()}", manifest, path)
                     for where, path, manifest in told if next(iter(manifest["files"])) == path.name),
                    key=lambda made: (made.stage, made.name))
    by_content = {_identity(made.told): made.name for made in firsts}
    known = {_key_of(path): (manifest["files"][path.name]["sha256"], by_content.get(_identity(manifest), ""))
             for _, path, manifest in told}
    splits = {_key_of(path): manifest["splits"] for _, path, manifest in told if "splits" in manifest}
    return Memory({made.name: made for made in firsts}, known, {_key_of(path): path for path in sources}, splits)


def _key_of(path: Path) -> str:
    """A file as manifests name their inputs: ``folder/file``."""
    return "/".join(path.parts[-2:])


def _file_of(name: str) -> str:
    """The file of an input, which may be the rows of one split of it (:class:`radstack.core.artifact.Part`)."""
    return name.partition(": ")[0]


def manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Files below ``folder`` that have a manifest, and that; one that is not readable is passed over."""
    for path in sorted(folder.rglob("*.json")):
        try:
            known = read_json(path)
        except UserError:
            continue
        file = path.with_name(path.name.removesuffix(".json"))
        if isinstance(known, dict) and {"key", "stage", "inputs", "files"} <= known.keys() and file.name in known["files"]:
            yield file, known


def _identity(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the manifests beside all files of one artifact share, and no other's have."""
    return manifest["key"], *manifest["files"]


def provenance(evidence: Evidence) -> Section:
    """The section."""
    competition, paths = evidence.context.competition, evidence.context.paths
    memory = remember(paths, (*competition.data.label_files(paths.input), competition.data.sample_file(paths.input)))
    recipes = (Heading("Recipes"), *recipe_tables(evidence))
    lead = "Every file carries the hash of what made it. This is the way from the submission back to the raw data."
    if not memory.made:
        return Section("provenance", "Provenance", lead, recipes)
    levels = memory.levels(beginning(memory, evidence.final))
    blocks = (overview(memory, levels), *verdict(memory, levels), way_back(memory, levels), time_plot(memory),
              summary(memory, levels), everything(memory), Heading("Where it came from"), outside(memory),
              *packages(memory), *recipes)
    return Section("provenance", "Provenance", lead, blocks)


def beginning(memory: Memory, final: str) -> list[str]:
    """Names of what the way back starts from: the submission, or the final model's tables as long as there is none."""
    submitted = f"submissions/{final}.csv"
    tables = [made.name for made in memory.made.values() if made.label == f"oof/{final}"]
    return [submitted] if submitted in memory.made else tables or [list(memory.made)[-1]]


def overview(memory: Memory, levels: dict[str, int]) -> Figures:
    """What a reader checks first."""
    first = memory.made[next(iter(levels))]
    total = sum(memory.own_seconds.values())
    peak = max((made.told.get("peak_mb", 0) for made in memory.made.values()), default=0)
    values = {"submission": (first.told["key"][:10], f"key of {first.label}"),
              "work": (lasting(total), f"sum over {len(memory.made):,} artifacts"),
              "it descends from": (f"{len(levels) - 1:,}", "artifacts"),
              "raw files": (memory.raw[:10] or "unknown", "digest of names, sizes and times")}
    return Figures({**values, **({"peak memory": (f"{peak:,} MB", "of one process")} if peak else {})})


def verdict(memory: Memory, levels: dict[str, int]) -> Iterator[Words]:
    """Whether everything still is what the manifests say, worst news first."""
    troubles = {name: memory.troubles(name) for name in memory.made}
    inside, beside = ([f"{name}: {', '.join(why)}" for name, why in troubles.items() if why and (name in levels) == own]
                      for own in (True, False))
    if inside:
        yield Words(f"The submission descends from {some(inside)}. Run the stages again; they make what changed.", "bad")
    else:
        yield Words(f"All {len(levels):,} artifacts on the way were made from the files that lie on disk now.", "good")
    if beside:
        yield Words(f"Not part of the submission, and no longer up to date: {some(beside)}.", "warn")


def way_back(memory: Memory, levels: dict[str, int]) -> Table:
    """What the submission descends from, one row a label, indented by the steps from it."""
    rows: dict[str, dict[str, Any]] = {}
    for label, members in grouped(memory.made[name] for name in levels).items():
        level = max(levels[made.name] for made in members)
        before = [memory.made[parent].label for made in members for parent in memory.parents(made.name)]
        other = [file for made in members for file in memory.outside(made.name)]
        troubled = sum(bool(memory.troubles(made.name)) for made in members)
        rows[label] = {"artifact": "\u2003" * level + label, "steps back": level, "stage": members[0].stage,
                       "count": len(members), "key": _key(members), "made from": ", ".join(dict.fromkeys(before + other)),
                       "trouble": f"{troubled} out of date" if troubled else ""}
    ordered = pd.DataFrame(sorted(rows.values(), key=lambda row: row["steps back"]))
    return Table(ordered if ordered["trouble"].any() else ordered.drop(columns="trouble"),
                 "What the submission descends from: each row is made from rows further down. Folds are one row.",
                 note="What is made within another step (networks of stage 02 within cache/found, shards of pixels with "
                      "cache/rows.parquet) is not a row of its own.")


def summary(memory: Memory, levels: dict[str, int]) -> Table:
    """Every artifact's cost, folds and shards of one label together."""
    rows = [{**cost(memory, members), "on the way": "yes" if any(made.name in levels for made in members) else ""}
            for members in grouped(memory.made.values()).values()]
    return _table(rows, "What every step took: the sum of its seconds, its largest peak of memory, the mean of its folds' "
                  "scores and of their training speed.")


def everything(memory: Memory) -> Table:
    """One row an artifact; more than ``MANY`` of one label together."""
    rows = []
    for members in grouped(memory.made.values()).values():
        rows += [cost(memory, members)] if len(members) > MANY else [
            cost(memory, [made]) | {"artifact": made.name} for made in members]
    return _table(rows, f"All {len(memory.made):,} artifacts, fold by fold", folded=True)


def cost(memory: Memory, members: list[Made]) -> dict[str, Any]:
    """One row of a table of artifacts: sums of seconds, largest peaks, mean scores and speeds of ``members``."""
    told = pd.DataFrame([made.told for made in members]).reindex(columns=list(MEASURES)).rename(columns=MEASURES)
    # Manifests record a score as a number, or as a value with its interval.
    told = told.map(lambda value: value.get("value") if isinstance(value, dict) else value).astype(float)
    return {"artifact": members[0].label, "stage": members[0].stage, "count": len(members), "key": _key(members),
            "seconds": sum(memory.own_seconds[made.name] for made in members),
            **told[["peak MB", "peak GPU MB"]].max().to_dict(), **told[["score", "pictures/s"]].mean().to_dict()}


def time_plot(memory: Memory) -> Plot:
    """Seconds of each stage."""
    work = pd.Series(memory.own_seconds)
    seconds = work.groupby([memory.made[name].stage for name in work.index]).sum()
    drawing, ax = figure(5.6, 0.6 + 0.3 * len(seconds))
    bars = ax.barh(seconds.index, seconds, color=COLORS[0], height=0.6)
    ax.bar_label(bars, [lasting(value) for value in seconds], padding=3, fontsize=8, color=INK)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="seconds", xlim=(0, max(seconds.max(), 0.1) * 1.18))
    return Plot(svg(drawing), "Seconds of work of each stage, summed over its artifacts. Jobs that ran side by side count "
                "each, and what was kept counts as when it was made.")


def outside(memory: Memory) -> Table:
    """Inputs that no stage made: the raw data and label files."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, made in memory.made.items():
        for file, value in memory.outside(name).items():
            found.setdefault((file, value), []).append(made.stage)
    rows = [{"input": file, "hash": value[:16], "read by": ", ".join(dict.fromkeys(stages))}
            for (file, value), stages in sorted(found.items()) if "/" in file or value == memory.raw]
    return Table(pd.DataFrame(rows, columns=["input", "hash", "read by"]),
                 "What came from outside: SHA-256 of files (its first 16 digits), or the digest of a folder's names, sizes "
                 "and times.")


def packages(memory: Memory) -> Iterator[Block]:
    """Versions that the artifacts were made with, and a warning where they differ."""
    counts = Counter(pair for made in memory.made.values() for pair in made.told.get("packages", {}).items())
    table = pd.DataFrame([(*pair, number) for pair, number in sorted(counts.items())],
                         columns=["package", "version", "artifacts"])
    mixed = table.loc[table["package"].duplicated(), "package"].unique()
    if len(mixed):
        yield Words(f"Artifacts were made with different versions of {', '.join(mixed)}; scores may differ by more than "
                    "their recipes say.", "warn")
    yield Table(table, "Versions of packages that the artifacts were made with.", folded=not len(mixed))


def recipe_tables(evidence: Evidence) -> list[Block]:
    """A folded table for each recipe: the submitted one, the networks, then the others."""
    recipes, final = evidence.recipes, evidence.final
    names = list(dict.fromkeys([final, *evidence.experiments, *recipes]))
    return [Table(pd.DataFrame(flattened(as_dict(recipes[name])), columns=["field", "value"]),
                  f"{name}{' (submitted)' if name == final else ''}", folded=True) for name in names if name in recipes]


def flattened(recipe: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Fields and values of a recipe as JSON; a field of a field as ``optim.lr``, empty ones left out."""
    rows: list[tuple[str, str]] = []
    for field, value in recipe.items():
        if isinstance(value, dict):
            rows += [(f"{before}{field}", value["is"])] if "is" in value else []
            rows += flattened({name: part for name, part in value.items() if name != "is"}, f"{before}{field}.")
        elif value not in ("", [], None):
            rows.append((f"{before}{field}" if field != "is" else "kind", in_words(value)))
    return rows


def in_words(value: Any) -> str:
    """A JSON value as one would write it: ``Rotate(limit=30, p=0.7)`` for a part of a recipe, lists with commas."""
    if isinstance(value, list):
        return ", ".join(f"({in_words(item)})" if isinstance(item, list) else in_words(item) for item in value)
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    named = set(value) == {"is", "name", "args"}
    name, inner = (value["name"], value["args"]) if named else (value.get("is", ""), value)
    fields = [f"{field}={f'({in_words(part)})' if isinstance(part, list) else in_words(part)}"
              for field, part in inner.items() if field != "is"]
    return f"{name}({', '.join(fields)})"


def grouped(artifacts: Iterable[Made]) -> dict[str, list[Made]]:
    """Artifacts by label, in their order."""
    found: dict[str, list[Made]] = {}
    for made in artifacts:
        found.setdefault(made.label, []).append(made)
    return found


def lasting(seconds: float) -> str:
    """A time in words: ``0.4 s``, ``2:03``, ``1:02:03``."""
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def _table(rows: list[dict[str, Any]], caption: str, folded: bool = False) -> Table:
    return Table(pd.DataFrame(rows).dropna(axis=1, how="all"), caption, FORMATS, folded=folded)


def _key(members: list[Made]) -> str:
    keys = dict.fromkeys(made.told["key"][:10] for made in members)
    return next(iter(keys)) if len(keys) == 1 else f"{len(keys)} keys"
