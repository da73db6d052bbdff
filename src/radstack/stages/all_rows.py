"""Networks fitted on all training rows (``--folds all``): one more model of test, without a held-out part.

The rule: what they say of test goes through the stackers that the folds' runs fitted, as if it were one more fold's, and
counts as much as one fold's solution: 1 / (folds + 1). They train for the recipe's epochs, as the folds' networks did. No
row of train is out of fold for them, so they have no score and are no member of anything that learns.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.folds import ALL
from radstack.recipes.experiment import Experiment
from radstack.recipes.stacker import Stacker
from radstack.running.context import Context
from radstack.running.tables import read_rows
from radstack.stack.predictions import fitted_files, fold_file, read_tests
from radstack.stages.predict import predictions_artifact
from radstack.stages.stack import below, stack_folds, task_of
from radstack.stages.submit import by_row, prior_of

VERSION = 1


def submit_with_all_rows(context: Context) -> Path:
    """Write and check ``submissions/<comp>/<final>_all_rows.csv``; return its path.

    A UserError where a network below the final model has no predictions of a fit on all rows, or old ones.
    """
    paths, final = context.paths, context.competition.models.final
    names = below(context, final)
    tables = [fold_file(paths.oof / name, ALL, "test") for name, recipe in names.items() if isinstance(recipe, Experiment)]
    _check(context, names)
    given = [path for name, recipe in names.items() for path in _read_by_rule(context, name, recipe)]
    sample = context.competition.data.sample_file(paths.input)
    file = paths.submissions / f"{final}_all_rows.csv"
    weight = 1 / (len(stack_folds(context, final)) + 1)
    recipe = {"final": final, "weight of all rows": weight, "layout": context.competition.submission,
              "prior": prior_of(context)}
    artifact = Artifact("08_submit", VERSION, (file,), recipe, (*tables, *given, sample),
                        {"metric": context.competition.metric.key})
    context.make(artifact, lambda: _write(context, names, file, weight))
    return file


def _check(context: Context, names: dict[str, Any]) -> None:
    networks = [recipe for recipe in names.values() if isinstance(recipe, Experiment)]
    made = [one for one in networks if predictions_artifact(context, one, ALL, "test").manifest.exists()]
    if len(made) < len(networks):
        missing = ",".join(one.name for one in networks if one not in made)
        raise UserError(f"{missing} has no fit on all rows; type: {context.command('04_train', missing)} --folds all, then "
                        f"{context.command('05_predict', missing)} --folds all")
    for one in made:
        if why := predictions_artifact(context, one, ALL, "test").why():
            raise UserError(f"{one.name}: its predictions by a fit on all rows are old ({why}); type: "
                            f"{context.command('05_predict', one.name)} --folds all")


def _read_by_rule(context: Context, name: str, recipe: Any) -> list[Path]:
    """What the folds' runs left that the rule reads: fits of stackers, test tables of the final and of sequence models."""
    folds = stack_folds(context, name)
    fits = [path for fold in folds for path in fitted_files(context.paths.weights / name, fold)]
    tables = [fold_file(context.paths.oof / name, fold, "test") for fold in folds]
    final = name == context.competition.models.final
    return (fits if isinstance(recipe, Stacker) else []) + (tables if final or not isinstance(
        recipe, Stacker | Experiment) else [])


def _write(context: Context, names: dict[str, Any], file: Path, weight: float) -> dict[str, Any]:
    from radstack.stack.rows import mean_over_folds
    from radstack.submission.forms import validate, write_predictions

    final, task = context.competition.models.final, task_of(context)
    sample, layout = context.competition.data.sample_file(context.paths.input), context.competition.submission
    by_folds = mean_over_folds(read_tests(context.paths.oof / final, stack_folds(context, final)), task.targets)
    by_all = answers_of_all_rows(context, names)[final].set_index("id").loc[by_folds["id"]].reset_index()
    blended = joined(by_folds, by_all, weight, list(task.targets))
    write_predictions(file, by_row(context, blended), sample, task.targets, layout, prior_of(context))
    rows = validate(file, sample, layout, task.metric.groups)
    moved = np.abs(blended[list(task.targets)] - by_folds[list(task.targets)])
    print(f"  {file}: {rows:,} rows; fits on all rows count {weight:.3f} and move predictions by "
          f"{moved.to_numpy().mean():.4f} on average; no score out of fold")
    return {"rows": rows, "weight": weight}


def joined(by_folds: pd.DataFrame, by_all: pd.DataFrame, weight: float, targets: list[str]) -> pd.DataFrame:
    """The mean over folds and the answer of the fits on all rows, which counts ``weight``; both ``id`` and targets."""
    mixed = (1 - weight) * by_folds[targets].to_numpy(np.float64) + weight * by_all[targets].to_numpy(np.float64)
    return by_folds[["id"]].join(pd.DataFrame(mixed.astype(np.float32), columns=targets))


def answers_of_all_rows(context: Context, names: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Name -> ``id`` and targets of test by the fits on all rows; of models that have none (sequences), by the folds."""
    from radstack.stack.nested import apply_fits
    from radstack.stack.registry import method_of
    from radstack.stack.rows import mean_over_folds, unseen
    from radstack.stack.store import read_fitted

    (rows, _), task, found = read_rows(context, "test"), task_of(context), dict[str, pd.DataFrame]()
    for name, recipe in names.items():
        folder, folds = context.paths.oof / name, stack_folds(context, name)
        if isinstance(recipe, Stacker):
            fits = {fold: read_fitted(context.paths.weights / name, fold, method_of(recipe)) for fold in folds}
            members = {member: found[member].assign(fold=0) for member in recipe.members}
            found[name] = mean_over_folds(apply_fits(fits, unseen(members, rows, task)), task.targets)
        else:
            numbers = [ALL] if isinstance(recipe, Experiment) else folds
            found[name] = mean_over_folds(read_tests(folder, numbers), task.targets)
    return found

