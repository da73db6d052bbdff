"""What rows are worth without their pictures: fitted out of fold, in the score table, and who does not beat it is named."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from evidences import LOSS, TARGETS, evidence

from competitions.ich.report import BASELINES
from radstack.core.errors import UserError
from radstack.recipes.baseline import PLACE, SLICES, Baseline
from radstack.report.result import result
from radstack.report.terminal import score_lines
from radstack.scoring.metrics import class_aucs
from radstack.scoring.task import Metric, Task, score_rows
from radstack.stack.baseline import baseline_table, constant_table

TASK, PLACE_ALONE = Task(TARGETS, LOSS), Baseline("place", (PLACE,))


def heads(patients=60, length=20, seed=0):
    """Rows whose labels depend on the place in the series alone; the last sixth of the patients is test."""
    rng, number = np.random.default_rng(seed), np.repeat(np.arange(patients), length)
    place = np.tile(np.arange(length) / (length - 1), patients)
    rows = pd.DataFrame({"id": [f"r{row}" for row in range(len(number))], "group": [f"p{one}" for one in number],
                         "series": [f"s{one}" for one in number], "position": np.tile(np.arange(length), patients),
                         "split": np.where(number >= patients * 5 // 6, "test", "train"), "sex": number % 2})
    bleed = rng.random(len(rows)) < np.where(np.abs(place - 0.5) < 0.2, 0.6, 0.05)
    rows[list(TARGETS)] = np.stack([bleed, bleed], axis=1).astype(np.float32)
    return rows, np.where(rows["split"] == "train", number % 3, -1)


def test_the_place_of_a_slice_is_worth_what_its_law_says():
    rows, fold = heads()
    table = baseline_table(PLACE_ALONE, rows, fold, TASK)
    test = (rows["split"] == "test").to_numpy()
    for part in (test, ~test):
        truth, said = rows.loc[part, list(TARGETS)].to_numpy(float), table.loc[part, list(TARGETS)].to_numpy(float)
        assert class_aucs(truth, said)[0] > 0.75
        assert LOSS.score(truth, said) < LOSS.score(truth, np.broadcast_to(truth.mean(axis=0), truth.shape)) - 0.05


def test_no_rows_own_fold_and_no_test_label_reaches_its_answer():
    rows, fold = heads()
    hidden = rows.copy()
    hidden.loc[rows["split"] == "test", list(TARGETS)] = np.nan
    other = hidden.copy()
    other.loc[fold == 1, list(TARGETS)] = 1 - other.loc[fold == 1, list(TARGETS)]
    one, two = (baseline_table(PLACE_ALONE, table, fold, TASK)[list(TARGETS)].to_numpy() for table in (hidden, other))
    assert np.array_equal(one[fold == 1], two[fold == 1]) and not np.array_equal(one[fold == 0], two[fold == 0])
    assert np.isfinite(one).all()


def test_the_constant_of_a_row_is_that_of_the_other_folds():
    """A label that one fold alone has costs what the rule of succession says, not what the clip does."""
    rows, fold = heads(patients=6, length=10)
    rows[list(TARGETS)] = np.float32(0)
    rows.loc[(fold == 1) & (rows["position"] == 5), list(TARGETS)] = 1
    table, train = constant_table(rows, fold, TASK), rows[fold >= 0]
    said = {number: table.loc[fold == number, TARGETS[0]].unique() for number in (-1, 0, 1, 2)}
    assert all(len(one) == 1 for one in said.values())
    assert {number: round(float(one[0]), 5) for number, one in said.items()} == {
        number: round((positive + 1) / (count + 2), 5) for number, (positive, count) in {
            -1: (2, 50), 0: (2, 30), 1: (0, 30), 2: (2, 40)}.items()}
    scores = score_rows("out of fold", {}, train, table, None, TASK).set_index("model")
    assert 0.2 < scores.loc["constant", "score"] < 0.3


def test_a_series_prior_is_one_answer_for_all_slices_of_a_series():
    rows, fold = heads()
    rows = rows[~((rows["sex"] == 1) & (rows["position"] > 9))]  # half of the series are shorter
    fold = fold[rows.index]
    table = baseline_table(Baseline("prior", (SLICES,)), rows, fold, TASK)
    assert (table.groupby(rows["series"].to_numpy())["bleed"].nunique() == 1).all() and table["bleed"].nunique() > 3


def test_columns_join_to_cells_and_an_empty_cell_gets_the_constant_of_all():
    rows, fold = heads()
    rows["site"] = np.where(rows["split"] == "test", "new", "old")
    table = baseline_table(Baseline("facts", ("site", "sex")), rows, fold, TASK)
    train = rows["split"] == "train"
    assert np.allclose(table.loc[~train, "bleed"], TASK.metric.prior(rows.loc[train, ["bleed"]])["bleed"])
    with pytest.raises(UserError, match="reads weight, which no row has"):
        baseline_table(Baseline("facts", ("weight",)), rows, fold, TASK)
    with pytest.raises(UserError, match="needs a column"):
        Baseline("nothing", ())


def test_numbers_get_the_median_of_their_cell():
    rows, fold = heads()
    rows["age"] = np.where(rows["sex"] == 1, 100.0, 50.0)
    task = Task(("age",), Metric("mean absolute error", (1,)))
    table = baseline_table(Baseline("sex", ("sex",), strength=0), rows, fold, task)
    assert np.array_equal(table["age"], rows["age"].astype(np.float32))


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Evidence of a model that is worse than the constant, one worse than the place alone, and a good one."""
    rows, fold = heads()
    train = rows[rows["split"] == "train"].reset_index(drop=True)
    truth = train[list(TARGETS)].to_numpy(float)
    rng = np.random.default_rng(1)
    dull = np.clip(truth.mean() + 0.01 * (truth - 0.5), 0.01, 0.99)
    oof = {"noise": rng.uniform(0.01, 0.99, truth.shape), "dull": dull, "good": 0.8 * truth + 0.1}
    made = evidence(tmp_path, {name: one.astype(np.float32) for name, one in oof.items()}, truth, baselines=(PLACE_ALONE,))
    tables = {name: train[["id"]].assign(**dict(zip(TARGETS, one.T))) for name, one in oof.items()}
    tables = {"place": baseline_table(PLACE_ALONE, rows, fold, TASK), **tables}
    scores = score_rows("out of fold", tables, train, constant_table(rows, fold, TASK), None, TASK)
    return replace(made, scores=scores)


def test_page_and_terminal_name_the_models_that_do_not_beat_a_baseline(scored):
    place = scored.scored().loc["place", "score"]
    lines = list(score_lines(scored.context.competition, scored.scores))
    assert lines[-1] == f"no better than place ({place:.4f}): noise, dull"
    assert lines[-2].startswith("no better than the constant predictor (") and lines[-2].endswith("): noise")
    words = [block.words for block in result(scored).blocks if block.kind == "words"]
    assert f"No better than place ({place:.4f}): noise, dull." in words


def test_every_ich_has_both_rows():
    from competitions import load
    for competition in (load("ich"), load("ich", demo=True), load("ich-small")):
        assert competition.pages.baselines == BASELINES
    assert [one.columns for one in BASELINES] == [(PLACE,), (SLICES,)]
