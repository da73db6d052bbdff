"""The trunk of Zeiler and Fergus (2014) as Ren 2015 made it fully convolutional: five convolutions, total stride 16."""

import torch
from torch import nn

WIDTHS = (96, 256, 384, 384, 256)
"""Channels of the five convolutions."""


class Zfnet(nn.Module):
    """Pictures float [batch, channels, height, width] to a map [batch, widths[-1], height / 16, width / 16].

    conv 7x7 stride 2, max pool 3x3 stride 2, conv 5x5 stride 2, the same pool, three conv 3x3; ReLU after each convolution.
    The local response normalization of the original is left out: with its alpha of 5e-5 (rbgirshick/py-faster-rcnn, made for
    brightness up to 255) it changes nothing on standardized pictures.
    """

    def __init__(self, channels: int = 1, *, widths: tuple[int, ...] = WIDTHS, groups: int = 0) -> None:
        """Start from Gaussian weights of variance 2 / fan-in (He 2015): without ImageNet weights, .01 for all fades away.

        Args:
            channels: of the picture.
            widths: channels of each convolution; fewer for a small set.
            groups: groups of a group normalization after each convolution (Wu and He 2018), which lets a trunk learn from
                scratch (He 2019); 0 for none, as in the original. Batch norm would see one picture at a time.
        """
        super().__init__()
        a, b, c, d, e = widths
        self.layers = nn.Sequential(
            *_layer(channels, a, 7, 2, groups), nn.MaxPool2d(3, 2, 1),
            *_layer(a, b, 5, 2, groups), nn.MaxPool2d(3, 2, 1),
            *_layer(b, c, 3, 1, groups), *_layer(c, d, 3, 1, groups), *_layer(d, e, 3, 1, groups))
        self.out_channels = e

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The map."""
        return self.layers(images)


def _layer(before: int, after: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return [convolution, *([nn.GroupNorm(groups, after)] if groups else []), nn.ReLU(inplace=True)]
