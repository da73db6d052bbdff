"""Stage 02 with networks: small pictures of everything, one chain of networks a fold, one table of what they found."""

import shutil
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import need_disk, read_table, sweep, write_table
from radstack.core.folds import fold_of
from radstack.core.parallel import in_processes, mapped_rows
from radstack.core.paths import Paths
from radstack.core.progress import track
from radstack.images.dicom import Unreadable
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.recipes.localizer import Chain
from radstack.running.context import Context
from radstack.running.tables import raw_files, read_folds, read_index
from radstack.running.tasks import Task, make_all

VERSION = 2


def follow_chain(context: Context, chain: Chain) -> None:
    """Write ``prepared/``, every fold's networks and findings, ``maps/``, ``boxes.parquet``, ``quarantine.csv``."""
    prepare(context, chain)
    from radstack.stages.chain_fold import localize_fold

    make_all(context, [(found_artifact(context, chain, fold), Task(f"localize fold {fold}", localize_fold, (context, fold)))
                       for fold in range(context.competition.folds.count)])
    settle(context, chain)


def prepare(context: Context, chain: Chain) -> None:
    """Decode every file once: ``prepared/shard-*.npy`` and ``prepared/rows.parquet`` (index rows of what is readable)."""
    paths, index = context.paths, read_index(context)
    folder = paths.cache / "prepared"
    shards = shards_of(index["path"], chain.per_shard)
    stores = (shard_path(folder, one) for one in np.unique(shards))
    files = (folder / "rows.parquet", paths.cache / "quarantine.csv", *stores)
    recipe = {"side": chain.side, "per_shard": chain.per_shard, "prepare": _settings(chain.prepare)}
    artifact = Artifact("02_localize", VERSION, files, recipe, (paths.folds / "index.parquet",), raw_files(context))

    def build() -> dict[str, Any]:
        sweep(folder)
        need_disk(paths.cache, 2 * len(index) * chain.side**2, "02_localize")
        parts = folder / f"parts-{artifact.key}"
        rows = index.join(_prepare_all(chain, paths, shards, parts, context.options.workers))
        bad = rows["reason"] != ""
        write_table(files[0], rows[~bad].drop(columns=["reason", "detail"]).reset_index(drop=True))
        write_table(files[1], rows.loc[bad, ["id", "split", "path", "reason", "detail"]])
        shutil.rmtree(parts, ignore_errors=True)
        print(f"  {len(rows) - bad.sum():,} pictures prepared, {bad.sum():,} cannot be decoded ({files[1]})")
        return {"rows": int((~bad).sum()), "quarantined": int(bad.sum())}

    context.make(artifact, build)


def shards_of(path: pd.Series, per_shard: int) -> np.ndarray:
    """Shard number of every row, int [rows]: about ``per_shard`` rows each, the rows of a file (adjacent) in one."""
    first = pd.Series(np.arange(len(path))).groupby(path.to_numpy(), sort=False).transform("min")
    return first.to_numpy() // per_shard


def _settings(function: Any) -> Any:
    """What distinguishes a function with settings, as JSON values."""
    return [function.func.__name__, function.keywords] if isinstance(function, partial) else function.__name__


def _prepare_all(chain: Chain, paths: Paths, shards: np.ndarray, parts: Path, workers: int) -> pd.DataFrame:
    """Facts of every picture: ``shard``, ``slot``, ``crc``, ``reason``, ``detail`` and what the competition adds.

    ``parts`` keeps those of finished shards: a volume's bias field takes minutes, and a killed run must not lose it.
    """
    numbers, starts, counts = np.unique(shards, return_index=True, return_counts=True)
    pieces = np.stack([numbers, starts, starts + counts], axis=1).tolist()
    return mapped_rows(partial(_prepare_pieces, chain, paths), pieces, parts, workers, "prepare", 1)


def _prepare_pieces(chain: Chain, paths: Paths, pieces: list[list[int]]) -> pd.DataFrame:
    """Write the shard of each piece (number, first index row, first one after) and return its facts."""
    index = pd.read_parquet(paths.folds / "index.parquet")
    return pd.concat([_prepare_shard(chain, paths, shard, index[start:stop]) for shard, start, stop in pieces])


def _prepare_shard(chain: Chain, paths: Paths, shard: int, rows: pd.DataFrame) -> pd.DataFrame:
    facts: list[pd.DataFrame] = []

    def pictures() -> Iterator[np.ndarray]:
        for _, own in rows.groupby("path", sort=False):
            made, fact = _prepare_file(chain, paths, own)
            facts.append(fact)
            yield from made

    stream = pictures()
    write_shard(shard_path(paths.cache / "prepared", shard), [partial(next, stream)] * len(rows), (chain.side, chain.side),
                "uint8")
    return pd.concat(facts, ignore_index=True).assign(shard=shard, slot=np.arange(len(rows)))


def _prepare_file(chain: Chain, paths: Paths, rows: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    try:
        made, found = chain.prepare(paths.input, rows, chain.side)
        assert len(made) == len(rows), f"{rows['path'].iloc[0]}: {len(made)} pictures of {len(rows)} rows"
        checks = [zlib.crc32(one.tobytes()) for one in made]
        return made, pd.DataFrame({"reason": "", "detail": "", "crc": checks, **found})
    except Unreadable as error:
        blank = np.zeros((len(rows), chain.side, chain.side), np.uint8)
        return blank, pd.DataFrame({"reason": error.reason, "detail": error.detail, "crc": 0}, index=range(len(rows)))


def prepared_rows(context: Context) -> tuple[pd.DataFrame, np.ndarray]:
    """Index rows of readable pictures, and each row's fold (-1 for test)."""
    rows = read_table(context.paths.cache / "prepared" / "rows.parquet", context.command("02_localize"))
    return rows, fold_of(rows, read_folds(context)).to_numpy()


def found_files(paths: Paths, fold: int) -> tuple[Path, Path]:
    """Answers of fold ``fold``'s chain for its own and the test rows: a table, and maps uint8 [rows, masks, side, side]."""
    return paths.cache / "found" / f"fold{fold}.parquet", paths.cache / "found" / f"fold{fold}_maps.npy"


def found_artifact(context: Context, chain: Chain, fold: int) -> Artifact:
    """What the chain of one fold makes, from what."""
    recipe = {"steps": [step.experiment for step in chain.steps], "side": chain.side, "fold": fold}
    inputs = (context.paths.cache / "prepared" / "rows.parquet", context.paths.folds / "folds.csv")
    return Artifact("02_localize", VERSION, found_files(context.paths, fold), recipe, inputs, raw_files(context))


def settle(context: Context, chain: Chain) -> None:
    """Join the folds' answers: test rows take the median of points and the mean of maps; then the competition's rule."""
    paths, folds = context.paths, range(context.competition.folds.count)
    inputs = [paths.cache / "prepared" / "rows.parquet", paths.folds / "folds.csv"]
    inputs += [path for fold in folds for path in found_files(paths, fold)]
    if context.options.dry_run and not all(path.exists() for path in inputs):
        print("  would make boxes.parquet: its inputs are not made yet")
        return
    rows, _ = prepared_rows(context)
    files = (paths.cache / "boxes.parquet", *(shard_path(paths.cache / "maps", one) for one in rows["shard"].unique()))
    artifact = Artifact("02_localize", VERSION, files, {"side": chain.side}, tuple(inputs))

    def build() -> dict[str, Any]:
        pieces = [piece for _, piece in rows.groupby("shard")]
        tables: list[pd.DataFrame] = [pd.DataFrame()] * len(pieces)
        with track(len(rows), "settle") as steps:
            work = partial(_settle_piece, chain, paths, len(folds))
            for number, table in in_processes(work, pieces, context.options.workers):
                tables[number] = table
                steps.step(len(table))
        boxes = rows.drop(columns=["shard", "slot"]).assign(map_shard=rows["shard"], map_slot=rows["slot"])
        boxes = boxes.join(pd.concat(tables))
        write_table(paths.cache / "boxes.parquet", boxes)
        return {"rows": len(boxes)}

    context.make(artifact, build)


def _settle_piece(chain: Chain, paths: Paths, folds: int, piece: pd.DataFrame) -> pd.DataFrame:
    """What the competition makes of a shard's answers, indexed like ``piece``; the joined maps go to ``maps/``."""
    answers, maps = joined(paths, folds, piece["id"])
    pictures = Shards(paths.cache / "prepared")
    shard = int(piece["shard"].iloc[0])
    size = (len(chain.masks), chain.side, chain.side)
    store = np.zeros((int(piece["slot"].max()) + 1, *size), np.uint8)  # unreadable pictures leave gaps
    store[piece["slot"]] = maps
    write_shard(shard_path(paths.cache / "maps", shard), [one.copy for one in store], size, "uint8")
    whole = piece.reset_index(drop=True).join(answers)
    return pd.DataFrame([{**answer, "map_crc": zlib.crc32(one.tobytes()),
                          **chain.settle(row, pictures(row.shard, row.slot), one)}
                         for row, answer, one in zip(whole.itertuples(), answers.to_dict("records"), maps)],
                        index=piece.index)


def joined(paths: Paths, folds: int, ids: pd.Series) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The answers for ``ids`` in order, a table and maps uint8 [masks, side, side]: a row's own fold's, or of all folds for
    a test row.
    """
    tables = [pd.read_parquet(found_files(paths, fold)[0]) for fold in range(folds)]
    stores = [np.load(found_files(paths, fold)[1], mmap_mode="r", allow_pickle=False) for fold in range(folds)]
    places = [pd.Index(table["id"]).get_indexer(pd.Index(ids)) for table in tables]
    values = np.stack([table.drop(columns="id").to_numpy(float)[place] for table, place in zip(tables, places)])
    values[np.stack(places) < 0] = np.nan
    answers = pd.DataFrame(np.nanmedian(values, axis=0), columns=tables[0].columns.drop("id"))
    maps = [np.mean([store[place[row]] for store, place in zip(stores, places) if place[row] >= 0], axis=0)
            for row in range(len(ids))]
    return answers, [np.rint(one).astype(np.uint8) for one in maps]


def show(context: Context, count: int) -> None:
    """Draw the steps of ``count`` pictures of each split, flagged ones first, below ``reports/<comp>/localize``."""
    chain, paths = context.competition.localizer, context.paths
    if not isinstance(chain, Chain):
        raise UserError(f"--show: {context.competition.name} finds its anatomy without networks and draws no steps")
    boxes = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    prepared, maps = Shards(paths.cache / "prepared"), Shards(paths.cache / "maps")
    chosen = boxes.sort_values("flag", ascending=False, kind="stable").groupby("split").head(count)
    for row in chosen.itertuples():
        file = paths.reports / "localize" / f"{row.id}.png"
        place = int(row.map_shard), int(row.map_slot)
        chain.show(paths, row, prepared(*place), maps(*place), file)
    print(f"  the steps of {len(chosen)} pictures: {paths.reports / 'localize'}")
