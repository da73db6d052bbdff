"""Every full recipe of ich is built and stepped once: its network, loss, optimizer, schedule, augmentation and views."""

import numpy as np
import pandas as pd
import pytest
import torch

from competitions import load
from competitions.ich.experiments import EXPERIMENTS, LITE0, ON_CALL, SE_RESNEXT50, SEQUENCES, STACKERS
from competitions.ich.labels import TARGETS
from radstack.core.recipe import change
from radstack.nets.backbones import build
from radstack.nets.optim import schedule
from radstack.stack.registry import method_of
from radstack.training.augment import pipeline
from radstack.training.inference import tta
from radstack.training.loader import Batch, epoch_order, training_rows
from radstack.training.run import Learner

LABEL = np.zeros(6, np.float32)
BY_NAME = {experiment.name: experiment for experiment in (*EXPERIMENTS, *ON_CALL)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_a_full_recipe_takes_a_step_that_lowers_the_loss_of_its_batch(name):
    torch.manual_seed(0)
    # fp16 needs a GPU; smoothing and EMA change what is compared, not whether it runs, and stay.
    recipe = change(BY_NAME[name], train__precision="fp32", view__side=96, schedule__warmup=0.0, optim__lr=2e-4)
    net = build(change(recipe.backbone, pretrained=False), len(TARGETS), len(recipe.view.mean))
    learner = Learner(recipe, TARGETS, net, torch.device("cpu"))
    images = torch.randint(0, 255, (2, len(recipe.view.mean), 96, 96), dtype=torch.uint8)
    targets = torch.tensor([[1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.float32)
    batch = Batch(images, targets, torch.zeros(2, 0), torch.arange(2))
    losses = [learner.step([batch], 0.1, number)[1] for number in range(3)]
    assert all(np.isfinite(losses)) and min(losses[1:]) < losses[0]
    if recipe.train.ema:
        assert learner.result is not learner.net


@pytest.mark.parametrize("name", BY_NAME)
def test_augmentation_runs_at_the_recipes_size_and_changes_pictures(name):
    recipe = BY_NAME[name]
    picture = np.random.default_rng(0).integers(0, 255, (*recipe.view.size, 3), np.uint8)
    augment = pipeline(recipe.augment, recipe.view.size)
    made = [augment(picture, LABEL, seed)[0] for seed in range(8)]
    assert all(one.shape == picture.shape for one in made)
    assert any(not np.array_equal(one, picture) for one in made)
    assert np.array_equal(made[3], augment(picture, LABEL, 3)[0])
    assert len(tta(recipe.tta)) == len(recipe.tta)


def test_the_small_recipe_sees_pictures_as_its_pretrained_start_knows_them():
    assert LITE0.view.channels == BY_NAME["resnext101_wsl"].view.channels and LITE0.view.size == (256, 256)
    assert LITE0.view.mean == LITE0.view.std == (127.5,) * 3 and LITE0.backbone.pretrained
    assert (LITE0.train.epochs, LITE0.train.batch_size, LITE0.train.ema) == (6, 32, 0.0)
    for demo in (False, True):
        assert LITE0 in load("ich", demo=demo).models.on_call and LITE0 not in load("ich", demo=demo).models.experiments


def test_schedules_follow_their_notes():
    rate = [schedule(SE_RESNEXT50.schedule, epoch, 3) for epoch in (0.5, 1.5, 2.5)]
    assert rate == pytest.approx([1, 2 / 3, 4 / 9])
    inception = BY_NAME["inception_v3"]
    assert schedule(inception.schedule, 4.9, 5) == pytest.approx(0.8**4)
    winner = BY_NAME["densenet121_neighbors"]
    assert winner.optim.lr * schedule(winner.schedule, 9.999, 80) == pytest.approx(1e-5, rel=0.01)
    assert schedule(winner.schedule, 10.0, 80) == 1


def test_rare_slices_come_four_times_and_slices_without_brain_not_at_all():
    rows = pd.DataFrame({"epidural": [1.0, 0, 0, 0], "brain_range": [80, 80, 30, 80], "series": list("aabb"),
                         "hu_flag": ""})
    recipe = BY_NAME["resnext101_wsl"].sampling
    candidates = training_rows(rows, np.array([0, 0, 0, 0]), 1, recipe.keep)
    order = epoch_order(recipe, candidates, rows, (0, 0, 0))
    assert sorted(order.tolist()) == [0, 0, 0, 0, 1, 3]


def test_losses_weigh_like_the_metric():
    for experiment in BY_NAME.values():
        assert experiment.loss.class_weights == load("ich").metric.weights


def test_every_stacker_and_sequence_has_a_known_method_and_settings():
    for stacker in STACKERS:
        method_of(stacker)
    assert {type(sequence.model).__name__ for sequence in SEQUENCES} == {"DeltasBilstm", "TwoLevel"}
