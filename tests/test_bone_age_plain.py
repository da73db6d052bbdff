"""Hands that nobody annotated go through all stages by the plain path: the whole film, no mask, no registration."""

import cv2
import numpy as np
import pandas as pd
import pytest

from competitions import load
from competitions.bone_age.localizer import unannotated
from competitions.bone_age.views import GRAY
from radstack.core.recipe import change
from radstack.images.views import Film
from radstack.recipes.competition import FoldRecipe
from radstack.recipes.experiment import Backbone, Experiment, Head, Train
from radstack.recipes.losses import Regression
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages.apply import answers, apply
from radstack.stages.cache import cache
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize
from radstack.stages.predict import predict
from radstack.stages.submit import submit
from radstack.stages.train import train

FILM = Experiment("film", Film((32, 24), (GRAY,), (GRAY,)),
                  Backbone("radstack/vgg_elu", pretrained=False,
                           args={"size": (32, 24), "widths": (4, 8), "dense": (8,), "dropout": 0.0}),
                  head=Head(columns=("male",), columns_width=2), loss=Regression(), train=Train(1, 4, precision="fp32"))


@pytest.fixture
def hands(tmp_path):
    """Eight training and two test radiographs of two shapes, as Kaggle ships them."""
    folder, rng = tmp_path / "input" / "bone_age", np.random.default_rng(0)
    for split, ids in (("training", range(8)), ("test", (90, 91))):
        (folder / f"boneage-{split}-dataset").mkdir(parents=True)
        for one in ids:
            picture = rng.integers(0, 255, (60, 48) if one % 2 else (40, 64)).astype(np.uint8)
            cv2.imwrite(str(folder / f"boneage-{split}-dataset" / f"{one}.png"), picture)
    pd.DataFrame({"id": range(8), "boneage": np.arange(8) * 20 + 20, "male": [True, False] * 4}).to_csv(
        folder / "boneage-training-dataset.csv", index=False)
    pd.DataFrame({"Case ID": [90, 91], "Sex": ["F", "M"]}).to_csv(folder / "boneage-test-dataset.csv", index=False)
    return tmp_path


def context_of(folder):
    whole = change(load("bone_age"), plain=unannotated(64, FILM), folds=FoldRecipe(2))
    return make_context(whole, Options(data_dir=str(folder), out_dir=str(folder), device="cpu", workers=1))


def test_without_annotations_every_stage_works_on_whole_films(hands, capsys):
    context = context_of(hands)
    for stage in (make_index, deal_folds, localize, cache, train, predict):
        stage(context)
    assert "nobody annotated a hand" in capsys.readouterr().out
    boxes = pd.read_parquet(context.paths.cache / "boxes.parquet")
    assert (boxes["registered"] == 0).all() and (boxes["flag"] == "").all() and len(boxes) == 10
    assert context.competition.models.final == "film" and not context.stackers
    file = submit(context, "film")
    assert len(pd.read_csv(file)) == 2
    there = apply(context, context.paths.input / "boneage-test-dataset", hands / "there",
                  pd.DataFrame({"id": ["90", "91"], "sex": ["F", "M"]}))
    known = pd.concat([pd.read_parquet(context.paths.oof / "film" / f"fold{fold}_test.parquet") for fold in (0, 1)])
    told = answers(there).set_index("id")["boneage"]
    np.testing.assert_allclose(told, known.groupby("id")["boneage"].mean()[told.index], atol=0.01)


def test_one_mask_is_enough_to_ask_for_the_networks_that_find_hands(hands):
    assert not context_of(hands).competition.localizer.networks
    (hands / "input/bone_age/annotations/masks").mkdir(parents=True)
    cv2.imwrite(str(hands / "input/bone_age/annotations/masks/1.png"), np.zeros((60, 48), np.uint8))
    assert len(context_of(hands).competition.localizer.networks) == 3


def test_a_smoke_run_takes_annotated_hands_before_others(hands):
    """Else none of the first few may be annotated, and no network learns to find hands."""
    masks = hands / "input/bone_age/annotations/masks"
    masks.mkdir(parents=True)
    for one in (3, 6):
        cv2.imwrite(str(masks / f"{one}.png"), np.full((60, 48) if one % 2 else (40, 64), 255, np.uint8))
    for limit, taken in ((1, {"3"}), (2, {"3", "6"}), (4, {"0", "1", "3", "6"}), (0, set("01234567"))):
        context = make_context(load("bone_age"), Options(data_dir=str(hands), out_dir=str(hands), limit=limit, workers=1))
        make_index(context)
        found = pd.read_parquet(context.paths.folds / "index.parquet")
        assert set(found.loc[found["split"] == "train", "id"]) == taken
        assert (found["split"] == "test").sum() == min(limit or 2, 2)


def test_weights_that_travelled_alone_say_whether_hands_were_registered(hands):
    (hands / "away/weights/bone_age/film").mkdir(parents=True)
    away = Options(data_dir=str(hands / "away"), out_dir=str(hands / "away"))
    assert not make_context(load("bone_age"), away).competition.localizer.networks
    (hands / "away/weights/bone_age/hand_mask").mkdir()
    assert make_context(load("bone_age"), away).competition.localizer.networks
