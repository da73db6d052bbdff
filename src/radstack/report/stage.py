"""Stage 09: the score table, the competition's tables for people, and the page that shows it all."""

from pathlib import Path

import pandas as pd

from radstack.core.artifact import Artifact, manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_table, write_table, write_text
from radstack.recipes.competition import Cases
from radstack.recipes.experiment import Experiment
from radstack.report.evidence import Evidence, aligned
from radstack.report.sections import write_page
from radstack.report.terminal import localization_lines, score_lines
from radstack.running.context import Context
from radstack.running.tables import raw_files, read_index, read_rows
from radstack.scoring.task import Task
from radstack.stack.predictions import fold_files, read_member
from radstack.stack.rows import mean_over_folds
from radstack.stages.stack import stack_folds, task_of

VERSION = 2


def report(context: Context) -> None:
    """Write ``scores.csv``, the competition's case tables and ``index.html``; print the scores."""
    paths, competition = context.paths, context.competition
    artifact = report_artifact(context)
    files = {path.name: path for path in artifact.files}
    context.make(artifact, lambda: _build(context, files))
    if files["scores.csv"].exists():
        if competition.pages.localization_score:
            print("\n".join(localization_lines(pd.read_csv(files["localization.csv"]))))
        print("\n".join(["", *score_lines(competition, pd.read_csv(files["scores.csv"]))]))
        print(f"\nsubmission: {paths.submissions / competition.models.final}.csv\nreport: {files['index.html']}")


def report_artifact(context: Context) -> Artifact:
    """What stage 09 makes, from what."""
    paths, names, competition = context.paths, models(context), context.competition
    tables = [path for name in names for fold in made_folds(context, name) for path in fold_files(paths.oof / name, fold)]
    own = ("scores.csv", *(f"{name}.csv" for name in competition.pages.case_tables),
           *(["localization.csv"] if competition.pages.localization_score else []), "index.html")
    recipe = {"models": names, "final": competition.models.final, "published": competition.pages.published,
              "labels": competition.pages.labels}
    return Artifact("09_report", VERSION, tuple(paths.reports / name for name in own), recipe,
                    (*tables, paths.cache / "boxes.parquet", paths.cache / "rows.parquet", paths.folds / "folds.csv"),
                    raw_files(context))


def _build(context: Context, files: dict[str, Path]) -> None:
    competition, paths = context.competition, context.paths
    names = models(context)
    scores = pd.concat([score_table(context, names), published_table(context)], ignore_index=True)
    localization = localization_table(context)
    write_table(files["scores.csv"], scores)
    if competition.pages.localization_score:
        write_table(files["localization.csv"], localization)
    evidence = gather(context, names, scores, localization)
    for name, make in competition.pages.case_tables.items():
        write_table(files[f"{name}.csv"], make(evidence.cases, paths) if evidence.cases else pd.DataFrame({"id": []}))
    write_text(files["index.html"], write_page(evidence))


def gather(context: Context, names: list[str], scores: pd.DataFrame, localization: pd.DataFrame) -> Evidence:
    """Everything that the page is made from."""
    task, oof = task_of(context), predictions(context, names, "train")
    rows, folds = read_rows(context)
    train = (rows["split"] == "train").to_numpy()
    labeled = rows[train].reset_index(drop=True)
    localized = read_table(context.paths.cache / "boxes.parquet", context.command("02_localize"))
    return Evidence(context, task, names, read_index(context), quarantined(context), localized, labeled, folds[train],
                    {name: aligned(labeled, table, task.targets) for name, table in oof.items()}, scores, localization,
                    _cases(context, names, oof))


def quarantined(context: Context) -> pd.DataFrame:
    """What stages 01 and 02 set aside: ``stage``, ``split``, ``path``, ``reason``, ``detail``."""
    tables = [pd.DataFrame(columns=["stage", "split", "path", "reason", "detail"])]
    tables += [pd.read_csv(folder / "quarantine.csv", dtype=str).assign(stage=stage)
               for stage, folder in (("01", context.paths.folds), ("02", context.paths.cache))
               if (folder / "quarantine.csv").exists()]
    return pd.concat(tables, ignore_index=True)[list(tables[0])]


def models(context: Context) -> list[str]:
    """Names of everything that is predicted, in the order of the recipes, then the command line's variants.

    Raises:
        UserError: nothing is.
    """
    known = context.recipes
    names = [recipe.name for recipe in known if made_folds(context, recipe.name)]
    if not names:
        raise UserError(f"there are no predictions to score; run {context.command('04_train')} and the stages after it")
    return names


def score_table(context: Context, names: list[str]) -> pd.DataFrame:
    """One row a model (``names``) and split: score with its patient-bootstrap interval, details and scores of strata.

    Train rows are scored out of fold. Where the competition knows the truth of its phantoms, test rows are scored as well
    and every score is set between the constant predictor and the floor (efficiency). Where it says what its labels are,
    column ``labels`` repeats it, since scores on labels of another quality do not compare.
    """
    from radstack.scoring.task import score_rows

    task, competition = task_of(context), context.competition
    rows, _ = read_rows(context)
    truth = competition.phantoms.truth(context.paths.input) if competition.phantoms else None
    train = rows[rows["split"] == "train"]
    known = {"out of fold": ("train", train)}
    if truth is not None:
        test = rows[rows["split"] == "test"].drop(columns=list(task.targets))
        known["test"] = ("test", test.merge(truth[["id", *task.targets]], on="id", validate="one_to_one"))
    constant, best = competition.metric.constant(train[list(task.targets)]), _best(truth, task)
    parts = [score_rows(name, predictions(context, names, split), labeled, constant, best, task,
                        competition.pages.strata(labeled) if competition.pages.strata else None)
             for name, (split, labeled) in known.items()]
    scores = pd.concat(parts, ignore_index=True)
    return scores.assign(labels=scores["split"].map(competition.pages.labels)) if competition.pages.labels else scores


def published_table(context: Context) -> pd.DataFrame:
    """Scores of others as rows of the split ``published``: ``model``, ``score``, ``labels``, ``source``."""
    return pd.DataFrame([{"split": "published", "model": one.name, "score": one.score, "labels": one.labels,
                          "source": one.source} for one in context.competition.pages.published])


def predictions(context: Context, names: list[str], split: str) -> dict[str, pd.DataFrame]:
    """Model -> its out-of-fold (``train``) or fold-averaged (``test``) table."""
    members = {name: read_member(context.paths.oof / name, made_folds(context, name)) for name in names}
    return {name: member.oof if split == "train" else mean_over_folds(member.test, context.competition.targets)
            for name, member in members.items()}


def localization_table(context: Context) -> pd.DataFrame:
    """What stage 02 reached on phantoms: ``measure``, ``value``; without rows where the truth is not known."""
    competition, paths = context.competition, context.paths
    truth = competition.phantoms.truth(paths.input) if competition.phantoms else None
    if truth is None or not competition.pages.localization_score:
        return pd.DataFrame({"measure": [], "value": []})
    boxes = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    measured = competition.pages.localization_score(paths, boxes, truth)
    return pd.Series(measured).rename_axis("measure").reset_index(name="value")


def _cases(context: Context, names: list[str], oof: dict[str, pd.DataFrame]) -> Cases | None:
    """What tables and pictures for people are made from; None as long as the final model is not predicted."""
    final = context.competition.models.final
    if final not in names:
        return None
    index, (rows, _) = read_index(context), read_rows(context)
    boxes = read_table(context.paths.cache / "boxes.parquet", context.command("02_localize"))
    everyone = context.recipes
    networks = tuple(recipe for recipe in everyone if isinstance(recipe, Experiment) and recipe.name in names)
    return Cases(final, predictions(context, names, "test"), oof, index[index["split"] == "test"],
                 rows[rows["split"] == "train"], boxes, rows, networks)


def made_folds(context: Context, name: str) -> list[int]:
    """Folds of a model that are predicted; a model of some folds is scored on these."""
    folder = context.paths.oof / name
    return [fold for fold in stack_folds(context, name) if manifest_of(fold_files(folder, fold)[0]).exists()]


def _best(truth: pd.DataFrame | None, task: Task) -> pd.DataFrame | None:
    """The best possible predictions as a prediction table."""
    if truth is None:
        return None
    return truth[["id", *(f"q_{target}" for target in task.targets)]].set_axis(["id", *task.targets], axis=1)
