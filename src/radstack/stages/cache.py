"""Stage 03: decode once, crop, resize; shards of pixels and the row table that every later stage reads."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, manifest_of, split_digests
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_json, read_table, sweep, write_table
from radstack.core.parallel import in_processes
from radstack.core.paths import Paths
from radstack.core.progress import track
from radstack.core.recipe import digest
from radstack.images.dicom import Unreadable
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.images.shards import shard_path, write_shard
from radstack.recipes.competition import CacheRecipe, Competition
from radstack.running.context import Context
from radstack.running.tables import LOST

VERSION = 1


def cache(context: Context) -> None:
    """Write ``cache/<comp>/shard-*.npy`` (restarts at the first missing shard), then ``rows.parquet``.

    A picture that can no longer be read is blank in its shard, in no row, and in ``LOST``; each run tries it again.
    """
    paths, recipe = context.paths, context.competition.cache
    rows = rows_of(context, None if recipe.keep else ("split", *_deciding(recipe)))
    wanted = [(artifact, places) for artifact, places in _shards(context, rows) if _wanted(context, artifact)]
    if not context.options.dry_run:
        whole = rows_of(context) if wanted else rows
        todo = [(artifact, whole.loc[places]) for artifact, places in wanted]
        sweep(paths.cache)
        pictures = sum(len(piece) for _, piece in todo)
        need_disk(paths.cache, pictures * int(np.prod(recipe.size)) * np.dtype(recipe.dtype).itemsize, "03_cache")
        with track(pictures, "cache") as steps:
            one = partial(_build_shard, context.competition, paths, context.options.force)
            for number, _ in in_processes(one, todo, context.options.workers):
                steps.step(len(todo[number][1]), images=len(todo[number][1]))
    _write_rows(context, rows["shard"].unique())


def rows_of(context: Context, columns: Iterable[str] | None = None) -> pd.DataFrame:
    """The rows of stage 02 that are cached, or these ``columns`` of them, with ``shard`` and ``slot``."""
    recipe = context.competition.cache
    boxes = read_table(context.paths.cache / "boxes.parquet", context.command("02_localize"), columns=columns)
    boxes = boxes.query(recipe.keep).reset_index(drop=True) if recipe.keep else boxes
    return boxes.assign(**placed(boxes["split"].to_numpy(), recipe.per_shard))


def _write_rows(context: Context, shards: np.ndarray) -> None:
    """Write the rows whose pictures are in the shards, and the quarantine of those that could no longer be read."""
    paths, pixels = context.paths, _pixels(context)
    lost = pd.DataFrame([one for shard in shards for one in lost_of(shard_path(paths.cache, int(shard)))],
                        columns=["id", "path", "reason", "detail"], dtype="str")
    files = (paths.cache / "rows.parquet", *([paths.cache / LOST] if len(lost) else []))
    facts = {"lost": digest(lost.to_numpy().tolist())} if len(lost) else {}
    artifact = Artifact("03_cache", VERSION, files, pixels, (paths.cache / "boxes.parquet",), facts)

    def build() -> dict[str, Any]:
        rows = rows_of(context)
        read = rows[~rows["id"].isin(lost["id"])].reset_index(drop=True)
        (paths.cache / LOST).unlink(missing_ok=True)
        if len(lost):
            write_table(files[1], lost.merge(rows[["id", "split"]], on="id")[QUARANTINE_COLUMNS])
            print(f"  {len(lost):,} pictures could be read in stage 02 and cannot be now ({files[1]})")
        write_table(files[0], read)
        return {"splits": split_digests(read, pixels)}

    context.make(artifact, build)


def lost_of(shard: Path) -> list[list[str]]:
    """Id, path, reason and detail of each picture that could not be read when ``shard`` was written."""
    manifest = manifest_of(shard)
    return read_json(manifest).get("lost", []) if manifest.exists() else []


def placed(split: np.ndarray, per_shard: int) -> dict[str, np.ndarray]:
    """``shard`` and ``slot`` of each row (int [rows]): test rows in shards of their own, behind those of training."""
    test = split == "test"
    place = np.where(test, np.cumsum(test), np.cumsum(~test)) - 1
    behind = -(-int((~test).sum()) // per_shard)
    return {"shard": place // per_shard + behind * test, "slot": place % per_shard}


def _pixels(context: Context) -> dict[str, Any]:
    """What makes a cached picture of its file; in the key of the rows as well, by which networks see that it changed."""
    return {"cache": context.competition.cache, "picture": context.competition.data.picture}


def _deciding(recipe: CacheRecipe) -> list[str]:
    """Columns of a row that decide what is cached of it."""
    return ["path", "crc", *recipe.by]


def _shards(context: Context, rows: pd.DataFrame) -> Iterator[tuple[Artifact, pd.Index]]:
    """The artifact of each shard with the numbers of its rows; a shard's key depends on its own pictures alone."""
    recipe, pixels = context.competition.cache, _pixels(context)
    for shard, piece in rows.groupby("shard"):
        content = digest(piece[_deciding(recipe)].to_numpy().tolist())
        path = shard_path(context.paths.cache, int(shard))
        yield Artifact("03_cache", VERSION, (path,), pixels, facts={"pictures": content}), piece.index


def _wanted(context: Context, artifact: Artifact) -> bool:
    why = context.why(artifact) or ("pictures could not be read" if lost_of(artifact.files[0]) else "")
    if why and context.options.dry_run:
        print(f"  would make {artifact.files[0].name}: {why}")
    return bool(why)


def _build_shard(competition: Competition, paths: Paths, force: bool, task: tuple[Artifact, pd.DataFrame]) -> None:
    """Write a shard; it is kept where another run has written it whole since this one looked, and not for ``force``."""
    artifact, piece = task
    recipe = competition.cache
    lost: list[list[str]] = []
    pictures = [partial(_picture, competition, paths, row, lost) for row in piece.itertuples()]

    def build() -> dict[str, Any]:
        cv2.setNumThreads(1)  # the shards are shared out to processes
        write_shard(artifact.files[0], pictures, recipe.size, recipe.dtype)
        return {"lost": lost} if lost else {}

    artifact.make(build, force or bool(lost_of(artifact.files[0])))


def _picture(competition: Competition, paths: Paths, row: Any, lost: list[list[str]]) -> np.ndarray:
    """The picture of one row; a blank one, and an entry of ``lost``, if its file was damaged since stage 02.

    UserError if it cannot be opened now: a mount or rights come back, and the picture with them.
    """
    try:
        return competition.data.picture(paths, row, competition.cache)
    except Unreadable as error:
        if error.reason == "no-access":
            raise UserError(f"{paths.input / row.path} could be read in stage 02 and cannot be now ({error.detail}); see to "
                            "it, and run the same command again") from error
        lost.append([row.id, row.path, error.reason, error.detail])
        return np.full(competition.cache.size, competition.cache.fill, competition.cache.dtype)
