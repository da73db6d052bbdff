"""The bone-age stages on a few phantoms, from raw files to a table of ages; recipes built and stepped at their size."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scripts import run_script
from shortened.bone_age_short import DEMO

from competitions import load
from competitions.bone_age import balance, frame
from competitions.bone_age.experiments import EXPERIMENTS, LITE0
from competitions.bone_age.localizer import (
    COARSE,
    FINE,
    HAND_LANDMARKS,
    HAND_LANDMARKS_FINE,
    HAND_MASK,
    chain,
    to_unit,
    write_boxes,
)
from competitions.bone_age.report import STAGES, strata
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.images.radiograph import prepare
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages.apply import answers, apply
from radstack.training.loader import Batch
from radstack.training.run import Learner


def stage(name: str, folder: Path, *arguments: str) -> str:
    done = run_script(name, "bone_age_short", "--demo", "--data-dir", folder, "--out-dir", folder, "--workers", "1",
                      *arguments, RADSTACK_COMPETITIONS=str(Path(__file__).parent / "shortened"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def localized(tmp_path_factory):
    """Twenty-eight phantom hands through stages 00 to 03."""
    folder = tmp_path_factory.mktemp("hands")
    stage("00_get_data", folder, "--demo-size", "28")
    stage("01_make_folds", folder)
    stage("02_localize", folder)
    stage("03_cache", folder)
    return folder


@pytest.mark.slow
def test_every_phantom_reaches_the_cache_and_the_second_run_makes_nothing(localized):
    rows = pd.read_parquet(localized / "cache" / "bone_age-demo" / "rows.parquet")
    assert len(rows) == 28 and rows["id"].is_unique and (rows["split"] == "test").sum() == 4
    shards = [np.load(localized / "cache" / "bone_age-demo" / f"shard-0000{number}.npy").shape for number in (0, 1)]
    assert shards == [(24, 208, 160), (4, 208, 160)]
    for name in ("02_localize", "03_cache"):
        said = stage(name, localized)
        assert "making" not in said and "to make" not in said


@pytest.mark.slow
def test_a_trained_competition_says_of_a_new_picture_what_stage_05_says_of_the_same(localized, tmp_path):
    stage("04_train", localized, "--only", "B_regression", "--folds", "0")
    stage("05_predict", localized, "--only", "B_regression", "--folds", "0")
    one = change(DEMO, models__experiments=(change(DEMO.recipe("B_regression"), folds=(0,)),), models__stackers=(),
                 models__final="B_regression")
    context = make_context(one, Options(data_dir=str(localized), out_dir=str(localized), device="cpu", workers=1))
    index = pd.read_parquet(context.paths.folds / "index.parquet")
    rows = index[index["split"] == "test"].reset_index(drop=True)
    (tmp_path / "inbox").mkdir()
    for row in rows.itertuples():
        shutil.copyfile(context.paths.input / row.path, tmp_path / "inbox" / f"copy-{row.id}.png")
    given = pd.DataFrame({"Case ID": "copy-" + rows["id"], "Sex": rows["male"].map({0: "F", 1: "M"})})
    there = apply(context, tmp_path / "inbox", tmp_path / "work", given)
    found, copies = pd.read_parquet(there.paths.cache / "boxes.parquet").set_index("id"), answers(there).set_index("id")
    boxes = pd.read_parquet(context.paths.cache / "boxes.parquet").set_index("id")
    assert boxes["registered"].any() and boxes["flag"].any()  # both ways into the cache
    assert found.loc["copy-" + rows["id"], "flag"].tolist() == boxes.loc[rows["id"], "flag"].tolist()
    known = pd.read_parquet(context.paths.oof / "B_regression" / "fold0_test.parquet").set_index("id")["boneage"]
    np.testing.assert_allclose(copies.loc["copy-" + rows["id"], "boneage"], known[rows["id"]], atol=0.01)


@pytest.mark.slow
def test_networks_of_one_sex_predict_everyone_and_steps_can_be_shown(localized):
    only = ("--only", "B_regression_male", "--folds", "0")
    stage("04_train", localized, *only)
    stage("05_predict", localized, *only)
    folder = localized / "oof" / "bone_age-demo" / "B_regression_male"
    scored, test = pd.read_parquet(folder / "fold0.parquet"), pd.read_parquet(folder / "fold0_test.parquet")
    rows = pd.read_parquet(localized / "cache" / "bone_age-demo" / "rows.parquet").set_index("id")
    assert set(rows.loc[scored["id"], "male"]) == {0, 1} and len(test) == 4
    assert np.isfinite(scored["boneage"]).all()
    stage("02_localize", localized, "--show", "1")
    assert len(list((localized / "reports" / "bone_age-demo" / "localize").glob("*.png"))) == 2


STEPPED = [one for one in EXPERIMENTS if one.name in ("A_regression", "B_expectation_male", "C_regression_female")
           or one.name[1] != "_"] + [LITE0]
"""One of each region, all that are not of the article's table, and the one on call."""


@pytest.mark.parametrize("recipe", STEPPED, ids=lambda recipe: recipe.name)
def test_full_recipes_step(recipe):
    torch.manual_seed(0)
    loss = objective(recipe.loss, ("boneage",))
    recipe = change(recipe, train__precision="fp32", backbone__pretrained=False, train__ema=0.0)
    net = build(recipe.backbone, loss.outputs, len(recipe.view.mean), head=recipe.head)
    learner = Learner(recipe, ("boneage",), net, torch.device("cpu"))
    size = recipe.view.size if recipe.backbone.name.startswith("radstack") else (128, 96)
    images = torch.randint(0, 255, (2, len(recipe.view.mean), *size), dtype=torch.uint8)
    batch = Batch(images, torch.tensor([[60.0], [180.0]]), torch.ones(2, len(recipe.head.columns)), torch.arange(2))
    before = [one.clone() for one in net.parameters()]
    moved, value, _ = learner.step([batch], 0.5, 0)
    assert moved and np.isfinite(value)
    assert any(not torch.equal(*pair) for pair in zip(before, net.parameters()))


@pytest.mark.parametrize("recipe", [HAND_MASK, HAND_LANDMARKS, HAND_LANDMARKS_FINE], ids=lambda recipe: recipe.name)
def test_full_localizers_answer_at_their_size(recipe):
    targets = () if recipe.loss.moves_with_picture == "mask" else FINE
    loss = objective(recipe.loss, targets)
    net = build(recipe.backbone, loss.outputs, 1).eval()
    with torch.no_grad():
        answer = loss.answer(net(torch.zeros(1, 1, *recipe.view.size)))
    assert answer.shape == ((1, *recipe.view.size) if recipe.loss.moves_with_picture == "mask" else (1, 6))


def test_recipes_are_the_articles():
    by_name = {recipe.name: recipe for recipe in EXPERIMENTS}
    assert len([name for name in by_name if name[0] in "ABC" and name[1] == "_"]) == 18
    assert by_name["A_regression"].view.size == (500, 375) and by_name["C_expectation_male"].view.size == (150, 350)
    assert by_name["B_expectation_female"].sampling.keep == "male == 0"
    recipe = by_name["A_regression"]
    assert (recipe.optim.lr, recipe.optim.betas, recipe.train.batch_size, recipe.train.epochs) == (2e-5, (0.5, 0.999), 8, 50)


class Row:
    """A row of the localization table with landmarks where ``points`` (raw pixels) say."""

    def __init__(self, points, scale=0.5, height=400, width=300):
        self.height, self.width, self.scale = height, width, scale
        self.offset_x, self.offset_y = 0.0, 0.0
        for names in (COARSE, FINE):
            for name, value in zip(names, to_unit(np.array(points, float) * scale, 200)):
                setattr(self, name, value)


HAND = np.array([(150, 60), (230, 160), (150, 300)])


def blob(*boxes):
    probability = np.zeros((200, 200), np.uint8)
    for top, left, bottom, right in boxes:
        probability[top:bottom, left:right] = 255
    return probability


@pytest.mark.parametrize(("points", "probability", "flag"), [
    (HAND, blob((26, 40, 180, 120)), ""),
    (HAND, blob(), "no hand found"),
    (HAND, blob((20, 10, 180, 60), (20, 90, 180, 140)), "two hands"),
    (HAND + [0, -90], blob((20, 40, 180, 120)), "landmark outside the picture"),
    (HAND * 0 + 150, blob((20, 40, 180, 120)), "no landmarks"),
    (HAND, blob((25, 10, 190, 195)), "thumb inside the hand"),
    (HAND + [0, 100], blob((20, 40, 190, 118)), "fingertip inside the hand"),
    (HAND, blob((26, 40, 180, 90)), "thumb outside the hand"),
    (HAND, blob((60, 40, 180, 120)), "fingertip outside the hand"),
    (HAND, blob((26, 40, 152, 120)), "capitate at the edge of the hand"),
    ((HAND - 200) * 0.4 + 200, blob((71, 70, 180, 108), (100, 0, 180, 70)), "hand beyond the frame"),
])
def test_what_cannot_be_registered_is_flagged_and_passed_on(points, probability, flag):
    found = write_boxes(Row(points), probability // 2, probability[None])
    assert found["flag"] == flag
    matrix = np.array([found[name] for name in ("m00", "m01", "m02", "m10", "m11", "m12")]).reshape(2, 3)
    assert np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:, :2])) > 0
    if not flag:
        np.testing.assert_allclose(matrix @ [150, 60, 1], frame.TIP, atol=1)
        np.testing.assert_allclose(matrix @ [150, 300, 1], frame.CAPITATE, atol=1)


def test_folds_share_sexes_and_ages_evenly():
    rows = pd.DataFrame({"boneage": [1.0, 50, 100, 140, 170, 228, 228], "male": [1, 1, 0, 0, 1, 0, 1]})
    columns = balance(rows)
    assert (columns.sum(axis=1) == 1).all() and columns.shape[1] == 12
    assert columns.loc[0, "male 0-3"] == 1 and columns.loc[5, "female 15-21"] == 1


def test_stages_of_development_depend_on_sex():
    rows = pd.DataFrame({"boneage": [30.0, 30, 90, 90, 200], "male": [1, 0, 1, 0, 1]})
    assert strata(rows)["stage"].tolist() == [STAGES[0], STAGES[1], STAGES[1], STAGES[2], STAGES[4]]


def test_full_recipes_can_be_called_on_the_demo_and_names_are_never_shared():
    demo = load("bone_age", demo=True)
    full = {recipe.name: recipe for recipe in demo.models.on_call if recipe.name.startswith("full_")}
    assert full["full_A_regression"].view.size == (500, 375) and full["full_inception_sex"].head.columns == ("male",)
    cache = np.zeros((1, *demo.cache.size), np.uint8)
    for recipe in full.values():
        read = recipe.view.reader(lambda shard, slot: cache[slot], pd.DataFrame({"shard": [0], "slot": [0]}))
        assert read(0).shape == (*recipe.view.size, len(recipe.view.mean))
    with pytest.raises(UserError, match="two recipes called A_regression"):
        change(demo, models__on_call=(change(demo.models.on_call[0], name="A_regression"),))


def test_the_small_recipe_sees_the_whole_film_as_it_was_taken(tmp_path):
    assert LITE0 in load("bone_age").models.on_call and LITE0 in load("bone_age", demo=True).models.on_call
    assert LITE0.head.columns == ("male",) and LITE0.train.epochs == 12 and LITE0.backbone.name == "pypi/efficientnet_lite0"
    assert LITE0.view.mean == LITE0.view.std == (127.5,) * 3
    raw = np.zeros((240, 160), np.uint8)
    raw[:40], raw[-40:], raw[40:-40, :40] = 200, 100, 50  # top, bottom, left
    tall, wide = tmp_path / "tall.png", tmp_path / "wide.png"
    cv2.imwrite(str(tall), raw)
    cv2.imwrite(str(wide), raw.T)
    small = [prepare(file, 192)[0] for file in (tall, wide)]
    write_shard(shard_path(tmp_path / "prepared", 3), [lambda one=one: one for one in small], (192, 192), "uint8")
    rows = pd.DataFrame({"map_shard": 3, "map_slot": [0, 1], "height": [240, 160], "width": [160, 240]})
    read = LITE0.view.reader(Shards(tmp_path), rows)
    one, other = read(0), read(1)
    assert one.shape == other.shape == (300, 225, 3) and (one[..., 0] == one[..., 2]).all()
    # Kept in its shape: 300 x 200 in the middle of 300 x 225, and 150 x 225 in the middle of its height.
    assert not one[:, :11].any() and not one[:, -11:].any() and not other[:74].any() and not other[-74:].any()
    assert [one[place] for place in ((20, 112, 0), (280, 112, 0), (150, 25, 0), (150, 180, 0))] == [200, 100, 50, 0]
    assert [other[place] for place in ((150, 15, 0), (150, 210, 0), (85, 112, 0), (200, 112, 0))] == [200, 100, 50, 0]


def test_the_chain_of_the_full_recipe_is_whole():
    full = chain(512)
    assert [step.experiment.name for step in full.steps] == ["hand_mask", "hand_landmarks", "hand_landmarks_fine"]
    assert load("bone_age").localizer.steps[0].experiment.view.size == (512, 512)
