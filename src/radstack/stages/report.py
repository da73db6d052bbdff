"""Stage 09: the score table."""

import pandas as pd

from radstack.artifact import manifest_of
from radstack.context import Context, all_recipes
from radstack.files import write_table
from radstack.predictions import fold_files
from radstack.stack.rows import Task, mean_over_folds
from radstack.stages.stack import members_of, stack_folds, task_of
from radstack.stages.tables import command, read_index, read_rows


def report(context: Context) -> None:
    """Print and write ``scores.csv``, and ``series.csv`` for the final model."""
    if context.options.dry_run:
        print(f"  would write {context.paths.reports / 'scores.csv'}")
        return
    scores = score_table(context)
    write_table(context.paths.reports / "scores.csv", scores)
    for split, table in scores.groupby("split", sort=False):
        print(f"\n{context.competition.title}: {split}, {context.competition.metric.name}")
        print(table.drop(columns="split").to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    write_series_report(context)
    print(f"\nwritten: {context.paths.reports / 'scores.csv'}, series.csv; "
          f"submission: {context.paths.submissions / context.competition.final}.csv")


def score_table(context: Context) -> pd.DataFrame:
    """One row a model and split: score with its patient-bootstrap interval, log loss and AUC of each target.

    Train rows are scored out of fold. Where the competition knows the truth of its phantoms, test rows are scored as well
    and every score is set between the constant predictor and the floor (efficiency).
    """
    from radstack.scores import score_rows

    task = task_of(context)
    rows, _ = read_rows(context)
    truth = context.competition.truth(context.paths.input) if context.competition.truth else None
    train = rows[rows["split"] == "train"]
    prior = train[list(task.targets)].mean()
    parts = [score_rows("out of fold", predictions(context, task, "train"), train, prior, _best(truth, task), task)]
    if truth is not None:
        test = rows.loc[rows["split"] == "test", ["id", "group"]].merge(truth, on="id", validate="one_to_one")
        parts.append(score_rows("test", predictions(context, task, "test"), test, prior, _best(truth, task), task))
    return pd.concat(parts, ignore_index=True)


def predictions(context: Context, task: Task, split: str) -> dict[str, pd.DataFrame]:
    """Model -> its out-of-fold (``train``) or fold-averaged (``test``) table, for every model that is predicted."""
    names = [recipe.name for recipe in all_recipes(context.competition) if _is_made(context, recipe.name)]
    members = members_of(context, tuple(names))
    return {name: member.oof if split == "train" else mean_over_folds(member.test, task.targets)
            for name, member in members.items()}


def write_series_report(context: Context) -> None:
    """What each test series shows, by the final model: for people, never for the submission."""
    from radstack.stack.vote import series_report

    final, targets = context.competition.final, context.competition.targets
    if not _is_made(context, final):
        print(f"  no series report: {final} is not there yet ({command(context, '07_stack')})")
        return
    test = mean_over_folds(members_of(context, (final,))[final].test, targets)
    index = read_index(context)[["id", "group", "series", "position"]]
    write_table(context.paths.reports / "series.csv", series_report(index.merge(test, on="id"), targets))


def _is_made(context: Context, name: str) -> bool:
    folds = stack_folds(context, name)
    return all(manifest_of(fold_files(context.paths.oof / name, fold)[0]).exists() for fold in folds[:1])


def _best(truth: pd.DataFrame | None, task: Task) -> pd.DataFrame | None:
    """The best possible predictions: the true probabilities as a prediction table."""
    if truth is None:
        return None
    return truth[["id", *(f"q_{target}" for target in task.targets)]].set_axis(["id", *task.targets], axis=1)
