"""Layers over padded series: [series, slices, channels] with a mask [series, slices] that is True on real slices.

Series are padded on the right. Every layer gives a series the same result padded in a batch as alone.
"""

import torch
from torch import nn


def turned(mask: torch.Tensor) -> torch.Tensor:
    """int64 [series, slices]: for each place the place it changes with when the real slices are read backward."""
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - places, places)


class Bidirectional(nn.Module):
    """Stacked two-way LSTM or GRU.

    Each direction is a one-way network; the backward one reads every series turned within its own length, so it meets
    no padding before the real slices. This needs no packing, which halves the speed of a step.
    """

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], width: int, hidden: int, layers: int = 1):
        """Read ``width`` channels, give ``2 * hidden``."""
        super().__init__()
        widths = [width] + [2 * hidden] * (layers - 1)
        self.forwards = nn.ModuleList(cell(size, hidden, batch_first=True) for size in widths)
        self.backwards = nn.ModuleList(cell(size, hidden, batch_first=True) for size in widths)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[series, slices, width] -> [series, slices, 2 * hidden]; what stands on padding means nothing."""
        where = turned(mask)[..., None]
        for ahead, back in zip(self.forwards, self.backwards):
            reverse, _ = back(x.gather(1, where.expand_as(x)))
            x = torch.cat([ahead(x)[0], reverse.gather(1, where.expand_as(reverse))], dim=-1)
        return x


class SeriesDropout(nn.Dropout1d):
    """Drop a channel for a whole series (spatial dropout, Tompson 2015)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as ``x`` [series, slices, channels]."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class SliceNorm(nn.Module):
    """Batch normalization over real slices only."""

    def __init__(self, width: int):
        """For ``width`` channels."""
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Same shape as ``x`` [series, slices, channels], zero on padding. A lone slice is normed as in evaluation."""
        norm, real = self.norm, x[mask]
        if self.training and len(real) < 2:
            real = nn.functional.batch_norm(real, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        else:
            real = norm(real)
        return torch.zeros_like(x).index_put((mask,), real.to(x.dtype))


class SliceConv(nn.Module):
    """Convolution along slices, without bias; keeps the length, sees zeros outside a series, whatever stands there."""

    def __init__(self, width: int, filters: int, kernel: int, dilation: int = 1):
        """Read ``width`` channels, give ``filters``."""
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(width, filters, kernel, padding=padding, dilation=dilation, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[series, slices, width] -> [series, slices, filters]."""
        return self.conv((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)


class NormedConv(nn.Module):
    """Convolution along slices (kernel 1 is a linear layer), norm over real slices, ReLU."""

    def __init__(self, width: int, filters: int, kernel: int = 1, dilation: int = 1):
        """Read ``width`` channels, give ``filters``."""
        super().__init__()
        self.conv = SliceConv(width, filters, kernel, dilation)
        self.norm = SliceNorm(filters)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[series, slices, width] -> [series, slices, filters], zero on padding."""
        return self.norm(self.conv(x, mask), mask).relu()
