"""A line brings a trained network's answers to the training rows; rows that are held out have no say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.nets.backbones import build
from radstack.recipes.experiment import Backbone, Experiment, Optim, Train
from radstack.recipes.losses import Regression
from radstack.recipes.sequence import Sequence
from radstack.training.align import aligned, answers, fitted
from radstack.training.run import Learner, Run, train

SIDE, ROWS, TARGETS = 16, 60, ("age", "size")
BASE = Experiment("age", Whole((SIDE, SIDE)), Backbone("timm/test_resnet", pretrained=False, dropout=0.5),
                  loss=Regression(10, 5, line=True), optim=Optim("adam", lr=3e-3), tta=("plain", "hflip"),
                  train=Train(epochs=2, batch_size=10, precision="fp32", averages=(0.5,)))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def make():
    return build(BASE.backbone, len(TARGETS), 1)


@pytest.fixture
def run(tmp_path):
    """One label is the picture's brightness, the other grows as it falls and is missing in places."""
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 20, ROWS).astype(np.float32)
    pictures = np.clip(age[:, None, None] * 10 + rng.normal(20, 5, (ROWS, SIDE, SIDE)), 0, 255).astype(np.uint8)
    rows = pd.DataFrame({"id": [f"r{n}" for n in range(ROWS)], "series": [f"r{n}" for n in range(ROWS)], "age": age,
                         "size": np.where(np.arange(ROWS) % 5 == 1, np.nan, 40 - 2 * age)})
    return Run(BASE, 0, TARGETS, rows, np.arange(ROWS) % 3, pictures, "key", tmp_path / "fold0.checkpoint",
               torch.device("cpu"), 0, 1e9, [].append)


def test_a_line_of_least_squares_for_each_target():
    said = np.array([[0, 1], [1, 1], [2, 1], [3, 1]], float)
    labels = np.array([[1, 5], [3, 7], [5, np.nan], [np.nan, 9]], float)
    np.testing.assert_allclose(fitted(said, labels), [[2, 1], [0, 7]], atol=1e-12)
    np.testing.assert_array_equal(fitted(said, np.full_like(labels, np.nan)), [[1, 0], [1, 0]])


def test_answers_to_the_training_rows_have_their_mean_and_scale_in_each_network(run):
    learner, _ = train(run, make)
    networks, facts = aligned(run, learner)
    assert len(networks) == len(facts["lines"]) == 2
    assert not np.allclose(facts["lines"], [1, 0], atol=0.1), "there was something to bring in line"
    for weights in networks:
        net = make().eval()
        net.load_state_dict(weights)
        said, labels = answers(run, net)
        (slope, _), known = fitted(said, labels).T, ~np.isnan(labels)
        # Of answers that hardly differ the offset, at an answer of 0, is far off by rounding; the mean is not.
        np.testing.assert_allclose(slope, 1, atol=1e-2)
        np.testing.assert_allclose(said.mean(axis=0, where=known), labels.mean(axis=0, where=known), atol=1e-3)


def test_test_time_views_have_no_say_since_recipes_that_differ_in_them_share_weights(run):
    learner = Learner(BASE, TARGETS, make(), run.device)
    others = replace(run, experiment=change(BASE, tta=("hflip",)))
    assert aligned(others, learner)[1] == aligned(run, learner)[1]


def test_held_out_rows_have_no_say(run):
    learner = Learner(BASE, TARGETS, make(), run.device)
    before = aligned(run, learner)[1]
    run.rows.loc[run.fold_of_row == 0, list(TARGETS)] = 1e6
    assert aligned(run, learner)[1] == before
    run.rows.loc[run.fold_of_row == 1, list(TARGETS)] = 1e6
    assert aligned(run, learner)[1] != before


def test_the_learner_itself_stays_as_it_is(run):
    learner = Learner(BASE, TARGETS, make(), run.device)
    before = {name: value.clone() for name, value in learner.result.state_dict().items()}
    aligned(run, learner)
    assert all(torch.equal(value, before[name]) for name, value in learner.result.state_dict().items())


def test_what_would_not_read_it_refuses_it():
    with pytest.raises(UserError, match=r"loss\.line"):
        change(BASE, probe=(1.0,))
    with pytest.raises(UserError, match=r"loss\.line"):
        Sequence("bilstm", ("age",), loss=BASE.loss)
    assert change(BASE, probe=(1.0,), loss__line=False).probe
