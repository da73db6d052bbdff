"""What looks at the whole picture for a detector: the trunk of Ren 2015, or a pretrained network under a feature pyramid."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.layers import freeze_batch_norm_2d
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from radstack.core.errors import UserError, reason
from radstack.core.registry import pick
from radstack.nets import pretrained
from radstack.nets.sources import SOURCES
from radstack.recipes.detector import Detector

WIDTHS = (96, 256, 384, 384, 256)
"""Channels of the five convolutions of :class:`Zfnet`."""
LAYERS = ("layer4", "layer3", "layer2", "layer1", "conv1")
"""Parts of a ResNet, the last first."""


@dataclass(frozen=True)
class Weights:
    """Where pretrained weights may come from."""

    folder: Path | None = None
    """The ``--weights`` folder, looked in first."""
    offline: bool = False
    """Never ask a server."""
    wanted: bool = True
    """False to build the same network for weights of our own."""


ANYWHERE = Weights()
"""torchvision's own download."""


@dataclass(frozen=True)
class Trunk:
    """A network from pictures to maps, and what it expects of them."""

    net: nn.Module
    """Pictures [batch, channels, height, width] to a map or a dict of maps of ``net.out_channels`` each."""
    mean: tuple[float, ...]
    """Of each channel, on a scale from 0 to 1."""
    std: tuple[float, ...]
    """The same."""
    anchored: int = 1
    """How many maps have anchors."""
    pooled: tuple[str, ...] = ("0",)
    """Maps that regions are pooled from."""
    start: str = "random weights"
    """Where its weights come from."""


def trunk(recipe: Detector, weights: Weights) -> Trunk:
    """Make the trunk of ``recipe``; a UserError for an unknown one or argument, or weights that cannot be had or fitted."""
    make = pick(TRUNKS, recipe.trunk, "trunk")
    try:
        return make(recipe, weights, **recipe.args)
    except (TypeError, ValueError) as error:
        raise UserError(f"{recipe.trunk} cannot be built ({reason(error)}); check args") from error


class Zfnet(nn.Module):
    """The trunk of Zeiler and Fergus (2014) as Ren 2015 made it fully convolutional: five convolutions, total stride 16.

    conv 7x7 stride 2, max pool 3x3 stride 2, conv 5x5 stride 2, the same pool, three conv 3x3; ReLU after each convolution.
    The local response normalization of the original is left out: with its alpha of 5e-5 (rbgirshick/py-faster-rcnn, made for
    brightness up to 255) it changes nothing on standardized pictures.
    """

    def __init__(self, channels: int = 1, *, widths: tuple[int, ...] = WIDTHS, groups: int = 0) -> None:
        """Start from Gaussian weights of variance 2 / fan-in (He 2015): without ImageNet weights, .01 for all fades away.

        ``widths`` are the channels of each convolution, fewer for a small set; ``groups`` those of a group normalization
        after each (Wu and He 2018), which lets a trunk learn from scratch (He 2019), 0 for none, as in the original. Batch
        norm would see one picture at a time.
        """
        super().__init__()
        a, b, c, d, e = widths
        self.layers = nn.Sequential(
            *_layer(channels, a, 7, 2, groups), nn.MaxPool2d(3, 2, 1),
            *_layer(a, b, 5, 2, groups), nn.MaxPool2d(3, 2, 1),
            *_layer(b, c, 3, 1, groups), *_layer(c, d, 3, 1, groups), *_layer(d, e, 3, 1, groups))
        self.out_channels = e

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The map, [batch, widths[-1], height / 16, width / 16]."""
        return self.layers(images)


def _layer(before: int, after: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return [convolution, *([nn.GroupNorm(groups, after)] if groups else []), nn.ReLU(inplace=True)]


def pretrained_body(recipe: Detector, weights: Weights) -> tuple[Any, str]:
    """The network of ``recipe.backbone`` and where its weights come from; its batch norms stand still, for a batch is a
    picture or two.
    """
    source, _, name = recipe.backbone.name.partition("/")
    body, start = SOURCES[source].make(name, 3, {}), "random weights"
    if weights.wanted:
        start = pretrained.load(body, recipe.backbone, weights.folder, weights.offline)
    return freeze_batch_norm_2d(body.net), start


def resnet_fpn(recipe: Detector, weights: Weights, trainable: int = 3, width: int = 256) -> Trunk:
    """A ResNet from ImageNet weights under a feature pyramid (Lin 2017) of ``width`` channels.

    All but the last ``trainable`` of its five parts stand still.
    """
    net, start = pretrained_body(recipe, weights)
    for key, weight in net.named_parameters():
        weight.requires_grad_(key.split(".")[0] in LAYERS[:trainable])
    widths = [net.inplanes // 8 * 2**place for place in range(4)]
    pyramid = BackboneWithFPN(net, {f"layer{place + 1}": str(place) for place in range(4)}, widths, width)
    return Trunk(pyramid, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 5, ("0", "1", "2", "3"), start)


def lite0_fpn(recipe: Detector, weights: Weights, trainable: int = 3, width: int = 64) -> Trunk:
    """EfficientNet-lite0 under a feature pyramid of ``width`` channels, for processors and few pictures.

    All but the last ``trainable`` of the four parts that end at strides 4, 8, 16 and 32 stand still.
    """
    net, start = pretrained_body(recipe, weights)
    stages = [net.blocks[:2], net.blocks[2:3], net.blocks[3:5], net.blocks[5:]]
    stages[0] = nn.Sequential(net.conv_stem, net.bn1, *stages[0])
    for place, stage in enumerate(stages):
        stage.requires_grad_(place >= len(stages) - trainable)
    parts = nn.Sequential(OrderedDict((f"part{place}", stage) for place, stage in enumerate(stages)))
    pyramid = BackboneWithFPN(parts, {f"part{place}": str(place) for place in range(4)}, [24, 40, 112, 320], width)
    return Trunk(pyramid, (0.5,) * 3, (0.5,) * 3, 5, ("0", "1", "2", "3"), start)


TRUNKS: dict[str, Callable[..., Trunk]] = {
    # For gray pictures, from random weights: nobody publishes it for one channel.
    "zfnet": lambda recipe, weights, **args: Trunk(Zfnet(1, **args), (0.5,), (0.25,)),
    **{f"resnet{depth}_fpn": resnet_fpn for depth in (18, 34, 50, 101, 152)},
    "efficientnet_lite0_fpn": lite0_fpn,
}
