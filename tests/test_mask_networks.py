"""Networks of masks side by side: trained on other folds, scored case by case, slice by slice or in whole volumes."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from competitions import load, studies
from competitions.knee_age.studies import slices
from competitions.knee_age.volume import thinned
from radstack.commands import study as command
from radstack.commands.rates import ESTIMATE, Rate
from radstack.commands.study import context_of
from radstack.core.errors import UserError
from radstack.core.recipe import as_dict, change
from radstack.images.views import Whole
from radstack.nets.backbones import build
from radstack.recipes.experiment import Backbone, Experiment, Optim, Train
from radstack.recipes.localizer import Chain, Step
from radstack.recipes.losses import Dice, Jaccard
from radstack.recipes.study import Cell, MaskNetworks, Study
from radstack.report.studies import measured
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stages import chain as chain_stage
from radstack.stages.mask_networks import pictures_an_epoch, read_scores, scores_file

SIDE, PICTURES, DEPTH = 16, 36, 4
BASE = Experiment("disc_mask", Whole((SIDE, SIDE)), Backbone("radstack/unet", pretrained=False, args={"widths": (4, 8)}),
                  loss=Jaccard(), optim=Optim("adam", lr=2e-2), train=Train(epochs=12, batch_size=4, precision="fp32"))
PIXEL = change(BASE, name="disc_pixel", loss=Jaccard(over="pixel"))
DEEP = change(BASE, name="disc_3d", view=Whole((DEPTH * SIDE, SIDE)), loss=Dice(), train__epochs=25, train__batch_size=2,
              train__channels_last=False,
              backbone=Backbone("radstack/unet_volume", pretrained=False, args={"slices": DEPTH, "widths": (4, 8)}))


def disc(x: float) -> np.ndarray:
    return cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (int(x), 8), 4, 1, -1)


def prepare(folder, rows, side):
    return np.stack([(40 + 150 * disc(x)).astype(np.uint8) for x in rows["x"]]), {}


def known(rows):
    return rows["known"].to_numpy()


def labels(folder, rows, side):
    return np.stack([disc(x) for x in rows["x"]])


def by_fours(rows):
    return np.stack([own.index for _, own in rows.groupby("series")])


def nothing(*_):
    raise AssertionError


def study_of(**fields) -> Study:
    masks = MaskNetworks("disc_mask", (BASE, PIXEL, DEEP), cases=by_fours, joined=("disc_3d",), **fields)
    cells = tuple(Cell(one.name, measure, (one.name,), 0.9, measure=measure) for one in masks.networks
                  for measure in ("dice", "jaccard"))
    return Study("discs", "Discs", "Someone", cells=cells, masks=masks)


@pytest.fixture
def context(tmp_path):
    """Nine volumes of four discs, the last without masks, in three folds; prepared by stage 02."""
    chain = Chain(SIDE, prepare, (Step(BASE, known, labels),), nothing, nothing)
    competition = change(load("bone_age", demo=True), localizer=chain)
    made = make_context(competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path), workers=1, device="cpu"))
    series = [f"v{number // DEPTH}" for number in range(PICTURES)]
    rows = pd.DataFrame({"id": [f"d{number}" for number in range(PICTURES)], "group": series, "series": series,
                         "split": "train", "path": [f"{name}.raw" for name in series], "boneage": 100.0, "male": 1,
                         "x": np.random.default_rng(0).uniform(5, 11, PICTURES), "known": np.arange(PICTURES) < 32})
    made.paths.input.mkdir(parents=True)
    for path in rows["path"].unique():
        (made.paths.input / path).write_bytes(b"disc")
    made.paths.folds.mkdir(parents=True)
    rows.to_parquet(made.paths.folds / "index.parquet")
    folds = pd.DataFrame({"group": sorted(set(series)), "fold": np.arange(9) % 3})
    folds.to_csv(made.paths.folds / "folds.csv", index=False)
    chain_stage.prepare(made, chain)
    return made


def test_each_volume_is_scored_by_networks_that_never_met_it_and_what_is_made_is_kept(context, capsys):
    study = study_of()
    command.study(context, (study,), ("discs",), page=False)
    said = capsys.readouterr().out
    assert "bone_age-demo, 8 annotated cases" in said and "n=8; source 0.900" in said
    own = context_of(context, study)
    table = measured(own, study)
    assert table["n"].tolist() == [8] * 6 and (table["low"] <= table["value"]).all()
    dice, jaccard = (table.loc[table["column"] == measure, "value"].to_numpy() for measure in ("dice", "jaccard"))
    assert (dice > 0.8).all() and (jaccard <= dice).all() and jaccard[2] < dice[2]
    scores = read_scores(own, study.masks, "disc_3d")
    folds = pd.read_csv(context.paths.folds / "folds.csv").set_index("group")["fold"]
    assert sorted(scores["group"]) == [f"v{number}" for number in range(8)]
    assert (scores["fold"].to_numpy() == folds[scores["group"]].to_numpy()).all()
    command.study(context, (study,), ("discs",), page=False)
    assert "to make" not in capsys.readouterr().out


def test_the_steps_own_network_is_that_of_stage_02(context):
    command.study(context, (study_of(folds=(1,)),), (), page=False)
    chain = context.competition.localizer
    weights = chain_stage.weights_file(context, chain.steps[0], 1)
    before = weights.stat().st_mtime_ns
    assert not scores_file(context, "disc_mask", 0).exists()
    chain_stage.learn(context, chain, 1, torch.device("cpu"))
    assert weights.stat().st_mtime_ns == before


def test_a_dry_run_says_runs_and_hours_of_networks_of_masks(context, capsys, monkeypatch):
    rate = Rate(2.0, 4.0, 1e4, 4, 1e6, ESTIMATE, "a short run")
    monkeypatch.setattr(command, "short_run", lambda one, targets, device: rate)
    study = study_of()
    assert pictures_an_epoch(context, study.masks, BASE) == pytest.approx(32 * 2 / 3)
    assert pictures_an_epoch(context, study.masks, DEEP) == pytest.approx(8 * 2 / 3)
    before = sorted(context.paths.out.rglob("*"))
    command.study(change(context, options__dry_run=True), (study,), ("discs",))
    said = capsys.readouterr().out
    assert "disc_mask: 3 runs, 0.11 hours" in said and "9 runs," in said
    assert sorted(context.paths.out.rglob("*")) == before


@pytest.mark.parametrize("demo", [True, False])
def test_networks_of_the_sources_answer_at_the_size_of_their_pictures(demo):
    for name, wanted in (("knee_age", ("networks", "volumes")), ("bone_age", ("masks",))):
        for one in studies(load(name, demo)):
            if one.name not in wanted:
                continue
            base, *others = one.masks.networks
            assert base.name == one.masks.step and base in load(name, demo).localizer.networks
            for network in others:
                with torch.device("meta"):
                    net = build(network.backbone, 1, len(network.view.mean))
                    images = torch.zeros(1, 1, *network.view.size)
                    assert net.head(net.embed(images)).shape == (1, 1, *network.view.size)


def test_the_thesis_networks_have_its_channels():
    made = {one.name: one for one in studies(load("knee_age"))}["networks"].masks.networks
    counts = []
    for one in made:
        with torch.device("meta"):
            counts.append(sum(weight.numel() for weight in build(one.backbone, 1, 1).parameters()))
    assert counts[:5] == [194_561, 332_398, 436_993, 491_113, 1_327_645] and round(counts[5] / 1e6) == 31


def test_a_network_of_volumes_sees_24_slices_every_second_of_41():
    assert thinned(24).tolist() == list(range(24)) and thinned(26).tolist() == list(range(1, 25))
    assert thinned(41).tolist() == [0, 0, *range(1, 40, 2), 40, 40]
    assert thinned(20).tolist() == [0, 0, *range(20), 19, 19]
    rows = pd.DataFrame({"series": ["a"] * 24 + ["b"] * 41, "position": [*range(23, -1, -1), *range(41)]})
    found = slices(rows)
    assert found.shape == (2, 24) and found[0].tolist() == list(range(23, -1, -1)) and found[1, 2] == 24 + 1


def test_a_pixel_of_a_volume_sees_the_slices_above_and_below_and_another_number_of_slices_is_refused():
    torch.manual_seed(0)
    net = build(Backbone("radstack/unet_volume", False, args={"slices": 6, "widths": (4, 8, 8)}), 1, 1).eval()
    images = torch.randn(1, 1, 6 * 10, 12, requires_grad=True)
    net(images)[0, 0, 3 * 10 + 5, 6].backward()
    seen = images.grad.reshape(6, 10, 12).abs().amax((1, 2)) > 0
    assert seen[2:5].all()
    with pytest.raises(UserError, match="made for 6 slices"):
        net(torch.zeros(1, 1, 64, 12))


def test_the_parts_of_a_loss_of_masks_are_said_by_one_word_that_enters_keys_only_where_it_is_set():
    assert "over" not in as_dict(Jaccard()) and as_dict(Jaccard(over="pixel"))["over"] == "pixel"
