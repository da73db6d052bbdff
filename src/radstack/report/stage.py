"""Stage 09: the score table, the competition's tables for people, and the page that shows it all."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd

from radstack.core.artifact import Artifact, manifest_of
from radstack.core.errors import UserError
from radstack.core.files import existing, read_table, write_table, write_text
from radstack.core.lock import alone
from radstack.recipes.competition import Cases
from radstack.recipes.experiment import Experiment
from radstack.report.operating import NAME as OPERATING
from radstack.report.studies import files_of
from radstack.report.terminal import localization_lines, score_lines
from radstack.running.context import OUTSIDE, Context
from radstack.running.tables import quarantines, raw_files, read_index, read_rows
from radstack.stack.predictions import fold_files, networks_files, read_member, read_networks
from radstack.stack.rows import Member, mean_over_folds
from radstack.stages.sources import ROWS, facts_of, known_sources
from radstack.stages.stack import stack_folds, task_of
from radstack.submission.ledger import NAME as LEDGER

if TYPE_CHECKING:  # what draws the page is slow to import, and most runs find that it is there
    from radstack.report.evidence import Evidence

VERSION = 6
Single = Mapping[str, Mapping[str, pd.DataFrame]]
"""Experiment -> network -> what it says out of fold, where predictions are a mean of several networks a fold."""


def report(context: Context) -> None:
    """Write ``scores.csv``, ``operating_points.csv``, the competition's case tables and ``index.html``; print the scores."""
    paths, competition = context.paths, context.competition
    artifact = report_artifact(context)
    files = {path.name: path for path in artifact.files}
    with alone(files["index.html"]):
        context.make(artifact, lambda: _build(context, files))
    if files["scores.csv"].exists():
        if competition.pages.localization_score:
            print("\n".join(localization_lines(read_table(files["localization.csv"]))))
        print("\n".join(["", *score_lines(competition, read_table(files["scores.csv"]))]))
        made = paths.submissions / f"{competition.models.final}.csv"
        print(f"\nsubmission: {made if made.exists() else 'none yet'}\nreport: {files['index.html']}")


def report_artifact(context: Context) -> Artifact:
    """What stage 09 makes, from what."""
    paths, names, competition = context.paths, models(context), context.competition
    tables = [path for name in names for fold in made_folds(context, name) for path in fold_files(paths.oof / name, fold)]
    tables += [path for name in names for path in networks_files(paths.oof / name, made_folds(context, name))]
    own = ("scores.csv", OPERATING, *(f"{name}.csv" for name in competition.pages.case_tables),
           *(["localization.csv"] if competition.pages.localization_score else []), "index.html")
    recipe = {"models": names, "final": competition.models.final, "metric": competition.metric,
              "published": competition.pages.published, "labels": competition.pages.labels,
              "within": competition.pages.within} | (
                  {"baselines": competition.pages.baselines} if competition.pages.baselines else {})
    return Artifact("09_report", VERSION, tuple(paths.reports / name for name in own), recipe,
                    (*tables, paths.cache / "boxes.parquet", paths.cache / "rows.parquet", paths.folds / "folds.csv",
                     *existing(paths.submissions, LEDGER), *(file for name in names for file in existing(
                         paths.oof / name, OUTSIDE)), *files_of(paths.reports / "studies"),
                     *(paths.sources / name / ROWS for name in known_sources(context) if facts_of(context, name))),
                    raw_files(context))


def _build(context: Context, files: dict[str, Path]) -> None:
    pages, names = context.competition.pages, models(context)
    members = {name: read_member(context.paths.oof / name, made_folds(context, name)) for name in names}
    single = {name: table for name in names
              if (table := read_networks(context.paths.oof / name, made_folds(context, name)))}
    scores = pd.concat([score_table(context, members, single), published_table(context)], ignore_index=True)
    localization = localization_table(context)
    evidence = gather(context, members, scores, localization, single)
    write_table(files["scores.csv"], scores)
    write_table(files[OPERATING], evidence.operating)
    if pages.localization_score:
        write_table(files["localization.csv"], localization)
    for name, make in pages.case_tables.items():
        write_table(files[f"{name}.csv"],
                    make(evidence.cases, context.paths) if evidence.cases else pd.DataFrame({"id": []}))
    write_text(files["index.html"], write_page(evidence))


def write_page(evidence: "Evidence") -> str:
    """The whole page as text; see :func:`radstack.report.page.page`."""
    from radstack.core.progress import track
    from radstack.report.cases import cases
    from radstack.report.data import data
    from radstack.report.ensemble import ensemble
    from radstack.report.models import models as models_section
    from radstack.report.page import page
    from radstack.report.plots import style
    from radstack.report.provenance import provenance
    from radstack.report.result import result
    from radstack.report.studies import section as studies_section

    competition, makers = evidence.context.competition, (result, data, models_section, ensemble, provenance)
    with style():
        with track(len(makers), "sections", brief=True) as steps:
            sections = []
            for make in makers:
                sections.append(make(evidence))
                steps.step()
        browser, chosen = cases(evidence)
        shown = studies_section(evidence.context.paths.reports / "studies")
    sections.insert(len(makers) - 1, browser)
    if shown:
        sections.insert(len(makers) - 1, shown)
    lead = f"{len(evidence.train):,} training rows, scored by {competition.metric}; submitted: {evidence.final}"
    return page(competition.title, lead, sections, chosen)


def gather(context: Context, members: dict[str, Member], scores: pd.DataFrame, localization: pd.DataFrame,
           single: Single) -> "Evidence":
    """Everything that the page is made from."""
    from radstack.report.evidence import Evidence, aligned
    from radstack.report.models import best_networks
    from radstack.report.operating import operating_table

    task, index, (rows, folds) = task_of(context), read_index(context), read_rows(context)
    boxes, final = boxes_of(context), context.competition.models.final
    train, oof = (rows["split"] == "train").to_numpy(), {name: member.oof for name, member in members.items()}
    labeled = rows[train].reset_index(drop=True)
    networks = tuple(one for one in context.recipes if isinstance(one, Experiment) and one.name in members)
    whole = Cases(final, predictions(context, members, "test"), oof, index[index["split"] == "test"], rows[train], boxes,
                  rows, networks) if final in members else None
    evidence = Evidence(context, task, list(members), index, quarantined(context), boxes, labeled, folds[train],
                        {name: aligned(labeled, table, task.targets) for name, table in oof.items()}, scores,
                        localization, whole,
                        {name: {one: aligned(labeled, table, task.targets) for one, table in own.items()}
                         for name, own in single.items()})
    return replace(evidence, operating=operating_table(evidence, (evidence.final, *best_networks(evidence).values())))


def boxes_of(context: Context) -> pd.DataFrame:
    """The localization table of stage 02."""
    return read_table(context.paths.cache / "boxes.parquet", context.command("02_localize"))


def quarantined(context: Context) -> pd.DataFrame:
    """What stages 01 to 03 set aside: ``stage``, ``split``, ``path``, ``reason``, ``detail``."""
    tables = [pd.DataFrame(columns=["stage", "split", "path", "reason", "detail"])]
    tables += [read_table(file).assign(stage=stage) for stage, file in quarantines(context.paths).items()]
    return pd.concat(tables, ignore_index=True)[list(tables[0])]


def models(context: Context) -> list[str]:
    """Names of everything that is predicted, in the order of the recipes, then the command line's variants.

    Raises:
        UserError: nothing is.
    """
    names = [recipe.name for recipe in context.recipes if made_folds(context, recipe.name)]
    if not names:
        raise UserError(f"there are no predictions to score; run {context.command('04_train')} and the stages after it")
    return names


def score_table(context: Context, members: dict[str, Member], single: Single = MappingProxyType({})) -> pd.DataFrame:
    """One row a model and split: score with its patient-bootstrap interval, details and scores of strata.

    Train rows are scored out of fold. Where the competition knows the truth of its phantoms, test rows are scored as well
    and every score is set between the constant predictor and the floor (efficiency). The constant is that of the training
    rows of other folds, as a model is, and for test that of all. Where the competition says what its labels are, column
    ``labels`` repeats it, since scores on labels of another quality do not compare. Its baselines come first. Where a model
    is a mean of ``single`` networks, each of them has a row of train behind the model's.
    """
    from radstack.scoring.task import score_rows
    from radstack.stack.baseline import baseline_table, constant_table

    task, pages = task_of(context), context.competition.pages
    targets, (rows, fold), truth = list(task.targets), read_rows(context), truth_of(context)
    simple = {one.name: baseline_table(one, rows, fold, task) for one in pages.baselines}
    train, best = rows[rows["split"] == "train"], None
    known, constant = {"out of fold": ("train", train)}, constant_table(rows, fold, task)
    if truth is not None:
        test = rows[rows["split"] == "test"].drop(columns=targets)
        known["test"] = ("test", test.merge(truth[["id", *targets]], on="id", validate="one_to_one"))
        best = truth[["id", *(f"q_{target}" for target in targets)]].set_axis(["id", *targets], axis=1)
    scores = pd.concat([
        score_rows(name, simple | with_single(predictions(context, members, split), single if split == "train" else {}),
                   labeled, constant, best, task, pages.strata(labeled) if pages.strata else None)
        for name, (split, labeled) in known.items()],
        ignore_index=True)
    return scores.assign(labels=scores["split"].map(pages.labels)) if pages.labels else scores


def truth_of(context: Context) -> pd.DataFrame | None:
    """The phantoms' truth with the best possible predictions (``q_<target>``); None for real data."""
    phantoms = context.competition.phantoms
    return phantoms.truth(context.paths.input) if phantoms else None


def published_table(context: Context) -> pd.DataFrame:
    """Scores of others as rows of the split ``published``: ``model``, ``score``, ``labels``, ``source``."""
    return pd.DataFrame([{"split": "published", "model": one.name, "score": one.score, "labels": one.labels,
                          "source": one.source} for one in context.competition.pages.published])


def predictions(context: Context, members: dict[str, Member], split: str) -> dict[str, pd.DataFrame]:
    """Model -> its out-of-fold (``train``) or fold-averaged (``test``) table."""
    return {name: member.oof if split == "train" else mean_over_folds(member.test, context.competition.targets)
            for name, member in members.items()}


def with_single(tables: dict[str, pd.DataFrame], single: Single) -> dict[str, pd.DataFrame]:
    """``tables``, each followed by those of the networks that it is a mean of."""
    found = dict[str, pd.DataFrame]()
    for name, table in tables.items():
        found |= {name: table, **{f"{name}, {one}": own for one, own in single.get(name, {}).items()}}
    return found


def localization_table(context: Context) -> pd.DataFrame:
    """What stage 02 reached on phantoms: ``measure``, ``value``; without rows where the truth is not known."""
    measure, truth = context.competition.pages.localization_score, truth_of(context)
    measured = measure(context.paths, boxes_of(context), truth) if measure and truth is not None else {}
    return pd.DataFrame({"measure": list(measured), "value": list(measured.values())})


def made_folds(context: Context, name: str) -> list[int]:
    """Folds of a model that are predicted; a model of some folds is scored on these."""
    folder = context.paths.oof / name
    return [fold for fold in stack_folds(context, name) if manifest_of(fold_files(folder, fold)[0]).exists()]
