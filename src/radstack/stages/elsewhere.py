"""A competition on other pictures than its own: a folder that is applied to, or a source of further training rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from radstack.core.artifact import Artifact, split_digests
from radstack.core.errors import UnfitTable
from radstack.core.files import as_text, read_table, walk, write_table
from radstack.core.passing import check_passing
from radstack.core.paths import Paths
from radstack.core.recipe import digest
from radstack.images.quarantine import QUARANTINE_COLUMNS, NothingUsable
from radstack.images.radiograph import index_new
from radstack.images.strangers import strangers
from radstack.running.context import Context
from radstack.stages.decode import rows_file
from radstack.stages.folds import listing_digest, recipe_of

NAMES = ["id", "path", "group", "series"]
"""Columns of an index without rows."""


def placed(context: Context, pictures: Path, out: Path) -> Context:
    """The competition on other pictures, its results below ``out``, its networks where they were."""
    source = out / "input" / context.paths.source
    source.parent.mkdir(parents=True, exist_ok=True)
    target = pictures.resolve()
    if not source.is_symlink() or source.readlink() != target:  # one that is right is left alone, since others may read
        source.unlink(missing_ok=True)
        source.symlink_to(target, target_is_directory=True)
    paths = Paths(out, out, context.paths.source, context.paths.name, home=context.paths.home or context.paths.out)
    return replace(context, paths=paths)


def index_folder(there: Context, given: pd.DataFrame, may_be_empty: bool = False, must_fit: bool = True) -> None:
    """Write ``index.parquet`` and ``quarantine.csv`` of the pictures, all of them test rows; each file is in one of them.

    ``given`` is the table of what stands beside them; without ``must_fit``, one of other columns alone is passed over.
    """
    paths = there.paths
    reads = there.competition.data.index_new or index_new
    files, refused = (paths.folds / "index.parquet", paths.folds / "quarantine.csv"), paths.out / "refused.csv"

    def build() -> dict[str, Any]:
        folder = paths.input.resolve()  # as the user knows it, for messages
        rows, quarantine = pd.DataFrame(columns=NAMES, dtype="str"), pd.DataFrame(columns=QUARANTINE_COLUMNS)
        try:
            if not may_be_empty or any(True for _ in walk(folder)):
                try:
                    rows, quarantine = reads(folder, there.options.workers, paths.folds / "parts", given)
                except UnfitTable:
                    if must_fit:
                        raise
                    print("  the table of labels has nothing of what stands beside the pictures, which are read without it; "
                          "--columns TABLE gives it", flush=True)
                    rows, quarantine = reads(folder, there.options.workers, paths.folds / "parts", pd.DataFrame())
        except NothingUsable as error:
            if not may_be_empty:
                raise
            quarantine = error.quarantine[QUARANTINE_COLUMNS]
        rows = as_text(rows.assign(split="test"))
        parts = [quarantine, strangers(folder, rows, quarantine)]
        if refused.exists():
            parts.append(read_table(refused, "").assign(id="", split="test")[QUARANTINE_COLUMNS])
        aside = pd.concat([piece for piece in parts if len(piece)] or parts[:1], ignore_index=True)
        again = check_passing(rows, aside, folder, print, strict=False)
        write_table(files[0], rows)
        write_table(files[1], aside)
        return {"rows": len(rows), "quarantined": len(aside), "passing": again, "splits": split_digests(rows)}

    facts = {"raw files": listing_digest(paths.input), "given": digest(given.to_csv())}
    there.make(Artifact("apply", 2, files, recipe_of(there.competition, reads), facts=facts), build)


def any_readable(one: Context, cached: bool = True) -> bool:
    """Whether some picture is left after each step that was made: decoding, localization and, if ``cached``, the cache."""
    folder = one.paths.cache
    files = [one.paths.folds / "index.parquet", rows_file(one), folder / "boxes.parquet", folder / "rows.parquet"]
    files = files if cached else files[:-1]
    return all(pq.read_metadata(file).num_rows for file in files if file.exists())
