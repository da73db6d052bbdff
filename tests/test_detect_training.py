"""Training a detector: it learns, it resumes bit for bit in any phase, and it survives losses that are not finite."""

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.detection import train as training
from radstack.detection.nets import detect
from radstack.detection.train import DetectLearner, DetectRun, train
from radstack.detection.trunks import Weights
from radstack.images.boxes import score_boxes
from radstack.recipes.detector import Detector, FourSteps, Joint
from radstack.recipes.experiment import Optim, Schedule
from radstack.training.loop import Position

CPU = torch.device("cpu")
RECIPE = Detector("toy", ("disk", "block"), args={"widths": (12, 24, 32, 32, 24)}, dense=96, short_side=80, long_side=120,
                  anchors=((0.2, 0.3, 0.4),), proposals=(100, 20), sampled=(48, 24), batch_size=2, schedule=Joint(400),
                  optim=Optim("adam", lr=2e-3, clip_norm=10.0), rate=Schedule("cosine", warmup=0.1), precision="fp32")
FOUR = change(RECIPE, schedule=FourSteps((2, 2, 2, 2)), jitter__flip=0.5)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def scenes(count, seed):
    """Noisy pictures of several sizes with a bright disk and a bright block; boxes [count, 2, 4]."""
    rng = np.random.default_rng(seed)
    pictures, boxes = [], np.zeros((count, 2, 4))
    for place in range(count):
        height, width = rng.choice([(96, 80), (80, 110), (160, 120)])
        unit = min(height, width) / 80
        picture = rng.normal(60, 8, (height, width)).astype(np.float32)
        x, y, r = int(width * rng.uniform(0.25, 0.4)), int(height * rng.uniform(0.3, 0.7)), int(rng.uniform(9, 14) * unit)
        cv2.circle(picture, (x, y), r, 180.0, -1)
        left, top = int(width * rng.uniform(0.55, 0.65)), int(height * rng.uniform(0.2, 0.5))
        right, bottom = left + int(rng.uniform(14, 22) * unit), top + int(rng.uniform(22, 32) * unit)
        picture[top:bottom, left:right] = 140
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
        boxes[place] = [[x - r, y - r, x + r + 1, y + r + 1], [left, top, right, bottom]]
    return pictures, boxes


def make_run(folder, recipe=RECIPE, count=40, checkpoint_seconds=1e9, lines=None):
    pictures, boxes = scenes(count, 0)
    return DetectRun(recipe, 0, np.array([f"p{place}" for place in range(count)]), pictures, boxes, "key",
                     folder / "fold0.checkpoint", CPU, checkpoint_seconds, (lines if lines is not None else []).append)


def test_it_finds_both_boxes_of_pictures_it_has_not_seen(tmp_path):
    net, facts = train(make_run(tmp_path))
    pictures, truth = scenes(30, 1)
    boxes, scores = detect(net, RECIPE, pictures, CPU)
    table = score_boxes(boxes, scores, truth, RECIPE.classes)
    assert (table["iou"] > 0.6).all() and (table["ap50"] > 0.8).all(), table
    assert facts["started_from"] == "random weights"


def test_alternating_training_moves_the_parts_of_its_phase_alone(tmp_path):
    learner = DetectLearner(make_run(tmp_path, FOUR))
    assert [phase.learn for phase in learner.phases] == [("first", "rpn"), ("trunk", "heads"), ("rpn",), ("heads",)]
    for number, phase in enumerate(learner.phases):
        batch = next(iter(learner.batches(Position(number, 0, 2 * number))))
        before = {name: value.clone() for name, value in learner.parts.state_dict().items()}
        learner.step(batch, Position(number, 1, 2 * number + 1))
        after = learner.parts.state_dict()
        assert {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])} == set(phase.learn)


def test_the_third_step_draws_its_proposal_layers_anew(tmp_path):
    learner = DetectLearner(make_run(tmp_path, FOUR))
    before = learner.net.rpn.head.cls_logits.weight.clone()
    learner.batches(Position(2, 0, 4))
    after = learner.net.rpn.head.cls_logits.weight
    assert not torch.equal(before, after) and 0.005 < after.std() < 0.02


@pytest.mark.parametrize("recipe", [change(RECIPE, schedule=Joint(6)), FOUR], ids=["joint", "four_steps"])
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_stopped_anywhere_and_resumed_the_weights_are_equal(tmp_path, monkeypatch, recipe, steps):
    expected = train(make_run(tmp_path / "whole", recipe))[0].state_dict()
    done = []

    def stop(self, *args):
        done.append(1)
        if len(done) > steps:
            raise KeyboardInterrupt
        return step(self, *args)

    step = DetectLearner.step
    with monkeypatch.context() as patch:
        patch.setattr(DetectLearner, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(make_run(tmp_path / "cut", recipe, checkpoint_seconds=0))
    lines = []
    resumed = train(make_run(tmp_path / "cut", recipe, lines=lines))[0].state_dict()
    phase, step = divmod(steps, 2) if recipe is FOUR else (0, steps)
    assert f"going on at epoch {phase} step {step}" in lines
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_another_seed_and_another_fold_are_other_runs(tmp_path):
    first = make_run(tmp_path / "a", change(RECIPE, schedule=Joint(1)))
    second = make_run(tmp_path / "b", change(RECIPE, schedule=Joint(1), seed=1))
    third = dataclasses.replace(make_run(tmp_path / "c", change(RECIPE, schedule=Joint(1))), fold=1)
    weights = [train(run)[0].roi_heads.box_head.fc6.weight for run in (first, second, third)]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(weights, 2))


def test_a_picture_without_boxes_teaches_background(tmp_path):
    run = make_run(tmp_path, change(RECIPE, schedule=Joint(10), least_score=0.0))
    run.boxes[:] = np.nan
    pictures, _ = scenes(6, 1)
    _, before = detect(DetectLearner(run).net, run.recipe, pictures, CPU)
    net, _ = train(run)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    _, after = detect(net, run.recipe, pictures, CPU)
    assert before.min() > 0.25 and after.max() < 0.01, "a score a class: at first all kinds are alike, then none is seen"


def test_every_picture_is_met_once_a_pass():
    rows = [training._row(place, 7, (0, 0)) for place in range(21)]
    passes = [rows[:7], rows[7:14], rows[14:]]
    assert all(sorted(one) == list(range(7)) for one in passes) and passes[0] != passes[1]


def test_losses_that_stay_infinite_roll_back_once_and_name_the_pictures(tmp_path, monkeypatch):
    real = training.losses
    monkeypatch.setattr(training, "losses", lambda *args: {name: one * np.nan for name, one in real(*args).items()})
    lines = []
    with pytest.raises(UserError, match=r"not finite again after rolling back; rows met: p\d+"):
        train(make_run(tmp_path, change(RECIPE, bad_steps=2), lines=lines))
    assert sum("rolled back after 2 bad steps" in line for line in lines) == 1


def test_one_bad_step_is_skipped(tmp_path, monkeypatch):
    real, calls = training.losses, []

    def once(*args):
        calls.append(1)
        return {name: one * (np.nan if len(calls) == 2 else 1) for name, one in real(*args).items()}

    monkeypatch.setattr(training, "losses", once)
    lines = []
    net, _ = train(make_run(tmp_path, change(RECIPE, schedule=Joint(4)), lines=lines))
    assert sum("step skipped" in line for line in lines) == 1
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_a_pretrained_trunk_keeps_its_first_layers_through_all_four_steps(tmp_path):
    state = resnet18(weights=None).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    recipe = change(FOUR, trunk="resnet18_fpn", args={}, weights="mine.safetensors", batch_size=1,
                    anchors=((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)))
    run = dataclasses.replace(make_run(tmp_path, recipe), weights=Weights(tmp_path))
    net, facts = train(run)
    body = net.backbone.body
    assert "mine.safetensors" in facts["started_from"]
    assert torch.equal(body.conv1.weight, state["conv1.weight"])
    assert torch.equal(body.bn1.running_mean, state["bn1.running_mean"])
    assert not torch.equal(body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
