"""A trained solution on pictures that it never saw: the stages' test side, with the weights from where they were trained.

The test set of a competition is the first thing that a solution is applied to, any other folder the next: both go through
the same functions. What is made lies below a folder of its own, as artifacts, so that a killed run goes on where it was.
"""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.artifact import Artifact, split_digests
from radstack.core.files import write_table
from radstack.core.paths import Paths
from radstack.core.recipe import digest
from radstack.images.radiograph import index_new
from radstack.running.context import Context
from radstack.running.tasks import make_all, per_fold
from radstack.stack.predictions import fold_file
from radstack.stack.rows import mean_over_folds
from radstack.stages import predict, sequence, stack
from radstack.stages.cache import cache
from radstack.stages.folds import listing_digest
from radstack.stages.localize import apply_localizer
from radstack.stages.submit import by_row


def apply(context: Context, pictures: Path, out: Path, given: pd.DataFrame | None = None) -> Context:
    """Find the anatomy, cache, predict and stack the pictures of a folder.

    Args:
        context: a competition that is trained, through stage 07.
        pictures: folder of the pictures.
        out: folder for what is made; the same one again goes on where it was.
        given: the user's table of what stands beside the pictures, as text.

    Returns:
        The competition there: its ``paths`` hold the index, the quarantines, the localization table and all predictions.

    Raises:
        UserError: no picture is usable, or the competition is not trained.
    """
    there = elsewhere(context, pictures, out)
    index_folder(there, pd.DataFrame() if given is None else given)
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


def index_folder(there: Context, given: pd.DataFrame) -> None:
    """Write ``index.parquet`` and ``quarantine.csv`` of the pictures, all of them as test rows."""
    paths = there.paths
    files = (paths.folds / "index.parquet", paths.folds / "quarantine.csv")

    def build() -> dict[str, Any]:
        read_index = there.competition.data.index_new or index_new
        rows, quarantine = read_index(paths.input, there.options.workers, paths.folds / "parts", given)
        rows = rows.assign(split="test")
        write_table(files[0], rows)
        write_table(files[1], quarantine)
        return {"rows": len(rows), "quarantined": len(quarantine), "splits": split_digests(rows)}

    facts = {"raw files": listing_digest(paths.input), "given": digest(given.to_csv())}
    there.make(Artifact("apply", 1, files, {}, facts=facts), build)


def answers(there: Context, name: str = "") -> pd.DataFrame:
    """``id`` and targets: what the final model, or the model ``name``, says of the pictures, one row a submission's row."""
    name = name or there.competition.models.final
    tables = [pd.read_parquet(fold_file(there.paths.oof / name, fold, "test")).assign(fold=fold)
              for fold in stack.stack_folds(there, name)]
    return by_row(there, mean_over_folds(pd.concat(tables, ignore_index=True), there.competition.targets))


def write_answers(there: Context, out: Path, sample: Path | None) -> pd.DataFrame:
    """Write the final model's answers as the competition's submission, and ``<out>_quarantine.csv`` beside it.

    Every input file is behind a row of ``out`` or in the quarantine. With ``sample``, an organizer's list, each of its ids
    has a row; one without a usable picture gets the prior (:data:`radstack.submission.forms.FILLS`) and a quarantine row.

    Returns:
        The quarantine.
    """
    from radstack.submission.forms import read_ids, sample_of, write_predictions

    layout, targets, paths = there.competition.submission, there.competition.targets, there.paths
    predicted = answers(there)
    with tempfile.TemporaryDirectory() as folder:
        listed = sample
        if listed is None:
            listed = Path(folder) / "sample.csv"
            write_table(listed, sample_of(predicted["id"], targets, layout))
        elif layout.form != "long":
            predicted = predicted[predicted["id"].isin(read_ids(listed, layout))]
        filled = write_predictions(out, predicted, listed, targets, layout)
    lost = pd.DataFrame({"id": filled.iloc[:, 0], "split": "test", "path": "", "reason": "no-picture",
                         "detail": "listed, without a usable picture: it got the prior"})
    parts = [pd.read_csv(file) for file in (paths.folds / "quarantine.csv", paths.cache / "quarantine.csv") if file.exists()]
    quarantine = pd.concat([*parts, lost], ignore_index=True)
    write_table(out.with_name(f"{out.stem}_quarantine.csv"), quarantine)
    return quarantine
