"""The training loop: it learns, it resumes bit for bit after SIGKILL anywhere, and it survives non-finite losses."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load_file
from scripts import run_script

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.nets.backbones import build
from radstack.recipes.experiment import Sampling
from radstack.training import checkpoint
from radstack.training.distributed import seed_everything
from radstack.training.inference import Views, predict
from radstack.training.loader import at_once, epoch_order, plain_batches, training_batches, training_rows
from radstack.training.loop import Position
from radstack.training.run import Learner, Lessons, fit, held_out_file


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_the_squares_and_beats_the_prior(tmp_path):
    experiment = change(tiny.EXPERIMENT, train__epochs=8, train__ema=0.0)
    run = tiny.make_run(tmp_path, experiment)
    seed_everything(0, 0)
    learner, facts = fit(run, build(experiment.backbone, 2, 2))
    scored = np.flatnonzero(run.fold_of_row == 0)
    store = np.zeros((len(run.rows), learner.net.width), np.float16)
    predicted = predict(experiment, learner.net.eval(), tiny.TARGETS, run.rows, scored, run.cache, store, workers=0,
                        report=lambda _: None)[scored]
    truth = run.rows[list(tiny.TARGETS)].to_numpy()[scored]
    loss = -np.mean(truth * np.log(predicted) + (1 - truth) * np.log(1 - predicted))
    prior = truth.mean(0)
    constant = -np.mean(truth * np.log(prior) + (1 - truth) * np.log(1 - prior))
    assert loss < 0.6 * constant
    assert np.abs(store[scored]).sum() > 0 and np.abs(store[run.fold_of_row != 0]).sum() == 0
    assert facts["started_from"].startswith("random")


def kill_after(folder: Path, checkpoints: int) -> bool:
    """Start the run, which SIGKILL ends once it has written so many checkpoints; whether it was still running."""
    return run_script(Path(tiny.__file__), folder, "0", str(checkpoints)).returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_anywhere_and_resumed_the_weights_are_equal_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_script(Path(tiny.__file__), whole, "1e9").returncode == 0
    kills = [kill_after(killed, checkpoints) for checkpoints in (1, 3, 2)]
    assert all(kills)
    assert not (killed / "fold0.safetensors").exists()
    assert run_script(Path(tiny.__file__), killed, "0").returncode == 0
    assert equal(load_file(whole / "fold0.safetensors"), load_file(killed / "fold0.safetensors"))


@pytest.mark.parametrize("steps", [1, 7])
def test_stopped_within_an_epoch_and_resumed_the_weights_are_equal(tmp_path, monkeypatch, steps):
    expected = tiny.train(tiny.make_run(tmp_path / "whole"))
    done = []

    def stop(self, *args):
        done.append(1)
        if len(done) == steps + 1:
            raise KeyboardInterrupt
        return step(self, *args)

    step = Learner.step
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            tiny.train(tiny.make_run(tmp_path / "cut", checkpoint_seconds=0))
    assert equal(expected, tiny.train(tiny.make_run(tmp_path / "cut")))


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path):
    path, said = tmp_path / "fold0.checkpoint", []
    checkpoint.save(path, {"key": "k", "n": 1})
    checkpoint.save(path, {"key": "k", "n": 2})
    path.write_bytes(path.read_bytes()[:100])
    assert checkpoint.load(path, "k", said.append)["n"] == 1
    assert "cannot be read" in said[0]
    assert checkpoint.load(path, "other", said.append) is None


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path, said = tmp_path / "fold0.checkpoint", []
    torch.save({"key": "k", "path": Path("x")}, path)  # any class beyond tensors and numbers
    assert checkpoint.load(path, "k", said.append) is None and "UnpicklingError" in said[0]


def test_random_states_survive_a_checkpoint(tmp_path):
    checkpoint.save(tmp_path / "c", {"key": "k"})
    first = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    checkpoint.load(tmp_path / "c", "k", print)
    assert torch.equal(first[0], torch.rand(3)) and np.array_equal(first[1], np.random.rand(3))  # noqa: NPY002


def test_a_bad_row_is_skipped_and_named(tmp_path):
    lines = []
    run = tiny.make_run(tmp_path, change(tiny.EXPERIMENT, train__batch_size=4), lines=lines, spoil=(7,))
    weights = tiny.train(run)
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
    assert any("step skipped" in line and "r7" in line for line in lines)


def test_a_skipped_step_leaves_batch_statistics_as_they_were(tmp_path):
    """Also where one of several micro-batches alone has values that are not finite."""
    run = tiny.make_run(tmp_path)
    seed_everything(0, 0)
    learner = Learner(run.experiment, tiny.TARGETS, build(run.experiment.backbone, 2, 2), run.device)
    micros = next(Lessons(run, learner).batches(Position()))
    plain = learner.normalize
    assert learner.step(micros, 0.0, 0)[0]
    before, average = ({name: value.clone() for name, value in net.state_dict().items() if value.is_floating_point()}
                       for net in (learner.net, learner.average.module))
    learner.normalize = lambda images: plain(images) * (float("inf") if images is micros[0].images else 1)
    assert not learner.step(micros, 0.0, 1)[0]
    after = learner.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    learner.normalize = plain
    assert learner.step(micros, 0.0, 2)[0]
    for net, old in ((learner.net, before), (learner.average.module, average)):
        assert all(torch.isfinite(net.state_dict()[name]).all() for name in old)
        assert not torch.equal(net.state_dict()["body.bn1.running_mean"], old["body.bn1.running_mean"])


def test_a_run_that_stays_non_finite_rolls_back_once_then_names_the_rows(tmp_path):
    lines = []
    spoiled = tuple(range(72))
    run = tiny.make_run(tmp_path, change(tiny.EXPERIMENT, train__bad_steps=3), lines=lines, spoil=spoiled)
    with pytest.raises(UserError, match=r"not finite again after rolling back; rows met: r\d+"):
        tiny.train(run)
    assert sum("rolled back after 3 bad steps" in line for line in lines) == 1


def test_a_fold_without_a_labeled_row_is_judged_by_nothing(tmp_path):
    run = replace(tiny.make_run(tmp_path, change(tiny.EXPERIMENT, train__epochs=1)), judge=lambda *_: pytest.fail("no row"))
    run.rows.loc[run.fold_of_row == 0, list(tiny.TARGETS)] = np.nan
    tiny.train(run)
    assert not held_out_file(run.checkpoint).exists()


def test_training_rows_leave_the_scored_fold_and_test_out():
    rows, _ = tiny.make_rows()
    fold = np.where(rows["split"] == "train", rows["group"].str[1:].astype(int) % 3, -1)
    chosen = training_rows(rows, fold, 1, "position > 0")
    assert set(fold[chosen]) == {0, 2} and (rows["position"].to_numpy()[chosen] > 0).all()
    with pytest.raises(UserError, match="cannot be evaluated"):
        training_rows(rows, fold, 1, "no_such_column > 0")
    with pytest.raises(UserError, match="no row to train on"):
        training_rows(rows, fold, 1, "position > 99")


def test_epochs_differ_repeat_rare_rows_and_depend_on_the_seed_alone():
    rows, _ = tiny.make_rows()
    candidates = np.arange(72)
    rare = set(np.flatnonzero(rows["right"] == 1))
    order = epoch_order(Sampling(rare_class="right", rare_copies=2), candidates, rows, (0, 0, 0))
    counts = pd.Series(order).value_counts()
    assert all(counts[row] == (3 if row in rare else 1) for row in candidates)
    again = epoch_order(Sampling(rare_class="right", rare_copies=2), candidates, rows, (0, 0, 0))
    other = epoch_order(Sampling(rare_class="right", rare_copies=2), candidates, rows, (0, 0, 1))
    assert np.array_equal(order, again) and not np.array_equal(order, other)
    few = epoch_order(Sampling(per_series=2), candidates, rows, (0, 0, 0))
    assert (rows["series"].iloc[few].value_counts() == 2).all() and len(few) == 24


def test_ranks_share_a_step_and_augmentation_seeds_differ():
    order = np.arange(64)
    alone = training_batches(tiny.EXPERIMENT, order, (0, 0, 0), 0, 1)
    ranks = [training_batches(tiny.EXPERIMENT, order, (0, 0, 0), rank, 2) for rank in range(2)]
    assert sorted(pair for rank in ranks for batch in rank for pair in batch) == sorted(
        pair for batch in alone for pair in batch)
    assert len({seed for batch in alone for _, seed in batch}) == 64
    with pytest.raises(UserError, match="batch_size 8 does not divide into 6"):
        training_batches(tiny.EXPERIMENT, order, (0, 0, 0), 0, 3)


def test_rows_that_fill_a_short_step_are_augmented_each_time_otherwise():
    pairs = [pair for batch in training_batches(tiny.EXPERIMENT, np.arange(3), (0, 0, 0), 0, 1) for pair in batch]
    assert [row for row, _ in pairs] == [0, 1, 2, 0, 1, 2, 0, 1] and len({seed for _, seed in pairs}) == 8


def test_test_time_views_average_logits(tmp_path):
    experiment = change(tiny.EXPERIMENT, tta=("plain", "hflip"))
    net = build(experiment.backbone, 2, 2).eval()
    images = torch.randint(0, 255, (3, 2, 32, 32), dtype=torch.uint8)
    told = torch.zeros(len(images), 0)
    both, _ = Views(experiment, net, torch.device("cpu"))(images, told)
    plain, _ = Views(tiny.EXPERIMENT, net, torch.device("cpu"))(images, told)
    flipped, _ = Views(tiny.EXPERIMENT, net, torch.device("cpu"))(images.flip(3), told)
    assert torch.allclose(both, (plain + flipped) / 2, atol=1e-5)
    assert plain_batches(np.array([4, 5, 6]), 2) == [[(4, -1), (5, -1)], [(6, -1)]]


@pytest.mark.parametrize(("size", "on_cpu"), [((64, 64), 64), ((32, 32), 64), ((128, 128), 16), ((300, 225), 4),
                                              ((2000, 1500), 4)])
def test_a_processor_looks_at_few_large_pictures_or_many_small_ones_at_once(size, on_cpu):
    assert at_once(torch.device("cpu"), size) == on_cpu and at_once(torch.device("cuda"), size) == 64
