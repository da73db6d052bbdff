"""Which rows a network learns from: those of train, and what its recipe adds, sources and rows that a model labeled.

Rows that are added train in every fold (``EVERY``) and are scored in none.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Part
from radstack.core.errors import UserError
from radstack.core.folds import EVERY
from radstack.images.shards import Shards
from radstack.recipes.experiment import Experiment
from radstack.running.context import Context
from radstack.running.tables import read_rows
from radstack.running.tasks import spared, tolerated
from radstack.stages.pseudo import check_pseudo, labels_artifact, make_labels, pseudo_rows
from radstack.stages.sources import ROWS, check_beside, check_columns, check_source, make_pixels, read_source, side_by_side


def prepare(context: Context, recipes: list[Experiment]) -> None:
    """Make ready what ``recipes`` add to the training rows: sources are cached and compared with the rows, labels are given.

    UserError where there is no such source or model, or an impossible choice of targets, LeakError where labels would leak.
    """
    spare, done = spared(context), set[Any]()
    for one in recipes:
        tolerated(context, spare & {one.name}, partial(_prepare, context, one, done))


def _prepare(context: Context, one: Experiment, done: set[Any]) -> None:
    """The same for one recipe; ``done`` are the sources and labels that are ready, and gets those of this recipe."""
    context.competition.targets_of(one)
    check_pseudo(context, one)
    for name in (*one.sources, *([one.pseudo.rows] if one.pseudo.model and one.pseudo.rows != "test" else [])):
        if name not in done:
            check_beside(context, name, [one])
            # --force asks for networks anew, not for pixels.
            if make_pixels(replace(context, options=replace(context.options, force=False)), name):
                check_source(context, name)
            done.add(name)
    if one.pseudo.model:
        wanted = {(one.pseudo.model, one.pseudo.rows, fold) for fold in context.folds_of(one)} - done
        make_labels(context, one.pseudo, sorted(fold for *_, fold in wanted))
        done |= wanted


def inputs_of(context: Context, experiment: Experiment, fold: int) -> tuple[Path | Part, ...]:
    """What is added, as inputs of the network of ``fold``."""
    pseudo, sources = experiment.pseudo, [context.paths.sources / name / ROWS for name in experiment.sources]
    if not pseudo.model:
        return tuple(sources)
    test = pseudo.rows == "test"
    own = Part(context.paths.cache / ROWS, "test") if test else context.paths.sources / pseudo.rows / ROWS
    return (*sources, own, labels_artifact(context, pseudo, fold).files[0])


def learned_rows(context: Context, experiment: Experiment, fold: int) -> tuple[pd.DataFrame, np.ndarray, Shards]:
    """The rows that the network of ``fold`` learns from, each row's fold (int [rows]; -1: it is looked at alone), pictures.

    UserError where an added row lacks what the recipe reads, LeakError where one must not be met.
    """
    rows, fold_of_row = read_rows(context, "train")
    targets, pseudo = list(context.competition.targets_of(experiment)), experiment.pseudo
    others = {name: read_source(context, name) for name in experiment.sources}
    tables = [rows]
    if pseudo.model:
        labeled = pseudo_rows(context, experiment, fold)
        if pseudo.rows == "test":
            tables.append(labeled.reindex(columns=rows.columns))
        else:
            others[pseudo.rows] = labeled
    own = pd.concat(tables, ignore_index=True)
    whole, pictures = side_by_side(context, own, others)
    parts = {"test": len(own) - len(rows), **{name: len(table) for name, table in others.items()}}
    origin = np.repeat([""] + list(parts), [len(rows), *parts.values()])
    taught = (origin != "") & whole[targets].notna().all(axis=1).to_numpy()
    for name in others if len(tables) == 1 else parts:
        if not (taught & (origin == name)).any():
            raise UserError(f"{experiment.name}: no row of {name} has a label to train on; see pseudo.above")
        check_columns(experiment, whole[taught & (origin == name)], name)
    return whole, np.where(origin == "", np.resize(fold_of_row, len(whole)), np.where(taught, EVERY, -1)), pictures
