"""Rows without a label, labeled by a finished model so that it holds by fold (``Experiment.pseudo``).

The network of fold k learns what the model's part of fold k says: networks and sequence models of fold k, through the fit of
fold k of each stacker. None of these was trained on a row of fold k, so no row that is scored meets a label that a model
trained on it gave. The mean over folds, which is submitted, will not do: all but one of its networks were. (Level two has
its usual compromise, see :mod:`radstack.stack.nested`; the labels are as far from the fold as the model's own score.)
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part, check_unedited, content_hash, manifest_of
from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_json, read_table, write_table
from radstack.core.folds import ALL, fold_name
from radstack.core.recipe import change
from radstack.recipes.experiment import Experiment, Pseudo
from radstack.recipes.stacker import Outside, Stacker
from radstack.running.context import Context
from radstack.running.tables import read_rows
from radstack.running.tasks import make_all, per_fold
from radstack.scoring.task import NUMBERS
from radstack.stack.predictions import fitted_files, fold_file, read_tests
from radstack.stages.sources import ROWS, on_source, read_source, source_of
from radstack.stages.stack import below, facts_of, stack_folds, task_of

VERSION = 1
OF_FOLD = re.compile(r"/(?:fold(\d+)|all)[._]")
"""A file of a fold, as manifests name their inputs."""


def check_pseudo(context: Context, experiment: Experiment) -> None:
    """Refuse labels that cannot be given: by an unknown model, by one that is built on this network, of what has some."""
    pseudo = experiment.pseudo
    if not pseudo.model:
        return
    if pseudo.model not in [recipe.name for recipe in context.recipes]:
        raise UserError(f"--pseudo {pseudo.model}: no such model; take one that is finished, such as "
                        f"{context.competition.models.final}")
    names = below(context, pseudo.model)
    if experiment.name in names:
        raise UserError(f"{experiment.name} would learn from {pseudo.model}, which is built on it; take a variant: --pseudo "
                        f"{pseudo.model} --name {experiment.name}_pseudo")
    if pseudo.above and context.competition.metric.kind.predicts == NUMBERS:
        raise UserError(f"{experiment.name}: numbers have no confidence; leave pseudo.above at 0")
    if pseudo.rows != "test" and source_of(context, pseudo.rows).by:
        raise UserError(f"{pseudo.rows} has labels of its own; name it in sources, and in pseudo.rows one without")
    for name, recipe in names.items():
        if isinstance(recipe, Outside):
            raise LeakError(f"{pseudo.model} is built on {name}, whose answers of test came as a table: models behind it "
                            "may have met the scored rows; take a model without it")


def place_of(context: Context, pseudo: Pseudo) -> Context:
    """Where the predictions of the rows lie: here for test, on the source for others."""
    if pseudo.rows == "test":
        return context
    there = on_source(context, pseudo.rows)
    return change(there, options__only=tuple(below(context, pseudo.model)))


def labels_artifact(context: Context, pseudo: Pseudo, fold: int) -> Artifact:
    """What the model's part of ``fold`` says of the rows: ``cache/<comp>/pseudo/<model>-<rows>/fold0.parquet``."""
    where, names = place_of(context, pseudo), below(context, pseudo.model)
    file = context.paths.cache / "pseudo" / f"{pseudo.model}-{pseudo.rows}" / f"{fold_name(fold)}.parquet"
    inputs: list[Path] = []
    for one in parts_of(context, pseudo.model, fold):
        for name, kind in names.items():
            inputs += fitted_files(context.paths.weights / name, one) if isinstance(kind, Stacker) else [
                fold_file(where.paths.oof / name, one, "test")]
    stackers = [recipe for recipe in names.values() if isinstance(recipe, Stacker)]
    recipe = {"model": pseudo.model, "stackers": stackers, "rows": pseudo.rows, "fold": fold}
    read = (Part(where.paths.cache / ROWS, "test"),) if stackers else ()  # stackers know rows by their columns, too
    facts = {"metric": context.competition.metric.key}
    facts |= {f"code of {one.name}": facts_of(context, one)["code of the method"] for one in stackers}
    return Artifact("pseudo", VERSION, (file,), recipe, (*inputs, *read), facts)


def parts_of(context: Context, model: str, fold: int) -> list[int]:
    """Folds of a model that label the rows for the network of ``fold``: that one; for a fit on all rows, all."""
    had = stack_folds(context, model)
    if fold != ALL and fold not in had:
        raise UserError(f"{model} has the folds {', '.join(map(str, had))} and no fold {fold}; leave it out with --folds")
    return had if fold == ALL else [fold]


def make_labels(context: Context, pseudo: Pseudo, folds: list[int]) -> None:
    """Give the labels for the networks of ``folds``, unless that is done and unchanged."""
    if folds and pseudo.rows != "test":
        predict_rows(place_of(context, pseudo))
    for fold in folds:
        context.make(labels_artifact(context, pseudo, fold), partial(_label, context, pseudo, fold))


def predict_rows(there: Context) -> None:
    """Let the networks and sequence models below a model answer for the pictures of a source."""
    from radstack.stages import predict, sequence  # they import stage 04, which labels rows

    make_all(there, per_fold(there, "predict with", there.experiments, partial(predict.predictions_artifact, split="test"),
                             partial(predict.predict_fold, split="test")))
    make_all(there, per_fold(there, "predict with", there.sequences, sequence.applied_artifact, sequence.predict_sequence))


def _label(context: Context, pseudo: Pseudo, fold: int) -> dict[str, Any]:
    table = answers_of(context, pseudo, fold)
    write_table(labels_artifact(context, pseudo, fold).files[0], table)
    return {"rows": len(table)}


def answers_of(context: Context, pseudo: Pseudo, fold: int) -> pd.DataFrame:
    """``id`` and targets (float32): what the model's part of ``fold`` says of the rows; for ``ALL`` the mean over all."""
    from radstack.stack.rows import mean_over_folds

    found = [answers_of_fold(context, pseudo, one).assign(fold=one) for one in parts_of(context, pseudo.model, fold)]
    return mean_over_folds(pd.concat(found, ignore_index=True), context.competition.targets)


def answers_of_fold(context: Context, pseudo: Pseudo, fold: int) -> pd.DataFrame:
    """``id`` and targets: what networks, sequence models and fits of ``fold`` alone say of the rows."""
    from radstack.stack.nested import apply_fits
    from radstack.stack.registry import method_of
    from radstack.stack.rows import mean_over_folds, unseen
    from radstack.stack.store import read_fitted

    where, task, found = place_of(context, pseudo), task_of(context), dict[str, pd.DataFrame]()
    rows = read_rows(where, "test")[0]
    for name, recipe in below(context, pseudo.model).items():
        if isinstance(recipe, Stacker):
            fit = read_fitted(context.paths.weights / name, fold, method_of(recipe))
            members = {member: found[member].assign(fold=fold) for member in recipe.members}
            found[name] = mean_over_folds(apply_fits({fold: fit}, unseen(members, rows, task)), task.targets)
        else:
            found[name] = mean_over_folds(read_tests(where.paths.oof / name, [fold]), task.targets)
    return found[pseudo.model]


def pseudo_rows(context: Context, experiment: Experiment, fold: int) -> pd.DataFrame:
    """The rows with the labels for the network of ``fold``, NaN where the model is not sure enough.

    A LeakError where the labels were given by another fold's models or by nobody knows whom, or where a row has a label.
    """
    pseudo, targets = experiment.pseudo, list(context.competition.targets)
    file = labels_artifact(context, pseudo, fold).files[0]
    if told := leak_of(file, fold):
        raise LeakError(f"{file} {told}; delete it and type: {context.command('04_train', experiment.name)}")
    labels = read_table(file).set_index("id")[targets]
    rows = read_rows(context, "test")[0] if pseudo.rows == "test" else read_source(context, pseudo.rows)
    if pseudo.rows != "test":
        labels.index = f"{pseudo.rows}/" + labels.index.astype("str")
    if len(strange := labels.index.intersection(pd.Index(read_rows(context, "train")[0]["id"]))):
        raise LeakError(f"{file} labels {strange[0]}, a row that is scored; delete it and train again")
    values = labels.reindex(rows["id"]).to_numpy(np.float32)
    if pseudo.above:
        values = confident(values, [len(group.classes) for group in context.competition.metric.groups], pseudo.above)
    return rows.assign(**{target: values[:, column] for column, target in enumerate(targets)})


def leak_of(file: Path, fold: int) -> str:
    """Why the labels in ``file`` must not be met by the network of ``fold``, in words; "" where they may."""
    if not manifest_of(file).exists():
        return "has no manifest, so that nobody knows which models gave these labels"
    manifest = read_json(manifest_of(file))
    if manifest["stage"] != "pseudo" or manifest["recipe"].get("fold") != fold:
        return f"was not made for {fold_name(fold)}: its models were trained on rows that this network is scored on"
    others = [name for name in manifest["inputs"] if (told := OF_FOLD.search(name)) and told[1] != str(fold)]
    if fold != ALL and others:
        return f"was made from {others[0]}, of another fold: that model was trained on rows that this network is scored on"
    try:
        check_unedited(file, manifest["files"].get(file.name, {}))
    except UserError:
        return "was edited after it was made"
    return ""


def unlike(context: Context, experiment: Experiment, fold: int) -> str:
    """How the labels that the network of ``fold`` learned differ from what they must be, in words; "" where they do not.

    A LeakError where nobody knows whom they are of, a UserError where what they were made from is gone.
    """
    check_pseudo(context, experiment)
    pseudo, targets = experiment.pseudo, list(context.competition.targets)
    artifact = labels_artifact(context, pseudo, fold)
    pseudo_rows(context, experiment, fold)
    file = artifact.files[0]
    seeds = [context.paths.weights / experiment.name / f"{fold_name(fold)}{end}.safetensors" for end in experiment.seed_ends]
    learned = [read_json(manifest_of(one))["inputs"] for one in seeds if manifest_of(one).exists()]
    if any(one.get("/".join(file.parts[-2:])) != content_hash(file) for one in learned):
        return "it was trained on other labels than those that are there now"
    table, wanted = (one.set_index("id")[targets] for one in (read_table(file), answers_of(context, pseudo, fold)))
    far = np.abs(table.reindex(wanted.index).to_numpy() - wanted.to_numpy()) > 1e-4
    return f"{wanted.index[far.any(axis=1)][0]} has not the label that models of this fold give" if far.any() else ""


def confident(values: np.ndarray, groups: list[int], above: float) -> np.ndarray:
    """Labels where the model is sure, float32 [rows, targets]; all NaN in rows where any target or group is not.

    Args:
        values: probabilities [rows, targets].
        groups: sizes of consecutive groups of classes of which one holds; empty where each target stands for itself.
        above: least probability to be as predicted.
    """
    if groups:
        parts = np.split(values, np.cumsum(groups)[:-1], axis=1)
        hard = np.concatenate([np.eye(part.shape[1])[part.argmax(axis=1)] for part in parts], axis=1)
        sure = np.column_stack([part.max(axis=1) for part in parts])
    else:
        hard, sure = (values > 0.5).astype(np.float32), np.maximum(values, 1 - values)
    return np.where((sure >= above).all(axis=1, keepdims=True), hard, np.nan).astype(np.float32)
