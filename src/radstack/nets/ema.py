"""Exponential moving average of the weights."""

from timm.utils import ModelEmaV3
from torch import nn


def moving_average(net: nn.Module, decay: float) -> ModelEmaV3:
    """Start an average of ``net``, the bare network, not its DDP wrapper.

    Call ``average.update(net, step)`` after optimizer step number ``step`` (from 1 on); predict and save with
    ``average.module``; its ``state_dict()`` is the whole state, plain tensors.

    The decay warms up as ``1 - (1 + step) ** (-2/3)`` to at most ``decay`` (Crowson's rule, as timm documents it), so
    that short runs are not averages of the start. Floating-point buffers (batch-norm statistics) are averaged with
    the weights, integer ones (batch counters) copied.
    """
    return ModelEmaV3(net, decay=decay, use_warmup=True)
