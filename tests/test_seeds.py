"""Several networks a fold: seeds, snapshots and averages of one recipe; trained apart, averaged, scored beside the mean."""

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load_file

from competitions import load
from radstack.commands.leak_audit import LEAK, open_scene, prediction_tables, trained_networks
from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, sha256, write_json, write_table
from radstack.core.recipe import as_dict, change
from radstack.images.shards import shard_path, write_shard
from radstack.recipes.competition import FoldRecipe, Models
from radstack.recipes.localizer import Step
from radstack.recipes.sequence import DeltasBilstm, Sequence
from radstack.report.ensemble import COLUMNS
from radstack.report.several import ONE, averaging
from radstack.report.stage import gather, score_table
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stack.predictions import fold_file, networks_file, read_member, read_networks
from radstack.stages.predict import averaged, embeddings_file, predict, predict_fold
from radstack.stages.train import network_files, network_names, train, train_fold, weights_artifact
from radstack.training import inference
from radstack.training.run import Learner, epoch_batches
from radstack.training.tryout import random_labels

BASE = tiny.EXPERIMENT
CYCLES = change(BASE, train__epochs=3, schedule__name="cyclic", schedule__warmup=0.0)
FOLDS = [0, 1]
FORMS = {"ich": "resnet", "bone_age": "A_distribution_sex", "knee_age": "masked_pretrained", "radius_ulna": "radius"}
"""A network of each demo: labels, a number with a column, a number of slices, phases of one bone."""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# -- recipes ----------------------------------------------------------------------------------------------------------


def test_a_recipe_of_one_network_is_written_down_as_before():
    told = as_dict(BASE)["train"]
    assert not {"seeds", "snapshots", "averages"} & set(told) and (BASE.networks, BASE.kept) == (1, ())
    assert as_dict(change(BASE, train__seeds=3))["train"]["seeds"] == 3


def test_names_of_networks():
    many = change(CYCLES, train__seeds=2, train__seed=4, train__snapshots=3, train__averages=(0.99,))
    assert many.snapshot_epochs == (1, 2) and many.networks == 8
    assert network_names(many)[:5] == ("seed 4 last", "seed 4 epoch1", "seed 4 epoch2", "seed 4 average0.99", "seed 5 last")
    assert network_names(change(BASE, train__seeds=2)) == ("seed 0", "seed 1") and network_names(BASE) == ("",)
    assert network_names(change(BASE, train__epochs=3, train__snapshots=2)) == ("last", "epoch2")


@pytest.mark.parametrize(("edits", "said"), [
    ({"train__seeds": 0}, "train.seeds is 0; take 1 or more"),
    ({"train__snapshots": 4}, "3 epochs have no 4 periods .* set train.snapshots to 3 or less"),
    ({"train__snapshots": 2, "schedule__cycle": 2.0}, "train.epochs=3 does not hold whole periods of schedule.cycle=2"),
    ({"train__snapshots": 2, "schedule__cycle": 0.5}, "does not hold whole periods of schedule.cycle=0.5"),
    ({"train__averages": (0.9,)}, "train.averages has 0.9; .* not that of ema"),
    ({"train__averages": (1.0,)}, "train.averages has 1.0"),
])
def test_what_cannot_be_is_refused(edits, said):
    with pytest.raises(UserError, match=said):
        change(CYCLES, **edits)


def test_a_network_that_localizes_is_one():
    with pytest.raises(UserError, match="tiny localizes, by one network a fold"):
        Step(change(BASE, train__seeds=2), lambda rows: rows, lambda *_: None)


# -- one run ----------------------------------------------------------------------------------------------------------


def learned(folder, experiment, **how):
    """The networks that a run leaves."""
    from radstack.nets.backbones import build
    from radstack.training.distributed import seed_everything
    from radstack.training.run import fit

    seed_everything(experiment.train.seed, 0)
    net = build(experiment.backbone, len(tiny.TARGETS), len(experiment.view.mean))
    learner = fit(tiny.make_run(folder, experiment, **how), net)[0]
    return [{name: value.clone() for name, value in one.items()} for one in learner.networks()]


def test_snapshots_and_averages_change_nothing_of_the_run_that_they_are_taken_from(tmp_path):
    alone = learned(tmp_path / "alone", CYCLES)
    every = learned(tmp_path / "every", change(CYCLES, train__snapshots=3, train__averages=(0.5,)))
    assert len(alone) == 1 and len(every) == 4 and equal(alone[0], every[0])
    # The first period of the same schedule is a whole run of one epoch.
    assert equal(every[1], learned(tmp_path / "short", change(CYCLES, train__epochs=1))[0])
    assert equal(every[3], learned(tmp_path / "other", change(CYCLES, train__ema=0.5))[0])
    assert not equal(every[1], every[2])


def test_killed_between_snapshots_and_resumed_all_networks_are_equal_bit_for_bit(tmp_path, monkeypatch):
    recipe = change(CYCLES, train__snapshots=3, train__averages=(0.5,))
    whole, done, step = learned(tmp_path / "whole", recipe), [], Learner.step
    a_epoch = len(epoch_batches(tiny.make_run(tmp_path / "whole", recipe), 0)) // recipe.train.accumulate

    def stop(self, *args):
        done.append(1)
        if len(done) == a_epoch + 2:  # within the second epoch: behind the first snapshot
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            learned(tmp_path / "cut", recipe, checkpoint_seconds=0)
    resumed = learned(tmp_path / "cut", recipe)
    assert all(equal(*pair) for pair in zip(whole, resumed, strict=True))


# -- stages 04 and 05, each competition's form ------------------------------------------------------------------------


def solution(place, name, **edits):
    """Stages 00 to 03 of a competition with tiny pictures, and a network of its demo as two recipes.

    ``both`` has two seeds, ``second`` the second of them; a sequence model reads embeddings of both.
    """
    whole = load(name, demo=True)
    demo = whole.recipe(FORMS[name])
    keep = change(demo.sampling, balance=(), per_series=0) if name != "ich" else demo.sampling
    both = change(demo, name="both", view=BASE.view, backbone=BASE.backbone, augment=(), tta=("plain",), sampling=keep,
                  train=change(BASE.train, ema=0.0, epochs=1, seeds=2), schedule__warmup=0.0, **edits)
    models = Models((both, change(both, name="second", train__seeds=1, train__seed=1)), (), final="both",
                    sequences=(Sequence("steps", ("both", "second"), DeltasBilstm(hidden=4)),))
    made = change(whole, models=models, folds=FoldRecipe(len(FOLDS)))
    context = make_context(made, Options(data_dir=str(place), out_dir=str(place), device="cpu", workers=1))
    rows, pictures = tiny.make_rows()
    torch.manual_seed(7)
    groups = [len(group.classes) for group in made.metric.groups] or [len(made.targets)]
    labels = np.hstack([random_labels(both, many, len(rows), (32, 32)).numpy() for many in groups])
    rows = rows.drop(columns=list(tiny.TARGETS)).assign(**dict(zip(made.targets, labels.T)), path="x", male=rows.index % 2)
    rows.loc[rows["split"] == "test", list(made.targets)] = np.nan
    folds = pd.DataFrame({"group": sorted(rows.loc[rows["split"] == "train", "group"].unique())})
    folds["fold"] = folds["group"].str[1:].astype(int) % len(FOLDS)
    for file, table in ((context.paths.folds / "index.parquet", rows), (context.paths.folds / "folds.csv", folds),
                        (context.paths.cache / "boxes.parquet", rows), (context.paths.cache / "rows.parquet", rows)):
        write_table(file, table)
    write_shard(shard_path(context.paths.cache, 0), [lambda picture=one: picture for one in pictures], (32, 32))
    return context


def files_of(context, recipe, fold=0):
    return network_files(context, context.competition.recipe(recipe), fold)


@pytest.fixture(scope="module", params=FORMS)
def trained(request, tmp_path_factory):
    torch.set_num_threads(1)
    context = solution(tmp_path_factory.mktemp(request.param), request.param)
    train(context)
    predict(context)
    return context


def test_two_seeds_are_two_networks_and_their_mean_in_every_competitions_form(trained, capsys):
    paths, targets = trained.paths, list(trained.competition.targets)
    for fold in FOLDS:
        files = files_of(trained, "both", fold)
        assert [file.name for file in files] == [f"fold{fold}.safetensors", f"fold{fold}_seed1.safetensors"]
        assert equal(load_file(files[1]), load_file(files_of(trained, "second", fold)[0]))
        assert not equal(*map(load_file, files))
        alone = change(trained.competition.recipe("both"), train__seeds=1)
        before = change(trained, competition__models__experiments=(alone,))
        assert weights_artifact(before, alone, fold).key == read_json(manifest_of(files[0]))["key"]  # more seeds: it is kept
        test = pd.read_parquet(fold_file(paths.oof / "both", fold, "test"))[targets].to_numpy()
        first = 2 * test - pd.read_parquet(fold_file(paths.oof / "second", fold, "test"))[targets].to_numpy()
        assert np.isfinite(test).any() and not np.allclose(first, test, rtol=1e-5, equal_nan=True)
        stored = np.load(embeddings_file(paths.oof / "both", fold, "test"))
        other = np.load(embeddings_file(paths.oof / "second", fold, "test"))
        assert stored.shape == other.shape and np.abs(stored).sum() > 0 and not np.array_equal(stored, other)
    single = read_networks(paths.oof / "both", FOLDS)
    assert list(single) == ["seed 0", "seed 1"] and read_networks(paths.oof / "second", FOLDS) == {}
    mean, second = (read_member(paths.oof / name, FOLDS).oof[targets].to_numpy() for name in ("both", "second"))
    assert np.array_equal(mean, averaged([one[targets].to_numpy() for one in single.values()]), equal_nan=True)
    # In other batches the last digits differ.
    assert np.allclose(single["seed 1"][targets].to_numpy(), second, rtol=1e-4, equal_nan=True)
    train(trained)
    predict(trained)
    assert "to make" not in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "test"])
def test_answers_that_are_no_numbers_are_refused_and_not_written(split, tmp_path, monkeypatch):
    context, load_net = solution(tmp_path, "ich"), inference.load_net
    recipe = context.competition.recipe("both")
    for number in range(recipe.train.seeds):
        train_fold(context, recipe, 0, number)

    def spoiled(experiment, targets, weights, device):
        net = load_net(experiment, targets, weights, device)
        if "seed1" in weights.name:
            net.body.bn1.running_mean.fill_(float("nan"))
        return net

    monkeypatch.setattr(inference, "load_net", spoiled)
    with pytest.raises(UserError, match=r"both seed 1, fold 0: \d+ of \d+ answers are not finite, the first of r\d+; train "
                                        "it again, .*04_train.*--only both.* --folds 0 --force"):
        predict_fold(context, recipe, 0, split)
    assert not fold_file(context.paths.oof / "both", 0, split).exists()


def evidence_of(context):
    names = ["both", "second"]
    members = {name: read_member(context.paths.oof / name, FOLDS) for name in names}
    single = {"both": read_networks(context.paths.oof / "both", FOLDS)}
    made = change(context, competition__phantoms=None, competition__pages__strata=None,
                  competition__pages__baselines=())
    scores = score_table(made, members, single)
    return gather(made, members, scores, pd.DataFrame({"measure": [], "value": []}), single), scores


def test_the_single_networks_stand_beside_the_mean_with_its_gain(trained):
    evidence, scores = evidence_of(trained)
    scored = scores.set_index("model")
    assert list(scored.index[1:]) == ["both", "both, seed 0", "both, seed 1", "second"]
    compared = [column for column in scored if column == "score" or column.startswith("loss ")]
    assert np.allclose(*(scored.loc[name, compared].to_numpy(float) for name in ("both, seed 1", "second")), rtol=1e-4,
                       equal_nan=True)
    table = averaging(evidence)
    assert list(table) == list(COLUMNS[:-1]) and table["over"].tolist() == [ONE, "seed 0", "seed 1"]
    assert table["before"][0] == pytest.approx(table["before"][1:].mean())
    assert np.allclose(table["gain"], table["before"] - table["after"], atol=1e-6)
    if np.isfinite(scored.loc["both", "score"]):
        assert table["after"][0] == pytest.approx(scored.loc["both", "score"], abs=1e-5)
        assert table["before"][2] == pytest.approx(scored.loc["second", "score"], rel=1e-4)


def test_the_leak_audit_finds_a_seed_of_another_fold_and_a_row_of_another_fold(trained):
    scene = open_scene(trained)
    assert [one.status for one in (*trained_networks(scene), *prediction_tables(scene))].count(LEAK) == 0
    right, wrong = (files_of(trained, "both", fold)[1] for fold in (0, 1))
    kept = {file: file.read_bytes() for file in (right, manifest_of(right))}
    try:
        right.write_bytes(wrong.read_bytes())
        told = read_json(manifest_of(wrong))
        stamp = right.stat()
        told["files"] = {right.name: {**told["files"][wrong.name], "size": stamp.st_size, "mtime_ns": stamp.st_mtime_ns}}
        write_json(manifest_of(right), told)
        found = trained_networks(scene)[0]
        assert found.status == LEAK and "both/fold0_seed1.safetensors: was made for fold 1" in found.detail
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
    table = networks_file(trained.paths.oof / "both", 0)
    kept = {file: file.read_bytes() for file in (table, manifest_of(table))}
    try:
        said = pd.read_parquet(table)
        stranger = pd.read_parquet(networks_file(trained.paths.oof / "both", 1))["id"].iloc[0]
        write_table(table, said.assign(id=said["id"].where(said.index != said.index[-1], stranger)))
        told, stamp = read_json(manifest_of(table)), table.stat()
        told["files"][table.name] = {"sha256": sha256(table), "size": stamp.st_size, "mtime_ns": stamp.st_mtime_ns}
        write_json(manifest_of(table), told)
        found = prediction_tables(scene)[0]
        assert found.status == LEAK and "both, seed 1" in found.detail and stranger in found.detail
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
