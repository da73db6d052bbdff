"""What looks at the whole picture for a detector: the trunk of Ren 2015, or a pretrained ResNet under a feature pyramid."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.layers import freeze_batch_norm_2d
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from radstack.core.errors import UserError, reason
from radstack.core.registry import pick
from radstack.detection.zfnet import Zfnet
from radstack.nets import pretrained
from radstack.nets.sources import torchvision_body
from radstack.recipes.detector import Detector

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
    """Make the trunk of ``recipe``.

    Raises:
        UserError: an unknown trunk or argument, or weights that cannot be had, read, trusted or fitted.
    """
    make = pick(TRUNKS, recipe.trunk, "trunk")
    try:
        return make(recipe, weights, **recipe.args)
    except (TypeError, ValueError) as error:
        raise UserError(f"{recipe.trunk} cannot be built ({reason(error)}); check args") from error


def zfnet(recipe: Detector, weights: Weights, **args: Any) -> Trunk:
    """The trunk of Ren 2015 for gray pictures, from random weights: nobody publishes it for one channel."""
    return Trunk(Zfnet(1, **args), (0.5,), (0.25,))


def resnet_fpn(recipe: Detector, weights: Weights, trainable: int = 3) -> Trunk:
    """A ResNet from ImageNet weights under a feature pyramid (Lin 2017).

    Its batch norms stand still, as a batch is a picture or two; all but the last ``trainable`` of its five parts, too.
    """
    name = recipe.trunk.removesuffix("_fpn")
    body, start = torchvision_body(name, 3, {}), "random weights"
    if weights.wanted:
        start = pretrained.load(body, recipe.backbone, weights.folder, weights.offline)
    net: Any = freeze_batch_norm_2d(body.net)
    for key, weight in net.named_parameters():
        weight.requires_grad_(key.split(".")[0] in LAYERS[:trainable])
    widths = [net.inplanes // 8 * 2**place for place in range(4)]
    pyramid = BackboneWithFPN(net, {f"layer{place + 1}": str(place) for place in range(4)}, widths, 256)
    return Trunk(pyramid, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 5, ("0", "1", "2", "3"), start)


TRUNKS: dict[str, Callable[..., Trunk]] = {
    "zfnet": zfnet,
    **{f"resnet{depth}_fpn": resnet_fpn for depth in (18, 34, 50, 101, 152)},
}
