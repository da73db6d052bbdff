"""What can be remade, with sizes and the command that remakes it; nothing is deleted unless asked."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from radstack.commands.products import size_of
from radstack.core.artifact import manifest_of
from radstack.core.files import in_use, read_json
from radstack.core.lock import at_work
from radstack.core.paths import Paths
from radstack.core.registry import check_name
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker
from radstack.running.context import OUTSIDE, Context
from radstack.running.tables import GIVEN
from radstack.submission.ledger import LOSSES
from radstack.submission.ledger import NAME as LEDGER

FOLDERS = ("input", "folds", "cache", "weights", "oof", "sources", "submissions", "reports", "bundles")
"""What ``--keep`` may name."""


REPORTS = {"studies": "study", "choose.csv": "choose", "choose.svg": "choose", "leak_audit.csv": "leak_audit",
           "near_duplicates.csv": "leak_audit", "localize": "02_localize"}
"""What lies among the reports and is not made by stage 09 -> the script that makes it."""
SHOWN = {"localize": " --show 4"}
"""Options that it needs for that."""
PROPOSED = "propose"
UNNAMED = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""Names under which safetensors writes a file before it has its own; they do not say which process does."""


@dataclass(frozen=True)
class Item:
    """Something that can go."""

    folder: str
    """One of ``FOLDERS``: where it lies."""
    path: Path
    why: str
    """The command that remakes it, or why nothing reads it."""
    junk: bool = False
    """Nothing reads it, whatever is kept."""


def clean(context: Context, keep: tuple[str, ...], delete: bool) -> None:
    """List what can be remade but for the folders ``keep``, and junk everywhere; with ``delete``, delete that.

    Raises:
        UserError: ``keep`` names no folder.
    """
    for name in keep:
        check_name(FOLDERS, name, "folder to keep")
    chosen = [item for item in items(context) if item.junk or item.folder not in keep]
    places = {item.path for item in chosen}
    chosen = [item for item in chosen if places.isdisjoint(item.path.parents)]  # what lies in a folder goes with it
    sizes = [size_of(item.path) for item in chosen]
    for item, size in zip(chosen, sizes):
        print(f"{size / 1e6:12,.1f} MB  {item.path}: {item.why}")
        if delete and item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        elif delete:
            item.path.unlink(missing_ok=True)  # of a link the link, never what it points to
    verb = "deleted" if delete else "can go: the same command with --yes deletes it" if chosen else "can go"
    print(f"{sum(sizes) / 1e6:12,.1f} MB  in all {verb}")
    if not context.competition.phantoms:
        print(f"never touched: {context.paths.input}, real data")


def items(context: Context) -> list[Item]:
    """All that can go: whole results by stage, then junk that lies outside of them or in them."""
    return [*_results(context), *junk(context)]


def _results(context: Context) -> Iterator[Item]:
    """What stages made, one item a folder, below ``weights/`` and ``oof/`` one a recipe; never real data."""
    paths, made = context.paths, []
    if context.competition.phantoms and not context.options.limit:
        drawn = manifest_of(paths.input)
        size = f" --demo-size {read_json(drawn)['series']}" if drawn.exists() else ""
        made += [Item("input", path, context.command("00_get_data") + size) for path in (paths.input, drawn)]
    # A fold table that was given stays: dealt anew, folds would be others.
    given = {paths.folds / GIVEN, manifest_of(paths.folds / GIVEN)}
    dealt = sorted({*paths.folds.glob("*")} - given) if any(path.exists() for path in given) else [paths.folds]
    made += [*(Item("folds", path, context.command("01_make_folds")) for path in dealt),
             Item("cache", paths.cache, f"{context.command('02_localize')}, then 03_cache.py")]
    scripts = {Experiment: "04_train", Sequence: "06_sequence", Stacker: "07_stack"}
    makers = {one.name: context.command(scripts[type(one)], one.name) for one in context.recipes if type(one) in scripts}
    for file in sorted((paths.reports / "studies").glob("*.json")):
        about = read_json(file)
        makers = {name: f"{context.command('study')} {about['name']}" for name in about["recipes"]} | makers
    makers |= {one.name: context.command("02_localize") for one in context.competition.localizer.networks}
    for name, folder, script in (("weights", paths.weights, "04_train"), ("oof", paths.oof, "05_predict")):
        # Files stay: no stage can write variants.json again.
        # Tables that others gave stay, too.
        folders = [path for path in sorted(folder.glob("*")) if path.is_dir() and not (path / OUTSIDE).exists()]
        made += [Item(name, path, makers.get(path.name, "no recipe or variant has this name").replace("04_train", script))
                 for path in folders]
    # A ledger stays: what was pushed and scored cannot be made again.
    kept = {paths.submissions / LEDGER, paths.submissions / LOSSES}
    sent = [paths.submissions] if not any(path.exists() for path in kept) else sorted({*paths.submissions.glob("*")} - kept)
    made += [Item("submissions", path, context.command("08_submit")) for path in sent]
    # Hands that were proposed stay: somebody may be at work on them.
    special = {*paths.reports.glob("*")} & {paths.reports / name for name in (*REPORTS, PROPOSED)}
    pages = sorted({*paths.reports.glob("*")} - {paths.reports / PROPOSED}) if special else [paths.reports]
    made += [Item("reports", path, context.command(REPORTS.get(path.name, "09_report")) + SHOWN.get(path.name, ""))
             for path in pages]
    made += [Item("bundles", paths.bundle, context.command("bundle"))]
    yield from (item for item in made if item.path.exists())


def junk(context: Context) -> Iterator[Item]:
    """Left over: temporary files of dead processes, parts and checkpoints of finished work, shards that no row is in."""
    paths = context.paths
    for name in FOLDERS[1:-1]:
        yield from (Item(name, path, "a killed run left it", True) for path in sorted(getattr(paths, name).rglob(".*.part"))
                    if not in_use(path))
    yield from _unnamed(paths)
    # Finished pieces, by which a killed stage goes on, and the file that they become.
    for name, folder, result in (("folds", paths.folds, "index.parquet"), ("cache", paths.cache, "boxes.parquet"),
                                 ("cache", paths.cache / "prepared", "rows.parquet")):
        if manifest_of(folder / result).exists():
            yield from (Item(name, path, f"pieces of {result}, which is whole", True)
                        for path in sorted(folder.glob("parts*")))
    yield from _checkpoints(paths)
    yield from _shards(paths)


def _unnamed(paths: Paths) -> Iterator[Item]:
    """Temporary files of a library, where no run is at work: whoever writes one holds the lock of what it will become."""
    folders = [(name, getattr(paths, name)) for name in FOLDERS[1:-1]]
    if not at_work(lock for _, folder in folders for lock in sorted(folder.rglob(".*.lock"))):
        yield from (Item(name, path, "a killed run left it", True) for name, folder in folders
                    for path in sorted(folder.rglob(".tmp*")) if UNNAMED.fullmatch(path.name))


def _checkpoints(paths: Paths) -> Iterator[Item]:
    """Checkpoints of finished networks, and the older of the two that an unfinished one keeps."""
    for path in sorted(paths.weights.glob("*/fold*.checkpoint*")):
        stem = path.name.partition(".")[0]
        results = (path.with_name(f"{stem}.safetensors"), paths.oof / path.parent.name / f"{stem}.parquet")
        if any(manifest_of(result).exists() for result in results):
            yield Item("weights", path, "the checkpoint of a finished network", True)
        elif path.suffix == ".previous" and path.with_suffix("").exists():
            yield Item("weights", path, "the checkpoint before the newest", True)


def _shards(paths: Paths) -> Iterator[Item]:
    """Shards beyond the row table that names shards, with their manifests."""
    for folder, table, column in ((paths.cache, paths.cache / "rows.parquet", "shard"),
                                  (paths.cache / "prepared", paths.cache / "prepared" / "rows.parquet", "shard"),
                                  (paths.cache / "maps", paths.cache / "boxes.parquet", "map_shard")):
        shards = sorted(folder.glob("shard-*.npy*"))
        if shards and manifest_of(table).exists():
            used = set(pd.read_parquet(table, columns=[column])[column])
            yield from (Item("cache", path, f"no row of {table.name} is in it", True) for path in shards
                        if int(path.name[6:11]) not in used)
