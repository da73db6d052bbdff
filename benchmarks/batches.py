"""Pictures a second through a network that does not learn, by how many it looks at together.

    python benchmarks/batches.py --threads 1     # about a minute

Random pictures, fp32, channels last; the best of ``--repeats`` in turn. ``training/loader.at_once`` follows it. Prints a
markdown table.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from radstack.nets import build
from radstack.recipes.experiment import Backbone
from radstack.training.loader import at_once

NETWORKS = (("pypi/efficientnet_lite0", (300, 225)), ("pypi/efficientnet_lite0", (224, 224)),
            ("pypi/efficientnet_lite0", (128, 128)), ("timm/resnet18", (144, 144)), ("timm/resnet18", (64, 64)))
PICTURES, SIZES = 64, (4, 8, 16, 32, 64)


def main() -> None:
    """Time each network and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--repeats", type=int, default=4, help="of which the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"pictures a second, {options.threads} threads\n")
    print("| network | pixels | " + " | ".join(map(str, SIZES)) + " | taken |\n|---|---|" + "---:|" * (len(SIZES) + 1))
    for name, size in NETWORKS:
        rates = measure(name, size, options.repeats)
        taken = at_once(torch.device("cpu"), size)
        print(f"| {name} | {size[0]} x {size[1]} | " + " | ".join(f"{rates[one]:.0f}" for one in SIZES) + f" | {taken} |")


def look(network: Callable[[torch.Tensor], object], pictures: torch.Tensor, together: int) -> None:
    """Let ``network`` look at all ``pictures``, ``together`` at a time."""
    for batch in pictures.split(together):
        network(batch)


@torch.inference_mode()
def measure(name: str, size: tuple[int, int], repeats: int) -> dict[int, float]:
    """Pictures a second by batch size."""
    net = build(Backbone(name, pretrained=False), 1, 3).to(memory_format=torch.channels_last).eval()
    pictures = torch.randn(PICTURES, 3, *size).contiguous(memory_format=torch.channels_last)
    best = dict.fromkeys(SIZES, float("inf"))
    for _ in range(repeats):
        for together in SIZES:
            start = time.perf_counter()
            look(net.embed, pictures, together)
            best[together] = min(best[together], time.perf_counter() - start)
    return {together: PICTURES / seconds for together, seconds in best.items()}


if __name__ == "__main__":
    main()
