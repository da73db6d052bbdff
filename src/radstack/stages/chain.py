"""Stage 02 with a chain of networks: small pictures of everything, one chain a fold, one table of what they found.

Fold k's networks are trained without fold k, then answer for the fold and the test pictures.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, split_digests
from radstack.core.errors import UserError
from radstack.core.files import need_disk, replacing, sweep, write_table
from radstack.core.parallel import in_processes
from radstack.core.passing import passing
from radstack.core.paths import Paths
from radstack.core.progress import track
from radstack.core.recipe import digest
from radstack.images.dicom import Unreadable
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.recipes.localizer import Chain, Step
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stages.decode import (
    Learned,
    fold_artifact,
    look_artifact,
    prepared_rows,
    rows_file,
    set_aside,
    stamps,
)
from radstack.stages.train import started_from, train_run

if TYPE_CHECKING:  # torch is slow to import, and a stage with nothing to do starts without it
    import torch

VERSION = 4
BOXES = 5
"""Version of the join, apart from that of the networks: when a competition's rule changes, none of them learns anew."""
EMPTY = np.zeros((0, 0, 0), np.uint8)
"""The maps of a picture in which nothing was looked for."""
PIECE = 1024
"""Pictures between two looks at the clock; a multiple of the batch size, so that batches stay as they were."""


def prepare(context: Context, chain: Chain) -> None:
    """Decode every file once: ``prepared/shard-*.npy`` and ``prepared/rows.parquet`` (index rows of what is readable)."""
    paths, index = context.paths, read_index(context)
    folder = paths.cache / "prepared"
    recipe = {"side": chain.side, "per_shard": chain.per_shard, "prepare": _settings(chain.prepare), **_order(index)}
    pieces = _shards(context, index, chain, recipe)

    def facts(_: Path) -> pd.DataFrame:
        sweep(folder)
        todo = [piece for piece in pieces if context.why(piece[0])]  # the shards of the others stay as they are
        need_disk(paths.cache, 2 * sum(len(rows) for _, rows in todo) * chain.side**2, "02_localize")
        with track(sum(len(rows) for _, rows in todo), "prepare") as steps:
            for number, _ in in_processes(partial(_prepare_shard, chain, paths.input), todo, context.options.workers):
                steps.step(len(todo[number][1]))
        tables = [pd.read_parquet(artifact.files[0]).set_index(rows.index) for artifact, rows in pieces]
        return pd.concat(tables).loc[index.index]

    set_aside(context, VERSION, rows_file(context), facts, recipe, tuple(artifact.files[1] for artifact, _ in pieces))


def _shards(context: Context, index: pd.DataFrame, chain: Chain, recipe: Any) -> list[tuple[Artifact, pd.DataFrame]]:
    """The artifact of each shard with its index rows: facts, then small pictures, whose own manifest is that of all rows."""
    folder, made = context.paths.cache / "prepared", []
    test = index["split"] == "test"
    shards = pd.Series(-1, index.index)
    for rows in (index[~test], index[test]):
        shards[rows.index] = shards.max() + 1 + shards_of(rows["path"], chain.per_shard)
    stamped = index.assign(stamp=stamps(context.paths.input, index["path"]))
    for shard, rows in index.groupby(shards):
        content = digest(stamped.loc[rows.index].astype(str).to_numpy().tolist())
        path = shard_path(folder, int(shard))
        made.append((Artifact("02_localize", VERSION, (path.with_suffix(".parquet"), path), recipe, facts={"rows": content}),
                     rows.assign(shard=shard)))
    return made


def _order(index: pd.DataFrame) -> dict[str, str]:
    """A mark of indexes in which rows of one file lie apart: their pictures were once kept in the order of files."""
    apart = sum(int((path != path.shift()).sum()) > path.nunique() for _, path in index.groupby("split")["path"])
    return {"order": "rows"} if apart else {}


def shards_of(path: pd.Series, per_shard: int) -> np.ndarray:
    """Shard number of every row, int [rows]: about ``per_shard`` rows each, the rows of a file in one."""
    first = pd.Series(np.arange(len(path))).groupby(path.to_numpy(), sort=False).transform("min")
    return first.to_numpy() // per_shard


def _settings(function: Any) -> Any:
    """What distinguishes a function with settings, as a recipe: its code counts where it is a competition's."""
    return [function.func, function.keywords] if isinstance(function, partial) else function


def _prepare_shard(chain: Chain, folder: Path, piece: tuple[Artifact, pd.DataFrame]) -> None:
    """Write the shard of the index rows, and its facts."""
    artifact, rows = piece

    def build() -> dict[str, Any]:
        made, facts = zip(*(_prepare_file(chain, folder, own) for _, own in rows.groupby("path", sort=False)))
        table = pd.concat(facts)  # file by file; the rows of one may lie apart
        pictures = [one.copy for file in made for one in file]
        places = table.index.get_indexer(rows.index)
        write_shard(artifact.files[1], [pictures[place] for place in places], (chain.side, chain.side), "uint8")
        table = table.iloc[places].reset_index(drop=True)
        write_table(artifact.files[0], table.assign(shard=int(rows["shard"].iloc[0]), slot=np.arange(len(rows))))
        return {"passing": int(passing(table["reason"]).sum())}

    artifact.make(build)


def _prepare_file(chain: Chain, folder: Path, rows: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Pictures uint8 [rows, side, side] and facts, indexed like ``rows``, of one file."""
    try:
        made, found = chain.prepare(folder, rows, chain.side)
        assert len(made) == len(rows), f"{rows['path'].iloc[0]}: {len(made)} pictures of {len(rows)} rows"
        checks = [zlib.crc32(one.tobytes()) for one in made]
        return made, pd.DataFrame({"reason": "", "detail": "", "crc": checks, **found}).set_index(rows.index)
    except Unreadable as error:
        blank = np.zeros((len(rows), chain.side, chain.side), np.uint8)
        return blank, pd.DataFrame({"reason": error.reason, "detail": error.detail, "crc": 0}, index=rows.index)


def found_files(paths: Paths, fold: int, split: str) -> tuple[Path, Path]:
    """Answers of one fold's chain for its own rows (``train``) or the test rows: a table, and maps uint8 [rows, masks, side,
    side].
    """
    stem = f"fold{fold}{'_test' * (split == 'test')}"
    return paths.cache / "found" / f"{stem}.parquet", paths.cache / "found" / f"{stem}_maps.npy"


def found_artifact(context: Context, chain: Chain, fold: int) -> Learned:
    """What the chain of one fold learns and finds in its own rows, from what."""
    networks = tuple(weights_file(context, step, fold) for step in chain.steps)
    return fold_artifact(context, VERSION, found_files(context.paths, fold, "train"), _finds(chain, fold), networks=networks)


def applied_artifact(context: Context, chain: Chain, fold: int) -> Artifact:
    """What the chain of one fold finds in the test rows, from what."""
    return look_artifact(context, VERSION, found_files(context.paths, fold, "test"), _finds(chain, fold),
                         *(weights_file(context, step, fold) for step in chain.steps))


def _finds(chain: Chain, fold: int) -> dict[str, Any]:
    """What finds: networks, and the competition's functions that say what they learn and what the next of them meets."""
    return {"steps": chain.steps, "side": chain.side, "fold": fold}


def weights_file(context: Context, step: Step, fold: int) -> Path:
    """The network of one step and fold."""
    return context.paths.weights / step.experiment.name / f"fold{fold}.safetensors"


@dataclass
class Scene:
    """The rows that one fold's chain works on, and how its next network sees them."""

    rows: pd.DataFrame
    """Rows to answer for, and annotated rows to learn from."""
    fold: np.ndarray
    """int [rows], -1 for test."""
    pictures: np.ndarray
    """uint8 [rows, side, side]"""
    maps: np.ndarray
    """Probability of each mask found so far, uint8 [rows, masks, side, side]."""


def open_scene(context: Context, rows: pd.DataFrame, fold_of_row: np.ndarray) -> Scene:
    """The prepared pictures of ``rows`` as the first network sees them."""
    shards = Shards(context.paths.cache / "prepared")
    pictures = np.stack([shards(shard, slot) for shard, slot in zip(rows["shard"], rows["slot"])])
    return Scene(rows, fold_of_row, pictures, pictures[:, None][:, :0])


def learning_scene(context: Context, chain: Chain, fold: int) -> Scene:
    """What the chain of one fold learns and answers for: the rows that are annotated, and those of the fold."""
    rows, fold_of_row = prepared_rows(context, "train")
    known = np.any([step.known(rows) for step in chain.steps], axis=0)
    wanted = (fold_of_row == fold) | known
    return open_scene(context, rows[wanted].reset_index(drop=True), fold_of_row[wanted])


def learn(context: Context, chain: Chain, fold: int, device: "torch.device") -> dict[str, Any]:
    """Train every network of fold ``fold`` and write what they find in its rows, :func:`found_files`.

    Annotated rows are answered for by networks that trained on them, so that the next network learns on slightly better
    pictures than it will meet; their masks differ by less than a pixel's edge, and fold k stays unseen by all.
    """
    scene = learning_scene(context, chain, fold)
    train = partial(train_step, context, scene=scene, fold=fold, device=device)
    return _follow(chain, scene, scene.fold == fold, device, train, found_files(context.paths, fold, "train"))


def look(context: Context, chain: Chain, fold: int, device: "torch.device") -> dict[str, Any]:
    """Write what fold ``fold``'s trained chain finds in the test rows."""
    def trained(step: Step, before: tuple[Step, ...]) -> Path:
        return weights_file(context, step, fold)

    rows, fold_of_row = prepared_rows(context, "test")
    files = found_files(context.paths, fold, "test")
    if rows.empty:
        write_table(files[0], pd.DataFrame(columns=["id", *(target for step in chain.steps for target in step.targets)]))
        with replacing(files[1]) as part, part.open("wb") as handle:
            np.save(handle, np.empty((0, 0, chain.side, chain.side), np.uint8))
        return {"rows": 0}
    scene = open_scene(context, rows, fold_of_row)
    return _follow(chain, scene, np.ones(len(scene.rows), bool), device, trained, files)


def _follow(chain: Chain, scene: Scene, scored: np.ndarray, device: "torch.device",
            weights: Callable[[Step, tuple[Step, ...]], Path], files: tuple[Path, Path]) -> dict[str, Any]:
    """Let the networks look one after the other, and write what they find in the rows ``scored`` (bool).

    ``weights`` gives those of a step, told the steps that guide it.
    """
    from radstack.training.distributed import distributed

    for number, step in enumerate(chain.steps):
        made = weights(step, chain.steps[:number] if _guides(chain, number) else ())
        last = not _guides(chain, number + 1)
        _look(chain, step, scene, made, device, scored if last else np.ones_like(scored))
    if distributed()[0] == 0:
        columns = ["id", *(target for step in chain.steps for target in step.targets)]
        write_table(files[0], scene.rows.loc[scored, columns].reset_index(drop=True))
        with replacing(files[1]) as part, part.open("wb") as handle:
            np.save(handle, scene.maps[scored])
    return {"rows": len(scene.rows)}


def _guides(chain: Chain, number: int) -> bool:
    """Whether step ``number``, if there is one, meets anything that the steps before it found."""
    return number < len(chain.steps) and any(step.targets or step.follow for step in chain.steps[:number])


def _look(chain: Chain, step: Step, scene: Scene, weights: Path, device: "torch.device", wanted: np.ndarray) -> None:
    """Let one network answer for the rows ``wanted`` (bool) of ``scene``, which then is as the next network sees it."""
    from radstack.training.inference import predict_raw

    found, rows = [], np.flatnonzero(wanted)
    with track(len(rows), f"look {step.experiment.name}", brief=True) as steps:
        for piece in steps.over(np.split(rows, range(PIECE, len(rows), PIECE)), len):
            found.append(predict_raw(step.experiment, step.targets, weights, scene.pictures[piece], device))
    answer = np.zeros((len(wanted), *found[0].shape[1:]), found[0].dtype)
    answer[rows] = np.concatenate(found)
    if step.targets:
        places = step.back(scene.rows, answer, chain.side) if step.back else answer
        scene.rows = scene.rows.join(pd.DataFrame(places, columns=list(step.targets)))
    else:
        scene.maps = np.concatenate([scene.maps, answer[:, None]], axis=1)
    if step.follow:
        with track(len(wanted), f"follow {step.experiment.name}", brief=True) as steps:
            scene.pictures = np.stack([step.follow(*pair) for pair in steps.over(zip(scene.pictures, answer))])


def step_artifact(context: Context, step: Step, before: tuple[Step, ...], fold: int,
                  more: dict[str, Any] | None = None) -> Artifact:
    """The network of one step and fold: what it learns, and how the steps ``before`` lead to what it sees.

    ``more`` is what else decides the scene that it learns from, for its recipe.
    """
    recipe = {"experiment": step.experiment, "fold": fold, "known": step.known, "labels": step.labels,
              "targets": step.targets, "before": [[one.follow, one.back] for one in before], **(more or {})}
    return fold_artifact(context, VERSION, (weights_file(context, step, fold),), recipe,
                         *(weights_file(context, one, fold) for one in before),
                         *started_from(context, step.experiment, fold))


def train_step(context: Context, step: Step, before: tuple[Step, ...], scene: Scene, fold: int,
               device: "torch.device", more: dict[str, Any] | None = None) -> Path:
    """Train one step's network on annotated rows of other folds unless that is done; return its weights.

    ``before`` are the steps that guide it, ``more`` as in :func:`step_artifact`. A UserError where no row is annotated.
    """
    from radstack.core.say import say
    from radstack.training.distributed import same_everywhere, together
    from radstack.training.run import Run

    experiment = step.experiment
    path = weights_file(context, step, fold)
    artifact = step_artifact(context, step, before, fold, more)
    if not same_everywhere(bool(context.why(artifact))):
        return path
    teaches = np.where(step.known(scene.rows), scene.fold, -1)
    if not ((teaches >= 0) & (teaches != fold)).any():
        raise UserError(f"{experiment.name}: no picture outside fold {fold} is annotated; see docs/add_your_own.md for "
                        "where annotations belong")

    def work() -> dict[str, Any]:
        workers = context.options.workers if device.type == "cuda" else 0
        labels = step.labels(context.paths.input, scene.rows, scene.pictures.shape[1])
        return train_run(context, Run(
            experiment, fold, step.targets, scene.rows, teaches, scene.pictures, artifact.key,
            path.with_suffix(".checkpoint"), device, workers, context.options.checkpoint_seconds, say, labels,
            f"train {experiment.name}"))

    together(artifact, work, context.options.force)
    return path


def write_boxes(context: Context, chain: Chain) -> None:
    """Join the folds' answers: test rows take the median of points and the mean of maps; then the competition's rule."""
    paths, (rows, _) = context.paths, prepared_rows(context)
    found = [found_files(paths, fold, split) for split in rows["split"].unique()
             for fold in range(context.competition.folds.count) if chain.steps]
    inputs = (rows_file(context), *(path for files in found for path in files))
    maps = rows["shard"].unique() if chain.masks else ()
    files = (paths.cache / "boxes.parquet", *(shard_path(paths.cache / "maps", one) for one in maps))
    artifact = Artifact("02_localize", BOXES, files, {"side": chain.side, "rule": _settings(chain.write_boxes)}, inputs)

    def build() -> dict[str, Any]:
        pieces = [piece for _, piece in rows.groupby("shard")]
        tables = []  # in any order: they are joined by their index
        with track(len(rows), "write boxes") as steps:
            for _, table in in_processes(partial(_boxes_of, chain, paths, found), pieces, context.options.workers):
                tables.append(table)
                steps.step(len(table))
        boxes = rows.drop(columns=["shard", "slot"]).assign(map_shard=rows["shard"], map_slot=rows["slot"])
        write_table(files[0], boxes.join(pd.concat(tables)))
        return {"rows": len(boxes), "splits": split_digests(boxes)}

    context.make(artifact, build)


def _boxes_of(chain: Chain, paths: Paths, found: list[tuple[Path, Path]], piece: pd.DataFrame) -> pd.DataFrame:
    """What the competition makes of a shard's answers, indexed like ``piece``; the joined maps go to ``maps/``."""
    answers, maps = joined(found, piece["id"]) if found else (pd.DataFrame(index=range(len(piece))), [EMPTY] * len(piece))
    pictures = Shards(paths.cache / "prepared")
    if chain.masks:
        _write_maps(chain, paths, piece, maps)
    whole = piece.reset_index(drop=True).join(answers)
    return pd.DataFrame([{**answer, "map_crc": zlib.crc32(one.tobytes()),
                          **chain.write_boxes(row, pictures(row.shard, row.slot), one)}
                         for row, answer, one in zip(whole.itertuples(), answers.to_dict("records"), maps)],
                        index=piece.index)


def _write_maps(chain: Chain, paths: Paths, piece: pd.DataFrame, maps: list[np.ndarray]) -> None:
    size = (len(chain.masks), chain.side, chain.side)
    store = np.zeros((int(piece["slot"].max()) + 1, *size), np.uint8)  # unreadable pictures leave gaps
    store[piece["slot"]] = maps
    write_shard(shard_path(paths.cache / "maps", int(piece["shard"].iloc[0])), [one.copy for one in store], size, "uint8")


def joined(found: list[tuple[Path, Path]], ids: pd.Series) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The answers of the ``found`` files for ``ids``, in their order: a table, and maps uint8 [masks, side, side]."""
    tables = [pd.read_parquet(table) for table, _ in found]
    stores = [np.load(maps, mmap_mode="r", allow_pickle=False) for _, maps in found]
    places = [pd.Index(table["id"]).get_indexer(pd.Index(ids)) for table in tables]
    values = np.stack([table.drop(columns="id").to_numpy(float)[place] for table, place in zip(tables, places)])
    values[np.stack(places) < 0] = np.nan
    answers = pd.DataFrame(np.nanmedian(values, axis=0), columns=tables[0].columns.drop("id"))
    maps = [np.mean([store[place[row]] for store, place in zip(stores, places) if place[row] >= 0], axis=0)
            for row in range(len(ids))]
    return answers, [np.rint(one).astype(np.uint8) for one in maps]


def small_of(paths: Paths, row: Any) -> tuple[np.ndarray, np.ndarray]:
    """Small picture uint8 [side, side] and joined maps uint8 [masks, side, side] of a row of ``boxes.parquet``."""
    return Shards(paths.cache / "prepared")(int(row.map_shard), int(row.map_slot)), maps_of(paths, row)


def maps_of(paths: Paths, row: Any) -> np.ndarray:
    """Joined maps uint8 [masks, side, side] of a row of ``boxes.parquet``."""
    return Shards(paths.cache / "maps")(int(row.map_shard), int(row.map_slot))


def draw(paths: Paths, chain: Chain, row: Any, file: Path) -> None:
    """Draw the steps of one row of ``boxes.parquet``."""
    chain.show(paths, row, *small_of(paths, row), file)
