"""The wrist stages on a few phantoms, from raw files to an annotated picture; the recipes are the article's."""

import os
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from dicom_files import make_dicom
from scripts import run_script

from competitions import load
from competitions.radius_ulna import balance
from competitions.radius_ulna.annotate import annotate
from competitions.radius_ulna.experiments import ARTICLE_BEST, BASE, EXPERIMENTS, FIVEFOLD, IN_PHASE, NETS, ON_CALL
from competitions.radius_ulna.index import BOX_COLUMNS
from competitions.radius_ulna.localizer import DETECTORS, crop, write_boxes
from competitions.radius_ulna.phases import ALL_TARGETS, BONES, PHASE_COLUMNS, TARGETS
from competitions.radius_ulna.report import ARTICLE, article, calls, ceiling, known_truth
from competitions.radius_ulna.views import CROP, STORED, bone, both
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.recipe import change
from radstack.detection.nets import build as build_detector
from radstack.detection.nets import phases
from radstack.detection.trunks import Weights
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.nets.own import plain_sizes
from radstack.recipes.detector import FourSteps
from radstack.report.stage import report
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages.cache import cache
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize
from radstack.stages.predict import predict
from radstack.stages.stack import stack
from radstack.stages.submit import submit, submit_constant
from radstack.stages.train import train
from radstack.submission.forms import validate
from radstack.training.loader import Batch, epoch_order
from radstack.training.run import Learner

REAL_DATA = os.environ.get("RADSTACK_REAL_DATA", "")
REAL = Path(REAL_DATA, "boneage_sample")
TINY = {"convs": ((4, 3), (4, 3), (4, 3), (4, 3)), "dense": (16,), "dropout": 0.0, "padding": "same"}

RECIPES = (*EXPERIMENTS, *ON_CALL)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tiny_competition():
    """The demo with a detector and networks that learn nothing in no time."""
    demo = load("radius_ulna", demo=True)
    nets = tuple(change(one, backbone__args={**TINY, "size": one.view.size}, train__epochs=1)
                 for one in demo.models.experiments)
    return change(demo, models__experiments=nets, localizer__detector__schedule__iterations=2,
                  localizer__detector__short_side=128, localizer__detector__dense=16, folds__count=2,
                  localizer__detector__args={"widths": (8, 8, 8, 8, 8)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Fifty small phantoms, defects among them, through all stages; the context."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("wrists")
    whole = tiny_competition()
    context = make_context(whole, Options(data_dir=str(folder), out_dir=str(folder), device="cpu", workers=1))
    whole.phantoms.draw(context.paths.input, series=50, workers=1, size=160)
    make_index(context)
    deal_folds(context)
    localize(context)
    cache(context)
    train(context)
    predict(context)
    for stacker in context.stackers:
        stack(context, stacker)
    submit_constant(context)
    submit(context, "final")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radstack.report.cases.BUDGET", 500_000)  # letters of pictures: a few of thirty cases are drawn
        report(context)
    return context


@pytest.mark.slow
def test_every_readable_phantom_has_two_boxes_and_two_pairs_of_crops(trained):
    rows = pd.read_parquet(trained.paths.cache / "rows.parquet")
    assert len(rows) == 48 and set(pd.read_csv(trained.paths.folds / "quarantine.csv")["reason"]) == {"truncated", "no-file"}
    boxes = rows[[f"found_{one}_{corner}" for one in BONES for corner in ("x1", "y1", "x2", "y2")]].to_numpy()
    assert np.isfinite(boxes).all() and set(rows["mirrored"]) <= {0, 1}
    shards = [np.load(trained.paths.cache / f"shard-0000{number}.npy").shape for number in (0, 1)]
    assert shards == [((rows["split"] == split).sum(), *STORED) for split in ("train", "test")]
    views = [bone("radius"), bone("ulna"), both(), bone("radius", "drawn"), both("drawn")]
    assert [view.box for view in views] == [(0, 0, 128, 96), (0, 96, 128, 96), (0, 0, 128, 192), (0, 192, 128, 96),
                                            (0, 192, 128, 192)]


@pytest.mark.slow
def test_networks_answer_their_bones_and_the_stack_answers_both(trained):
    tables = {name: pd.read_parquet(trained.paths.oof / name / "fold0.parquet") for name in ("radius", "ulna", "final")}
    assert tables["radius"][list(TARGETS["ulna"])].isna().all(axis=None)
    assert tables["ulna"][list(TARGETS["radius"])].isna().all(axis=None)
    for names in TARGETS.values():
        assert np.allclose(tables["final"][list(names)].sum(axis=1), 1, atol=1e-4)


@pytest.mark.slow
def test_the_submission_names_phases_and_is_checked(trained, tmp_path):
    sample, layout = trained.paths.input / "sample_submission.csv", trained.competition.submission
    file = trained.paths.submissions / "final.csv"
    table = pd.read_csv(file)
    assert table.columns.tolist() == ["file", "radius_phase", "ulna_phase", *ALL_TARGETS]
    assert validate(file, sample, layout) == len(table) == len(pd.read_csv(sample)) and validate(sample, sample, layout)
    assert validate(trained.paths.submissions / "constant.csv", sample, layout)
    best = table[list(TARGETS["ulna"])].to_numpy().reshape(-1, 3, 2).sum(2).argmax(1)
    assert table["ulna_phase"].tolist() == [("peak", "stagnation", "mature")[place] for place in best]
    faults = {"expected one of pre, peak, stagnation, mature": table.assign(radius_phase="old"),
              "radius_phase sum to .*; expected 1": table.assign(R5=table["R5"] * 0.5 + 0.4),
              "R6 is -0.1; expected a number from 0 to 1": table.assign(R6=-0.1),
              "header is": table.drop(columns="ulna_phase")}
    for fault, wrong in faults.items():
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        with pytest.raises(UserError, match=fault):
            validate(tmp_path / "wrong.csv", sample, layout)


@pytest.mark.slow
def test_the_report_counts_errors_beside_the_articles(trained):
    folder = trained.paths.reports
    accuracy = pd.read_csv(folder / "accuracy.csv")
    final = accuracy[accuracy["model"] == "final"]
    assert set(final["split"]) == {"out of fold", "test"} and final["ceiling"].between(0.8, 1).all()
    assert (accuracy["split"] == "article").sum() == 2 * len(ARTICLE)
    confusion = pd.read_csv(folder / "confusion.csv")
    counted = confusion[confusion["split"] == "test"].groupby("bone")["pictures"].sum()
    assert counted["radius"] == counted["ulna"] == len(pd.read_csv(trained.paths.submissions / "final.csv"))
    assert pd.read_csv(folder / "boxes.csv")["bone"].tolist() == ["radius", "ulna"]
    pictures = pd.read_csv(folder / "pictures.csv", keep_default_na=False)
    assert pictures["hint"].str.len().gt(0).all()
    assert "Boxes as found" in (folder / "index.html").read_text(encoding="utf-8")
    measures = pd.read_csv(folder / "localization.csv").set_index("measure")["value"]
    assert measures["pictures"] == 48 and {"radius IoU, mean", "ulna AP50", "boxes above 0.7"} <= set(measures.index)
    truth = known_truth(trained.paths)
    assert 0.85 < ceiling(truth)["radius"] < 1


@pytest.mark.slow
def test_a_picture_is_annotated_as_stage_05_predicts_it(trained, tmp_path):
    index = pd.read_parquet(trained.paths.folds / "index.parquet")
    row = index[index["split"] == "test"].iloc[0]
    line = annotate(trained, trained.paths.input / row["path"], tmp_path / "out.png")
    table = pd.read_csv(trained.paths.submissions / "final.csv").set_index("file").loc[row["path"]]
    assert f"radius {table['radius_phase']} (" in line and f"ulna {table['ulna_phase']} (" in line and "UNSURE" in line
    assert cv2.imread(str(tmp_path / "out.png")).shape[0] > row["height"]
    stored = 255 - cv2.imread(str(trained.paths.input / row["path"]), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
    dicom = make_dicom(tmp_path / "IM1", stored, Modality="DX", PhotometricInterpretation="MONOCHROME1", WindowCenter="128",
                       WindowWidth="256", RescaleIntercept="0", BitsStored=8, HighBit=7)
    assert annotate(trained, dicom, tmp_path / "out.png").partition(": ")[2] == line.partition(": ")[2]
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read: empty"):
        annotate(trained, tmp_path / "empty.png", tmp_path / "out.png")


def test_the_command_takes_its_names_around_the_options_and_says_what_it_cannot_do():
    done = run_script("annotate", "ich", "--demo", "a.png", "b.png")
    assert done.returncode == 1 and "ich-demo annotates no pictures; radius_ulna does" in done.stderr


@pytest.mark.real
@pytest.mark.skipif(not REAL_DATA or not REAL.is_dir(), reason="RADSTACK_REAL_DATA names no folder with boneage_sample")
def test_real_hands_are_annotated_and_flagged_where_the_detector_is_unsure(trained, tmp_path, monkeypatch):
    # Coarse, as writing a picture of its size takes half a second. A function of this name hides the module.
    monkeypatch.setattr(import_module("competitions.radius_ulna.pictures"), "DPI", (30, 30))
    hands = sorted(REAL.rglob("*.png"))
    assert len(hands) == 10
    for hand in hands:
        assert "UNSURE" in annotate(trained, hand, tmp_path / hand.name)  # it was trained for two steps
        assert cv2.imread(str(tmp_path / hand.name)) is not None


def test_a_mirrored_hand_gives_the_same_crops():
    picture = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
    boxes = np.array([[45.0, 10, 65, 40], [20, 15, 40, 42]])
    flipped = boxes.copy()
    flipped[:, [0, 2]] = 80 - boxes[:, [2, 0]]
    columns = [f"found_{one}_{corner}" for one in BONES for corner in ("x1", "y1", "x2", "y2")]
    told = write_boxes(pd.DataFrame([boxes.ravel(), flipped.ravel()], columns=columns))["mirrored"].tolist()
    assert told == [0, 1]
    for box, other in zip(boxes, flipped):
        plain, turned = crop(picture, box, False), crop(np.ascontiguousarray(picture[:, ::-1]), other, True)
        assert plain.shape == CROP and np.abs(plain.astype(int) - turned).max() <= 1


def test_crops_are_padded_and_black_outside_the_picture():
    picture = np.full((50, 40), 200, np.uint8)
    inside, outside = crop(picture, np.array([10.0, 10, 30, 40]), False), crop(picture, np.array([20.0, 20, 60, 60]), False)
    assert (inside == 200).all() and (outside[:, -20:] == 0).all() and (outside[:60, :30] == 200).all()
    edge = np.zeros((100, 100), np.uint8)
    edge[:, 44:] = 255  # a tenth of the box's width of 20 is padded: the crop begins at 38 and has 4 pixels for each
    assert (crop(edge, np.array([40.0, 40, 60, 60]), False)[64] < 128).sum() == 24


COUNTS = {"radius": (50, 50, 150, 50), "ulna": (150, 200, 100)}


@pytest.mark.parametrize("name", BONES)
def test_balancing_and_augmentation_give_the_articles_counts(name):
    phases = np.repeat(np.arange(len(COUNTS[name])), COUNTS[name])
    rows = pd.DataFrame({stage: ((phases == place) & (number == 0)).astype(float)
                         for place, stages in enumerate(IN_PHASE[name]) for number, stage in enumerate(stages)})
    recipes = {one.name: one.sampling for one in RECIPES}
    every = np.arange(len(rows))
    raw, even, five = (epoch_order(recipes[f"{name}_{kind}"], every, rows, (0,))
                       for kind in ("raw", "balanced", "augmented"))
    assert sorted(raw) == every.tolist()
    assert np.bincount(phases[even]).tolist() == [max(COUNTS[name])] * len(COUNTS[name]) and set(even) == set(every)
    assert np.bincount(phases[five]).tolist() == [FIVEFOLD * max(COUNTS[name])] * len(COUNTS[name]) and len(five) == 3000
    assert np.bincount(even).max() - np.bincount(even)[phases == 0].min() <= 3
    assert epoch_order(recipes[f"{name}_balanced"], every, rows, (1,)).tolist() != even.tolist()


def test_the_four_tables_are_there():
    names = {one.name for one in RECIPES}
    for one in BONES:
        assert {f"{one}_{kind}" for kind in ("raw", "balanced", "augmented", "adam_0.001", "sgd_0.01", "coral", "cumulative",
                                             "stages", "resnet34")} <= names
        nets = {f"{one}_net{number}{end}" for number in NETS for end in ("", "_no_dropout")}
        assert nets - {f"{one}_net{BASE}_no_dropout"} <= names  # which is the augmented base network
    assert "joint_ordinal" in names and len(names) == len(RECIPES) and set(ARTICLE_BEST) <= {one.name for one in EXPERIMENTS}
    by_name = {one.name: one for one in RECIPES}
    assert objective(by_name["radius_net7"].loss, TARGETS["radius"]).outputs == 4
    assert objective(by_name["ulna_net8"].loss, TARGETS["ulna"]).outputs == 3
    for number in NETS:
        args = by_name[f"radius_net{number}"].backbone.args
        assert min(plain_sizes(CROP, [kernel for _, kernel in args["convs"]], args["padding"])[-1]) >= 1
        assert args["padding"] == ("same" if number >= 8 else "valid")


SMALL = [one for one in RECIPES if one.name in ("radius_raw", "ulna_net1", "radius_coral", "ulna_cumulative")]


@pytest.mark.parametrize("recipe", [*SMALL, EXPERIMENTS[-1]], ids=lambda recipe: recipe.name)
def test_full_recipes_step(recipe):
    torch.manual_seed(0)
    targets = recipe.targets_of(ALL_TARGETS)
    judge = objective(recipe.loss, targets)
    recipe = change(recipe, backbone__args={**recipe.backbone.args, "dense": (32, 16)})
    net = build(recipe.backbone, judge.outputs, 1, shares=judge.shares)
    learner = Learner(recipe, targets, net, torch.device("cpu"))
    labels = torch.zeros(2, len(targets))
    labels[:, 0] = labels[:, -1] = 1.0
    if len(targets) < len(ALL_TARGETS):
        labels = torch.eye(len(targets))[:2]
    batch = Batch(torch.randint(0, 255, (2, 1, *recipe.view.size), dtype=torch.uint8), labels, torch.zeros(2, 0),
                  torch.arange(2))
    moved, value, _ = learner.step([batch], 0.5, 0)
    assert moved and np.isfinite(value)


def test_detectors_are_the_articles_and_later_ones():
    assert {recipe.trunk for recipe in DETECTORS.values()} == {"zfnet", "resnet50_fpn"}
    assert any(isinstance(recipe.schedule, FourSteps) for recipe in DETECTORS.values())
    assert load("radius_ulna").localizer.detector.dense == 4096
    for recipe in DETECTORS.values():
        small = change(recipe, dense=8, args={} if recipe.trunk != "zfnet" else {"widths": (8, 8, 8, 8, 8)})
        assert len(phases(small)) == (4 if isinstance(recipe.schedule, FourSteps) else 1)
        assert build_detector(small, Weights(wanted=False))[0].roi_heads.box_predictor.cls_score.out_features == 3


@pytest.mark.parametrize("demo", [False, True])
def test_a_detector_is_chosen_by_name_and_then_changed(demo):
    def chosen(*edits):
        return make_context(load("radius_ulna", demo=demo), Options(edits=edits)).competition.localizer.networks[0]

    assert {name: chosen(f"localizer.detector={name}") for name in DETECTORS} == DETECTORS
    edits = ("localizer.detector=resnet50", "localizer.detector.seed=3")
    assert chosen(*edits) == change(DETECTORS["resnet50"], seed=3)
    with pytest.raises(UserError, match=r"no detector 'vgg'.*zfnet_four_steps") as raised:
        chosen("localizer.detector=vgg")
    assert all(name in str(raised.value) for name in DETECTORS)
    for other in ("bone_age", "ich"):
        with pytest.raises(UserError, match="has no field 'detector'"):
            make_context(load(other), Options(edits=edits))


def test_the_stage_takes_the_chosen_detector(tmp_path):
    context = make_context(load("radius_ulna", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    write_table(context.paths.folds / "index.parquet", pd.DataFrame({"id": [], "split": [], "path": []}))
    done = run_script("02_localize", "radius_ulna", "--demo", "--dry-run", "--data-dir", tmp_path, "--out-dir", tmp_path,
                      "--set", "localizer.detector=resnet50")
    assert done.returncode == 0 and done.stdout.count("would make localize fold") == 3, done.stderr


def test_recipes_fit_the_cache_and_members_come_first():
    whole, demo = load("radius_ulna"), load("radius_ulna", demo=True)
    for competition in (whole, demo):
        names = [one.name for one in (*competition.models.experiments, *competition.models.stackers)]
        assert competition.models.final in names and competition.cache.size == STORED
        for stacker in competition.models.stackers:
            assert set(stacker.members) <= set(names[:names.index(stacker.name)])
    store = np.zeros((1, *STORED), np.uint8)
    for recipe in (*whole.models.experiments, *demo.models.experiments, *demo.models.on_call):
        reader = recipe.view.reader(lambda shard, slot: store[slot], pd.DataFrame({"shard": [0], "slot": [0]}))
        assert reader(0).shape == (*recipe.view.size, len(recipe.view.mean)), recipe.name


def test_folds_share_phases_evenly():
    hot = np.zeros((2, len(ALL_TARGETS)))
    hot[0, [0, 7]] = hot[1, [6, 12]] = 1
    boxes = np.tile([[1.0], [np.nan]], len(BOX_COLUMNS))
    rows = pd.DataFrame(np.hstack([hot, boxes]), columns=[*ALL_TARGETS, *BOX_COLUMNS])
    columns = balance(rows)
    assert columns.columns.tolist() == [*PHASE_COLUMNS, "boxed"]
    assert columns.sum(axis=1).tolist() == [3, 2] and columns.loc[1, "ulna_mature"] == 1


def test_the_articles_accuracies_have_wilsons_intervals():
    table = article().set_index(["bone", "model"])
    best = table.loc[("ulna", "optimizer and rate")]
    assert best["accuracy"] == pytest.approx(0.9) and (best["accuracy_low"], best["accuracy_high"]) == pytest.approx(
        (0.8416, 0.9385), abs=1e-3)


def test_models_of_one_bone_are_called_on_that_bone():
    labels = pd.DataFrame({"id": ["a"], "radius_stage": [7], "ulna_stage": [5]})
    predicted = pd.DataFrame(np.nan, index=[0], columns=list(ALL_TARGETS)).assign(id="a")
    predicted[list(TARGETS["radius"])] = 0.0
    predicted["R8"] = 1.0
    table = calls(labels, predicted)
    assert table[["bone", "truth", "called"]].to_numpy().tolist() == [["radius", "peak", "stagnation"]]
