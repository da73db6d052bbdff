"""A backbone from any source as one kind of module: pictures -> features, pooled or a map -> outputs."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.core.registry import check_name, pick
from radstack.nets import pretrained
from radstack.nets.body import Body
from radstack.nets.sources import SOURCES
from radstack.recipes.experiment import Backbone, Head

PLAIN = Head()
"""No columns and no hidden layers."""
PIECE = 1 << 20
"""Numbers that a frozen module is given at once on a processor, whose caches more would leave; a step then takes a tenth
less time and less memory (lite0 at 300 x 225 in batches of 16)."""


class SharedLinear(nn.Linear):
    """Linear layer with one weight vector a group of outputs, and one bias an output (the last layer of CORAL, Cao 2020)."""

    def __init__(self, inputs: int, shares: tuple[int, ...]) -> None:
        super().__init__(inputs, len(shares), bias=False)
        self.shares, self.out_features = shares, sum(shares)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs [batch, sum(shares)] of ``features`` [batch, inputs]; those of a group differ by their biases alone."""
        scores = functional.linear(features, self.weight)
        spread = [scores[:, [group]].expand(-1, count) for group, count in enumerate(self.shares)]
        return torch.cat(spread, 1) + self.bias


class Net(nn.Module):
    """Trunk, global pooling, dropout, what the recipe's :class:`Head` asks for, and one linear layer."""

    def __init__(self, body: Body, outputs: int, dropout: float, head: Head = PLAIN, shares: tuple[int, ...] = ()) -> None:
        """Put ``head`` and a linear layer on ``body``, with ``dropout`` before each; ``shares`` are of SharedLinear."""
        super().__init__()
        self.body = body.net
        self.width = body.width
        """Number of pooled features."""
        self.start = "random"
        """Where the weights came from, one line for the log and the manifest."""
        self.dropout = nn.Dropout(dropout)
        joined = head.columns_width if head.columns else 0
        self.given_columns = nn.Linear(len(head.columns), joined) if joined else None
        widths = (body.width + joined, *head.hidden)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.head: nn.Linear | nn.Conv2d = SharedLinear(widths[-1], shares) if shares else nn.Linear(widths[-1], outputs)
        self._pooled = body.pooled
        self.frozen: tuple[str, ...] = ()
        """Modules of ``body`` that are not trained, see :meth:`freeze`."""

    def freeze(self, names: tuple[str, ...]) -> None:
        """Train the modules ``names`` of ``body`` no further, nor their batch statistics; a UserError for an unknown one."""
        modules = dict(self.body.named_modules())
        for name in names:
            check_name(list(modules), name, "module for backbone.frozen,")
            modules[name].requires_grad_(False)
            modules[name].forward = partial(_in_pieces, modules[name].forward)
        self.frozen = names

    def train(self, mode: bool = True) -> Self:
        """As of every module, but what is frozen stays as it predicts."""
        super().train(mode)
        for name in self.frozen:
            self.body.get_submodule(name).eval()
        return self

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features [batch, width] of standardized pictures [batch, channels, height, width]."""
        return self._pooled(self.body, images)

    def decide(self, features: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs [batch, outputs], float32, of :meth:`embed`'s features and the columns given beside the picture.

        ``columns`` is float32 [batch, len(head.columns)], or None or [batch, 0] for a head without columns; else a
        ValueError.
        """
        given = columns is not None and columns.shape[1] > 0
        if given != (self.given_columns is not None):
            raise ValueError("the batch has columns and the head takes none" if given else
                             "the head has columns and the batch has none")
        # In bfloat16 a logit of 5 moves in steps of 0.03, which a log loss of 0.06 would feel.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.head.weight.dtype)
            if self.given_columns is not None and columns is not None:
                features = torch.cat([features, self.given_columns(columns.to(features.dtype)).relu()], 1)
            for layer in self.hidden:
                features = self.dropout(layer(features).relu())
            return self.head(features).float()

    def forward(self, images: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs [batch, outputs], float32, of standardized pictures [batch, channels, height, width]."""
        return self.decide(self.dropout(self.embed(images)), columns)


def _in_pieces(forward: Callable[[torch.Tensor], torch.Tensor], maps: torch.Tensor) -> torch.Tensor:
    """What a module that is not trained makes of ``maps`` [batch, ...]; on a processor of a few pictures at a time."""
    at_once = max(1, PIECE // maps[0].numel())
    if maps.device.type != "cpu" or len(maps) <= at_once:
        return forward(maps)
    return torch.cat([forward(piece) for piece in maps.split(at_once)])


class Dense(Net):
    """A network of maps: features and outputs are those of each pixel, the last layer is a 1x1 convolution.

    :meth:`embed` gives [batch, width, height, width], :meth:`forward` float32 [batch, outputs, height, width].
    """

    def __init__(self, body: Body, outputs: int, dropout: float) -> None:
        super().__init__(body, outputs, dropout)
        self.head = nn.Conv2d(body.width, outputs, 1)


def build(backbone: Backbone, outputs: int, channels: int = 3, weights_folder: Path | None = None, offline: bool = False,
          head: Head = PLAIN, shares: tuple[int, ...] = ()) -> Net:
    """Make the network of ``backbone``, with its pretrained weights unless the recipe starts from scratch.

    It gives ``outputs`` numbers a picture, or a pixel where it answers in maps; then it is a Dense. For other than 3
    ``channels`` the first convolution's weights are summed (1) or repeated and rescaled, as timm does. ``weights_folder`` is
    looked in first for the weights file; ``offline``, no server is asked, and what an earlier download left in the cache
    still counts. ``shares`` are those of an ordinal objective.
    A UserError for an unknown source, model or argument, a head that does not fit a network of maps, or weights that cannot
    be had, read, trusted or fitted.
    """
    body = _body(backbone, channels)
    if body.dense and (head.columns or head.hidden):
        raise UserError(f"{backbone.name} answers in maps, on which {head} has no place; leave head.columns and head.hidden "
                        "empty")
    net = Dense(body, outputs, backbone.dropout) if body.dense else Net(body, outputs, backbone.dropout, head, shares)
    if backbone.pretrained:
        net.start = pretrained.load(body, backbone, weights_folder, offline)
    net.freeze(backbone.frozen)
    return net


def weights_of(backbone: Backbone, weights_folder: Path | None = None, offline: bool = False) -> Path:
    """The file that :func:`build` would start a pretrained network from; fetched where it is not at hand.

    A UserError where it cannot be had, or the network is unknown.
    """
    return pretrained.find(backbone, _body(backbone, 3).origin, weights_folder, offline)


def _body(backbone: Backbone, channels: int) -> Body:
    source_name, _, model = backbone.name.partition("/")
    source = pick(SOURCES, source_name, "source of networks")
    check_name(source.names(), model, f"{source_name} model")
    return source.make(model, channels, backbone.args)
