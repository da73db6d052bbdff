"""Training starts over where it did not converge; the training rows decide, and a killed run knows which try it is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Backbone, Experiment, Optim, Train
from radstack.recipes.losses import BinaryCrossEntropy, Dice, Points, Regression
from radstack.training import checkpoint
from radstack.training import run as run_module
from radstack.training.loader import Batch
from radstack.training.run import Learner, Run, share_of_constant, train

SIDE, ROWS = 16, 60
BASE = Experiment("age", Whole((SIDE, SIDE)), Backbone("timm/test_resnet", pretrained=False), loss=Regression(10, 5),
                  optim=Optim("adam", lr=3e-3), train=Train(epochs=6, batch_size=10, precision="fp32", restarts=2))

NEVER = change(BASE, train__converged=0.0)
"""No network's loss is below 0."""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def make_run(folder, experiment=BASE, lines=None):
    """The label is the picture's brightness."""
    rng = np.random.default_rng(0)
    label = rng.uniform(0, 20, ROWS).astype(np.float32)
    pictures = np.clip(label[:, None, None] * 10 + rng.normal(20, 5, (ROWS, SIDE, SIDE)), 0, 255).astype(np.uint8)
    rows = pd.DataFrame({"id": [f"r{n}" for n in range(ROWS)], "series": [f"r{n}" for n in range(ROWS)], "age": label})
    return Run(experiment, 0, ("age",), rows, np.arange(ROWS) % 3, pictures, "key", folder / "fold0.checkpoint",
               torch.device("cpu"), 0, 1e9, (lines if lines is not None else []).append)


def make():
    return build(BASE.backbone, 1, 1)


def test_what_converges_is_kept_at_the_first_try(tmp_path):
    _, facts = train(make_run(tmp_path), make)
    assert facts["restarts"] == 0 and facts["share_of_constant"] < 0.7


def test_what_does_not_converge_starts_over_and_the_last_try_counts(tmp_path):
    lines = []
    _, facts = train(make_run(tmp_path, NEVER, lines), make)
    assert facts["restarts"] == 2
    assert [line.rpartition("; ")[2] for line in lines if "did not converge" in line] == ["again", "again",
                                                                                       "kept, the last try"]
    assert "restarts" not in train(make_run(tmp_path / "b", change(NEVER, train__restarts=0)), make)[1]


def test_the_scored_fold_has_no_say(tmp_path):
    run = make_run(tmp_path)
    learner = Learner(BASE, ("age",), make(), run.device)
    before = share_of_constant(run, learner)
    run.rows.loc[run.fold_of_row == 0, "age"] = 1e6
    assert share_of_constant(run, learner) == before
    run.rows.loc[run.fold_of_row == 1, "age"] = 1e6
    assert share_of_constant(run, learner) != before


def test_a_run_killed_in_the_second_try_goes_on_there(tmp_path, monkeypatch):
    recipe = change(NEVER, train__restarts=1, train__epochs=2)
    whole = train(make_run(tmp_path / "whole", recipe), make)[0].net.state_dict()
    steps = []

    def stop(self, *args):
        steps.append(1)
        if len(steps) == 13:  # 2 epochs of 4 steps are the first try, 4 of the second are in its checkpoint
            raise KeyboardInterrupt
        return step(self, *args)

    step = run_module.Learner.step
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Learner, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(make_run(tmp_path / "cut", recipe), make)
    assert checkpoint.key_in(tmp_path / "cut" / "fold0.checkpoint") == "key-1"
    lines = []
    learner, facts = train(make_run(tmp_path / "cut", recipe, lines), make)
    assert facts["restarts"] == 1 and "going on at epoch 1 step 0" in lines
    assert all(torch.equal(value, whole[name]) for name, value in learner.net.state_dict().items())


def test_the_constant_of_each_error_and_a_loss_without_one():
    labels = torch.tensor([[10.0], [11.0], [15.0]])
    assert objective(Regression(10, 5), ("age",)).constant(labels) == pytest.approx((1 + 0 + 4) / 3 / 5)
    squared = objective(Regression(10, 5, squared=True), ("age",))
    assert squared.constant(labels) == pytest.approx(np.var([0, 0.2, 1.0]))
    with pytest.raises(UserError, match="set it to 0"):
        objective(BinaryCrossEntropy(), ("age",)).constant(labels)


@pytest.mark.parametrize(("loss", "targets"), [(BinaryCrossEntropy(), ("age",)), (Points(), ("x", "y")), (Dice(), ())])
def test_restarts_of_a_loss_without_a_constant_are_refused_before_training(loss, targets, tmp_path):
    run = replace(make_run(tmp_path, change(BASE, loss=loss)), targets=targets)
    with pytest.raises(UserError, match="train.restarts needs a loss of values"):
        train(run, lambda: pytest.fail("it began"))


def test_squares_weigh_large_errors_more():
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([[10.0], [20.0]]), torch.zeros(2, 0), torch.arange(2))
    mean, rows = objective(Regression(10, 5, squared=True), ("age",))(torch.zeros(2, 1), batch.targets)
    assert rows.tolist() == [0.0, 4.0] and mean.item() == 2.0
