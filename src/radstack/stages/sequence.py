"""Stage 06: one sequence recipe on one fold -> its models and out-of-fold table, then what they say of the test rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part
from radstack.core.files import write_table
from radstack.core.folds import fold_hash, fold_of
from radstack.core.progress import titled
from radstack.recipes.sequence import Sequence, TwoLevel
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.tables import read_folds, read_rows
from radstack.running.tasks import make_all, per_fold, shared
from radstack.stack.predictions import fold_file, prediction_table
from radstack.stages.predict import embeddings_file
from radstack.stages.train import write_weights

VERSION = 2


def sequence(context: Context) -> None:
    """Fit every chosen sequence model for every chosen fold, then predict the test rows, unless done and unchanged."""
    make_all(context, per_fold(context, "sequence", context.sequences, fitted_artifact, fit_sequence))
    make_all(context, per_fold(context, "predict test with", context.sequences, applied_artifact, predict_sequence))


def fitted_artifact(context: Context, recipe: Sequence, fold: int) -> Artifact:
    """The models of one fold and its out-of-fold table, from the members' training rows of every fold the recipe reads."""
    paths = context.paths
    inputs: list[Path | Part] = [Part(paths.cache / "rows.parquet", "train"), paths.folds / "folds.csv"]
    for member in recipe.members:
        inputs += [path for other in context.all_folds(member) for path in member_files(context, member, other, "train")]
    files = (fold_file(paths.oof / recipe.name, fold, "train"), weights_file(context, recipe, fold))
    facts = {"metric": context.competition.metric.key}  # it weighs the loss, and the manifest holds its score
    return Artifact("06_sequence", VERSION, files, {"recipe": recipe, "fold": fold}, tuple(inputs), facts)


def applied_artifact(context: Context, recipe: Sequence, fold: int) -> Artifact:
    """What one fold's models say of the test rows."""
    paths = context.paths
    members = [path for member in recipe.members for path in member_files(context, member, fold, "test")]
    # The recipe too: the same weights may answer otherwise, as with ``reverse_tta``.
    return Artifact("06_sequence", VERSION, (fold_file(paths.oof / recipe.name, fold, "test"),),
                    {"recipe": recipe, "fold": fold},
                    (weights_file(context, recipe, fold), Part(paths.cache / "rows.parquet", "test"), *members))


def weights_file(context: Context, recipe: Sequence, fold: int) -> Path:
    """The models of one fold's last epochs, one after another."""
    return context.paths.weights / recipe.name / f"fold{fold}.safetensors"


def member_files(context: Context, member: str, fold: int, split: str) -> tuple[Path, Path]:
    """What one network of a member says of the rows of a split: table, embeddings."""
    folder = context.paths.oof / member
    return fold_file(folder, fold, split), embeddings_file(folder, fold, split)


def fit_sequence(context: Context, recipe: Sequence, fold: int) -> None:
    """Fit, predict the fold's rows and write, here or in ``--gpus`` processes."""
    if shared(context, fit_sequence, context, recipe, fold):
        return
    from radstack.training.distributed import joined, together

    kind = device_of(context.options.device)
    with joined(context.options.gpus, kind) as device, titled(f"sequence {recipe.name} fold {fold}"):
        together(fitted_artifact(context, recipe, fold), lambda: _fit(context, recipe, fold, device), context.options.force)


def _fit(context: Context, recipe: Sequence, fold: int, device: Any) -> dict[str, Any]:
    from radstack.core.say import say
    from radstack.sequence.train import checkpoint_path, fit_fold
    from radstack.training import checkpoint
    from radstack.training.distributed import distributed

    rows, _ = read_rows(context, "train")
    targets, metric = context.competition.targets, context.competition.metric
    folder = context.paths.weights / recipe.name
    unfinished = checkpoint_path(folder, fold)
    if not context.options.resume:
        checkpoint.remove(unfinished)
    rows, arrays = lessons_of(context, recipe, fold, rows)
    fitted = fit_fold(recipe, arrays, fold, metric.weights, folder, device, say, context.options.checkpoint_seconds)
    if distributed()[0] == 0:
        write_weights(weights_file(context, recipe, fold), fitted.weights)
        write_table(fold_file(context.paths.oof / recipe.name, fold, "train"),
                    prediction_table(rows["id"].to_numpy()[fitted.rows], fold, fitted.predictions, targets))
    checkpoint.remove(unfinished)
    score = metric.score(rows[list(targets)].to_numpy()[fitted.rows], fitted.predictions)
    return {"fold_hash": fold_hash(read_folds(context)), "score": round(score, 5), "losses": fitted.losses}


def predict_sequence(context: Context, recipe: Sequence, fold: int) -> None:
    """Predict the test rows with one fold's models and write."""
    with titled(f"predict test with {recipe.name} fold {fold}"):
        applied_artifact(context, recipe, fold).make(lambda: _predict(context, recipe, fold), context.options.force)


def _predict(context: Context, recipe: Sequence, fold: int) -> None:
    from safetensors.torch import load_file

    from radstack.sequence.train import apply_fold

    rows, _ = read_rows(context, "test")
    arrays = read_arrays(context, recipe, fold, rows, "test")
    device = device_of(context.options.device)
    predicted = apply_fold(recipe, arrays, fold, load_file(weights_file(context, recipe, fold)), device,
                           context.competition.metric.weights)
    write_table(fold_file(context.paths.oof / recipe.name, fold, "test"),
                prediction_table(rows["id"].to_numpy(), -1, predicted, context.competition.targets))


def lessons_of(context: Context, recipe: Sequence, fold: int, rows: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    """The training rows that the model can read, and :func:`read_arrays` of them.

    Where it reads what networks held out, and members were trained on some folds alone, the other folds' rows are left out.
    """
    every, had = range(context.competition.folds.count), context.all_folds(recipe)
    own = recipe.space == "own" and not recipe.logits and not isinstance(recipe.model, TwoLevel)
    if own or set(every) == set(had):
        return rows, read_arrays(context, recipe, fold, rows, "train")
    read = np.flatnonzero(fold_of(rows, read_folds(context)).isin(had))
    return rows.iloc[read].reset_index(drop=True), read_arrays(context, recipe, fold, rows, "train", read)


def read_arrays(context: Context, recipe: Sequence, fold: int, rows: pd.DataFrame, split: str,
                read: np.ndarray | slice = slice(None)) -> Any:
    """The members' embeddings (memory-mapped) and tables, bound to the ``rows`` of a split; of test, those of ``fold``.

    ``read`` are the numbers of those rows that are taken, int [n].
    """
    from radstack.sequence.arrays import arrays_of

    embeddings: dict[str, dict[int, np.ndarray]] = {}
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    for member in recipe.members:
        files = {one: member_files(context, member, one, split)
                 for one in (context.all_folds(member) if split == "train" else [fold])}
        tables[member] = {one: pd.read_parquet(table) for one, (table, _) in files.items()}
        embeddings[member] = {one: np.load(stored, mmap_mode="r", allow_pickle=False)[read]
                              for one, (_, stored) in files.items()}
    folds = read_folds(context) if split == "train" else pd.DataFrame({"group": pd.Series(dtype=str), "fold": []})
    return arrays_of(rows.iloc[read].reset_index(drop=True), folds, context.competition.targets, embeddings, tables)
