"""Networks by ``source/name``, and the parts of one training step: objective, optimizer, schedule, precision, EMA."""

from radstack.nets.backbones import Dense, Net, build

__all__ = ["Dense", "Net", "build"]
