"""A backbone from any source as one kind of module: pictures -> pooled features -> logits."""

from pathlib import Path

import torch
from torch import nn

from radstack.experiment import Backbone
from radstack.nets import pretrained
from radstack.nets.body import Body
from radstack.nets.sources import SOURCES
from radstack.registry import check_name, pick


class Net(nn.Module):
    """Trunk of a published network, global pooling, dropout and one linear layer."""

    def __init__(self, body: Body, outputs: int, dropout: float) -> None:
        """Put a linear layer with ``outputs`` logits on ``body``; ``dropout`` is the rate before it."""
        super().__init__()
        self.body = body.net
        self.width = body.width
        """Number of pooled features."""
        self.start = "random"
        """Where the weights came from, one line for the log and the manifest."""
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(body.width, outputs)
        self._pooled = body.pooled

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features [batch, width] of standardized pictures [batch, channels, height, width]."""
        return self._pooled(self.body, images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, outputs], float32, of standardized pictures [batch, channels, height, width]."""
        features = self.dropout(self.embed(images))
        # In bfloat16 a logit of 5 moves in steps of 0.03, which a log loss of 0.06 would feel.
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.to(self.head.weight.dtype))


def build(
    backbone: Backbone,
    outputs: int,
    channels: int = 3,
    weights_folder: Path | None = None,
    offline: bool = False,
) -> Net:
    """Make the network of ``backbone``, with its pretrained weights unless the recipe starts from scratch.

    Args:
        backbone: the recipe; ``name`` is ``source/model``.
        outputs: logits a picture.
        channels: channels of a picture; other than 3, the first convolution's weights are summed (1) or repeated and
            rescaled, as timm does.
        weights_folder: looked in first for the weights file.
        offline: never ask a server; what an earlier download left in the cache still counts.

    Raises:
        UserError: unknown source, model or argument; weights that cannot be had, read, trusted or fitted.
    """
    source_name, _, model = backbone.name.partition("/")
    source = pick(SOURCES, source_name, "source of networks")
    check_name(source.names(), model, f"{source_name} model")
    body = source.make(model, channels, backbone.args)
    net = Net(body, outputs, backbone.dropout)
    if backbone.pretrained:
        net.start = pretrained.load(body, backbone, weights_folder, offline)
    return net
