"""Every kind of training in two processes: killed and resumed to the same bits, and to the weights that one process finds.

This file is also the script that the processes run.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_chain as discs
import test_detect_training as scenes
import test_sequence as series
import tiny
import torch
from scripts import run_together
from torch import nn

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.detection import train as training
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.detector import FourSteps, Joint
from radstack.recipes.experiment import Backbone, Optim, Train
from radstack.sequence.train import checkpoint_path, fit_fold, share
from radstack.training import distributed as launch
from radstack.training.loop import Loop
from radstack.training.run import Run
from radstack.training.run import train as train_run

HERE = Path(__file__).resolve()
SGD = Optim("sgd", lr=1e-2)
FEW = Train(epochs=2, batch_size=4, precision="fp32")
SAVES = 4
"""Checkpoints after which a run is stopped: in an epoch's or a phase's midst, or between two."""


def experiment(folder, noisy):
    """The tiny experiment; without noise on a plain network, as batch norm counts what its process sees."""
    plain = Backbone("radstack/plain", pretrained=False, args={"size": (32, 32), "convs": ((4, 3), (8, 3)), "dense": (16,),
                                                               "dropout": 0.0})
    recipe = tiny.EXPERIMENT if noisy else change(tiny.EXPERIMENT, backbone=plain, optim=SGD)
    with launch.main_process_first():
        run = tiny.make_run(folder, recipe, checkpoint_seconds=0)
    return tiny.train(run)


def localizer_step(folder, recipe, targets):
    """A step of a chain on pictures of discs."""
    rng = np.random.default_rng(0)
    rows = discs.pd.DataFrame(rng.uniform(8, 24, (24, 2)), columns=["x", "y"])
    rows["id"] = [f"r{row}" for row in range(len(rows))]
    noise = rng.normal(60, 10, (len(rows), discs.SIDE, discs.SIDE))
    pictures = np.stack([discs.disc(row.x, row.y) for row in rows.itertuples()]) * 100 + noise
    labels = discs.centers(None, rows, discs.SIDE) if targets else discs.Discs(rows)
    run = Run(recipe, 0, targets, rows, np.arange(len(rows)) % 3, pictures.clip(0, 255).astype(np.uint8), "key",
              folder / "fold0.checkpoint", torch.device("cpu"), 0, 0.0, lambda _: None, labels)
    learner, _ = train_run(run, lambda: build(recipe.backbone, objective(recipe.loss, targets).outputs, 1))
    return learner.result.state_dict()


def mask(folder, noisy):
    """Masks by a U-Net without batch norm."""
    net = Backbone("radstack/unet_sum", pretrained=False, args={"width": 4, "depth": 2, "dropout": 0.5 * noisy})
    return localizer_step(folder, change(discs.BASE, backbone=net, train=FEW, optim=SGD), ())


def points(folder, noisy):
    """Points by a plain network."""
    net = Backbone("radstack/plain", pretrained=False, args={"size": (32, 32), "convs": ((4, 3), (8, 3)), "dense": (16,),
                                                             "dropout": 0.5 * noisy})
    return localizer_step(folder, change(discs.CENTER, backbone=net, train=FEW, optim=SGD), ("x", "y"))


def detector(folder, noisy, schedule):
    """Regions are drawn at random; without noise the first ones, of pictures of one size, as each batch is padded."""
    recipe = change(scenes.RECIPE, schedule=schedule, optim=SGD)
    run = scenes.make_run(folder, recipe, checkpoint_seconds=0)
    if not noisy:
        run = replace(run, pictures=[picture[:80, :80] for picture in run.pictures],
                      boxes=np.broadcast_to([[20.0, 20, 44, 44], [50, 30, 70, 60]], run.boxes.shape))
    with pytest.MonkeyPatch.context() as patch:
        if not noisy:
            patch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
            patch.setattr(training, "_forget", lambda head: [nn.init.constant_(one, 0.01) for one in head.parameters()])
        return training.train(run)[0].state_dict()


def joint(folder, noisy):
    """All parts together."""
    return detector(folder, noisy, Joint(6))


def four_steps(folder, noisy):
    """Parts in turn, the third with proposal layers drawn anew."""
    return detector(folder, noisy, FourSteps((2, 1, 2, 2)))


def sequence(folder, noisy, model):
    """Weights and predictions of a sequence model, whose last batch is one series for the two processes."""
    recipe = replace(series.BASE, model=replace(model, dropout=0.3 * noisy), epochs=2, batch_size=11, reverse=0.5, lr=1e-3)
    with launch.main_process_first():
        folder.mkdir(exist_ok=True)
    fitted = fit_fold(recipe, series.made(), 0, (1, 2), folder, "cpu", lambda _: None, checkpoint_seconds=0)
    if launch.distributed()[0]:
        return {}  # the checkpoint may still be in the making
    return series.weights_in(checkpoint_path(folder, 0)) | {"scored": torch.from_numpy(fitted.predictions)}


def deltas(folder, noisy):
    """No batch norm."""
    return sequence(folder, noisy, series.TINY["deltas"])


def two_level(folder, noisy):
    """Batch norm."""
    return sequence(folder, noisy, series.TINY["two_level"])


def attention(folder, noisy):
    """No batch norm."""
    return sequence(folder, noisy, series.Attention(16))


KINDS = {one.__name__: one for one in (experiment, mask, points, joint, four_steps, deltas, two_level, attention)}
PLAIN = [name for name in KINDS if name != "two_level"]
"""Kinds without batch norm."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes made: each kind whole, without noise, and stopped; the stopped ones resumed in new processes."""
    folder = tmp_path_factory.mktemp("processes")
    begun = run_together(HERE, "begin", folder)
    assert begun.returncode == -signal.SIGKILL, begun.stderr
    resumed = run_together(HERE, "resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_stopped_and_resumed_end_with_the_same_bits(folder, kind):
    whole, resumed = (torch.load(folder / f"{name}_{kind}.pt") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys() and all(torch.equal(value, resumed[name]) for name, value in whole.items())
    states = torch.load(folder / "cut" / kind / "fold0.checkpoint", weights_only=True)["random"]
    assert len(states) == 2 and not torch.equal(states[0]["torch"], states[1]["torch"])


@pytest.mark.parametrize("kind", PLAIN)
def test_two_processes_find_the_weights_of_one(folder, kind, tmp_path):
    torch.set_num_threads(1)
    two, one = torch.load(folder / f"plain_{kind}.pt"), KINDS[kind](tmp_path / kind, False)
    one.pop("score.bias", None)  # a softmax does not feel it: its gradient is rounding, which Adam makes a step of
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_a_checkpoint_and_resumed_alone_it_ends_with_the_same_bits(kind, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    whole = KINDS[kind](tmp_path / "whole", True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, interrupt)
        KINDS[kind](tmp_path / "cut", True)
    resumed = KINDS[kind](tmp_path / "cut", True)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_series_less_than_processes_weighs_nothing_and_all_take_part():
    picks = series.whole(np.array([0, 10]), np.array([10, 40]))
    shares = [share(picks, rank, 3) for rank in range(3)]
    assert [(one.count.tolist(), weight) for one, weight in shares] == [([10], 0.75), ([30], 2.25), ([10], 0.0)]
    assert share(picks, 0, 1)[1] == 1.0


def test_a_batch_that_does_not_divide_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("radstack.detection.train.distributed", lambda: (0, 3))
    with pytest.raises(UserError, match="batch_size 2 does not divide into 3 processes.* batch_size of 3"):
        joint(tmp_path, True)


def stop(patch, how):
    """Call ``how`` once a run has written SAVES checkpoints."""
    saves, save = [], Loop.save

    def saved(self, at):
        save(self, at)
        saves.append(at)
        if len(saves) == SAVES:
            how()

    patch.setattr(Loop, "save", saved)


def interrupt():
    raise KeyboardInterrupt


def die():
    """As if the machine had gone; the other process is then ended."""
    if launch.distributed()[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def keep(folder, name, kind, state):
    if launch.distributed()[0] == 0:
        torch.save(state, folder / f"{name}_{kind}.pt")


def begin(folder):
    for kind, train in KINDS.items():
        keep(folder, "whole", kind, train(folder / "whole" / kind, True))
        if kind in PLAIN:
            keep(folder, "plain", kind, train(folder / "plain" / kind, False))
        with pytest.MonkeyPatch.context() as patch:
            stop(patch, die if kind == list(KINDS)[-1] else interrupt)
            with pytest.raises(KeyboardInterrupt):
                train(folder / "cut" / kind, True)


def resume(folder):
    for kind, train in KINDS.items():
        keep(folder, "resumed", kind, train(folder / "cut" / kind, True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with launch.joined(2):
        {"begin": begin, "resume": resume}[sys.argv[1]](Path(sys.argv[2]))
