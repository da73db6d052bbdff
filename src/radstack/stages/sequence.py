"""Stage 06: one sequence recipe on one fold -> out-of-fold and test tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.folds import fold_hash
from radstack.core.progress import titled
from radstack.recipes.sequence import Sequence
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_rows
from radstack.running.tasks import has_gpu, make_all, per_fold, shared
from radstack.stack.predictions import fold_files, prediction_table, write_fold
from radstack.stages.predict import embeddings_file

VERSION = 1


def sequence(context: Context) -> None:
    """Fit every chosen sequence model for every chosen fold, unless that is done and unchanged."""
    make_all(context, per_fold(context, "sequence", context.sequences, sequence_artifact, sequence_fold))


def sequence_artifact(context: Context, recipe: Sequence, fold: int) -> Artifact:
    """Two tables, from the members' embeddings and tables of every fold the recipe reads."""
    paths = context.paths
    inputs = [paths.cache / "rows.parquet", paths.folds / "folds.csv"]
    for member in recipe.members:
        for other in member_folds(context, member):
            inputs += [*fold_files(paths.oof / member, other), embeddings_file(paths.oof / member, other)]
    return Artifact("06_sequence", VERSION, fold_files(paths.oof / recipe.name, fold), {"recipe": recipe, "fold": fold},
                    tuple(inputs))


def member_folds(context: Context, member: str) -> list[int]:
    """Folds that a level-one member trains."""
    experiments = {experiment.name: experiment for experiment in context.competition.models.experiments}
    own = experiments[member].folds if member in experiments else ()
    return list(own or range(context.competition.folds.count))


def sequence_fold(context: Context, recipe: Sequence, fold: int) -> None:
    """Fit, predict and write, here or in ``--gpus`` processes."""
    if shared(context, sequence_fold, context, recipe, fold):
        return
    from radstack.training.distributed import joined, together

    kind = context.options.device or ("cuda" if has_gpu() else "cpu")
    with joined(context.options.gpus, kind) as device, titled(f"sequence {recipe.name} fold {fold}"):
        together(sequence_artifact(context, recipe, fold), lambda: _fit(context, recipe, fold, device))


def _fit(context: Context, recipe: Sequence, fold: int, device: Any) -> dict[str, Any]:
    from radstack.core.say import say
    from radstack.sequence.train import checkpoint_path, fit_fold
    from radstack.training import checkpoint
    from radstack.training.distributed import distributed

    rows, _ = read_rows(context)
    targets, metric = context.competition.targets, context.competition.metric
    folder = context.paths.weights / recipe.name
    unfinished = checkpoint_path(folder, fold)
    if not context.options.resume:
        checkpoint.remove(unfinished)
    fitted = fit_fold(recipe, read_arrays(context, recipe, rows), fold, metric.weights, folder, device, say,
                      context.options.checkpoint_seconds)
    ids = rows["id"].to_numpy()
    scored = prediction_table(ids[fitted.rows], fold, fitted.predictions, targets)
    test = prediction_table(ids[fitted.test_rows], -1, fitted.test_predictions, targets)
    if distributed()[0] == 0:
        write_fold(context.paths.oof / recipe.name, fold, scored, test)
    checkpoint.remove(unfinished)
    score = metric.score(rows[list(targets)].to_numpy()[fitted.rows], fitted.predictions)
    return {"fold_hash": fold_hash(read_folds(context)), "score": round(score, 5), "losses": fitted.losses}


def read_arrays(context: Context, recipe: Sequence, rows: pd.DataFrame) -> Any:
    """The members' embeddings (memory-mapped) and tables, bound to the row table."""
    from radstack.sequence.arrays import arrays_of

    embeddings: dict[str, dict[int, np.ndarray]] = {}
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    for member in recipe.members:
        folder = context.paths.oof / member
        chosen = member_folds(context, member)
        embeddings[member] = {fold: _map(embeddings_file(folder, fold)) for fold in chosen}
        tables[member] = {fold: pd.concat([pd.read_parquet(path) for path in fold_files(folder, fold)])
                          for fold in chosen}
    return arrays_of(rows, read_folds(context), context.competition.targets, embeddings, tables)


def _map(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
