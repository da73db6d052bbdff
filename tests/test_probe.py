"""Linear probes: the last layer alone is fitted, by patients the penalty is chosen, and the scored fold has no say."""

import re
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_seeds import FOLDS, solution
from torch import nn

from competitions.ich.small import FROZEN
from radstack.commands.own.recipes import probe_of
from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json
from radstack.core.recipe import as_dict, change
from radstack.images.own.source import LABELS_KIND, Source
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Backbone, Head
from radstack.recipes.losses import BinaryCrossEntropy, Ordinal, Regression
from radstack.stack.predictions import read_member
from radstack.stages.predict import predict
from radstack.stages.train import network_files, train
from radstack.training import inference
from radstack.training.probe import Data, fit_layer, fit_probe, held_out_losses, layer_of, minimize

PROBE = change(tiny.EXPERIMENT, probe=(1.0, 0.01), loss=BinaryCrossEntropy(class_weights=(1, 1)))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def started(experiment):
    def make():
        torch.manual_seed(5)
        net = build(experiment.backbone, objective(experiment.loss, tiny.TARGETS).outputs, 2, head=experiment.head)
        net.start = "a file"
        return net
    return make


def fitted(run):
    weights, facts = fit_probe(run, started(run.experiment))
    return weights[0], facts


def test_the_trunk_stays_and_the_layer_learns(tmp_path):
    run = tiny.make_run(tmp_path, PROBE)
    before, (after, facts) = started(PROBE)().state_dict(), fitted(run)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert str(facts["penalty"]) == min(facts["held_out"], key=facts["held_out"].get)
    net = started(PROBE)()
    net.load_state_dict(after)
    held = np.flatnonzero(run.fold_of_row == run.fold)
    unkept = np.empty((0, net.width), np.float16)
    said = inference.predict(PROBE, net.eval(), tiny.TARGETS, run.rows, held, run.cache, unkept, workers=0,
                             report=run.report)[held]
    truth = run.rows[list(tiny.TARGETS)].to_numpy()[held]
    for place in range(2):
        assert said[truth[:, place] == 1, place].mean() > said[truth[:, place] == 0, place].mean() + 0.2


def test_the_scored_fold_and_test_have_no_say(tmp_path):
    run = tiny.make_run(tmp_path, PROBE)
    others = run.rows.copy()
    hidden = (run.fold_of_row == run.fold) | (run.fold_of_row < 0)
    others.loc[hidden, list(tiny.TARGETS)] = 1 - others.loc[hidden, list(tiny.TARGETS)].fillna(0)
    first, second = fitted(run)[0], fitted(replace(run, rows=others))[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_without_a_label_and_rows_left_out_teach_nothing(tmp_path):
    run = tiny.make_run(tmp_path, change(PROBE, sampling__keep="position > 0"))
    blind = run.rows.copy()
    blind.loc[blind["position"] == 0, list(tiny.TARGETS)] = 1.0
    first, second = fitted(run)[0], fitted(replace(run, rows=blind))[0]
    assert torch.equal(first["head.weight"], second["head.weight"])


def test_a_row_that_counts_twice_is_a_row_that_stands_there_twice():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(30, 4, generator=generator), (torch.rand(30, 2, generator=generator) > 0.5).float()
    judge = objective(BinaryCrossEntropy(), tiny.TARGETS)
    twice = torch.cat([torch.arange(30), torch.arange(10)])
    counted, repeated = (Data(features[rows], labels[rows], torch.ones(len(rows)), judge)
                         for rows in (torch.arange(30), twice))
    counted.visits = torch.where(torch.arange(30) < 10, 2.0, 1.0) * 30 / 40
    repeated.features = counted.features[twice]
    layers = nn.Linear(4, 2), nn.Linear(4, 2)
    for layer, data in zip(layers, (counted, repeated)):
        minimize(layer, data, 0.1)
    assert torch.allclose(layers[0].weight, layers[1].weight, atol=1e-3)


@pytest.mark.parametrize("loss, targets", [(Regression(10.0, 4.0), ("age",)), (BinaryCrossEntropy(), tiny.TARGETS),
                                           (Ordinal((3,)), ("one", "two", "three"))])
def test_the_layer_is_written_for_features_as_the_trunk_gives_them(loss, targets):
    judge = objective(loss, targets)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(60, 5, generator=generator) * 3 + 7
    classes = torch.randint(0, len(targets), (60,), generator=generator)
    labels = nn.functional.one_hot(classes, len(targets)).float() if len(targets) > 1 else features[:, :1] * 2
    head = build(Backbone("timm/test_resnet", pretrained=False), judge.outputs, 3, shares=judge.shares).head
    layer = type(head)(5, judge.shares) if judge.shares else nn.Linear(5, judge.outputs)
    data = Data(features, labels, torch.ones(60), judge)
    minimize(layer, data, 0.1)
    with torch.no_grad():
        expected = layer(data.features)
    fit_layer(layer, data, 0.1)
    with torch.no_grad():
        assert torch.allclose(layer(features), expected, atol=1e-3)


def test_noise_wants_a_large_penalty_and_a_signal_a_small_one():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(120, 40, generator=generator)
    judge, group, penalties = objective(BinaryCrossEntropy(), ("one",)), np.arange(120) // 4, (1.0, 1e-4)
    noise = (torch.rand(120, 1, generator=generator) > 0.5).float()
    signal = (features[:, :1] > 0).float()
    losses = [held_out_losses(Data(features, labels, torch.ones(120), judge), nn.Linear(40, 1), group, penalties)
              for labels in (noise, signal)]
    assert losses[0].argmin() == 0 and losses[1].argmin() == 1


@pytest.mark.parametrize("edits, words", [
    ({"head": Head(columns=("z",))}, "leave head.columns and head.hidden empty"),
    ({"head": Head(hidden=(8,))}, "leave head.columns and head.hidden empty"),
    ({"train__seeds": 2}, "one result whatever the seed"),
])
def test_what_is_no_probe_is_refused(tmp_path, edits, words):
    run = tiny.make_run(tmp_path, change(PROBE, **edits))
    with pytest.raises(UserError, match=re.escape(words)):
        fitted(run)


def test_a_penalty_below_zero_is_refused():
    with pytest.raises(UserError, match="probe has -0.1; take penalties of 0 or more"):
        change(PROBE, probe=(1.0, -0.1))


def test_a_random_trunk_is_refused(tmp_path):
    run = tiny.make_run(tmp_path, PROBE)
    with pytest.raises(UserError, match="features of a random network say nothing"):
        fit_probe(run, lambda: build(PROBE.backbone, 2, 2))


def test_recipes_without_a_probe_keep_their_keys():
    assert "probe" not in as_dict(tiny.EXPERIMENT) and as_dict(PROBE)["probe"] == [1.0, 0.01]


def test_a_column_of_weights_is_read(tmp_path):
    plain = change(PROBE, probe=(0.1,))
    first, second = (fitted(tiny.make_run(tmp_path, one))[0] for one in (plain, change(plain, sampling__weight="z")))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_stages_fit_a_probe_on_the_network_of_the_same_fold_and_predict_with_it(tmp_path, capsys):
    context = solution(tmp_path, "ich")
    start = context.competition.recipe("second")
    probe = change(start, name="probe", probe=(1.0, 0.1), backbone__start="second")
    models = change(context.competition.models, experiments=(start,), sequences=(), final="second")
    train(change(context, competition__models=models))
    context = change(context, competition__models=change(models, experiments=(start, probe), final="probe"))
    train(context)
    predict(context)
    for fold in FOLDS:
        files = [network_files(context, one, fold)[0] for one in (start, probe)]
        before, after = map(load_file, files)
        assert {name for name in after if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}
        assert read_json(manifest_of(files[1]))["penalty"] in probe.probe
    said = read_member(context.paths.oof / "probe", FOLDS).oof[list(context.competition.targets)].to_numpy()
    assert np.isfinite(said).all() and said.std() > 0
    capsys.readouterr()
    train(context)
    predict(context)
    assert "to make" not in capsys.readouterr().out


@pytest.mark.parametrize("recipe", [FROZEN, probe_of(Source(LABELS_KIND, {"any": ("0", "1")}), 256)])
def test_the_probes_of_the_small_recipes_are_ones(recipe):
    net = build(change(recipe.backbone, pretrained=False), 6, 3, head=recipe.head)
    net.start = "a file"
    assert layer_of(recipe, net) is net.head and min(recipe.probe) > 0
