"""Knees from volumes to a submission: gray levels and masks, the pictures networks see, full recipes, stages 00 to 09."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from competitions import load
from competitions.knee_age import COMPETITION, balance, localizer
from competitions.knee_age.experiments import EXPERIMENTS
from competitions.knee_age.localizer import BONE_MASKS, LEVELS, MASKS, ZERO, cleaned, made_masks, own_masks, prepare
from competitions.knee_age.views import Knee, within
from competitions.knee_age.volume import BONES, CENTRAL, n4
from phantoms import draw_demo
from phantoms.knee_age import draw
from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_table
from radstack.core.recipe import change
from radstack.images.dicom import Unreadable
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.competition import FoldRecipe
from radstack.report import stage as report_stage
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages import cache, folds, get_data, predict, sequence, stack, submit, train
from radstack.stages import chain as chain_stage
from radstack.stages.apply import answers, apply, write_answers
from radstack.stages.decode import rows_file
from radstack.stages.localize import apply_networks, localize_fold
from radstack.stages.train import weights_artifact
from radstack.training.loader import Batch
from radstack.training.run import Learner

ROUGH = 16
"""Of the rows and columns on which N4 finds the field: half the demo's, in half its time."""
SIDE = 64
"""Of the phantoms, and of what networks see of them: on coarser ones the slices of Epi are no longer the thickest direction,
and are not taken for coronal."""


# -- from a volume to gray levels and masks ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knee") / "input"
    draw(folder, series=8, size=SIDE, seed=1, workers=1, annotated=1.0)
    return folder


@pytest.fixture(scope="module")
def index(folder, tmp_path_factory):
    return COMPETITION.data.index(folder, 1, tmp_path_factory.mktemp("parts"), lambda line: None)[0]


def one_volume(index: pd.DataFrame, source: str) -> pd.DataFrame:
    rows = index[(index["source"] == source) & (index["mask"] != "")]
    return rows[rows["series"] == rows["series"].iloc[0]].reset_index(drop=True)


@pytest.mark.parametrize("source", ["jopp", "epi"])
def test_a_volume_becomes_gray_levels_and_its_masks_lie_on_the_bright_marrow(folder, index, source):
    rows = one_volume(index, source)
    pictures, facts = prepare(folder, rows, 32, shrink=8)
    assert pictures.shape == (len(rows), 32, 32) and pictures.dtype == np.uint8
    assert pictures.mean() == pytest.approx(ZERO, abs=2) and pictures.std() == pytest.approx(LEVELS, rel=0.1)
    rows = rows.assign(**facts)
    bones = own_masks(folder, rows.iloc[0], 32)
    femur, tibia, fibula, whole = (made_masks(folder, rows, 32, mask) > 0 for mask in (*BONES, "bone"))
    np.testing.assert_array_equal(femur, bones[0][rows["position"]])
    np.testing.assert_array_equal(whole, femur | tibia | fibula)
    assert pictures[whole].mean() > pictures[~whole].mean() + LEVELS / 3
    assert np.nonzero(femur)[1].mean() < np.nonzero(tibia)[1].mean(), "the femur is above"
    assert made_masks(folder, rows.assign(mask=""), 32, "bone").sum() == 0


def test_a_damaged_volume_says_why(folder, index):
    rows = one_volume(index, "jopp")
    with pytest.raises(Unreadable):
        prepare(folder, rows.assign(path="data/Jopp_Study/MHD/none.mhd"), 32)


def test_small_findings_are_dropped_but_the_fibula_is_small_in_itself():
    maps = np.zeros((4, 100, 100), np.uint8)
    maps[:, :9, :9] = 255  # 0.8 % of the frame
    kept = cleaned(maps)
    assert [bool(one.any()) for one in kept] == [False, False, False, True]
    maps[:, :15, :10] = 255  # 1.5 %: enough for one bone, not for all together
    assert [bool(one.any()) for one in cleaned(maps)] == [False, True, True, True]
    maps[:, :20, :15] = 255
    np.testing.assert_array_equal(cleaned(maps), maps)
    maps[0, :20, :15] = 76  # 76 / 255 is below .3, 77 / 255 is not
    assert not localizer.binary(maps)[0].any()


@pytest.mark.parametrize("position, area, flag, central", [(12, 0, "no bone", True), (12, 900, "", True), (4, 0, "", True),
                                                           (2, 0, "", False)])
def test_an_empty_slice_is_flagged_where_every_knee_has_bone(position, area, flag, central):
    maps = np.zeros((4, 100, 100), np.uint8)
    maps[0].ravel()[:area] = 255
    found = localizer.write_boxes(SimpleNamespace(position=position, slices=24), maps[0], maps)
    assert (found["flag"], found["central"]) == (flag, central)
    assert found["area_bone"] == pytest.approx(area / 10_000)


# -- what networks see ------------------------------------------------------------------------------------------------


def test_outside_the_eroded_mask_a_picture_is_the_mean():
    soft = np.zeros((40, 40), np.uint8)
    soft[10:30, 10:30] = 204
    seen = within(np.full((40, 40), 196, np.uint8), soft, 7)
    assert (seen[13:27, 13:27] == round(ZERO + 100 * 0.8)).all()
    seen[13:27, 13:27] = ZERO
    assert (seen == ZERO).all()
    assert (within(np.full((40, 40), 196, np.uint8), np.full((40, 40), 255, np.uint8), 7) == 196).all(), "the frame's edge"


def test_a_view_takes_the_picture_or_any_bones_from_the_cached_planes():
    rng = np.random.default_rng(0)
    picture, maps = rng.integers(0, 255, (8, 8), np.uint8), rng.integers(0, 255, (4, 8, 8), np.uint8)
    cached = np.concatenate([picture, *maps], axis=1)
    rows = pd.DataFrame({"shard": [0], "slot": [0]})
    look = {masks: Knee(8, masks, 1).reader(lambda *_: cached, rows)(0) for masks in (("",), ("bone",), BONES)}
    np.testing.assert_array_equal(look[("",)][..., 0], picture)
    np.testing.assert_array_equal(look[("bone",)][..., 0], within(picture, maps[0], 1))
    np.testing.assert_array_equal(look[BONES][..., 2], within(picture, maps[3], 1))
    assert look[BONES].shape == (8, 8, 3) and len(Knee(8, BONES).mean) == 3


# -- the full recipes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", EXPERIMENTS, ids=lambda recipe: recipe.name)
def test_full_recipes_step(recipe):
    torch.manual_seed(0)
    recipe = change(recipe, train__precision="fp32", backbone__pretrained=False, train__ema=0.0)
    loss = objective(recipe.loss, ("age_years",))
    net = build(recipe.backbone, loss.outputs, len(recipe.view.mean), head=recipe.head)
    learner = Learner(recipe, ("age_years",), net, torch.device("cpu"))
    images = torch.randint(0, 255, (2, len(recipe.view.mean), 64, 64), dtype=torch.uint8)
    before = [one.clone() for one in net.parameters()]
    batch = Batch(images, torch.tensor([[15.0], [19.0]]), torch.ones(2, 0), torch.arange(2))
    moved, value, _ = learner.step([batch], 0.5, 0)
    assert moved and np.isfinite(value)
    assert any(not torch.equal(*pair) for pair in zip(before, net.parameters()))


def test_the_thesis_networks_have_their_size_and_answer_at_it():
    assert [recipe.name for recipe in BONE_MASKS] == [f"{mask}_mask" for mask in MASKS]
    net = build(BONE_MASKS[0].backbone, 1, 1).eval()
    assert sum(one.numel() for one in net.parameters()) == 194_561
    with torch.no_grad():
        assert net(torch.zeros(1, 1, *BONE_MASKS[0].view.size)).shape == (1, 1, 224, 224)


def test_ages_and_sources_are_spread_over_the_folds():
    rows = pd.DataFrame({"age_years": [14.2, 15.0, 18.9, 20.5], "source": ["epi", "jopp", "epi", "jopp"],
                         "mask": ["", "a", "", ""]})
    columns = balance(rows)
    assert columns.loc[0, ["younger", "epi", "annotated"]].tolist() == [1, 1, 0]
    assert columns.loc[1, ["15-16", "jopp", "annotated"]].tolist() == [1, 1, 1]
    assert columns.loc[2, "18-19"] == 1 and columns.loc[3, "older"] == 1


# -- the stages -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corrected():
    """The bias field of a volume is found once, whoever asks for it again: the same volume has the same field."""
    found = {}

    def once(pixels, *how):
        key = (pixels.tobytes(), how)
        if key not in found:
            found[key] = n4(pixels, *how)
        return found[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("competitions.knee_age.volume.n4", once)
        yield


@pytest.fixture(scope="module")
def run_through(corrected, tmp_path_factory):
    """The demo's stages on a few volumes, each network trained for a moment."""
    place = tmp_path_factory.mktemp("knees")
    whole = load("knee_age", demo=True)
    short = tuple(change(step.experiment, view__size=(SIDE, SIDE), train__epochs=1, sampling__per_series=2)
                  for step in whole.localizer.steps)
    ages = tuple(change(one, view__side=SIDE, train__epochs=1, train__restarts=0) for one in whole.models.experiments
                 if one.name in ("masked_pretrained", "raw_scratch"))
    quick = change(whole, localizer=localizer.chain(SIDE, short, ROUGH), cache__size=(SIDE, SIDE * (1 + len(MASKS))),
                   phantoms__draw=partial(draw_demo, "knee_age", size=SIDE), models__experiments=ages, models__on_call=(),
                   folds=FoldRecipe(count=2),
                   models__sequences=tuple(change(one, epochs=2, bag=1) for one in whole.models.sequences))
    context = make_context(quick, Options(data_dir=str(place), out_dir=str(place), workers=1, device="cpu"))
    run_stages(context, 12)
    return context


def run_stages(context, volumes: int) -> None:
    chain, count = context.competition.localizer, range(context.competition.folds.count)
    get_data.get_demo(context, volumes)
    folds.make_index(context)
    folds.deal_folds(context)
    chain_stage.prepare(context, chain)
    for fold in count:
        localize_fold(context, fold)
    apply_networks(context)
    cache.cache(context)
    for experiment in context.experiments:
        for fold in count:
            train.train_fold(context, experiment, fold)
            for split in ("train", "test"):
                predict.predict_fold(context, experiment, fold, split)
    for fold in count:
        for attention in context.sequences:
            sequence.fit_sequence(context, attention, fold)
            sequence.predict_sequence(context, attention, fold)
    for stacker in context.stackers:
        stack.stack(context, stacker)
    submit.submit(context, context.competition.models.final)
    report_stage.report(context)


def test_a_folder_without_volumes_says_so(tmp_path):
    context = make_context(load("knee_age", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    (tmp_path / "inbox").mkdir()
    with pytest.raises(UserError, match="no usable volume below"):
        apply(context, tmp_path / "inbox", tmp_path / "work")


@pytest.mark.slow
def test_other_volumes_are_answered_as_the_submission_was(run_through, tmp_path):
    paths = run_through.paths
    index, listed = pd.read_parquet(paths.folds / "index.parquet"), read_text_table(paths.input / "volumes.csv", ())
    for file in index.loc[index["split"] == "test", "path"].unique():
        for part in (paths.input / file).parent.glob(f"{Path(file).stem}.*"):
            place = tmp_path / "inbox" / part.relative_to(paths.input)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, place)
    there = apply(run_through, tmp_path / "inbox", tmp_path / "work", listed)
    quarantine = write_answers(there, tmp_path / "out.csv", paths.input / "sample_submission.csv")
    assert (tmp_path / "out.csv").read_bytes() == (paths.submissions / "final.csv").read_bytes()
    assert set(quarantine["reason"]) <= {"no-picture"}
    parts = answers(apply(run_through, tmp_path / "inbox", tmp_path / "parts", listed, part=1))
    assert len(list((tmp_path / "parts/parts").glob("0*"))) == len(parts) > 1
    whole = answers(there).set_index("id").loc[parts["id"], "age_years"]
    np.testing.assert_allclose(parts["age_years"], whole, atol=1e-3)  # other batches, other last bits


@pytest.mark.slow
def test_a_submission_has_one_age_a_volume_in_the_samples_order(run_through):
    paths = run_through.paths
    made = pd.read_csv(paths.submissions / "final.csv")
    sample = pd.read_csv(paths.input / "sample_submission.csv")
    assert list(made.columns) == ["subject", "visit", "age_years"]
    pd.testing.assert_frame_equal(made[["subject", "visit"]], sample[["subject", "visit"]])
    assert made["age_years"].between(10, 30).all()


@pytest.mark.slow
def test_later_stages_work_on_eighteen_slices_a_volume_and_stackers_say_one_age(run_through):
    paths = run_through.paths
    rows = pd.read_parquet(paths.cache / "rows.parquet")
    assert (rows.groupby("series").size() == CENTRAL).all() and rows["central"].all()
    boxes = pd.read_parquet(paths.cache / "boxes.parquet")
    assert len(boxes) == boxes.groupby("series")["slices"].first().sum(), "stage 02 looks at every slice"
    for name in ("attention", "mean", "forest", "extra_trees"):
        table = pd.read_parquet(paths.oof / name / "fold0.parquet").merge(rows[["id", "series"]], on="id")
        assert np.ptp(table.groupby("series")["age_years"].agg(["min", "max"]).to_numpy(), axis=1).max() < 1e-4


@pytest.mark.slow
def test_an_age_network_starts_from_the_bones_of_its_own_fold(run_through):
    recipe = run_through.competition.recipe("masked_pretrained")
    for fold in range(2):
        start = train.started_from(run_through, recipe, fold)
        assert start == (run_through.paths.weights / "bone_mask" / f"fold{fold}.safetensors",)
        assert "bone_mask/" + start[0].name in weights_artifact(run_through, recipe, fold).input_hashes
        backbone, place = train.starting(run_through, recipe, fold)
        net = build(backbone, 1, 1, place)
        state = load_file(start[0])
        assert torch.equal(net.body.down[0][0].weight, state["body.down.0.0.weight"])
        assert start[0].name in net.start and "dropped" in net.start


@pytest.mark.slow
def test_the_report_knows_bones_volumes_and_the_decision(run_through):
    paths = run_through.paths
    bones = pd.read_csv(paths.reports / "bones.csv")
    assert bones["mask"].tolist() == list(MASKS) and bones[["dice", "recall"]].to_numpy().min() >= 0
    assert bones.loc[0, "article_dice"] == 0.98
    volumes = pd.read_csv(paths.reports / "volumes.csv")
    assert (volumes["low"] < volumes["age"]).all() and (volumes["slice_low"] <= volumes["slice_high"]).all()
    decision = pd.read_csv(paths.reports / "decision.csv")
    assert set(decision["threshold"]) == {"eighteen", "no minor"} and decision["standard_error"].notna().all()
    assert decision["accuracy"].between(0, 1).all()
    page = (paths.reports / "index.html").read_text()
    assert page.count("<figcaption>Central slices from the front") == page.count('<article class="case"') > 3
    assert "Grad-CAM" in page
    measures = pd.read_csv(paths.reports / "localization.csv").set_index("measure")["value"]
    assert measures[[f"{mask} Dice" for mask in MASKS]].between(0, 1).all()


@pytest.mark.slow
def test_preparing_again_keeps_what_a_killed_run_has_finished(run_through, tmp_path):
    context, seen = replace(run_through, paths=replace(run_through.paths, out=tmp_path)), []
    index = pd.read_parquet(run_through.paths.folds / "index.parquet")
    index = index[index["path"].isin(index["path"].unique()[:10])]
    write_table(context.paths.folds / "index.parquet", index)

    def counted(folder, rows, side):
        seen.append(rows["path"].iloc[0])
        if len(seen) == 8:
            raise KeyboardInterrupt
        return prepare(folder, rows, side, shrink=ROUGH)

    counting = replace(run_through.competition.localizer, prepare=counted, per_shard=64)
    with pytest.raises(KeyboardInterrupt):
        chain_stage.prepare(context, counting)
    chain_stage.prepare(context, counting)
    rows = pd.read_parquet(rows_file(context))
    assert len(rows) == len(index) and rows["shard"].nunique() > 3
    twice = set(seen[:8]) & set(seen[8:])
    begun = rows.loc[rows["path"] == seen[7], "shard"].iloc[0]
    assert twice and twice <= set(rows.loc[rows["shard"] == begun, "path"])
