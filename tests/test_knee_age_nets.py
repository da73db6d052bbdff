"""The knee's networks: additive skips, parameters of each model, an encoder from a segmentation net; Dice loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from radstack.core.errors import UserError
from radstack.images.views import Whole
from radstack.nets import Dense, Net, build
from radstack.nets.objectives import objective
from radstack.nets.own import grow
from radstack.recipes.experiment import Backbone, Experiment, Optim, Train
from radstack.recipes.losses import Dice, Jaccard
from radstack.training.loader import Batch
from radstack.training.run import Learner

SMALL = {"width": 4, "depth": 2, "dropout": 0.0}


@pytest.fixture(autouse=True)
def one_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def made(name: str, outputs: int = 1, channels: int = 1, **args) -> Net:
    return build(Backbone(f"radstack/{name}", pretrained=False, dropout=0.0, args=args), outputs, channels)


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# The U-Net that adds

@pytest.mark.parametrize(("args", "count", "widths"), [
    ({}, 194_561, (32, 32, 32, 32, 32)),
    ({"width": 16, "growth": 1.5}, 332_398, (16, 24, 36, 54, 81)),
    ({"width": 48}, 436_993, (48, 48, 48, 48, 48)),
    ({"width": 8, "growth": 2}, 491_113, (8, 16, 32, 64, 128)),
    ({"width": 32, "growth": 1.5}, 1_327_645, (32, 48, 72, 108, 162)),
], ids="ABCDE")
def test_the_models_of_the_thesis_have_their_parameters(args, count, widths):
    """The thesis rounds them to 195k, 332k, 437k, 491k and 1.33 M."""
    net = made("unet_sum", **args)
    assert parameters(net) == count and grow(args.get("width", 32), 4, args.get("growth", 1.0)) == widths
    # convolutions 3x3 with a bias: two a block down and in the middle, then one transposed and two at each step up
    convolution, steps = (lambda a, b: 9 * a * b + b), list(zip(widths[::-1], widths[::-1][1:]))
    down = sum(convolution(a, b) + convolution(b, b) for a, b in zip((1, *widths), widths))
    up = sum(convolution(a, b) + 2 * convolution(b, b) for a, b in steps)
    assert count == down + up + widths[0] + 1
    encoder = made("unet_sum_encoder", **args)
    assert parameters(encoder) == down + widths[-1] + 1 and encoder.width == widths[-1]


def test_a_block_is_convolution_elu_twice_with_dropout_in_the_middle_alone():
    net = made("unet_sum").body
    kinds = [type(layer).__name__ for layer in net.middle]
    assert kinds == ["Conv2d", "ELU", "Dropout", "Conv2d", "ELU"] and net.middle[2].p == 0.5
    assert [block[2].p for block in (*net.down, *net.join)] == [0.0] * 8
    assert not [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [type(layer).__name__ for layer in net.up[0]] == ["ConvTranspose2d", "ELU"]
    assert net.up[0][0].kernel_size == (3, 3) and net.up[0][0].stride == (2, 2)


@pytest.mark.parametrize("growth", [1.0, 1.5])
@pytest.mark.parametrize("size", [(16, 16), (24, 16)])
def test_it_answers_at_the_size_of_the_picture_and_all_of_it_learns(size, growth):
    net = made("unet_sum", 2, 3, **SMALL | {"growth": growth})
    out = net(torch.randn(2, 3, *size))
    assert isinstance(net, Dense) and out.shape == (2, 2, *size)
    out.square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_skips_are_added():
    net = made("unet_sum", **SMALL).eval().body
    images, seen, came = torch.randn(1, 1, 16, 16), [], []
    net.join[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.up[-1].register_forward_hook(lambda _, __, out: came.append(out))
    net(images)
    torch.testing.assert_close(seen[0], net.down[0](images) + came[0])


def test_dropout_acts_in_training_alone():
    net, images = made("unet_sum", width=4, depth=2), torch.randn(1, 1, 16, 16)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


def test_the_signal_arrives_at_the_start():
    """Eighteen layers without batch norm: uniform weights of Glorot keep about the size of what comes in."""
    net = made("unet_sum").eval()
    spread = net.embed(torch.randn(1, 1, 64, 64)).std().item()
    assert 0.05 < spread < 5
    assert all(not p.any() for key, p in net.body.named_parameters() if key.endswith("bias"))


@pytest.mark.parametrize(("make", "says"), [
    (lambda: made("unet_sum", **SMALL)(torch.zeros(1, 1, 16, 18)), r"unet_sum halves 2 times.*divide by 4, not \(16, 18\)"),
    (lambda: made("unet_sum", width=0), "at least one halving and one channel"),
    (lambda: made("unet_sum", depth=0), "at least one halving"),
    (lambda: made("unet_sum_encoder", width=4, growth=0.5), r"give the channels \[4, 2, 1, 0, 0\]"),
    (lambda: made("unet_sum", dropout=1.5), "check backbone.args"),
    (lambda: made("unet_sum", widths=(4, 8)), "check backbone.args"),
    (lambda: build(Backbone("radstack/unet_sum_encoder"), 1, 1), "has no published weights"),
])
def test_impossible_networks(make, says):
    with pytest.raises(UserError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


# The encoder

def start(folder, **args) -> Net:
    backbone = Backbone("radstack/unet_sum_encoder", weights="bones.safetensors", args=SMALL | args)
    return build(backbone, 1, 1, folder)


@pytest.mark.parametrize("whole", [True, False])
def test_the_encoder_starts_from_a_segmentation_network(tmp_path, whole):
    teacher = made("unet_sum", **SMALL)
    save_file((teacher if whole else teacher.body).state_dict(), tmp_path / "bones.safetensors")
    net = start(tmp_path).eval()
    assert isinstance(net, Net) and not isinstance(net, Dense) and "dropped" in net.start
    for key, value in net.body.state_dict().items():
        torch.testing.assert_close(value, teacher.body.state_dict()[key], rtol=0, atol=0)
    images = torch.randn(2, 1, 16, 16)
    deepest = teacher.eval().body.descend(images)[0]
    assert deepest.shape == (2, 4, 4, 4) and net.embed(images).shape == (2, 4) and net(images).shape == (2, 1)
    torch.testing.assert_close(net.embed(images), deepest.mean((2, 3)))


def test_a_file_without_a_part_of_the_encoder_is_refused(tmp_path):
    state = made("unet_sum", **SMALL).state_dict()
    del state["body.middle.3.weight"]
    save_file(state, tmp_path / "bones.safetensors")
    with pytest.raises(UserError, match=r"it has no middle\.3\.weight\."):
        start(tmp_path)


def test_a_file_of_another_depth_width_or_kind_is_refused(tmp_path):
    save_file(made("unet_sum", **SMALL | {"depth": 3}).state_dict(), tmp_path / "bones.safetensors")
    with pytest.raises(UserError, match=r"has extra down\.2"):
        start(tmp_path)
    with pytest.raises(UserError, match="another shape"):
        start(tmp_path, depth=3, width=5)
    save_file(made("unet", widths=(4, 4, 4)).state_dict(), tmp_path / "bones.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        start(tmp_path)


def test_the_whole_network_does_not_pass_for_one_without_its_way_up(tmp_path):
    save_file(made("unet_sum_encoder", **SMALL).state_dict(), tmp_path / "bones.safetensors")
    with pytest.raises(UserError, match=r"has no join\."):
        build(Backbone("radstack/unet_sum", weights="bones.safetensors", args=SMALL), 1, 1, tmp_path)


# Dice over the batch

def logits(probability: list) -> torch.Tensor:
    """Logits [batch, 1, 1, pixels] of the given probabilities [batch, pixels]."""
    return torch.logit(torch.tensor(probability, dtype=torch.float64))[:, None, None]


MASKS = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).byte()[:, None]
P = [[0.9, 0.6, 0.2, 0.1], [0.3, 0.1, 0.1, 0.1]]
"""sum yp = 1.5, sum y = 2, sum p = 1.8 + 0.6"""


def test_dice_by_hand():
    loss, rows = objective(Dice(), ())(logits(P), MASKS)
    assert loss.item() == pytest.approx(1 - (2 * 1.5 + 1) / (2 + 2.4 + 1))
    assert rows.tolist() == pytest.approx([1 - (3 + 1) / (2 + 1.8 + 1), 1 - 1 / (0.6 + 1)])
    assert loss.item() != pytest.approx(rows.mean().item(), abs=1e-2), "the batch is one picture"
    assert loss.dtype == torch.float32 and not rows.requires_grad


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("smooth", [1e-6, 1.0])
def test_f_beta_in_its_general_form(beta, smooth):
    loss, _ = objective(Dice(smooth, beta), ())(logits(P), MASKS)
    tp, fn, fp, b = 1.5, 0.5, 0.9, beta**2
    assert loss.item() == pytest.approx(1 - ((1 + b) * tp + smooth) / ((1 + b) * tp + b * fn + fp + smooth))
    if smooth < 1:
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        assert loss.item() == pytest.approx(1 - (1 + b) * precision * recall / (b * precision + recall), abs=1e-5)


def test_two_weighs_recall_more():
    y, missed = torch.tensor([[[1, 1, 0, 0]]]).byte(), logits([[0.99, 0.01, 0.01, 0.01]])
    surplus = logits([[0.99, 0.99, 0.99, 0.01]])
    objectives = [objective(Dice(beta=beta), ()) for beta in (1, 2)]
    ratios = [dice(missed, y)[0] / dice(surplus, y)[0] for dice in objectives]
    assert ratios[1] > 1.5 * ratios[0]


def test_an_empty_mask_is_no_error_and_a_right_one_costs_nothing():
    dice, empty = objective(Dice(), ()), torch.zeros(2, 5, 5).byte()
    assert dice(torch.full((2, 1, 5, 5), -30.0), empty)[0].item() == pytest.approx(0, abs=1e-6)
    assert dice(torch.full((2, 1, 5, 5), 30.0), 1 - empty)[0].item() == pytest.approx(0, abs=1e-6)
    assert dice(torch.full((2, 1, 5, 5), 30.0), empty)[0].item() == pytest.approx(1 - 1 / 51)


def test_it_answers_as_the_other_loss_of_masks_and_in_single_precision():
    out = torch.randn(2, 1, 4, 5).bfloat16()
    answer = objective(Dice(), ("0",)).answer(out)
    torch.testing.assert_close(answer, objective(Jaccard(), ()).answer(out))
    assert answer.dtype == torch.float32 and answer.shape == (2, 4, 5) and Dice.moves_with_picture == "mask"
    labels = (torch.rand(2, 4, 5) < 0.5).byte()
    loss, _ = objective(Dice(), ())(out, labels)
    torch.testing.assert_close(loss, objective(Dice(), ())(out.float(), labels)[0])


@pytest.mark.parametrize(("recipe", "targets", "says"), [
    (Dice(smooth=0.0), (), "loss.smooth is 0.0"), (Dice(beta=-1.0), (), "loss.beta is -1.0"),
    (Dice(), ("femur", "tibia"), "Dice takes one mask, not 2 targets"),
])
def test_impossible_recipes(recipe, targets, says):
    with pytest.raises(UserError, match=says):
        objective(recipe, targets)


def test_steps_lower_the_loss_and_find_the_object():
    """Bright squares on noise, some pictures without one."""
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 32, 32), np.uint8)
    for mask in masks[:9]:
        y, x = rng.integers(2, 18, 2)
        mask[y:y + 12, x:x + 12] = 1
    pictures = np.clip(rng.normal(60, 10, masks.shape) + 100 * masks, 0, 255).astype(np.uint8)
    backbone = Backbone("radstack/unet_sum", False, dropout=0.0, args={"width": 8, "depth": 2})
    experiment = Experiment("tiny", Whole((32, 32)), backbone, optim=Optim("adam", lr=1e-2), train=Train(precision="fp32"))
    learner = Learner(replace(experiment, loss=Dice()), (), build(backbone, 1, 1), torch.device("cpu"))
    batch = Batch(torch.from_numpy(pictures[:, None]), torch.from_numpy(masks), torch.zeros(12, 0), torch.arange(12))
    losses = [learner.step([batch], 0.0, number)[1] for number in range(40)]
    assert losses[-1] < 0.1 < losses[0]
    learner.net.eval()
    with torch.no_grad():
        found = learner.loss.answer(learner.net(learner.normalize(batch.images))) > 0.5
    assert (found[:9] & (batch.targets[:9] > 0)).sum() > 0.95 * batch.targets.sum() and not found[9:].any()
