"""Train steps a second on a processor, with and without the memory of a step kept for the next.

    python benchmarks/kept_memory.py --threads 1     # five minutes

``core/limits.keep_memory`` cannot be undone, so each way has processes of its own, ``--repeats`` of them in turn; the best
counts. Random pictures, fp32, channels last, AdamW. Prints a markdown table.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from radstack.core.limits import STEPS, keep_memory
from radstack.nets import build
from radstack.recipes.experiment import LITE0_FIRST, Backbone

LITE0 = Backbone("pypi/efficientnet_lite0", pretrained=False, frozen=LITE0_FIRST)
CASES = {"lite0, first layers frozen": (LITE0, (300, 225), 16), "the same": (LITE0, (224, 224), 16),
         "resnet18": (Backbone("timm/resnet18", pretrained=False), (144, 144), 32)}
"""Network, height and width of the pictures, and how many make a step."""
COUNTED = 6
"""Steps of which the fastest counts."""


def main() -> None:
    """Time each case both ways and print; in a process of its own time one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--repeats", type=int, default=3, help="processes each way")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--kept", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        print(*measure(options.one, bool(options.kept)))
        return
    print(f"pictures a second and peak memory, {options.threads} threads\n")
    print("| step | pixels | batch | given back | kept | ratio | MB | MB, kept |\n|---|---|---:|---:|---:|---:|---:|---:|")
    for name, (_, size, batch) in CASES.items():
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(options.repeats):
            for kept in found:
                found[kept].append(apart(name, kept, options.threads))
        plain, faster = (max(rate for rate, _ in one) for one in found.values())
        before, after = (max(peak for _, peak in one) for one in found.values())
        print(f"| {name} | {size[0]} x {size[1]} | {batch} | {plain:.1f} | {faster:.1f} | {faster / plain:.2f} "
              f"| {before:.0f} | {after:.0f} |", flush=True)


def apart(name: str, kept: bool, threads: int) -> tuple[float, float]:
    """:func:`measure` in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads), "--one", name, "--kept", str(int(kept))]
    rate, peak = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    return rate, peak


def measure(name: str, kept: bool) -> tuple[float, float]:
    """Pictures a second of the fastest step, and the peak memory of this process in MB."""
    if kept:
        keep_memory(STEPS)
    backbone, size, batch = CASES[name]
    net = build(backbone, 1, 3).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW([one for one in net.parameters() if one.requires_grad], 1e-5)
    pictures = torch.randn(batch, 3, *size).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(COUNTED):
        start = time.perf_counter()
        step(optimizer, lambda: net(pictures).square().mean())
        best = min(best, time.perf_counter() - start)
    return batch / best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]) -> None:
    """A step of nothing but the network, its loss and its optimizer."""
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


if __name__ == "__main__":
    main()
