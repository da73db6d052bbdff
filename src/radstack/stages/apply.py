"""A trained solution on pictures that it never saw: the stages' test side, with the weights from where they were trained.

The test set of a competition is the first thing that a solution is applied to, any other folder the next: both go through
the same functions. What is made lies below a folder of its own, as artifacts, so that a killed run goes on where it was.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.artifact import Artifact, split_digests
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.paths import Paths
from radstack.running.context import Context
from radstack.running.tasks import make_all, per_fold
from radstack.stack.predictions import fold_file
from radstack.stack.rows import mean_over_folds
from radstack.stages import predict, sequence, stack
from radstack.stages.cache import cache
from radstack.stages.folds import listing_digest
from radstack.stages.localize import apply_localizer
from radstack.stages.submit import by_row


def apply(context: Context, pictures: Path, out: Path, read_index: Any) -> Context:
    """Find the anatomy, cache, predict and stack the pictures of a folder.

    Args:
        context: a competition that is trained, through stage 07.
        pictures: folder of the pictures.
        out: folder for what is made; the same one again goes on where it was.
        read_index: ``pictures``, workers, parts folder -> index rows without labels (``path`` lies below ``pictures``), and
            the quarantine.

    Returns:
        The competition there: its ``paths`` hold the index, the quarantines, the localization table and all predictions.

    Raises:
        UserError: no picture is usable, or the competition is not trained.
    """
    there = elsewhere(context, pictures, out)
    index_folder(there, read_index)
    apply_localizer(there)
    cache(there)
    make_all(there, per_fold(there, "predict with", there.experiments, partial(predict.predictions_artifact, split="test"),
                             partial(predict.predict_fold, split="test")))
    make_all(there, per_fold(there, "predict with", there.sequences, sequence.applied_artifact, sequence.predict_sequence))
    for stacker in there.stackers:
        stack.apply_stack(there, stacker)
    return there


def elsewhere(context: Context, pictures: Path, out: Path) -> Context:
    """The competition on other pictures, with what its final model needs; its results below ``out``."""
    source = out / "input" / context.competition.name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.unlink(missing_ok=True)
    source.symlink_to(pictures.resolve(), target_is_directory=True)
    paths = Paths(out, out, context.paths.source, context.paths.name, home=context.paths.home or context.paths.out)
    return replace(context, paths=paths, options=replace(context.options, only=tuple(needed(context)), folds=()))


def needed(context: Context) -> list[str]:
    """Names of the models that the final one descends from, itself among them."""
    members = {recipe.name: getattr(recipe, "members", ()) for recipe in context.competition.recipes}
    found, open_names = list[str](), [context.competition.models.final]
    while open_names:
        name = open_names.pop()
        if name not in found:
            found.append(name)
            open_names += members[name]
    return found


def index_folder(there: Context, read_index: Any) -> None:
    """Write ``index.parquet`` and ``quarantine.csv`` of the pictures, all of them as test rows."""
    paths = there.paths
    files = (paths.folds / "index.parquet", paths.folds / "quarantine.csv")

    def build() -> dict[str, Any]:
        rows, quarantine = read_index(paths.input, there.options.workers, paths.folds / "parts")
        if rows.empty:
            raise UserError(f"{paths.input.resolve()} holds no usable picture; see {files[1]}")
        rows = rows.assign(split="test")
        write_table(files[0], rows)
        write_table(files[1], quarantine)
        return {"rows": len(rows), "quarantined": len(quarantine), "splits": split_digests(rows)}

    there.make(Artifact("apply", 1, files, {}, facts={"raw files": listing_digest(paths.input)}), build)


def answers(there: Context, name: str = "") -> pd.DataFrame:
    """``id`` and targets: what the final model, or the model ``name``, says of the pictures, one row a submission's row."""
    name = name or there.competition.models.final
    tables = [pd.read_parquet(fold_file(there.paths.oof / name, fold, "test")).assign(fold=fold)
              for fold in stack.stack_folds(there, name)]
    return by_row(there, mean_over_folds(pd.concat(tables, ignore_index=True), there.competition.targets))
