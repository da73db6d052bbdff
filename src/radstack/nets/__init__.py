"""Networks by ``source/name``, and the parts of one training step: loss, optimizer, schedule, precision, EMA."""

from radstack.nets.backbones import Net, build

__all__ = ["Net", "build"]
