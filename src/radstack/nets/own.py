"""Networks of the source ``radstack``: written here, published by nobody, so always trained from scratch."""

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import nn

from radstack.core.errors import UserError
from radstack.nets.body import Body, Origin, State
from radstack.nets.plain import plain
from radstack.nets.unets import SumEncoder, SumUnet, Unet

WIDTHS = (32, 64, 128, 128, 256, 384)
"""Channels of the six blocks: the article prints five numbers, its authors' code repeats 128 (Iglovikov 2018,
neuro-inc/ml-recipe-bone-age)."""


def vgg_elu(channels: int, *, size: tuple[int, int], widths: tuple[int, ...] = WIDTHS, second: int = 1,
            dense: tuple[int, ...] = (2048, 2048), dropout: float = 0.3) -> Body:
    """Blocks of convolution 3x3, ELU, batch norm, convolution, ELU, batch norm, max pool 3x3 of stride 2; dense layers.

    The regression network of Iglovikov 2018, by its authors' later code where the article is silent.

    Args:
        channels: of the picture.
        size: height and width of the picture, on which the dense layers depend.
        widths: channels of each block.
        second: kernel of the second convolution; the code has 1, the article's net for key points is built with 3.
        dense: units of the dense layers, each with ELU, that end the trunk.
        dropout: rate before each of them.

    Raises:
        UserError: nothing is left of the picture, or the second kernel is even.
    """
    height, width = trace(tuple(size), len(widths))[-1]
    if second % 2 == 0:
        raise UserError(f"radstack/vgg_elu: second={second} has no center; use 1 or 3 in backbone.args")
    blocks = [_vgg_block(before, after, second) for before, after in pairwise((channels, *widths))]
    units = (height * width * widths[-1], *dense)
    layers = [nn.Sequential(nn.Dropout(dropout), nn.Linear(before, after), nn.ELU(inplace=True))
              for before, after in pairwise(units)]
    net = _Sized(tuple(size), nn.Sequential(*blocks), nn.Sequential(nn.Flatten(), *layers))
    return Body(net, units[-1], _whole, LAST, Origin("", ""), _own_file)


def trace(size: tuple[int, ...], blocks: int) -> list[tuple[int, int]]:
    """Height and width after each of ``blocks`` pools 3x3 of stride 2 without padding; nothing left is a UserError."""
    height, width = size
    sizes = []
    for _ in range(blocks):
        height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
        sizes.append((height, width))
    if min(height, width) < 1:
        raise UserError(f"radstack/vgg_elu: {blocks} blocks leave nothing of a picture of {size[0]} x {size[1]}; name "
                        "fewer widths or a larger size in backbone.args")
    return sizes


def unet(channels: int, *, widths: tuple[int, ...] = (32, 64, 128, 256, 512)) -> Body:
    """U-Net with batch norm (Ronneberger 2015, with padding, so that the map has the picture's size).

    Args:
        channels: of the picture.
        widths: channels at full size, at half of it ...; height and width must divide by 2 for each but the first.
    """
    return Body(Unet(channels, widths), widths[0], _whole, LAST, Origin("", ""), _own_file, dense=True)


def unet_sum(channels: int, *, width: int = 32, depth: int = 4, dropout: float = 0.5, growth: float = 1.0) -> Body:
    """U-Net of blocks convolution 3x3, ELU, convolution, ELU without batch norm, with skips by addition.

    Model A of Pietz 2018 (pietz/knee-mri-segmentation): 194,561 parameters for one channel and one output. Its others are
    B width 16, growth 1.5 (332,398), C 48, 1 (436,993), D 8, 2 (491,113) and E 32, 1.5 (1,327,645).

    Args:
        channels: of the picture.
        width: channels at full size.
        depth: times the size is halved; height and width must divide by 2^depth.
        dropout: rate between the two convolutions of the middle block, the one at the least size.
        growth: factor on the channels with each halving, rounded down.

    Raises:
        UserError: a block is left without channels, or nothing is halved.
    """
    widths = grow(width, depth, growth)
    return Body(SumUnet(channels, widths, dropout), width, _whole, LAST, Origin("", ""), _own_file, dense=True)


def unet_sum_encoder(channels: int, *, width: int = 32, depth: int = 4, dropout: float = 0.5,
                     growth: float = 1.0) -> Body:
    """Down half and middle of :func:`unet_sum` with a global mean, the age network of Pietz 2018; arguments as there.

    A file of a whole ``unet_sum`` of the same arguments fits: name it in ``backbone.weights``.
    """
    widths = grow(width, depth, growth)
    way_up = ("up", "join", "body.up", "body.join")
    return Body(SumEncoder(channels, widths, dropout), widths[-1], _mean, LAST + way_up, Origin("", ""), _own_file)


def grow(width: int, depth: int, growth: float) -> tuple[int, ...]:
    """Channels at full size and after each of ``depth`` halvings, each ``growth`` times those before, rounded down."""
    widths = list(accumulate(range(depth), lambda before, _: int(growth * before), initial=width))
    if depth < 1 or min(widths) < 1:
        raise UserError(f"radstack/unet_sum: width={width}, depth={depth}, growth={growth} give the channels "
                        f"{widths}; take at least one halving and one channel in backbone.args")
    return tuple(widths)


OWN: dict[str, Callable[..., Body]] = {
    "vgg_elu": vgg_elu, "unet": unet, "unet_sum": unet_sum, "unet_sum_encoder": unet_sum_encoder, "plain": plain,
}

LAST = ("head", "told", "hidden")
"""Layers after the trunk in a weights file of this program's own."""


class _Sized(nn.Module):
    """Blocks and dense layers that know which size they were made for."""

    def __init__(self, size: tuple[int, ...], blocks: nn.Module, dense: nn.Module) -> None:
        super().__init__()
        self.size, self.blocks, self.dense = size, blocks, dense

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if tuple(images.shape[2:]) != self.size:
            raise UserError(f"radstack/vgg_elu was made for pictures of {self.size}, not {tuple(images.shape[2:])}; set "
                            "size in backbone.args to that of the view")
        return self.dense(self.blocks(images))


def _vgg_block(before: int, after: int, second: int) -> nn.Sequential:
    first = nn.Conv2d(before, after, 3, padding=1)
    other = nn.Conv2d(after, after, second, padding=second // 2)
    for convolution in (first, other):
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(first, nn.ELU(inplace=True), nn.BatchNorm2d(after),
                         other, nn.ELU(inplace=True), nn.BatchNorm2d(after), nn.MaxPool2d(3, stride=2))


def _whole(net: Any, images: torch.Tensor) -> torch.Tensor:
    return net(images)


def _mean(net: Any, images: torch.Tensor) -> torch.Tensor:
    return net(images).mean((2, 3))


def _own_file(state: State) -> State:
    """Take the trunk's keys out of a whole network's file, as stage 04 writes it."""
    return {key.removeprefix("body."): value for key, value in state.items()}
