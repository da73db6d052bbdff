"""Stages 07 to 09 for a competition of numbers: its tables are written here, no network is trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from members import write_fold

from competitions import load
from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.folds import fold_hash, make_folds
from radstack.core.paths import Paths
from radstack.recipes.competition import Cases, FoldRecipe, Models, Pages, Phantoms, Published
from radstack.recipes.stacker import Stacker
from radstack.recipes.submission import Layout
from radstack.report.stage import report
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.scoring.task import Metric
from radstack.stack.predictions import fold_files, prediction_table
from radstack.stages.stack import stack
from radstack.stages.submit import check, submit, submit_constant

PATIENTS, FOLDS = 240, 3


def age_cases(cases: Cases, paths: Paths) -> pd.DataFrame:
    """Final age, and how far the networks are apart, of every test picture."""
    spread = pd.concat([table.set_index("id")["age"] for table in cases.test.values()], axis=1)
    table = cases.test_rows[["id"]].merge(cases.test[cases.final], on="id", how="left")
    assert len(cases.oof_rows) == len(cases.oof[cases.final]) and set(cases.localized["id"]) == set(cases.cached["id"])
    return table.merge((spread.max(axis=1) - spread.min(axis=1)).rename("spread").reset_index(), on="id", how="left")


def competition(truth: pd.DataFrame):
    """Ages in months; two networks of one sex each, routed, beside two of both."""
    ich = load("ich")
    networks = tuple(replace(ich.models.experiments[0], name=name) for name in ("boys", "girls", "both"))
    stackers = (Stacker("own", "route", ("boys", "girls"), {"column": "male", "values": (1, 0)}),
                Stacker("final", "linear", ("own", "both"), {"by": "male"}))
    return replace(
        ich, name="ages", title="ages", targets=("age",), metric=Metric("mean absolute error", (1,), unit="months"),
        data=replace(ich.data, sample_file=lambda folder: folder / "cases.csv"), folds=FoldRecipe(FOLDS),
        models=Models(networks, stackers, final="final"),
        submission=Layout("id", ("age",), 0, 240, sample_ids=("Case ID",), form="wide"),
        phantoms=Phantoms(lambda folder, series, workers: None, PATIENTS, lambda folder: truth),
        pages=Pages(labels={"out of fold": "one reading", "test": "mean of six readings"},
                    strata=lambda rows: pd.DataFrame({"sex": np.where(rows["male"] == 1, "male", "female")}, rows.index),
                    published=(Published("someone", 6.1, "1,000 others, one reading", "an article"),),
                    case_tables={"cases": age_cases}))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Everything that stages 00 to 05 would have left; the last test picture could not be read."""
    place, rng = tmp_path_factory.mktemp("ages"), np.random.default_rng(0)
    number = np.arange(PATIENTS)
    male, age = rng.integers(0, 2, PATIENTS), rng.uniform(20, 210, PATIENTS)
    test = number >= PATIENTS - 80
    ids = np.array([f"{1377 + one}" for one in number])
    index = pd.DataFrame({"id": ids, "split": np.where(test, "test", "train"), "group": ids, "series": ids, "position": 0,
                          "male": male, "age": np.where(test, np.nan, age)})
    truth = pd.DataFrame({"id": ids, "split": index["split"], "age": age, "q_age": age + rng.normal(0, 1, PATIENTS)})
    made = make_context(competition(truth), Options(data_dir=str(place), out_dir=str(place)))
    paths, folds = made.paths, make_folds(index["group"][~test], index.loc[~test, ["male"]], FOLDS, 0)
    write_table(paths.folds / "index.parquet", index)
    write_table(paths.folds / "folds.csv", folds)
    rows = index.iloc[:-1].assign(shard=0, slot=number[:-1])
    write_table(paths.cache / "boxes.parquet", rows.drop(columns=["shard", "slot"]))
    write_table(paths.cache / "rows.parquet", rows)
    paths.input.mkdir(parents=True)
    cases = pd.DataFrame({"Case ID": ids[test], "Sex": np.where(male[test] == 1, "M", "F")})
    write_table(paths.input / "cases.csv", cases.sample(frac=1, random_state=0))
    guesses = {"boys": np.where(male == 1, age, 120), "girls": np.where(male == 0, age, 120), "both": age + 20}
    fold = rows["group"].map(folds.set_index("group")["fold"]).fillna(-1).to_numpy()
    for name, guess in guesses.items():
        noisy = (guess + rng.normal(0, 4, PATIENTS))[:-1, None]
        for one in range(FOLDS):
            write_predictions(paths.oof / name, one, rows, fold, noisy, fold_hash(folds))
    return made


def write_predictions(folder: Path, number: int, rows: pd.DataFrame, fold: np.ndarray, values: np.ndarray,
                      folds_hash: str) -> None:
    """What stage 05 writes for one network."""
    tables = [prediction_table(rows["id"].to_numpy()[fold == one], one, values[fold == one], ("age",))
              for one in (number, -1)]

    def build() -> dict[str, str]:
        write_fold(folder, number, *tables)
        return {"fold_hash": folds_hash}

    Artifact("05_predict", 1, fold_files(folder, number), {}).make(build)


def test_ages_end_in_a_checked_submission_and_a_report(context: Context, capsys: pytest.CaptureFixture) -> None:
    for stacker in context.competition.models.stackers:
        stack(context, stacker)
    submit_constant(context)
    path = submit(context, "final")
    check(context, str(path))
    assert "80 rows, as the sample file asks" in capsys.readouterr().out
    done, sample = (pd.read_csv(file, dtype={0: str}) for file in (path, context.paths.input / "cases.csv"))
    assert done["id"].tolist() == sample["Case ID"].tolist() and done["age"].between(0, 240).all()
    filled = pd.read_csv(context.paths.submissions / "final_filled.csv", dtype={"id": str})
    assert filled["id"].tolist() == [f"{1377 + PATIENTS - 1}"]
    index = pd.read_parquet(context.paths.folds / "index.parquet")
    constant = pd.read_csv(context.paths.submissions / "constant.csv")["age"]
    assert constant.unique() == pytest.approx([index["age"].median()])

    report(context)
    said = capsys.readouterr().out
    assert "out of fold, mean absolute error (months), labels: one reading" in said
    assert "test, mean absolute error (months), labels: mean of six readings" in said
    assert "79.0000" not in said
    page = (context.paths.reports / "index.html").read_text(encoding="utf-8")
    assert "1,000 others, one reading" in page and "an article" in page
    scores = pd.read_csv(context.paths.reports / "scores.csv")
    assert scores["split"].unique().tolist() == ["out of fold", "test", "published"]
    test = scores[scores["split"] == "test"].set_index("model")
    assert test.loc["final", "score"] < test.loc["both", "score"] and test.loc["floor", "score"] < 1.2
    assert test.loc["boys", "score male"] < 5 < 20 < test.loc["boys", "score female"]
    assert test.loc["final", "rows"] == 79 and test.loc["final", "efficiency"] > 0.9
    table = pd.read_csv(context.paths.reports / "cases.csv")
    assert len(table) == 80 and table["age"].isna().sum() == 1 and table["spread"].min() >= 0


def test_a_second_run_makes_nothing(context: Context, capsys: pytest.CaptureFixture) -> None:
    for _ in range(2):
        for stacker in context.competition.models.stackers:
            stack(context, stacker)
        submit_constant(context)
        submit(context, "final")
        report(context)
        said = capsys.readouterr().out
    assert "making" not in said


def test_a_wrong_line_of_ages_is_named(context: Context, tmp_path: Path) -> None:
    submit_constant(context)
    wrong = tmp_path / "wrong.csv"
    lines = (context.paths.submissions / "constant.csv").read_text().splitlines()
    lines[3] = lines[3].split(",")[0] + ",1000"
    wrong.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"line 4, id \d+: age is 1000; expected a number from 0 to 240"):
        check(context, str(wrong))
