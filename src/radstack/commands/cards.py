"""Rates on cards that were not measured: those of a measured one, by what both cards' data sheets say.

A network is as fast as the slower of arithmetic and memory lets it be, so the smaller of both ratios counts. That holds
within a factor of two; a card of one's own is measured by ``python benchmarks/gpu.py``.
"""

import re
from dataclasses import dataclass
from typing import Any

from radstack.commands.rates import ESTIMATE, Rows
from radstack.core.registry import check_name

SPEEDS = ("pictures_s", "series_s", "predict_s")
"""Fields of a row that go with a card's speed."""


@dataclass(frozen=True)
class Card:
    """Peak figures of NVIDIA's data sheets, without sparsity."""

    half: float
    """TFLOPS in half precision with sums in float32."""
    single: float
    """TFLOPS in float32."""
    memory: float
    """TB/s."""
    bf16: bool = True
    """Whether bf16 is as fast as fp16; older cards compute it in float32."""

    def compute(self, precision: str) -> float:
        """TFLOPS of a recipe's precision."""
        return self.single if precision == "fp32" or (precision == "bf16" and not self.bf16) else self.half


CARDS = {
    "H200": Card(989, 67, 4.8), "H100": Card(989, 67, 3.35), "H100 PCIe": Card(756, 51, 2.0),
    "A100": Card(312, 19.5, 1.555), "A100 80GB": Card(312, 19.5, 2.039), "L40S": Card(362, 91.6, 0.864),
    "L4": Card(121, 30.3, 0.3), "A10": Card(125, 31.2, 0.6), "V100": Card(125, 15.7, 0.9, bf16=False),
    "T4": Card(65, 8.1, 0.32, bf16=False), "P100": Card(18.7, 9.3, 0.732, bf16=False),
    "RTX 4090": Card(165, 82.6, 1.008), "RTX 3090": Card(71, 35.6, 0.936)}
"""By the name that ``--gpu`` and ``--machine`` take."""


def rows_of(files: dict[str, Rows], name: str, here: str = "") -> tuple[str, Rows]:
    """The machine called ``name``, and its rows: as measured, or an estimate from those of a card that was.

    ``files`` are the measured machines' rows, ``here`` is this machine, which may have none. A card may be called in short,
    ``H200`` for ``NVIDIA H200``.

    Raises:
        UserError: it is neither measured nor of ``CARDS``, with the nearest name.
    """
    short = {_short(machine): machine for machine in files}
    known = list(filter(None, (*files, here, *short, *CARDS)))
    name = {one.casefold(): one for one in known}.get(name.casefold(), name)
    check_name(known, name, "machine with rates")
    machine = short.get(name, name)
    if machine in files or name not in CARDS:
        return machine, files.get(machine, {})
    measured = next((one for one in short if one in CARDS), "")
    return name, {key: scaled(row, measured, name) for key, row in files.get(short.get(measured, ""), {}).items()}


def scaled(row: dict[str, Any], measured: str, card: str) -> dict[str, Any]:
    """A row of the card ``measured`` as ``card`` would have it."""
    one, other, precision = CARDS[measured], CARDS[card], str(row.get("precision", "fp32"))
    ratio = min(other.compute(precision) / one.compute(precision), other.memory / one.memory)
    speeds = {name: row[name] * ratio for name in SPEEDS if name in row}
    return {**row, **speeds, "how": ESTIMATE, "source": f"{measured}'s of {row['source']} times {ratio:.2f}, by data sheets"}


def _short(machine: str) -> str:
    """The card's name without its maker's."""
    return re.sub(r"^(NVIDIA|Tesla|GeForce) ", "", machine)
