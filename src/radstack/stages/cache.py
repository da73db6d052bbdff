"""Stage 03: decode once, crop, resize; shards of pixels and the row table that every later stage reads."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, split_digests
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_table, sweep, write_table
from radstack.core.parallel import in_processes
from radstack.core.paths import Paths
from radstack.core.progress import track
from radstack.core.recipe import digest
from radstack.images.dicom import Unreadable
from radstack.images.shards import shard_path, write_shard
from radstack.recipes.competition import Competition
from radstack.running.context import Context

VERSION = 1


def cache(context: Context) -> None:
    """Write ``cache/<comp>/shard-*.npy`` (restarts at the first missing shard), then ``rows.parquet``."""
    paths, recipe = context.paths, context.competition.cache
    boxes = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    boxes = boxes.query(recipe.keep).reset_index(drop=True) if recipe.keep else boxes
    rows = boxes.assign(**placed(boxes["split"].to_numpy(), recipe.per_shard))
    todo = [(artifact, piece) for artifact, piece in _shards(context, rows) if _wanted(context, artifact)]
    if not context.options.dry_run:
        sweep(paths.cache)
        pictures = sum(len(piece) for _, piece in todo)
        need_disk(paths.cache, pictures * int(np.prod(recipe.size)) * np.dtype(recipe.dtype).itemsize, "03_cache")
        with track(pictures, "cache") as steps:
            one = partial(_build_shard, context.competition, paths)
            for number, _ in in_processes(one, todo, context.options.workers):
                steps.step(len(todo[number][1]), images=len(todo[number][1]))
    artifact = Artifact("03_cache", VERSION, (paths.cache / "rows.parquet",), recipe, (paths.cache / "boxes.parquet",))

    def build() -> dict[str, Any]:
        write_table(paths.cache / "rows.parquet", rows)
        return {"splits": split_digests(rows, recipe)}

    context.make(artifact, build)


def placed(split: np.ndarray, per_shard: int) -> dict[str, np.ndarray]:
    """``shard`` and ``slot`` of each row (int [rows]): test rows in shards of their own, behind those of training."""
    test = split == "test"
    place = np.where(test, np.cumsum(test), np.cumsum(~test)) - 1
    behind = -(-int((~test).sum()) // per_shard)
    return {"shard": place // per_shard + behind * test, "slot": place % per_shard}


def _shards(context: Context, rows: pd.DataFrame) -> Iterator[tuple[Artifact, pd.DataFrame]]:
    """The artifact of each shard with its rows; a shard's key depends on its own pictures alone."""
    recipe = context.competition.cache
    for shard, piece in rows.groupby("shard"):
        content = digest(piece[["path", "crc", *recipe.by]].to_numpy().tolist())
        path = shard_path(context.paths.cache, int(shard))
        yield Artifact("03_cache", VERSION, (path,), recipe, facts={"pictures": content}), piece


def _wanted(context: Context, artifact: Artifact) -> bool:
    why = context.why(artifact)
    if why and context.options.dry_run:
        print(f"  would make {artifact.files[0].name}: {why}")
    return bool(why)


def _build_shard(competition: Competition, paths: Paths, task: tuple[Artifact, pd.DataFrame]) -> None:
    artifact, piece = task
    recipe = competition.cache
    pictures = [partial(competition.data.picture, paths, row, recipe) for row in piece.itertuples()]
    try:
        artifact.make(lambda: write_shard(artifact.files[0], pictures, recipe.size, recipe.dtype))
    except Unreadable as error:
        raise UserError(f"a picture of {artifact.files[0].name} could be read in stage 02 and cannot be now ({error}); see "
                        f"to {paths.input}, and run the same command again") from error
