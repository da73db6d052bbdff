"""The networks. Each maps a Batch to outputs [series, slices, targets] of every level it supervises, final last.

Layers read padded series, [series, slices, channels], with a mask [series, slices] that is True on real slices. Series are
padded on the right, and every layer gives a series the same result padded in a batch as alone.
"""

from typing import Any

import torch
from torch import nn

from radstack.recipes.sequence import Attention, DeltasBilstm, TwoLevel
from radstack.sequence.feed import Batch


def turned(mask: torch.Tensor) -> torch.Tensor:
    """int64 [series, slices]: for each place the place it changes with when the real slices are read backward."""
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - places, places)


class Bidirectional(nn.Module):
    """Stacked two-way LSTM or GRU over ``width`` channels, which gives ``2 * hidden``.

    Each direction is a one-way network; the backward one reads every series turned within its own length, so it meets
    no padding before the real slices. This needs no packing, which halves the speed of a step.
    """

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], width: int, hidden: int, layers: int = 1):
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
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(width, filters, kernel, padding=padding, dilation=dilation, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[series, slices, width] -> [series, slices, filters]."""
        return self.conv((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)


class NormedConv(nn.Module):
    """Convolution along slices (kernel 1 is a linear layer), norm over real slices, ReLU."""

    def __init__(self, width: int, filters: int, kernel: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = SliceConv(width, filters, kernel, dilation)
        self.norm = SliceNorm(filters)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[series, slices, width] -> [series, slices, filters], zero on padding."""
        return self.norm(self.conv(x, mask), mask).relu()


def with_deltas(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``[x, x - previous, x - next]``, [series, slices, 3 * width]; a difference to nothing is zero."""
    both = (mask[:, 1:] & mask[:, :-1])[..., None]
    step = (x[:, 1:] - x[:, :-1]) * both
    return torch.cat([x, nn.functional.pad(step, (0, 0, 1, 0)), nn.functional.pad(-step, (0, 0, 0, 1))], dim=-1)


class DeltasBilstmNet(nn.Module):
    """The 2.5D system: hidden = l1 + l2 + relu(fc(l1)) + relu(fc(l2)) + [e, e], then one linear layer a slice.

    ``[e, e]`` (as wide as a BiLSTM's output only when hidden = width) becomes a linear map of e at any other size.
    """

    def __init__(self, sizes: DeltasBilstm, width: int, targets: int):
        super().__init__()
        hidden = sizes.hidden or width
        self.dropout = SeriesDropout(sizes.dropout)
        self.lstm1 = Bidirectional(nn.LSTM, 3 * width, hidden)
        self.lstm2 = Bidirectional(nn.LSTM, 2 * hidden, hidden)
        self.fc1 = nn.Linear(2 * hidden, 2 * hidden)
        self.fc2 = nn.Linear(2 * hidden, 2 * hidden)
        self.skip = None if hidden == width else nn.Linear(width, 2 * hidden, bias=False)
        self.head = nn.Linear(2 * hidden, targets)

    def forward(self, batch: Batch) -> tuple[torch.Tensor]:
        """Logits [series, slices, targets]."""
        e = self.dropout(torch.cat(batch.features, dim=-1))
        l1 = self.lstm1(with_deltas(e, batch.mask), batch.mask)
        l2 = self.lstm2(l1, batch.mask)
        skip = torch.cat([e, e], dim=-1) if self.skip is None else self.skip(e)
        return (self.head(l1 + l2 + self.fc1(l1).relu() + self.fc2(l2).relu() + skip),)


class TwoLevelNet(nn.Module):
    """The winner's head; the loss is put on both levels.

    Level 1: each member's embedding -> 1x1 convolutions -> linear + BiGRU. (The members' convolutions are their own:
    two networks' channels have nothing in common.) Level 2: level 1's probability, the members' out-of-fold
    probabilities and the slice spacing -> dilated convolutions shared by all targets + BiGRU over all targets.
    """

    def __init__(self, sizes: TwoLevel, widths: list[int], members: int, targets: int):
        super().__init__()
        self.dropout = SeriesDropout(sizes.dropout)
        middle, narrow = sizes.project
        self.shrink1 = nn.ModuleList(NormedConv(width, middle) for width in widths)
        self.shrink2 = nn.ModuleList(NormedConv(middle, narrow) for _ in widths)
        self.linear = nn.Linear(narrow * len(widths), targets)
        self.gru1 = Bidirectional(nn.GRU, narrow * len(widths), sizes.hidden, sizes.layers)
        self.head1 = nn.Linear(2 * sizes.hidden, targets)
        f1, f2, f3, f4 = sizes.filters
        self.convs = nn.ModuleList([NormedConv(members + 2, f1, 5), NormedConv(f1, f2, 3, dilation=2),
                                    NormedConv(f2, f3, 3, dilation=4), NormedConv(f3, f4, 3, dilation=2)])
        self.conv_head = SliceConv(f4, 1, 3)
        self.gru2 = Bidirectional(nn.GRU, f4 * targets, sizes.hidden, sizes.layers)
        self.head2 = nn.Linear(2 * sizes.hidden, targets)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of level 1 and level 2, each [series, slices, targets]."""
        first = self.level1(batch)
        return first, self.level2(first, batch)

    def level1(self, batch: Batch) -> torch.Tensor:
        """Logits from embeddings."""
        blocks = []
        for block, shrink1, shrink2 in zip(batch.features, self.shrink1, self.shrink2):
            x = self.dropout(shrink1(self.dropout(block), batch.mask))
            blocks.append(self.dropout(shrink2(x, batch.mask)))
        x = torch.cat(blocks, dim=-1)
        return self.linear(x) + self.head1(self.gru1(x, batch.mask))

    def level2(self, first: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Logits from probabilities: the targets are rows of the convolutions and columns of the GRU."""
        series, slices, targets = first.shape
        spacing = batch.spacing[..., None, None].expand(-1, -1, 1, targets)
        x = torch.cat([batch.probs, first.float().sigmoid()[:, :, None], spacing], dim=2)
        x, mask = x.permute(0, 3, 1, 2).flatten(0, 1), batch.mask.repeat_interleave(targets, dim=0)
        for conv in self.convs:
            x = conv(x, mask)
        alone = self.conv_head(x, mask).view(series, targets, slices).transpose(1, 2)
        together = x.view(series, targets, slices, -1).transpose(1, 2).flatten(2)
        return alone + self.head2(self.gru2(together, batch.mask))


class AttentionNet(nn.Module):
    """One answer a series, given to each of its slices: their mean with weights softmax(w (tanh(V h) * sigmoid(U h)))."""

    def __init__(self, sizes: Attention, width: int, targets: int):
        super().__init__()
        self.dropout = SeriesDropout(sizes.dropout)
        self.shrink = nn.Linear(width, sizes.hidden)
        self.value, self.gate = nn.Linear(sizes.hidden, sizes.hidden), nn.Linear(sizes.hidden, sizes.hidden)
        self.score = nn.Linear(sizes.hidden, 1)
        self.head = nn.Linear(sizes.hidden, targets)

    def forward(self, batch: Batch) -> tuple[torch.Tensor]:
        """Outputs [series, slices, targets], alike in all slices of a series."""
        h = self.shrink(self.dropout(torch.cat(batch.features, dim=-1))).relu()
        score = self.score(self.value(h).tanh() * self.gate(h).sigmoid()).float()
        share = score.masked_fill(~batch.mask[..., None], -torch.inf).softmax(dim=1)
        pooled = (share * h).sum(dim=1, keepdim=True)
        return (self.head(pooled).expand(-1, h.shape[1], -1),)


def build(sizes: Any, widths: list[int], members: int, targets: int) -> nn.Module:
    """The network of a recipe's ``model``, for feature blocks of ``widths`` and ``members`` networks' probabilities."""
    if isinstance(sizes, TwoLevel):
        return TwoLevelNet(sizes, widths, members, targets)
    kind = {DeltasBilstm: DeltasBilstmNet, Attention: AttentionNet}[type(sizes)]
    return kind(sizes, sum(widths), targets)
