"""Section provenance: from the submission back to the raw data, what each step took, and its recipe."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from radstack.core.progress import clock
from radstack.core.recipe import as_dict
from radstack.report.blocks import Block, Figures, Heading, Plot, Section, Table, Words
from radstack.report.evidence import Evidence
from radstack.report.memory import Made, Memory, remember
from radstack.report.plots import COLORS, INK, figure, svg

MANY = 12
"""More artifacts of one label than this (shards of pixels) are one row of the full list."""
NAMED = 8
"""Troubles named before the rest is only counted."""
FORMATS = {"seconds": ",.1f", "peak MB": ",.0f", "peak GPU MB": ",.0f", "score": "#.4g", "pictures/s": ",.0f"}


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
        yield Words(f"The submission descends from {_some(inside)}. Run the stages again; they make what changed.", "bad")
    else:
        yield Words(f"All {len(levels):,} artifacts on the way were made from the files that lie on disk now.", "good")
    if beside:
        yield Words(f"Not part of the submission, and no longer up to date: {_some(beside)}.", "warn")


def way_back(memory: Memory, levels: dict[str, int]) -> Table:
    """What the submission descends from, one row a label, indented by the steps from it."""
    rows: dict[str, dict[str, Any]] = {}
    for label, members in grouped([memory.made[name] for name in levels]).items():
        level = max(levels[made.name] for made in members)
        before = [memory.made[parent].label for made in members for parent in memory.parents(made.name)]
        other = [file for made in members for file in memory.outside(made.name)]
        troubled = sum(bool(memory.troubles(made.name)) for made in members)
        rows[label] = {"artifact": "\u2003" * level + label, "steps back": level, "stage": members[0].told["stage"],
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
            for members in grouped(list(memory.made.values())).values()]
    return _table(rows, "What every step took: the sum of its seconds, its largest peak of memory, the mean of its folds' "
                  "scores and of their training speed.")


def everything(memory: Memory) -> Table:
    """One row an artifact; more than ``MANY`` of one label together."""
    pieces = [piece for members in grouped(list(memory.made.values())).values()
              for piece in ([members] if len(members) > MANY else [[made] for made in members])]
    rows = [cost(memory, piece) | ({"artifact": piece[0].name} if len(piece) == 1 else {}) for piece in pieces]
    return _table(rows, f"All {len(memory.made):,} artifacts, fold by fold", folded=True)


def cost(memory: Memory, members: list[Made]) -> dict[str, Any]:
    """One row of a table of artifacts: sums of seconds, largest peaks, mean scores and speeds of ``members``."""
    told = pd.DataFrame([{"peak MB": made.told.get("peak_mb"), "peak GPU MB": made.told.get("peak_gpu_mb"),
                          "score": _score(made.told.get("score")), "pictures/s": made.told.get("images_per_second")}
                         for made in members], dtype=float)
    return {"artifact": members[0].label, "stage": members[0].told["stage"], "count": len(members), "key": _key(members),
            "seconds": sum(memory.own_seconds[made.name] for made in members),
            **told[["peak MB", "peak GPU MB"]].max().to_dict(), **told[["score", "pictures/s"]].mean().to_dict()}


def time_plot(memory: Memory) -> Plot:
    """Seconds of each stage."""
    stages = sorted({made.told["stage"] for made in memory.made.values()})
    seconds = [sum(memory.own_seconds[made.name] for made in memory.made.values() if made.told["stage"] == stage)
               for stage in stages]
    drawing, ax = figure(5.6, 0.6 + 0.3 * len(stages))
    bars = ax.barh(stages, seconds, color=COLORS[0], height=0.6)
    ax.bar_label(bars, [lasting(value) for value in seconds], padding=3, fontsize=8, color=INK)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="seconds", xlim=(0, max(max(seconds), 0.1) * 1.18))
    return Plot(svg(drawing), "Seconds of work of each stage, summed over its artifacts. Jobs that ran side by side count "
                "each, and what was kept counts as when it was made.")


def outside(memory: Memory) -> Table:
    """Inputs that no stage made: the raw data and label files."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, made in memory.made.items():
        for file, value in memory.outside(name).items():
            found.setdefault((file, value), []).append(made.told["stage"])
    rows = [{"input": file, "hash": value[:16], "read by": ", ".join(dict.fromkeys(stages))}
            for (file, value), stages in sorted(found.items()) if "/" in file or value == memory.raw]
    return Table(pd.DataFrame(rows, columns=["input", "hash", "read by"]),
                 "What came from outside: SHA-256 of files (its first 16 digits), or the digest of a folder's names, sizes "
                 "and times.")


def packages(memory: Memory) -> Iterator[Block]:
    """Versions that the artifacts were made with, and a warning where they differ."""
    counts = Counter((name, version) for made in memory.made.values()
                     for name, version in made.told.get("packages", {}).items())
    versions = Counter(name for name, _ in counts)
    mixed = [name for name, number in versions.items() if number > 1]
    if mixed:
        yield Words(f"Artifacts were made with different versions of {', '.join(mixed)}; scores may differ by more than "
                    "their recipes say.", "warn")
    yield Table(pd.DataFrame([{"package": name, "version": version, "artifacts": number}
                              for (name, version), number in sorted(counts.items())]),
                "Versions of packages that the artifacts were made with.", folded=not mixed)


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


def grouped(artifacts: list[Made]) -> dict[str, list[Made]]:
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


def _score(told: Any) -> float | None:
    """A score as manifests record it: a number, or a value with its interval."""
    return told.get("value") if isinstance(told, dict) else told


def _some(lines: list[str]) -> str:
    rest = len(lines) - NAMED
    return "; ".join(lines[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")
