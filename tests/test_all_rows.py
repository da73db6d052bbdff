"""Fits on all rows: nothing is held out, no score is claimed, and their weight in test is a stated rule."""

import numpy as np
import pandas as pd
import pytest
from scripts import run_script
from test_stages_of_numbers import FOLDS, context  # noqa: F401 (a fixture)
from tiny import EXPERIMENT, make_run, train

from radstack.core.errors import UserError
from radstack.core.files import write_table, write_text
from radstack.core.folds import ALL
from radstack.core.recipe import change
from radstack.running.context import fold_numbers
from radstack.running.tasks import per_fold
from radstack.stack.predictions import fold_file, prediction_table, read_tests
from radstack.stack.rows import mean_over_folds
from radstack.stages.all_rows import joined, submit_with_all_rows
from radstack.stages.predict import predictions_artifact
from radstack.stages.stack import stack
from radstack.stages.submit import submit, submit_constant
from radstack.stages.train import started_from, weights_artifact
from radstack.training.run import epoch_batches


def test_it_trains_on_every_training_row_and_on_no_test_row(tmp_path):
    run = make_run(tmp_path, change(EXPERIMENT, sampling__rare_copies=0, train__epochs=1), fold=ALL)
    met = {row for batch in epoch_batches(run, 0) for row, _ in batch}
    labeled = set(np.flatnonzero(run.fold_of_row >= 0))
    assert met <= labeled and len(met) > 0.9 * len(labeled)  # whole batches alone
    assert {run.fold_of_row[row] for row in met} == {0, 1, 2}
    assert all(bool(np.isfinite(value.numpy()).all()) for value in train(run).values())


def test_its_files_and_key_are_its_own(context):  # noqa: F811
    network = change(context.competition.models.experiments[0], sampling__keep="")  # a query on columns of another table
    artifact = weights_artifact(context, network, ALL)
    assert artifact.files[0].name == "all.safetensors" and artifact.key != weights_artifact(context, network, 0).key
    assert [one.name for one in artifact.inputs if hasattr(one, "lesson")] == ["ages/rows.parquet: train rows learned"]
    assert fold_file(context.paths.oof / "x", ALL, "test").name == "all_test.parquet"
    with pytest.raises(UserError, match="starts from encoder"):
        started_from(context, change(network, backbone__start="encoder"), ALL)
    first, second = context.competition.models.experiments[:2]  # both have the weights of the first
    for fold, name in ((0, "fold0"), (ALL, "all")):
        file, = started_from(context, change(network, backbone__start=second.name), fold)
        assert file == context.paths.weights / first.name / f"{name}.safetensors"


def test_folds_of_a_run(context):  # noqa: F811
    every = change(context, options__folds=fold_numbers("all"))
    assert [every.folds_of(one) for one in every.competition.recipes] == [[ALL]] * 3 + [[]] * 2
    assert context.folds_of(context.competition.models.experiments[0]) == list(range(FOLDS))
    networks = list(every.competition.models.experiments)
    said = [task.name for _, task in per_fold(every, "train", networks, weights_artifact, lambda *_: None)]
    assert said == [f"train {one.name} all rows" for one in networks]
    done = run_script("06_sequence", "ich", "--demo", "--folds", "all", "--dry-run")
    assert done.returncode == 2 and "--folds all is by hand: python src/04_train.py ich --demo --folds all" in done.stderr


def fit(context, shift):  # noqa: F811
    """What stages 04 and 05 leave with ``--folds all``: the mean of the folds' answers and ``shift``."""
    for network in context.competition.models.experiments:
        # Recipes that differ in name alone share the file.
        write_text(weights_artifact(context, network, ALL).files[0], f"{shift}")
        table = mean_over_folds(read_tests(context.paths.oof / network.name, list(range(FOLDS))), ("age",))
        artifact = predictions_artifact(context, network, ALL, "test")
        artifact.make(lambda artifact=artifact, table=table: write_table(artifact.files[0], prediction_table(
            table["id"].to_numpy(), -1, table[["age"]].to_numpy() + shift, ("age",))))


def test_it_counts_as_one_more_fold_behind_the_folds_stackers(context):  # noqa: F811
    for stacker in context.competition.models.stackers:
        stack(context, stacker)
    submit_constant(context)
    folds = pd.read_csv(submit(context, "final"))
    with pytest.raises(UserError, match="boys,girls,both has no fit on all rows; type: .*04_train.* --folds all"):
        submit_with_all_rows(context)
    fit(context, 0)
    assert np.allclose(pd.read_csv(submit_with_all_rows(context))["age"], folds["age"], atol=1e-3)  # the same answers
    fit(context, 8)
    read = context.paths.oof / "final"
    moved = pd.read_csv(submit_with_all_rows(context))
    seen = mean_over_folds(read_tests(read, list(range(FOLDS))), ("age",))["id"]
    change_ = (moved["age"] - folds["age"])[moved["id"].astype(str).isin(seen)]
    assert np.allclose(change_, 8 / (FOLDS + 1), atol=0.6)  # weights of the linear stack sum to about 1
    assert not (read / "all.parquet").exists() and not list(context.paths.oof.glob("*/all.parquet"))  # nothing out of fold
    write_text(weights_artifact(context, context.competition.models.experiments[0], ALL).files[0], "trained anew")
    with pytest.raises(UserError, match="boys: its predictions by a fit on all rows are old"):
        submit_with_all_rows(context)


def test_the_rule():
    one = pd.DataFrame({"id": ["a", "b"], "age": [10.0, 20.0]})
    assert joined(one, one.assign(age=one["age"] + 4), 0.25, ["age"])["age"].tolist() == [11.0, 21.0]
