"""How fast a kind of machine trains and predicts a recipe: from a file of measurements, else from a short run here."""

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from radstack.commands.environment import ROOT, processor
from radstack.core.limits import busy
from radstack.core.recipe import change
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Experiment
from radstack.recipes.losses import BinaryCrossEntropy
from radstack.recipes.sequence import Sequence
from radstack.training.inference import Views
from radstack.training.run import Learner
from radstack.training.tryout import random_batch

FOLDER = ROOT / "benchmarks"
"""Where files of measurements lie, as ``benchmarks/gpu.py`` writes them."""
LONGEST = 30.0
"""Seconds of a short run, building the network included: no step begins that would end later."""
STEPS = 5
"""Timed steps of a short run, at most."""
FEW, MORE = 2, 8
"""Pictures of a short run's steps on a CPU: what a step costs by itself and what a picture adds follow from the two. Of
series, ``FEW``."""
SMALL = 160 * 160
"""Pixels of a picture in a short run on a CPU, at most; convolutions take time by the pixel."""
FORWARD = 3.0
"""A training step over a forward pass alone, in time (forward, and two matrix products for each backward)."""
Rows = dict[str, dict[str, Any]]
"""``kind/competition/recipe`` -> what was measured of it on one kind of machine."""
MEASURED, ESTIMATE = "measured", "estimate"


@dataclass(frozen=True)
class Rate:
    """What one recipe costs on one kind of machine."""

    train: float
    """Pictures (of sequence models series) a second in training."""
    predict: float
    """The same in prediction, all test-time views."""
    parameters: float
    """Their number."""
    width: int
    """Numbers of a picture's embedding."""
    memory: float
    """Bytes on the device at the peak of a training step; NaN where nothing is known."""
    how: str
    """``MEASURED`` or ``ESTIMATE``."""
    source: str
    """File and date, or what the short run was."""


def machine_of(device: torch.device) -> str:
    """Name of the kind of machine: that of the GPU, else processor and cores."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def read_files(folder: Path) -> dict[str, Rows]:
    """Machine -> its rows, with ``source``, from every file of ``folder``; trial runs and failures are left out."""
    found: dict[str, Rows] = {}
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "rows" not in content or content.get("quick"):
            continue
        source = f"{file.name}, {content['date']}"
        found.setdefault(content["device"], {}).update(
            {key: {**row, "source": source} for key, row in content["rows"].items() if "failed" not in row})
    return found


def known_rate(rows: Rows, competition: str, one: Experiment | Sequence) -> Rate | None:
    """The rate of a recipe in a machine's ``rows``; None where it was not measured, or as another recipe than it is now."""
    kind = "sequence" if isinstance(one, Sequence) else "recipe"
    row = rows.get(f"{kind}/{competition}/{one.name}")
    if row is None or not _same(row, one):
        return None
    train = float(row["series_s" if kind == "sequence" else "pictures_s"])
    predict = FORWARD * train / one.bag if isinstance(one, Sequence) else float(row.get("predict_s", FORWARD * train))
    return Rate(train, predict, row["parameters_M"] * 1e6, int(row.get("width", 0)),
                (row.get("peak_GB") or math.nan) * 2.0**30, row.get("how", MEASURED), row["source"])


def _same(row: dict[str, Any], one: Experiment | Sequence) -> bool:
    """Whether what was measured is still the recipe."""
    if isinstance(one, Sequence):
        return bool(row["batch"] == one.batch_size and row["precision"] == one.precision)
    size = f"{one.view.size[0]}x{one.view.size[1]}x{len(one.view.mean)}"
    return bool((row["size"], row["batch"], row["precision"]) == (size, one.train.batch_size, one.train.precision)
                and row.get("views", len(one.tta)) == len(one.tta))


def alike(one: Experiment, targets: int) -> str:
    """The same for recipes that cost the same: they differ only in data, rates and names."""
    train, optim = one.train, one.optim
    return repr((change(one.backbone, start="", pretrained=False), one.loss, one.head, optim.name, optim.clip_norm > 0,
                 train.batch_size, train.accumulate, train.precision, train.channels_last, train.ema > 0, one.tta, targets,
                 tuple(one.view.size), len(one.view.mean)))


def short_run(one: Experiment, targets: tuple[str, ...], device: torch.device, longest: float = LONGEST) -> Rate:
    """Train and predict random pictures for at most ``longest`` seconds, and scale up to the recipe's size and batch.

    On a CPU ``FEW`` and then ``MORE`` pictures of at most ``SMALL`` pixels make a step, and fp16, which it lacks, is fp32.
    On a GPU it is the recipe's own batch, halved until it fits.
    """
    until = time.monotonic() + longest
    trial = one if device.type == "cuda" else on_cpu(one)
    while True:
        try:
            return _timed(one, trial, targets, device, until)
        except torch.cuda.OutOfMemoryError:
            if trial.train.batch_size == 1:
                raise
            torch.cuda.empty_cache()
            trial = change(trial, train__batch_size=trial.train.batch_size // 2)


def crowded() -> str:
    """A line where half of the machine's cores or more were busy in the last minute, "" where they were not.

    A step waits for its slowest thread: beside four programs on two cores, steps of two threads took many times as long.
    """
    load, count = busy()
    if load < count / 2:
        return ""
    return (f"this machine was busy in the last minute (load {load:.1f}, {count} cores): beside other programs hours by "
            "short runs come out too long, often many times; ask again when none runs")


def on_cpu(one: Experiment) -> Experiment:
    """``one`` as a short run on a CPU steps it; what is given to the network as its picture's size shrinks with it."""
    precision = one.train.precision if one.train.precision in ("fp32", "bf16") else "fp32"
    args = one.backbone.args
    if "size" in args:
        args = {**args, "size": trial_size(one)}
    return change(one, train__batch_size=min(FEW, one.train.batch_size), train__accumulate=1, train__precision=precision,
                  train__ema=0.0, backbone__args=args)


def trial_size(one: Experiment) -> tuple[int, int]:
    """Height and width of a picture of at most ``SMALL`` pixels, each a multiple of 32; the recipe's own where it is small.

    Networks whose layers fix the size keep it.
    """
    height, width = one.view.size
    share = math.sqrt(SMALL / (height * width))
    if share >= 1 or one.backbone.name in ("radstack/plain", "radstack/unet_volume"):
        return height, width
    return max(round(height * share / 32), 1) * 32, max(round(width * share / 32), 1) * 32


def _timed(one: Experiment, trial: Experiment, targets: tuple[str, ...], device: torch.device, until: float) -> Rate:
    size = one.view.size if device.type == "cuda" else trial_size(one)
    judge = objective(trial.loss, targets)
    net = build(change(trial.backbone, pretrained=False), judge.outputs, len(trial.view.mean), head=trial.head,
                shares=judge.shares)
    learner, count = Learner(trial, targets, net, device), trial.train.batch_size
    few = random_batch(one, len(targets), count, size)
    pixels = one.view.size[0] * one.view.size[1] / (size[0] * size[1])
    parameters = sum(weight.numel() for weight in net.parameters())
    with Saved() as saved:
        learner.step([few], 0.5, 0)
    memory = _peak(device) or 16.0 * parameters + saved.total * pixels * one.train.batch_size / one.train.accumulate / count
    step = seconds(lambda: learner.step([few], 0.5, 1), device, halfway(until))
    largest = MORE if device.type == "cpu" and one.train.batch_size > count else count
    more = random_batch(one, len(targets), largest, size)
    long = seconds(lambda: learner.step([more], 0.5, 1), device, halfway(until)) if largest > count else step
    train = one.train.batch_size / step_of(one.train.batch_size, pixels, (count, step), (largest, long))
    views = Views(trial, learner.net.eval(), device)
    look = seconds(lambda: views(more.images, more.columns), device, until)
    counts = f"{count} and {largest}" if largest > count else f"{count}"
    words = f"{counts} pictures of {size[0]}x{size[1]} a step, {trial.train.precision}"
    return Rate(train, largest / look / pixels, parameters, net.width, memory, ESTIMATE, words)


def halfway(until: float) -> float:
    """The moment halfway to ``until``, as time.monotonic counts."""
    return (time.monotonic() + until) / 2


def step_of(batch: int, pixels: float, few: tuple[int, float], more: tuple[int, float]) -> float:
    """Seconds of a step over ``batch`` pictures, each ``pixels`` times larger than those of two trials.

    A trial is its pictures and its seconds. A step costs a fixed time (the optimizer's) and a time for each picture; where
    the trials do not tell them apart, all is by picture.
    """
    each = (more[1] - few[1]) / (more[0] - few[0]) if more[0] > few[0] else 0.0
    if each <= 0:
        each = more[1] / more[0]
    fixed = max(few[1] - few[0] * each, 0.0)
    return fixed + batch * pixels * each


class Saved:
    """Counts the bytes that autograd keeps for the backward pass within the block."""

    def __enter__(self) -> "Saved":
        self.kept: dict[int, int] = {}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.hooks.__exit__(*_)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            self.kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    @property
    def total(self) -> int:
        """Bytes, each storage once."""
        return sum(self.kept.values())


def seconds(work: Callable[[], object], device: torch.device, until: float) -> float:
    """Median seconds of at most ``STEPS`` calls of ``work``: one at least, and none that would end after ``until``."""
    taken: list[float] = []
    while not taken or (len(taken) < STEPS and time.monotonic() + taken[-1] < until):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _peak(device: torch.device) -> float:
    """Peak bytes of tensors on a GPU since the last call; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    peak = float(torch.cuda.max_memory_allocated(device))
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def short_sequence(one: Sequence, widths: list[int], weights: tuple[float, ...], length: int, device: torch.device,
                   longest: float = LONGEST) -> Rate:
    """Steps of a sequence model over random embeddings (``widths``, a member each) of series of ``length`` rows."""
    from radstack.sequence.feed import make_feed
    from radstack.sequence.train import Trainer
    from radstack.training.loop import Position

    until = time.monotonic() + longest
    cuda = device.type == "cuda"
    trial = one if cuda else replace(one, batch_size=min(FEW, one.batch_size), precision="fp32")
    if isinstance(one.loss, BinaryCrossEntropy):
        trial = replace(trial, loss=replace(one.loss, rare_class=""))  # random labels have no names
    arrays, at = random_arrays(trial, widths, len(weights), length), Position()
    trainer = Trainer(trial, arrays, 0, weights, make_feed(trial, arrays, 0, device))
    batch = next(iter(trainer.batches(at)))
    step = seconds(lambda: trainer.step(batch, at), device, until)
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    rate = trial.batch_size / step
    return Rate(rate, FORWARD * rate / one.bag, parameters, 0, _peak(device) or math.nan, ESTIMATE,
                f"{trial.batch_size} series of {length} a step, {trial.precision}")


def random_arrays(one: Sequence, widths: list[int], targets: int, length: int) -> Any:
    """Random embeddings, predictions and labels of a few series for each of two folds."""
    from radstack.sequence.arrays import Arrays

    series = 4 * one.batch_size
    rng, rows = np.random.default_rng(0), series * length
    number, start = np.arange(rows) // length, np.arange(series) * length
    folds = range(2)
    embeddings = {member: dict.fromkeys(folds, rng.standard_normal((rows, width), np.float32).astype(np.float16))
                  for member, width in zip(one.members, widths)}
    probs = {member: dict.fromkeys(folds, rng.random((rows, targets), np.float32)) for member in one.members}
    return Arrays(embeddings, probs, (rng.random((rows, targets)) < 0.1).astype(np.float32), number % 2, number,
                  (np.arange(rows) % length * 5).astype(np.float32), start, start + length)
