"""Classes through the pipeline: registered names, the shared head in training and prediction, stacks and score tables."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from radstack.core.errors import UserError
from radstack.core.folds import fold_hash, make_folds
from radstack.images.views import Whole
from radstack.nets import build
from radstack.nets.backbones import SharedLinear
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Backbone, Experiment, Optim, Train
from radstack.recipes.losses import Ordinal, SoftmaxCrossEntropy
from radstack.recipes.stacker import Stacker
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.task import Metric, Task, score_rows
from radstack.stack.nested import fit_stack
from radstack.stack.rows import Member, mean_over_folds
from radstack.training.inference import load_net
from radstack.training.loader import Batch
from radstack.training.run import Learner

TARGETS, SIZES = tuple("abcdefg"), (4, 3)
GROUPS = (ClassGroup("left", ("low", "low", "mid", "high")), ClassGroup("right", ("low", "high", "high")))
TASK = Task(TARGETS, Metric("classification error", (1, 1), groups=GROUPS))
BACKBONE = Backbone("radstack/plain", pretrained=False,
                    args={"size": (16, 12), "convs": ((8, 3), (8, 3)), "dense": (32,), "dropout": 0.0})
RECIPES = [SoftmaxCrossEntropy(groups=SIZES), SoftmaxCrossEntropy(groups=SIZES, merged=(2, 1, 1, 1, 2)),
           Ordinal(groups=SIZES), Ordinal(groups=SIZES, link="cumulative")]


def experiment(loss) -> Experiment:
    return Experiment("one", Whole((16, 12), (0.0,), (255.0,)), BACKBONE, loss=loss, optim=Optim(lr=3e-3),
                      train=Train(batch_size=32, precision="fp32", channels_last=False))


@pytest.mark.parametrize("loss", RECIPES, ids=["softmax", "merged", "coral", "cumulative"])
def test_a_network_learns_is_saved_and_answers(loss, tmp_path):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    recipe, judge = experiment(loss), objective(loss, TARGETS)
    net = build(BACKBONE, judge.outputs, 1, shares=judge.shares)
    assert isinstance(net.head, SharedLinear) == isinstance(loss, Ordinal)
    bright = torch.rand(64)
    images = (bright[:, None, None, None] * 255).expand(-1, 1, 16, 12).byte()
    labels = torch.cat([torch.eye(size)[(bright * size).long()] for size in SIZES], 1)
    learner = Learner(recipe, TARGETS, net, torch.device("cpu"))
    batch = Batch(images, labels, torch.zeros(64, 0), torch.arange(64))
    losses = [learner.step([batch], 0.0, number)[1] for number in range(80)]
    assert losses[-1] < 0.6 * losses[0]
    save_file(learner.result.state_dict(), tmp_path / "one.safetensors")
    loaded = load_net(recipe, TARGETS, tmp_path / "one.safetensors", torch.device("cpu"))
    with torch.no_grad():
        answer = judge.answer(loaded(learner.normalize(images)))
        assert torch.equal(answer, judge.answer(learner.net.eval()(learner.normalize(images))))
    right = (answer[:, 4:].argmax(1) == labels[:, 4:].argmax(1)).float().mean()
    assert right > 0.65


class World:
    """Patients with a latent number; members see it with noise, some one group alone."""

    def __init__(self, patients: int = 300) -> None:
        self.rng = np.random.default_rng(0)
        self.latent = self.rng.uniform(0, 4, patients)
        self.truth = np.concatenate([np.eye(4)[self.latent.astype(int)], np.eye(3)[(self.latent * 0.75).astype(int)]], 1)
        self.train = np.arange(patients) < patients * 4 // 5
        ids = [f"p{number}" for number in range(patients)]
        labels = pd.DataFrame(np.where(self.train[:, None], self.truth, np.nan), columns=list(TARGETS))
        self.index = labels.assign(id=ids, group=ids, series=ids, position=0, split=np.where(self.train, "train", "test"))
        known = self.index[self.train]
        self.folds = make_folds(known["group"], known[list(TARGETS)], 5, 0)

    def member(self, noise: float, silent: slice = slice(0, 0)) -> Member:
        seen = self.latent + self.rng.normal(0, noise, len(self.latent))
        p = np.concatenate([np.exp(-((seen[:, None] * size / 4 - np.arange(size) - 0.5) / 0.5) ** 2) + 1e-3
                            for size in SIZES], 1)
        p = np.concatenate([part / part.sum(1, keepdims=True) for part in np.split(p, [4], 1)], 1)
        p[:, silent] = np.nan
        fold = self.index["group"].map(self.folds.set_index("group")["fold"])
        table = pd.DataFrame(p.astype(np.float32), columns=list(TARGETS)).assign(id=self.index["id"], fold=fold)
        tests = [table[table["fold"].isna()].assign(fold=number) for number in range(5)]
        return Member(table[table["fold"].notna()].astype({"fold": int}), pd.concat(tests), fold_hash(self.folds))


@pytest.mark.parametrize(("method", "args"), [
    ("class_mean", {}), ("class_mean", {"pool": "linear"}), ("class_lightgbm", {"rounds": 20, "threads": 1})])
def test_stacks_of_classes_are_scored_by_group(method, args):
    world = World()
    members = {"both": world.member(0.4), "left": world.member(0.3, slice(4, 7)), "right": world.member(0.3, slice(0, 4))}
    stacker = Stacker("s", method, tuple(members), {"groups": SIZES, **args})
    result = fit_stack(stacker, members, world.index, world.folds, TASK)
    assert set(result.class_scores) == {"left", "right"} and result.best_member == "both"
    assert result.score.value == pytest.approx(np.mean(list(result.class_scores.values())))
    assert result.score.value < 0.2 and np.isfinite(result.gain.value)
    test = mean_over_folds(result.member.test, TARGETS)[list(TARGETS)].to_numpy()
    assert test[:, :4].sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("method", ["mean", "weights", "lightgbm", "calibrate", "linear"])
def test_methods_of_single_targets_refuse_classes(method):
    world = World(40)
    with pytest.raises(UserError, match="does not work on classes, .*choose one of route, class_mean, class_lightgbm"):
        fit_stack(Stacker("s", method, ("a",)), {"a": world.member(0.3)}, world.index, world.folds, TASK)


def test_score_table_of_classes():
    world = World()
    rows = world.index[world.train]
    models = {"both": world.member(0.4).oof, "left": world.member(0.4, slice(4, 7)).oof}
    best = pd.DataFrame(world.truth, columns=list(TARGETS)).assign(id=world.index["id"])[world.train]
    table = score_rows("train", models, rows, TASK.metric.constant(rows[list(TARGETS)]), best, TASK).set_index("model")
    columns = {f"{name} {group}" for name in ("loss", "log_loss", "kappa", "fine_loss", "fine_kappa")
               for group in ("left", "right")}
    assert columns <= set(table) and table.loc["floor", "score"] == 0 and table.loc["both", "efficiency"] > 0.5
    assert table.loc["constant", "loss left"] == pytest.approx(1 - world.truth[world.train, :2].any(1).mean(), abs=1e-6)
    both = table.loc["both"]
    assert both["score"] == pytest.approx((both["loss left"] + both["loss right"]) / 2)
    assert np.isnan(table.loc["left", "score"]) and np.isnan(table.loc["left", "loss right"])
    assert table.loc["left", "loss left"] < 0.3 and table.loc["left", "kappa left"] > 0.6


def test_the_link_of_the_metric_and_back():
    metric, p = TASK.metric, World(40).truth * 0.8 + np.repeat([0.05, 0.2 / 3], SIZES)
    assert metric.unlink(metric.link(p)) == pytest.approx(p)
    assert metric.scored(TARGETS) == ("left", "right") and metric.sizes == SIZES
