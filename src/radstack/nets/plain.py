"""Plain networks of the source ``radstack``: convolutions and pools, then dense layers, as before batch norm."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from radstack.core.errors import UserError
from radstack.core.registry import pick
from radstack.nets.body import Body, Origin, State

PADDINGS: dict[str, tuple[str, bool]] = {"same": ("same", False), "valid": ("valid", False), "valid_ceil": ("valid", True)}
"""Name -> padding of the convolutions as torch names it, and whether a pool keeps the last odd row and column."""


def plain(channels: int, *, size: tuple[int, int] = (128, 96),
          convs: Sequence[tuple[int, int]] = ((32, 7), (64, 5), (64, 3), (32, 3)), dense: tuple[int, ...] = (4096, 1024),
          padding: str = "same", dropout: float = 0.5) -> Body:
    """Blocks of convolution, ReLU and max pool 2x2; dense layers with ReLU and dropout; Xavier uniform, zero biases.

    The nine networks by which the maturity of the distal radius and ulna was graded in crops of 128 x 96 (Theano/Lasagne,
    whose ``GlorotUniform`` is the initialization); the defaults are its third. Dropout follows each dense layer's ReLU as
    in AlexNet (Krizhevsky 2012), so that ``backbone.dropout`` stays 0.

    Args:
        channels: of the picture.
        size: height and width of the picture, on which the dense layers depend.
        convs: channels and kernel of each convolution.
        dense: units of the dense layers that end the trunk.
        padding: ``same`` keeps the size, ``valid`` does not pad, ``valid_ceil`` does not pad either, but pools what is left
            over.
        dropout: rate after each dense layer; 0 for none.

    Raises:
        UserError: an unknown padding, a layer without channels, units or kernel, or a layer that leaves nothing.
    """
    if min((1, *(number for conv in convs for number in conv), *dense)) < 1:
        raise UserError(f"radstack/plain: convs={convs}, dense={dense} hold numbers below 1; mend backbone.args")
    height, width = trace(size, [kernel for _, kernel in convs], padding)[-1]
    mode, ceil = pick(PADDINGS, padding, "padding for radstack/plain,")
    widths = (channels, *(made for made, _ in convs))
    blocks = [nn.Sequential(nn.Conv2d(before, after, kernel, padding=mode), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=ceil))
              for (before, after), (_, kernel) in zip(pairwise(widths), convs)]
    units = (height * width * widths[-1], *dense)
    layers = [nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)) for before, after in pairwise(units)]
    net = _Sized((size[0], size[1]), nn.Sequential(*blocks), nn.Sequential(nn.Flatten(), *layers))
    net.apply(_xavier)
    return Body(net, units[-1], _whole, ("head", "told", "hidden"), Origin("", ""), _own_file)


def trace(size: Sequence[int], kernels: Sequence[int], padding: str = "same") -> list[tuple[int, int]]:
    """Height and width of the picture ``size`` and after each block of a convolution with that kernel and a pool 2x2.

    Raises:
        UserError: an unknown padding, or the layer that leaves nothing of the picture.
    """
    mode, ceil = pick(PADDINGS, padding, "padding for radstack/plain,")
    sizes = [(size[0], size[1])]
    for number, kernel in enumerate(kernels, start=1):
        before = sizes[-1]
        mapped = before if mode == "same" else tuple(side - kernel + 1 for side in before)
        height, width = ((side + ceil) // 2 for side in mapped)
        for layer, (y, x) in (("convolution", mapped), ("pool", (height, width))):
            if min(y, x) < 1:
                raise UserError(f"radstack/plain: {layer} {number} (kernel {kernel}, padding={padding}) leaves {max(y, 0)} "
                                f"x {max(x, 0)} of {before[0]} x {before[1]}; set padding to same or valid_ceil, fewer "
                                "convs or a larger size in backbone.args")
        sizes.append((height, width))
    return sizes


class _Sized(nn.Module):
    """Blocks and dense layers that know which size they were made for."""

    def __init__(self, size: tuple[int, int], blocks: nn.Module, dense: nn.Module) -> None:
        super().__init__()
        self.size, self.blocks, self.dense = size, blocks, dense

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if tuple(images.shape[2:]) != self.size:
            raise UserError(f"radstack/plain was made for pictures of {self.size}, not {tuple(images.shape[2:])}; set size "
                            "in backbone.args to that of the view")
        return self.dense(self.blocks(images))


def _xavier(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


def _whole(net: Any, images: torch.Tensor) -> torch.Tensor:
    return net(images)


def _own_file(state: State) -> State:
    """Take the trunk's keys out of a whole network's file, as stage 04 writes it."""
    return {key.removeprefix("body."): value for key, value in state.items()}
