"""What the report shows of a case: Grad-CAM on a planted blob and on every source of networks, and two views of cases."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from competitions.ich import cases as ich
from competitions.ich import hu
from competitions.ich.labels import TARGETS
from competitions.ich.views import three_windows
from competitions.knee_age import cases as knee
from competitions.knee_age.localizer import MASKS
from competitions.knee_age.pictures import COLORS, outlined
from competitions.knee_age.views import Knee
from radstack.core.artifact import manifest_of
from radstack.core.files import write_json
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.images.views import Channel
from radstack.images.views import Slices as View
from radstack.nets import build
from radstack.nets.objectives import objective
from radstack.recipes.competition import Cases
from radstack.recipes.experiment import Backbone, Experiment, Head, Train
from radstack.recipes.losses import Regression
from radstack.report import gradcam
from radstack.report.blocks import Picture, Slices
from radstack.report.cases import Case
from radstack.report.gradcam import best_network, channels_first, class_map, heat, last_map

SIDE, BLOB = 32, (slice(8, 16), slice(16, 24))
ENCODER = Backbone("radstack/unet_sum_encoder", pretrained=False, args={"width": 1, "depth": 2, "dropout": 0.0})
SPOT = Experiment(name="spot", view=View((Channel((50.0, 100.0)),), SIDE, (0.0,), (255.0,)), backbone=ENCODER,
                  train=Train(precision="bf16"))


def copying(net: torch.nn.Module, sign: float) -> None:
    """Make every convolution of one channel hand on its input; the head adds ``sign`` times the mean of that."""
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data.zero_()
            module.weight.data[:, :, 1, 1] = 1
            module.bias.data.zero_()
    net.head.weight.data[:] = torch.tensor([[sign], [-sign]])


def weights_of(experiment: Experiment, targets: tuple[str, ...], file: Path, sign: float | None = None) -> Path:
    """Weights of a network of ``experiment`` without training, hand-set where ``sign`` is given."""
    judge = objective(experiment.loss, targets)
    torch.manual_seed(0)
    net = build(experiment.backbone, judge.outputs, len(experiment.view.mean), head=experiment.head, shares=judge.shares)
    if sign is not None:
        copying(net, sign)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), file)
    return file


@pytest.fixture
def spotted(tmp_path: Path) -> tuple[pd.DataFrame, Shards]:
    """Two pictures of zeros, the second with a bright blob."""
    pictures = np.zeros((2, SIDE, SIDE), np.int16)
    pictures[1][BLOB] = 100
    write_shard(shard_path(tmp_path, 0), [lambda one=one: one for one in pictures], (SIDE, SIDE))
    rows = pd.DataFrame({"id": ["a", "b"], "series": "s", "position": [0, 1], "shard": 0, "slot": [0, 1], "male": [0, 1]})
    return rows, Shards(tmp_path)


def test_heat_lies_on_the_blob_that_speaks_for_a_target_and_off_it_for_the_other(spotted, tmp_path):
    rows, cache = spotted
    weights = weights_of(SPOT, ("up", "down"), tmp_path / "spot.safetensors", sign=1.0)
    up, down = (heat(SPOT, ("up", "down"), weights, rows, 1, name, cache, torch.device("cpu")) for name in ("up", "down"))
    assert up.shape == (SIDE, SIDE) and up.dtype == np.float32
    assert up.max() == 1 and up[BLOB].mean() > 0.7
    outside = np.ones_like(up, bool)
    outside[4:20, 12:28] = False  # a pixel of the map has 4 x 4 of the picture
    assert up[outside].max() < 0.01
    assert down.max() == 0  # nothing in the picture speaks for it


def test_a_network_is_loaded_once_and_again_when_it_was_trained_anew(spotted, tmp_path, monkeypatch):
    rows, cache = spotted
    monkeypatch.setattr(gradcam, "NETS", {})
    file = weights_of(SPOT, ("up", "down"), tmp_path / "spot.safetensors", sign=1.0)
    for row in (0, 1):
        heat(SPOT, ("up", "down"), file, rows, row, "up", cache, torch.device("cpu"))
    assert len(gradcam.NETS) == 1
    weights_of(SPOT, ("up", "down"), file, sign=-1.0)
    assert heat(SPOT, ("up", "down"), file, rows, 1, "up", cache, torch.device("cpu")).max() == 0
    for number in range(gradcam.KEPT + 1):
        heat(SPOT, ("up", "down"), weights_of(SPOT, ("up", "down"), tmp_path / f"{number}.safetensors", 1.0), rows, 1, "up",
             cache, torch.device("cpu"))
    assert len(gradcam.NETS) == gradcam.KEPT


@pytest.mark.parametrize("change_it", [{"loss": Regression(17.5, 1.5)}, {"head": Head(("male",), 4, (6,))}])
def test_heat_of_numbers_and_of_a_network_that_is_told_more(spotted, tmp_path, change_it):
    rows, cache = spotted
    experiment = change(SPOT, **change_it)
    weights = weights_of(experiment, ("up",), tmp_path / "one.safetensors")
    found = heat(experiment, ("up",), weights, rows, 1, "up", cache, torch.device("cpu"))
    assert found.shape == (SIDE, SIDE) and np.isfinite(found).all()


def test_with_global_pooling_and_one_linear_layer_it_is_the_class_activation_map():
    """Section 3.1 of the paper: the weights of the last layer are the channels' weights, but for the number of pixels."""
    torch.manual_seed(0)
    net = build(change(ENCODER, args={"width": 6, "depth": 2, "dropout": 0.0}), 2, 3).eval()
    features, outputs = last_map(net, torch.randn(1, 3, 32, 32))
    gradient = torch.autograd.grad(outputs[0, 1], features)[0]
    expected = (net.head.weight[1][:, None, None] * features[0]).sum(0).relu() / features[0, 0].numel()
    torch.testing.assert_close(class_map(features, gradient), expected)


NETWORKS = {
    "timm/test_resnet": ({}, (64, 64), (8, 8)),
    "timm/test_byobnet": ({}, (256, 192), (16, 12)),
    "timm/test_vit": ({}, (160, 160), None),
    "timm/swin_tiny_patch4_window7_224": ({"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}, (224, 224),
                                          (7, 7)),
    "torchvision/shufflenet_v2_x0_5": ({}, (224, 224), (7, 7)),
    "torchvision/alexnet": ({}, (64, 64), (7, 7)),  # its pool to 6 x 6 makes a map that is none
    "torchvision/densenet121": ({}, (64, 64), (8, 8)),
    "pretrainedmodels/resnet18": ({}, (64, 64), (8, 8)),
    "efficientnet_pytorch/efficientnet-b0": ({"width_coefficient": 0.25, "depth_coefficient": 0.25}, (64, 64), (8, 8)),
    "radstack/unet_sum_encoder": ({"width": 4, "depth": 2}, (32, 32), (8, 8)),
    "radstack/vgg_elu": ({"size": (48, 48), "widths": (4, 4), "dense": (8,)}, (48, 48), (11, 11)),
    "radstack/plain": ({"size": (32, 24), "convs": ((4, 3), (4, 3), (4, 3)), "dense": (8,)}, (32, 24), (16, 12)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_map_of_every_source_of_networks(name):
    args, size, expected = NETWORKS[name]
    torch.manual_seed(0)
    net = build(Backbone(name, pretrained=False, args=args), 2, 3).eval()
    features, outputs = last_map(net, torch.rand(1, 3, *size))
    assert outputs.shape == (1, 2)
    if expected is None:
        assert features is None
        return
    assert tuple(channels_first(features, size).shape[2:]) == expected
    assert torch.autograd.grad(outputs[0, 1], features)[0].abs().sum() > 0
    assert not any(module._forward_hooks for module in net.body.modules())


def test_the_map_is_all_that_later_layers_see_not_one_branch_of_a_residual_block():
    torch.manual_seed(0)
    net = build(Backbone("timm/test_resnet", pretrained=False), 2, 3).eval()
    kept = []
    net.body.layer2.register_forward_hook(lambda module, _, made: kept.append(made))
    features, outputs = last_map(net, torch.rand(1, 3, 64, 64))
    assert features is kept[0]  # layer3 begins with maps of the same size, inside a branch
    assert outputs.grad_fn is not None


def test_networks_that_answer_in_maps_have_no_heat(spotted, tmp_path):
    rows, cache = spotted
    dense = change(SPOT, backbone=Backbone("radstack/unet", pretrained=False, args={"widths": (4, 8)}))
    assert heat(dense, ("up",), weights_of(dense, ("up",), tmp_path / "dense.safetensors"), rows, 1, "up", cache) is None


def test_the_best_network_of_a_fold_is_the_one_with_the_least_score_that_is_kept(tmp_path):
    paths, experiments = Paths(tmp_path, tmp_path, "c", "c"), [change(SPOT, name=name) for name in "abc"]
    assert best_network(experiments, paths, 0) is None
    for name, score in (("a", 0.3), ("b", 0.2), ("c", 0.1)):
        write_json(manifest_of(paths.oof / name / "fold0.parquet"), {"score": score})
    for name in "ab":
        weights_of(SPOT, ("up",), paths.weights / name / "fold0.safetensors")
    experiment, weights = best_network(experiments, paths, 0)
    assert experiment.name == "b" and weights == paths.weights / "b" / "fold0.safetensors"
    assert best_network(experiments, paths, 1) is None


def size_of(src: str) -> tuple[int, int]:
    """Width and height of a data URI's picture."""
    return Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))).size


def make_cases(rows: pd.DataFrame, predicted: dict[str, np.ndarray],
               experiments: tuple[Experiment, ...]) -> tuple[Case, Cases]:
    """A case of all ``rows`` in fold 0, and what the report knows beside."""
    table = pd.DataFrame({"id": rows["id"]})
    tables = dict.fromkeys(predicted, table)
    case = Case("s", ("worst",), (), 0, 0.5, 0.1, rows, predicted)
    return case, Cases("final", tables, tables, rows, rows, rows, rows, experiments)


@pytest.fixture
def head_series(tmp_path: Path) -> tuple[Case, Cases, Paths]:
    """Five slices of which 1 to 3 are labeled subdural; the final model misses 3, a network answers nothing."""
    paths, slices = Paths(tmp_path, tmp_path, "ich", "ich"), np.arange(5)
    write_shard(shard_path(paths.cache, 0), [lambda: np.full((64, 64), 40, np.int16)] * 5, (64, 64))
    rows = pd.DataFrame({"id": [f"ID_{one}" for one in slices], "series": "s", "position": slices, "path": "gone.dcm",
                         "top": 0, "left": 0, "side": 64, "shard": 0, "slot": slices} | dict.fromkeys(TARGETS, 0.0))
    rows.loc[1:3, ["subdural", "any"]] = 1.0
    said = np.full((5, 6), 0.02, np.float32)
    said[:, 4] = said[:, 5] = (0.1, 0.9, 0.8, 0.05, 0.2)
    said[0, 0] = 0.7  # a false epidural
    network = change(SPOT, name="net", view=three_windows(64), backbone=Backbone("timm/test_resnet", pretrained=False))
    silent = np.full((5, 6), np.nan, np.float32)
    predicted = {"net": said * 0.9, "silent": silent, "final": said}
    return *make_cases(rows, predicted, (network, change(network, name="silent"))), paths


def test_a_series_shows_its_worst_slice_of_the_label_it_has(head_series):
    case, cases, paths = head_series
    assert ich.main_target(case, "final") == "subdural"
    stack, *pictures = ich.view(case, cases, paths)
    assert isinstance(stack, Slices) and stack.count == 5 and stack.start == 3
    assert stack.marks == ("wrong", "true", "true", "wrong", "")
    assert stack.captions[1] == "Slice 1 (ID_1). Labeled: subdural, any. final: subdural 0.90, any 0.90."
    assert "epidural 0.70" in stack.captions[0] and "Labeled: none" in stack.captions[0]
    assert size_of(stack.src) == (5 * ich.SIDE, ich.SIDE)
    assert "labeled subdural" in stack.svg and "silent" not in stack.svg
    assert [picture.caption.partition(",")[0] for picture in pictures] == ["Slice 3", "Slice 1"]
    assert "given 0.05, labeled positive" in pictures[0].caption and "Grad-CAM" not in pictures[0].caption
    assert size_of(pictures[0].src) == (3 * ich.LARGE, ich.LARGE)


def test_a_series_without_a_label_shows_what_was_taken_for_one(head_series):
    case, cases, paths = head_series
    rows = case.rows.assign(**dict.fromkeys(TARGETS, 0.0))
    alone = Case("s", (), (), 0, 0.5, 0.1, rows, case.predicted)
    assert ich.main_target(alone, "final") == "subdural"
    stack, picture = ich.view(alone, cases, paths)
    assert stack.start == 1 and "labeled negative" in picture.caption


def test_grad_cam_stands_beside_the_brain_window_where_the_folds_network_is_kept(head_series):
    case, cases, paths = head_series
    weights_of(cases.experiments[0], TARGETS, paths.weights / "net" / "fold0.safetensors")
    write_json(manifest_of(paths.oof / "net" / "fold0.parquet"), {"score": 0.1})
    picture = ich.view(case, cases, paths)[1]
    assert size_of(picture.src) == (2 * ich.LARGE, 2 * ich.LARGE)
    assert "to net, the best network of fold 0, which gives 0.04" in picture.caption


def test_a_slice_is_cut_from_its_file_as_long_as_that_is_there(head_series, monkeypatch):
    case, _, paths = head_series
    row = next(case.rows.itertuples())
    assert (ich.pixels(paths, Shards(paths.cache), row, 96) == 40).all()
    paths.input.mkdir(parents=True)
    (paths.input / "gone.dcm").touch()
    monkeypatch.setattr(ich, "read_stored", lambda path: (None, None))
    monkeypatch.setattr(hu, "to_hu", lambda stored, header: np.full((64, 64), 60, np.int16))
    assert (ich.pixels(paths, Shards(paths.cache), row, 96) == 60).all()


@pytest.fixture
def knee_volume(tmp_path: Path) -> tuple[Case, Cases, Paths]:
    """Three slices with a femur above and a tibia below; the last one looks three years too old."""
    paths, side = Paths(tmp_path, tmp_path, "knee", "knee"), 32
    planes = np.full((side, 5 * side), 96, np.uint8)
    planes[:, side:] = 0
    for plane, part in ((1, slice(2, 30)), (2, slice(2, 14)), (3, slice(18, 30))):
        planes[part, plane * side + 6:plane * side + 26] = 255
    write_shard(shard_path(paths.cache, 0), [lambda: planes] * 3, planes.shape, "uint8")
    rows = pd.DataFrame({"id": ["s_0", "s_1", "s_2"], "series": "s", "position": [10, 11, 12], "shard": 0, "slot": [0, 1, 2],
                         "age_years": 18.0, "flag": ["", "", "no bone"]})
    network = Experiment("masked_pretrained", Knee(side), ENCODER, loss=Regression(17.5, 1.5), train=Train(precision="fp16"))
    predicted = {"masked_pretrained": np.array([[18.2], [17.5], [21.0]], np.float32),
                 "final": np.full((3, 1), 18.4, np.float32)}
    return *make_cases(rows, predicted, (network,)), paths


def test_a_volume_shows_the_age_of_each_slice_and_starts_with_the_farthest_off(knee_volume):
    case, cases, paths = knee_volume
    stack, = knee.view(case, cases, paths)  # no weights: no Grad-CAM
    assert stack.count == 3 and stack.start == 2 and stack.marks == ("", "", "wrong")
    assert re.match(r"Slice 2 \(number 12 of the volume\). masked_pretrained 21.0 years, .* 18.4, label 18.0. Local",
                    stack.captions[2])
    assert size_of(stack.src) == (3 * knee.SIDE, knee.SIDE)
    assert "final 18.40" in stack.svg and "label 18.00" in stack.svg
    weights_of(cases.experiments[0], ("age_years",), paths.weights / "masked_pretrained" / "fold0.safetensors")
    write_json(manifest_of(paths.oof / "masked_pretrained" / "fold0.parquet"), {"score": 0.7})
    _, picture = knee.view(case, cases, paths)
    assert isinstance(picture, Picture) and size_of(picture.src) == (3 * knee.LARGE, knee.LARGE)
    assert "Slice 1" in picture.caption and "17.5 years" in picture.caption


def test_outlines_run_around_the_bones_in_their_colors():
    maps = np.zeros((len(MASKS), 40, 40), np.uint8)
    maps[MASKS.index("tibia"), 10:30, 10:30] = 255
    made = outlined(np.full((40, 40), 96, np.uint8), maps, 120)
    assert made.shape == (120, 120, 3)
    colored = (made.max(axis=2) - made.min(axis=2)) > 40
    assert colored[58:62, 26:34].any() and not colored[40:80, 40:80].any() and not colored[:20].any()
    strongest = made.reshape(-1, 3)[np.ptp(made.reshape(-1, 3).astype(int), axis=1).argmax()]
    assert np.abs(strongest - [int(COLORS["tibia"][at:at + 2], 16) for at in (1, 3, 5)]).max() < 16
