"""Modules of the U-Nets in :mod:`radstack.nets.own`: skips by concatenation, and skips by addition with their down half."""

from itertools import pairwise

import torch
from torch import nn

from radstack.core.errors import UserError


class Unet(nn.Module):
    """Down by pooling, up by transposed convolutions, joined by concatenation; features at full size."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        """Make it for pictures of ``channels``; ``widths`` are channels at full size, at half of it ..."""
        super().__init__()
        self.down = nn.ModuleList(_norm_block(*pair) for pair in pairwise((channels, *widths)))
        upward = list(pairwise(widths[::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, flat, 2, stride=2) for deep, flat in upward)
        self.join = nn.ModuleList(_norm_block(2 * flat, flat) for _, flat in upward)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[0], height, width]; a size that does not halve is a UserError."""
        _check_halves("unet", images, len(self.up), "widths")
        features, kept = self.down[0](images), []
        for block in list(self.down)[1:]:
            kept.append(features)
            features = block(self.pool(features))
        for up, join in zip(self.up, self.join):
            features = join(torch.cat([kept.pop(), up(features)], 1))
        return features


class SumEncoder(nn.Module):
    """Down half and middle of :class:`SumUnet`, with the same keys; the deepest features."""

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        """Make it for pictures of ``channels``; the last of ``widths`` is the middle's, between whose two is ``dropout``."""
        super().__init__()
        *flat, deep = widths
        self.down = nn.ModuleList(_elu_block(*pair) for pair in pairwise((channels, *flat)))
        self.middle = _elu_block(flat[-1], deep, dropout)
        self.pool = nn.MaxPool2d(2)
        self.apply(_like_keras)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[-1], height / 2^depth, width / 2^depth]."""
        return self.descend(images)[0]

    def descend(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The deepest features, and those that each pooling took, from full size down."""
        features, kept = images, []
        for block in self.down:
            kept.append(block(features))
            features = self.pool(kept[-1])
        return self.middle(features), kept


class SumUnet(SumEncoder):
    """U-Net without batch norm that adds what it kept rather than concatenating it; features at full size."""

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        """Make it as :class:`SumEncoder`."""
        super().__init__(channels, widths, dropout)
        upward = list(pairwise(widths[::-1]))
        self.up = nn.ModuleList(_double(deep, flat) for deep, flat in upward)
        self.join = nn.ModuleList(_elu_block(flat, flat) for _, flat in upward)
        self.apply(_like_keras)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[0], height, width]; a size that does not halve is a UserError."""
        _check_halves("unet_sum", images, len(self.up), "depth")
        features, kept = self.descend(images)
        for up, join in zip(self.up, self.join):
            features = join(kept.pop() + up(features))
        return features


def _norm_block(before: int, after: int) -> nn.Sequential:
    # Batch norm takes the mean away, and a bias with it.
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
                         nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _elu_block(before: int, after: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ELU(inplace=True), nn.Dropout(dropout),
                         nn.Conv2d(after, after, 3, padding=1), nn.ELU(inplace=True))


def _double(deep: int, flat: int) -> nn.Sequential:
    """Transposed convolution 3x3 of stride 2 to exactly twice the size, and ELU."""
    return nn.Sequential(nn.ConvTranspose2d(deep, flat, 3, stride=2, padding=1, output_padding=1), nn.ELU(inplace=True))


def _like_keras(module: nn.Module) -> None:
    """Start as the source's library does: uniform weights (Glorot 2010), biases 0; PyTorch's are 0.58 of them in size."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def _check_halves(name: str, images: torch.Tensor, times: int, argument: str) -> None:
    part = 2**times
    if images.shape[2] % part or images.shape[3] % part:
        raise UserError(f"radstack/{name} halves {times} times and takes sizes that divide by {part}, not "
                        f"{tuple(images.shape[2:])}; change the view's size or {argument} in backbone.args")
