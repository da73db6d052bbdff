"""A trained competition on other pictures: everything that was learned, from localization to the final stack."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.paths import Paths
from radstack.recipes.experiment import Experiment
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_rows
from radstack.stack.rows import mean_over_folds
from radstack.stages.cache import cache
from radstack.stages.localize import apply_localizer
from radstack.stages.stack import members_of, stack_folds, task_of
from radstack.stages.train import weights_artifact


def apply(context: Context, pictures: Path, rows: pd.DataFrame, out: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Predict pictures that the competition never saw.

    Args:
        context: a competition that is trained, through stage 07.
        pictures: folder of the pictures.
        rows: index rows of them, as the competition's ``index`` makes test rows; ``path`` lies below ``pictures``.
        out: folder for what is made on the way; may be thrown away afterwards.

    Returns:
        The localization table, and each model's predictions of the readable rows (``id`` and targets).

    Raises:
        UserError: the competition finds its anatomy by rules, or has sequence models: neither can be applied so far.
    """
    if not context.competition.localizer.networks or context.competition.models.sequences:
        raise UserError(f"{context.competition.name} cannot be applied to other pictures: only competitions with trained "
                        "localizers and without sequence models can")
    there = _there(context, pictures, out)
    write_table(there.paths.folds / "index.parquet", rows.assign(split="test"))
    write_table(there.paths.folds / "folds.csv", read_folds(context))
    apply_localizer(there, context)
    cache(there)
    new_rows = pd.read_parquet(there.paths.cache / "rows.parquet")
    predicted = {one.name: _predict(context, there, one, new_rows) for one in context.competition.models.experiments}
    return new_rows, _stack(context, new_rows, predicted)


def _there(context: Context, pictures: Path, out: Path) -> Context:
    """The competition on other pictures, its folders below ``out``."""
    source = out / "input" / context.competition.name
    source.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        source.symlink_to(pictures.resolve(), target_is_directory=True)
    paths = Paths(out, out, context.competition.name, context.competition.name)
    return replace(context, paths=paths, options=replace(context.options, force=True))


def _predict(context: Context, there: Context, experiment: Experiment, rows: pd.DataFrame) -> pd.DataFrame:
    """One prediction a row and fold: ``id``, ``fold``, targets."""
    import torch

    from radstack.images.shards import Shards
    from radstack.training.inference import load_net, predict

    targets, parts = experiment.targets_of(context.competition.targets), []
    for fold in context.folds_of(experiment):
        weights = weights_artifact(context, experiment, fold).files[0]
        net = load_net(experiment, targets, weights, torch.device(context.options.device or "cpu"))
        found = predict(experiment, net, targets, rows, np.arange(len(rows)), Shards(there.paths.cache),
                        np.empty((0, net.width), np.float16), workers=0, report=lambda line: None)
        parts.append(pd.DataFrame(found, columns=list(targets)).assign(id=rows["id"].to_numpy(), fold=fold))
    return pd.concat(parts, ignore_index=True).reindex(columns=["id", "fold", *context.competition.targets])


def _stack(context: Context, rows: pd.DataFrame, predicted: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """All models' predictions, level two included: fitted again on the same out-of-fold tables, applied to ``rows``."""
    from radstack.stack.nested import fit_stack

    known, _ = read_rows(context)
    index = pd.concat([known[known["split"] == "train"], rows], ignore_index=True)
    tests: dict[str, Any] = dict(predicted)
    for stacker in context.competition.models.stackers:
        members = members_of(context, stacker.members)
        swapped = {name: replace(member, test=tests[name][tests[name]["fold"].isin(stack_folds(context, name))])
                   for name, member in members.items()}
        tests[stacker.name] = fit_stack(stacker, swapped, index, read_folds(context), task_of(context)).member.test
    return {name: mean_over_folds(test, context.competition.targets) for name, test in tests.items()}
