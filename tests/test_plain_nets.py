"""Plain networks: the nine of the article with the sizes of each block, initialization, dropout, and what cannot exist."""

import math

import pytest
import torch

from radstack.core.errors import UserError
from radstack.nets.backbones import Net
from radstack.nets.body import Body
from radstack.nets.own import plain, plain_sizes

WIDE, SMALL = ((32, 7), (64, 5), (64, 3), (32, 3)), ((32, 3), (64, 3), (64, 3), (32, 3))
FIVE_SMALL = ((32, 3), (64, 3), (64, 3), (128, 3), (128, 3))
FIVE_WIDE = ((32, 7), (64, 5), (64, 3), (128, 3), (128, 3))
NINE = {1: (WIDE, (1024, 256)), 2: (WIDE, (1024, 1024)), 3: (WIDE, (4096, 1024)),
        4: (SMALL, (1024, 1024)), 5: (SMALL, (4096, 1024)),
        6: (FIVE_SMALL, (1024, 1024)), 7: (FIVE_SMALL, (4096, 1024)),
        8: (FIVE_WIDE, (1024, 1024)), 9: (FIVE_WIDE, (4096, 1024))}
"""Number -> convolutions and dense layers (the article's table)."""
ENDS = {"same": {4: (8, 6), 5: (4, 3)}}
VALID = {1: (5, 3), 2: (5, 3), 3: (5, 3), 4: (6, 4), 5: (6, 4), 6: (2, 1), 7: (2, 1)}
CEIL = {1: (6, 4), 2: (6, 4), 3: (6, 4), 4: (7, 5), 5: (7, 5), 6: (3, 2), 7: (3, 2), 8: (2, 1), 9: (2, 1)}
TINY = {"size": (16, 12), "convs": ((4, 3), (6, 3)), "dense": (10, 8)}


def end_of(number: int, padding: str) -> tuple[int, int]:
    """Height and width after the last block."""
    return {"same": ENDS["same"][len(NINE[number][0])], "valid": VALID.get(number), "valid_ceil": CEIL[number]}[padding]


def made(number: int, padding: str, channels: int = 1) -> Body:
    """A network of the nine without memory for its weights."""
    convs, dense = NINE[number]
    with torch.device("meta"):
        return plain(channels, convs=convs, dense=dense, padding=padding)


@pytest.mark.parametrize("padding", ["same", "valid", "valid_ceil"])
@pytest.mark.parametrize("number", NINE)
def test_the_nine_networks_have_their_sizes(number, padding):
    convs, dense = NINE[number]
    kernels = [kernel for _, kernel in convs]
    if padding == "valid" and number in (8, 9):
        with pytest.raises(UserError, match=r"pool 5 \(kernel 3, padding=valid\) leaves 1 x 0 of 5 x 3; set padding"):
            made(number, padding)
        return
    body, end = made(number, padding), end_of(number, padding)
    assert plain_sizes((128, 96), kernels, padding)[-1] == end and body.width == dense[-1]
    images, sizes = torch.zeros(2, 1, 128, 96, device="meta"), [(128, 96)]
    for block in body.net.blocks:
        images = block(images)
        sizes.append(tuple(images.shape[2:]))
    assert sizes == plain_sizes((128, 96), kernels, padding)
    assert body.net.dense(images).shape == (2, dense[-1])
    pairs = list(zip((1, *(made for made, _ in convs)), convs))
    units = (end[0] * end[1] * convs[-1][0], *dense)
    expected = sum((before * kernel**2 + 1) * after for before, (after, kernel) in pairs)
    expected += sum((before + 1) * after for before, after in zip(units, dense))
    assert sum(p.numel() for p in body.net.parameters()) == expected


def test_the_widths_that_leave_nothing_are_the_specified_ones():
    widths = [width for _, width in plain_sizes((128, 96), [7, 5, 3, 3], "valid")]
    assert widths == [96, 45, 20, 9, 3]
    assert plain_sizes((128, 96), [3] * 4, "same") == [(128, 96), (64, 48), (32, 24), (16, 12), (8, 6)]
    assert plain_sizes((7, 5), [3], "valid") == [(7, 5), (2, 1)]
    assert plain_sizes((7, 5), [3], "valid_ceil") == [(7, 5), (3, 2)]


def test_the_default_is_the_third_network():
    with torch.device("meta"):
        default = plain(1)
    third = made(3, "same")
    assert {key: value.shape for key, value in default.net.state_dict().items()} == {
        key: value.shape for key, value in third.net.state_dict().items()}


def test_a_block_is_conv_relu_pool_and_the_end_is_linear_relu_dropout():
    net = plain(1, **TINY, dropout=0.4).net
    assert [type(layer).__name__ for layer in net.blocks[1]] == ["Conv2d", "ReLU", "MaxPool2d"]
    assert [[type(part).__name__ for part in layer] for layer in list(net.dense)[1:]] == [["Linear", "ReLU", "Dropout"]] * 2
    assert net.blocks[0][0].stride == (1, 1) and net.blocks[0][2].kernel_size == 2 and net.dense[1][2].p == 0.4


def test_weights_are_xavier_uniform_and_biases_zero():
    torch.manual_seed(0)
    net = plain(3, size=(32, 24), convs=((32, 5), (64, 3)), dense=(256,)).net
    fans = {"blocks.1.0": (32 * 9, 64 * 9), "dense.1.0": (8 * 6 * 64, 256)}
    for name, fan in fans.items():
        layer = net.get_submodule(name)
        bound = math.sqrt(6 / sum(fan))
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_dropout_drops_while_training_alone_and_can_be_off():
    torch.manual_seed(0)
    images = torch.rand(2, 1, 16, 12)
    net, off = plain(1, **TINY).net, plain(1, **TINY, dropout=0.0).net
    assert not torch.equal(net(images), net(images)) and torch.equal(off(images), off(images))
    assert torch.equal(net.eval()(images), net(images))


@pytest.mark.parametrize("padding", ["same", "valid", "valid_ceil"])
def test_everything_is_trained_through_a_head(padding):
    torch.manual_seed(0)
    net = Net(plain(2, **TINY, padding=padding, dropout=0.0), 3, 0.0)
    net(torch.randn(8, 2, 16, 12)).square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert net.embed(torch.randn(1, 2, 16, 12)).shape == (1, 8)


def test_a_whole_networks_file_gives_the_trunk():
    body = plain(1, **TINY)
    whole = Net(plain(1, **TINY), 3, 0.0).state_dict()
    trunk = {key: value for key, value in body.rename_keys(whole).items() if not key.startswith(body.classifier)}
    body.net.load_state_dict(trunk)
    assert torch.equal(body.net.blocks[0][0].weight, whole["body.blocks.0.0.weight"])


@pytest.mark.parametrize(("args", "message"), [
    ({"padding": "full"}, "no padding for radstack/plain, 'full'"),
    ({"size": (4, 4), "padding": "valid", "convs": ((8, 5),)}, r"convolution 1 \(kernel 5, padding=valid\) leaves 0 x 0"),
    ({"size": (4, 4), "padding": "valid_ceil", "convs": ((8, 9),)}, "leaves 0 x 0 of 4 x 4"),
    ({"size": (2, 2), "convs": ((8, 3), (8, 3))}, r"pool 2 \(kernel 3, padding=same\) leaves 0 x 0 of 1 x 1"),
    ({"convs": ((0, 3),)}, "hold numbers below 1"),
    ({"convs": ((8, 0),)}, "hold numbers below 1"),
    ({"dense": (0,)}, "hold numbers below 1"),
])
def test_a_network_that_cannot_exist_says_so(args, message):
    with pytest.raises(UserError, match=message):
        plain(1, **args)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"made for pictures of \(16, 12\), not \(12, 16\)"):
        plain(1, **TINY).net(torch.zeros(1, 1, 12, 16))
