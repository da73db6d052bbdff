"""Stage 09: the score table, and the competition's tables for people."""

import pandas as pd

from radstack.artifact import Artifact, manifest_of
from radstack.competition import Cases
from radstack.context import Context, all_recipes, make_variants
from radstack.errors import UserError
from radstack.files import read_table, write_table
from radstack.predictions import fold_files, read_member
from radstack.stack.rows import mean_over_folds
from radstack.stages.stack import stack_folds, task_of
from radstack.stages.tables import command, raw_files, read_index, read_rows
from radstack.task import Task

VERSION = 1


def report(context: Context) -> None:
    """Print the scores and write them as ``scores.csv``; the competition's case tables lie beside it."""
    paths, names, competition = context.paths, models(context), context.competition
    files = (paths.reports / "scores.csv", *(paths.reports / f"{name}.csv" for name in competition.case_tables),
             *([paths.reports / "localization.csv"] if competition.localization_score else []))
    tables = [path for name in names for fold in made_folds(context, name) for path in fold_files(paths.oof / name, fold)]
    recipe = {"models": names, "final": competition.final, "published": competition.published, "labels": competition.labels}
    inputs = (*tables, paths.cache / "boxes.parquet", paths.cache / "rows.parquet", paths.folds / "folds.csv")
    artifact = Artifact("09_report", VERSION, files, recipe, inputs, raw_files(context))

    def build() -> None:
        write_table(files[0], pd.concat([score_table(context, names), published_table(context)], ignore_index=True))
        cases = _cases(context, names)
        for path, make in zip(files[1:], competition.case_tables.values()):
            write_table(path, make(cases, paths) if cases else pd.DataFrame({"id": []}))
        if competition.localization_score:
            write_table(files[-1], localization_table(context))
        if competition.case_pictures and cases:
            drawn = competition.case_pictures(cases, paths)
            print(f"  {len(drawn)} pictures of cases: {drawn[0].parent if drawn else paths.reports}")

    context.make(artifact, build)
    if files[0].exists():
        if competition.localization_score:
            print(pd.read_csv(files[-1]).to_string(index=False, header=False, float_format="{:.4g}".format))
        print_scores(context, pd.read_csv(files[0]))


def print_scores(context: Context, scores: pd.DataFrame) -> None:
    """The score table of each split, and where everything lies."""
    competition = context.competition
    for split, table in scores.groupby("split", sort=False):
        labels = competition.labels.get(str(split), "")
        print(f"\n{competition.title}: {split}, {competition.metric}{f', labels: {labels}' if labels else ''}")
        shown = table.drop(columns=["split", *(["labels"] if labels else [])]).dropna(axis=1, how="all")
        shown = shown.astype({"rows": int} if "rows" in shown else {})  # the published rows made it a float column
        print(shown.to_string(index=False, float_format="{:.4f}".format, na_rep=""))
    print(f"\nscores and tables: {context.paths.reports}; submission: "
          f"{context.paths.submissions / competition.final}.csv")


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
    """One row a model (``names``) and split: score with its patient-bootstrap interval, details and scores of strata.

    Train rows are scored out of fold. Where the competition knows the truth of its phantoms, test rows are scored as well
    and every score is set between the constant predictor and the floor (efficiency). Where it says what its labels are,
    column ``labels`` repeats it, since scores on labels of another quality do not compare.
    """
    from radstack.scores import score_rows

    task, competition = task_of(context), context.competition
    rows, _ = read_rows(context)
    truth = competition.truth(context.paths.input) if competition.truth else None
    train = rows[rows["split"] == "train"]
    known = {"out of fold": ("train", train)}
    if truth is not None:
        test = rows[rows["split"] == "test"].drop(columns=list(task.targets))
        known["test"] = ("test", test.merge(truth[["id", *task.targets]], on="id", validate="one_to_one"))
    constant, best = competition.metric.constant(train[list(task.targets)]), _best(truth, task)
    parts = [score_rows(name, predictions(context, names, split), labeled, constant, best, task,
                        competition.strata(labeled) if competition.strata else None)
             for name, (split, labeled) in known.items()]
    scores = pd.concat(parts, ignore_index=True)
    return scores.assign(labels=scores["split"].map(competition.labels)) if competition.labels else scores


def published_table(context: Context) -> pd.DataFrame:
    """Scores of others as rows of the split ``published``: ``model``, ``score``, ``labels``, ``source``."""
    return pd.DataFrame([{"split": "published", "model": one.name, "score": one.score, "labels": one.labels,
                          "source": one.source} for one in context.competition.published])


def predictions(context: Context, names: list[str], split: str) -> dict[str, pd.DataFrame]:
    """Model -> its out-of-fold (``train``) or fold-averaged (``test``) table."""
    members = {name: read_member(context.paths.oof / name, made_folds(context, name)) for name in names}
    return {name: member.oof if split == "train" else mean_over_folds(member.test, context.competition.targets)
            for name, member in members.items()}


def localization_table(context: Context) -> pd.DataFrame:
    """What stage 02 reached on phantoms: ``measure``, ``value``; without rows where the truth is not known."""
    competition, paths = context.competition, context.paths
    truth = competition.truth(paths.input) if competition.truth else None
    if truth is None or not competition.localization_score:
        return pd.DataFrame({"measure": [], "value": []})
    boxes = read_table(paths.cache / "boxes.parquet", command(context, "02_localize"))
    return pd.Series(competition.localization_score(paths, boxes, truth)).rename_axis("measure").reset_index(name="value")


def _cases(context: Context, names: list[str]) -> Cases | None:
    """What tables and pictures for people are made from; None as long as the final model is not predicted."""
    final = context.competition.final
    if final not in names:
        return None
    index, (rows, _) = read_index(context), read_rows(context)
    boxes = read_table(context.paths.cache / "boxes.parquet", command(context, "02_localize"))
    return Cases(final, predictions(context, names, "test"), predictions(context, names, "train"),
                      index[index["split"] == "test"], rows[rows["split"] == "train"], boxes, rows)


def made_folds(context: Context, name: str) -> list[int]:
    """Folds of a model that are predicted; a model of some folds is scored on these."""
    folder = context.paths.oof / name
    return [fold for fold in stack_folds(context, name) if manifest_of(fold_files(folder, fold)[0]).exists()]


def _best(truth: pd.DataFrame | None, task: Task) -> pd.DataFrame | None:
    """The best possible predictions as a prediction table."""
    if truth is None:
        return None
    return truth[["id", *(f"q_{target}" for target in task.targets)]].set_axis(["id", *task.targets], axis=1)
