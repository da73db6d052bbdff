"""Stage 09: the score table."""

import pandas as pd

from radstack.artifact import Artifact, manifest_of
from radstack.context import Context, all_recipes, make_variants
from radstack.errors import UserError
from radstack.files import write_table
from radstack.predictions import fold_files, read_member
from radstack.stack.rows import Task, mean_over_folds
from radstack.stages.stack import stack_folds, task_of
from radstack.stages.tables import command, raw_files, read_index, read_rows

VERSION = 1


def report(context: Context) -> None:
    """Print the scores and write them as ``scores.csv``; ``series.csv`` says what each test series shows."""
    paths, names = context.paths, models(context)
    files = (paths.reports / "scores.csv", paths.reports / "series.csv")
    tables = [path for name in names for fold in made_folds(context, name) for path in fold_files(paths.oof / name, fold)]
    artifact = Artifact("09_report", VERSION, files, {"models": names, "final": context.competition.final},
                        (*tables, paths.cache / "rows.parquet", paths.folds / "folds.csv"), raw_files(context))

    def build() -> None:
        write_table(files[0], score_table(context, names))
        write_table(files[1], series_table(context))

    context.make(artifact, build)
    if files[0].exists():
        print_scores(context, pd.read_csv(files[0]))


def print_scores(context: Context, scores: pd.DataFrame) -> None:
    """The score table of each split, and where everything lies."""
    for split, table in scores.groupby("split", sort=False):
        print(f"\n{context.competition.title}: {split}, {context.competition.metric.name}")
        print(table.drop(columns="split").to_string(index=False, float_format="{:.4f}".format))
    print(f"\nscores and series: {context.paths.reports}; submission: "
          f"{context.paths.submissions / context.competition.final}.csv")


def models(context: Context) -> list[str]:
    """Names of everything that is predicted, in the order of the recipes, then the command line's variants.

    Raises:
        UserError: nothing is.
    """
    known = [*all_recipes(context.competition), *make_variants(context.competition, context.paths)]
    names = [recipe.name for recipe in known if made_folds(context, recipe.name)]
    if not names:
        raise UserError(f"there are no predictions to score; run {command(context, '04_train')} and the stages after it")
    return names


def score_table(context: Context, names: list[str]) -> pd.DataFrame:
    """One row a model (``names``) and split: score with its patient-bootstrap interval, log loss and AUC of each target.

    Train rows are scored out of fold. Where the competition knows the truth of its phantoms, test rows are scored as well
    and every score is set between the constant predictor and the floor (efficiency).
    """
    from radstack.scores import score_rows

    task = task_of(context)
    rows, _ = read_rows(context)
    truth = context.competition.truth(context.paths.input) if context.competition.truth else None
    train = rows[rows["split"] == "train"]
    prior = train[list(task.targets)].mean()
    parts = [score_rows("out of fold", predictions(context, names, "train"), train, prior, _best(truth, task), task)]
    if truth is not None:
        test = rows.loc[rows["split"] == "test", ["id", "group"]].merge(truth, on="id", validate="one_to_one")
        parts.append(score_rows("test", predictions(context, names, "test"), test, prior, _best(truth, task), task))
    return pd.concat(parts, ignore_index=True)


def predictions(context: Context, names: list[str], split: str) -> dict[str, pd.DataFrame]:
    """Model -> its out-of-fold (``train``) or fold-averaged (``test``) table."""
    members = {name: read_member(context.paths.oof / name, made_folds(context, name)) for name in names}
    return {name: member.oof if split == "train" else mean_over_folds(member.test, context.competition.targets)
            for name, member in members.items()}


def series_table(context: Context) -> pd.DataFrame:
    """What each test series shows, by the final model: for people, never for the submission."""
    from radstack.stack.vote import series_report

    final, targets = context.competition.final, context.competition.targets
    if final not in models(context):
        return pd.DataFrame({"group": [], "series": []})
    final_test = predictions(context, [final], "test")[final]
    index = read_index(context)[["id", "group", "series", "position"]]
    return series_report(index.merge(final_test, on="id"), targets)


def made_folds(context: Context, name: str) -> list[int]:
    """Folds of a model that are predicted; a model of some folds is scored on these."""
    folder = context.paths.oof / name
    return [fold for fold in stack_folds(context, name) if manifest_of(fold_files(folder, fold)[0]).exists()]


def _best(truth: pd.DataFrame | None, task: Task) -> pd.DataFrame | None:
    """The best possible predictions: the true probabilities as a prediction table."""
    if truth is None:
        return None
    return truth[["id", *(f"q_{target}" for target in task.targets)]].set_axis(["id", *task.targets], axis=1)
