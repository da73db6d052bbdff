"""What the recipes ask of one GPU: pictures a second and peak memory of each, precisions, loader and resuming.

    python benchmarks/gpu.py --seconds 450 [--out benchmarks/gpu.json] [--only ich] [--again] [--device cpu --quick]

Pictures, labels and weights are random: nothing is downloaded, and the figures do not depend on data. Every figure is
written as soon as it is measured; the next call goes on where the last one ended. What fails is a row with its reason.
"""

# mypy: disable-error-code="misc"
# It does not infer a lambda that has a default.
import argparse
import gc
import importlib.util
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parents[1] / "tests")]

from competitions import load
from radstack.commands.rates import alike, machine_of
from radstack.core.errors import reason
from radstack.core.files import replacing
from radstack.core.recipe import change
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Experiment
from radstack.training.inference import Views
from radstack.training.loader import Batch, Pictures, loader
from radstack.training.run import Learner
from radstack.training.tryout import random_labels

COMPETITIONS = ("ich", "bone_age", "knee_age", "radius_ulna")
STUDIED = (("ich", "se_resnext50"), ("bone_age", "A_regression"), ("radius_ulna", "radius_net7"))
"""Recipes that are also measured in every precision, with either memory format, and compiled."""
QUICK = {"ich": "densenet121_neighbors", "bone_age": "A_regression", "knee_age": "masked_pretrained",
         "radius_ulna": "radius_net7"}
"""Recipes of ``--quick``."""
CARDS = (24, 40, 80)
"""Memory in GB for which the largest batch is estimated."""
RESERVED = 1.5
"""GB of a card that CUDA itself and fragments take."""
LONGEST = 100
"""Seconds after which one measurement is given up."""
COMPILE_LONGEST = 60
"""Seconds after which compiling is given up."""
GIB = 2.0**30

Row = dict[str, Any]


class TooLong(BaseException):
    """A measurement took too long. Not an Exception: torch.compile would wrap it into its own."""


@dataclass(frozen=True)
class Setting:
    """How much is measured, and on what."""

    device: torch.device
    quick: bool
    workers: int

    @property
    def steps(self) -> int:
        """Timed steps, at most."""
        return 1 if self.quick else 20

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def fresh_peak(self) -> None:
        """Begin a new peak of memory."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float | None:
        """Peak memory of tensors in GB (2^30 bytes); None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / GIB if self.cuda else None


@dataclass(frozen=True)
class Subject:
    """A recipe to measure, with the columns that it predicts and the pictures that it sees."""

    experiment: Experiment
    targets: tuple[str, ...]
    size: tuple[int, int]

    @property
    def alike(self) -> str:
        """The same for recipes that differ only in what is not measured: data, rates and names."""
        return f"{alike(self.experiment, len(self.targets))} {self.size}"

    def learner(self, setting: Setting) -> Learner:
        """The network with random weights, and everything that trains it."""
        one = self.experiment
        judge = objective(one.loss, self.targets)
        net = build(change(one.backbone, pretrained=False), judge.outputs, len(one.view.mean), head=one.head,
                    shares=judge.shares)
        return Learner(one, self.targets, net, setting.device)

    def batch(self, count: int, setting: Setting) -> Batch:
        """``count`` random pictures with labels that its loss takes, in pinned memory as from the loader."""
        one = self.experiment
        images = torch.randint(0, 256, (count, len(one.view.mean), *self.size), dtype=torch.uint8)
        labels = random_labels(one, len(self.targets), count, self.size)
        made = Batch(images, labels, torch.ones(count, len(one.head.columns)), torch.arange(count))
        return Batch(*(part.pin_memory() for part in made)) if setting.cuda else made

    def micros(self, setting: Setting, count: int = 0) -> list[Batch]:
        """The micro-batches of one step of the recipe, or one of ``count`` pictures."""
        recipe = self.experiment.train
        if count:
            return [self.batch(count, setting)]
        return [self.batch(recipe.batch_size // recipe.accumulate, setting) for _ in range(recipe.accumulate)]


def subject(experiment: Experiment, targets: tuple[str, ...], setting: Setting) -> Subject:
    """``experiment`` as it is; with ``--quick`` two pictures a step, in fp32 on a CPU, of half the size where it may be."""
    height, width = experiment.view.size
    size = height, width
    if setting.quick:
        fixed = experiment.backbone.name == "radstack/plain"
        size = size if fixed else (height // 2, width // 2)
        args = experiment.backbone.args
        experiment = change(experiment, train__batch_size=2, train__accumulate=1, train__precision="fp32",
                            backbone__args={**args, "size": size} if "size" in args else args)
    return Subject(experiment, targets, size)


def seconds(work: Callable[[], object], setting: Setting, warm: int = 4, longest: float = 4.0) -> float:
    """Median seconds of ``work`` after ``warm`` calls, over at most ``setting.steps`` calls or ``longest`` seconds."""
    for _ in range(0 if setting.quick else warm):
        work()
    setting.wait()
    taken: list[float] = []
    while len(taken) < setting.steps and sum(taken) < longest:
        start = time.perf_counter()
        work()
        setting.wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def millions(net: torch.nn.Module) -> float:
    """Parameters of a network in millions."""
    return sum(weight.numel() for weight in net.parameters()) / 1e6


def stepper(learner: Learner, micros: list[Batch], moved: list[bool]) -> Callable[[], None]:
    """The learner's own step; notes in ``moved`` whether the weights moved."""
    return lambda: moved.append(learner.step(micros, 0.5, len(moved))[0])


def bare(learner: Learner, micros: list[Batch], guard: bool) -> None:
    """Forward, loss, backward and optimizer alone; with ``guard`` also the gradient's norm, which Python waits for."""
    learner.model.train()
    for batch in micros:
        learner._backward(batch, len(micros))
    scaler, optimizer = learner.precision.scaler, learner.optimizer
    if guard:
        scaler.unscale_(optimizer)
        grads = [weight.grad for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
        float(torch.nn.utils.get_total_norm(grads))
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


def measure_recipe(one: Subject, setting: Setting) -> Row:
    """Training and prediction of one recipe at its own batch size and precision."""
    learner, micros, moved = one.learner(setting), one.micros(setting), list[bool]()
    count = sum(len(batch.images) for batch in micros)
    setting.fresh_peak()
    full = seconds(stepper(learner, micros, moved), setting)
    peak = setting.peak()
    plain = seconds(lambda: bare(learner, micros, False), setting, warm=2)
    guarded = seconds(lambda: bare(learner, micros, True), setting, warm=2)
    row = {"size": f"{one.size[0]}x{one.size[1]}x{len(one.experiment.view.mean)}", "batch": count,
           "precision": one.experiment.train.precision, "parameters_M": millions(learner.net),
           "width": learner.net.width, "step_ms": full * 1e3, "pictures_s": count / full, "peak_GB": peak,
           "share_of_bare": plain / full, "guard_ms": (guarded - plain) * 1e3, "moved": f"{sum(moved)}/{len(moved)}"}
    try:
        return {**row, **measure_prediction(one, learner, setting)}
    except Exception as error:
        return {**row, "predict": f"failed: {reason(error)}"}


def measure_prediction(one: Subject, learner: Learner, setting: Setting) -> Row:
    """Prediction over the recipe's test-time views, 64 pictures at a time as stage 05 does."""
    learner.optimizer.zero_grad(set_to_none=True)
    net = learner.net.eval()
    given = one.batch(2 if setting.quick else 64, setting)
    views = Views(one.experiment, net, setting.device)
    setting.fresh_peak()
    taken = seconds(lambda: views(given.images, given.columns)[0].cpu(), setting, warm=2, longest=2.0)
    return {"views": len(one.experiment.tta), "predict_s": len(given.images) / taken, "predict_GB": setting.peak()}


def measure_variant(one: Subject, compiled: bool, setting: Setting) -> Row:
    """The learner's step in another precision or memory format, or compiled."""
    learner, micros, moved = one.learner(setting), one.micros(setting), list[bool]()
    first = 0.0
    step = stepper(learner, micros, moved)
    if compiled:
        learner.model = cast(torch.nn.Module, torch.compile(learner.model))
        start = time.perf_counter()
        with time_limit(COMPILE_LONGEST, "compiling"):
            step()
            setting.wait()
        first = time.perf_counter() - start
    setting.fresh_peak()
    taken, count = seconds(step, setting), sum(len(batch.images) for batch in micros)
    return {"step_ms": taken * 1e3, "pictures_s": count / taken, "peak_GB": setting.peak(),
            "compile_s": first if compiled else None}


def measure_memory(one: Subject, setting: Setting) -> Row:
    """The largest batch for each of ``CARDS``, estimated from the peaks at two batch sizes."""
    counts = (1, 2) if setting.quick else (8, 16)
    found = [peak_of(one, count, setting) for count in counts]
    if not setting.cuda:
        return {"failed": "memory is only counted on a GPU"}
    each = (found[1] - found[0]) / (counts[1] - counts[0])
    fixed = found[0] - counts[0] * each
    return {"fixed_GB": fixed, "each_GB": each,
            **{f"estimated_batch_{card}GB": int((card - RESERVED - fixed) / each) for card in CARDS}}


def peak_of(one: Subject, count: int, setting: Setting) -> float:
    """Peak memory in GB of a step over ``count`` pictures, once the optimizer has made its state."""
    learner, micros, moved = one.learner(setting), one.micros(setting, count), list[bool]()
    step = stepper(learner, micros, moved)
    while not any(moved) and len(moved) < (1 if setting.quick else 20):
        step()
    setting.fresh_peak()
    step()
    return setting.peak() or 0.0


def measure_sequence(recipe: Any, widths: list[int], setting: Setting) -> Row:
    """A sequence model over random embeddings of series of 35 slices."""
    from radstack.sequence.arrays import Arrays
    from radstack.sequence.feed import make_feed
    from radstack.sequence.train import Trainer
    from radstack.training.loop import Position

    series, length, targets = (12, 5, 6) if setting.quick else (640, 35, 6)
    rng, rows = np.random.default_rng(0), series * length
    number = np.arange(rows) // length
    embeddings = {member: {0: rng.standard_normal((rows, width), np.float32).astype(np.float16)}
                  for member, width in zip(recipe.members, widths)}
    probs = {member: {fold: rng.random((rows, targets), np.float32) for fold in range(5)} for member in recipe.members}
    start = np.arange(series) * length
    arrays = Arrays(embeddings, probs, (rng.random((rows, targets)) < 0.1).astype(np.float32), number % 5, number,
                    (np.arange(rows) % length * 5).astype(np.float32), start, start + length)
    recipe = replace(recipe, precision="fp32", batch_size=2) if setting.quick else recipe
    trainer, at = Trainer(recipe, arrays, 0, (1, 1, 1, 1, 1, 2), make_feed(recipe, arrays, 0, setting.device)), Position()
    batches = endless(trainer, at)
    setting.fresh_peak()
    taken = seconds(lambda: trainer.step(next(batches), at), setting)
    return {"embedding": sum(widths), "parameters_M": millions(trainer.model),
            "batch": recipe.batch_size, "precision": recipe.precision, "step_ms": taken * 1e3,
            "series_s": recipe.batch_size / taken, "peak_GB": setting.peak()}


def endless(trainer: Any, at: Any) -> Iterator[Any]:
    """A trainer's batches, epoch after epoch; with batches of full size where there are any."""
    while True:
        yield from trainer.batches(at)


def measure_detector(recipe: Any, setting: Setting) -> Row:
    """A detector's step, its augmentation included, on random pictures of 1500 x 1200 pixels."""
    from radstack.detection.train import DetectLearner, DetectRun
    from radstack.training.loop import Position

    rng, classes = np.random.default_rng(0), len(recipe.classes)
    side = (300, 240) if setting.quick else (1500, 1200)
    if setting.quick:
        recipe = replace(recipe, short_side=96, long_side=160, dense=64, precision="fp32")
    pictures = [rng.integers(0, 256, side, np.uint8) for _ in range(4)]
    corner = rng.uniform(0.2, 0.4, (4, classes, 2)) * side[1]
    boxes = np.concatenate([corner, corner + 0.2 * side[1]], axis=2)
    run = DetectRun(recipe, 0, np.array(["a", "b", "c", "d"]), pictures, boxes, "key", Path("none"), setting.device, 1e9,
                    lambda _: None)
    learner, at = DetectLearner(run), Position()
    batches = endless(learner, at)
    setting.fresh_peak()
    taken = seconds(lambda: learner.step(next(batches), at), setting)
    return {"batch": recipe.batch_size, "precision": recipe.precision, "step_ms": taken * 1e3,
            "pictures_s": recipe.batch_size / taken, "peak_GB": setting.peak()}


def measure_copy(pinned: bool, setting: Setting) -> Row:
    """Rate of copies of 64 MB from the host to the device."""
    host = torch.zeros(2**26, dtype=torch.uint8)
    host = host.pin_memory() if pinned and setting.cuda else host
    taken = seconds(lambda: host.to(setting.device, non_blocking=True, copy=True), setting)
    return {"GB_s": host.numel() / GIB / taken}


def measure_loader(experiment: Experiment, augmented: bool, gpu_rate: float | None, setting: Setting) -> Row:
    """Shards of int16 pictures through view, augmentation and worker processes, without a network behind them."""
    from radstack.images.shards import Shards, shard_path, write_shard
    from radstack.training.augment import pipeline

    count, side, length = (16, 400, 4) if setting.quick else (1024, 400, 32)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"shard": 0, "slot": np.arange(count), "series": np.arange(count) // length})
    with tempfile.TemporaryDirectory() as folder:
        picture = rng.normal(20, 200, (side, side)).astype(np.int16)
        write_shard(shard_path(Path(folder), 0), [lambda: picture] * count, (side, side))
        augment = pipeline(experiment.augment if augmented else (), experiment.view.size)
        pictures = Pictures(experiment.view.reader(Shards(Path(folder)), rows), np.zeros((count, 6), np.float32),
                            np.zeros((count, 0), np.float32), augment)
        size, longest = (4, 1.0) if setting.quick else (experiment.train.batch_size, 8.0)
        order = rng.integers(0, count, (12 if setting.quick else 3000, size)).tolist()
        visits = [[(row, place) for row in chosen] for place, chosen in enumerate(order)]
        batches = loader(pictures, visits, setting.workers, setting.cuda)
        # The first batches are those that the workers prepared while the others were still starting.
        for _ in range(5 * setting.workers):
            next(batches)
        seen, start = 0, time.perf_counter()
        for batch in batches:
            seen += len(batch.rows)
            if time.perf_counter() - start > longest:
                break
        rate = seen / (time.perf_counter() - start)
        del batches
    return {"workers": setting.workers, "cores": os.cpu_count(), "pictures_s": rate, "gpu_pictures_s": gpu_rate,
            "loader_of_gpu": rate / gpu_rate if gpu_rate else None}


class Stopped(Exception):
    """A run was stopped on purpose."""


def measure_resume(kind: str, setting: Setting) -> Row:
    """A tiny run straight, straight again, and stopped at its fifth checkpoint and resumed: how far the weights differ."""
    import tiny

    from radstack.training.loop import Loop

    known = tiny.EXPERIMENT.augment if importlib.util.find_spec("albumentations") else ()
    experiment = change(tiny.EXPERIMENT, train__precision=kind, augment=known)
    save, left = Loop.save, 5

    def stop(self: Any, at: Any) -> None:
        nonlocal left
        save(self, at)
        left -= 1
        if left == 0:
            raise Stopped

    def run(folder: str, every: float) -> dict[str, torch.Tensor]:
        return tiny.train(replace(tiny.make_run(Path(folder), experiment, every), device=setting.device))

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two, tempfile.TemporaryDirectory() as three:
        straight, again = run(one, 1e9), run(two, 1e9)
        with patch.object(Loop, "save", stop), suppress(Stopped):
            run(three, 0.0)
            raise RuntimeError("the run was not stopped")
        resumed = run(three, 1e9)
    return {"augmented": bool(known), "resumed_differs_by": difference(straight, resumed),
            "repeated_differs_by": difference(straight, again)}


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference of two networks' weights; 0 where they are equal."""
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel())


Job = tuple[str, Callable[[dict[str, Row]], Row]]
"""Key ``kind/competition/recipe...`` and what measures it, given the rows so far."""


def jobs(setting: Setting, failed: dict[str, Row]) -> Iterator[Job]:
    """Everything that is measured, the most wanted first; a competition that cannot be imported is a row of ``failed``."""
    for pinned in (True, False):
        yield f"copy/{'pinned' if pinned else 'pageable'}", lambda rows, p=pinned: measure_copy(p, setting)
    for kind in ("fp32",) if setting.quick or not setting.cuda else ("fp32", "fp16", "bf16"):
        yield f"resume/{kind}", lambda rows, k=kind: measure_resume(k, setting)
    found = {}
    for name in COMPETITIONS:
        try:
            found[name] = load(name)
        except ImportError as error:
            failed[f"recipe/{name}"] = {"failed": f"skipped: {reason(error)}"}
    studied = []
    for name, competition in found.items():
        for one in subjects(competition, setting):
            yield f"recipe/{name}/{one.experiment.name}", lambda rows, o=one: measure_recipe(o, setting)
            if (name, one.experiment.name) in STUDIED:
                studied.append((name, one))
        detector = getattr(competition.localizer, "detector", None)
        if detector is not None:
            yield f"detector/{name}/{detector.name}", lambda rows, d=detector: measure_detector(d, setting)
    if "ich" in found:
        yield from ich_jobs(found["ich"], setting)
    for name, one in studied:
        yield from variants(name, one, setting)


def subjects(competition: Any, setting: Setting) -> Iterator[Subject]:
    """The recipes of a competition and the networks of its localizer; one of ``--quick``."""
    models = competition.models
    for experiment in (*models.experiments, *models.on_call):
        if not setting.quick or experiment.name == QUICK[competition.name]:
            yield subject(experiment, experiment.targets_of(competition.targets), setting)
    if not setting.quick:
        for step in getattr(competition.localizer, "steps", ()):
            yield subject(step.experiment, step.targets or competition.targets, setting)


def ich_jobs(competition: Any, setting: Setting) -> Iterator[Job]:
    """Loader, sequence models and largest batches of the largest competition."""
    experiments = competition.models.experiments
    chosen = [one for one in experiments if one.name in (("se_resnext50",), (QUICK["ich"],))[setting.quick]]
    for one in chosen:
        for augmented in (False, True):
            if augmented and not importlib.util.find_spec("albumentations"):
                continue
            yield (f"loader/ich/{one.name}/{'augmented' if augmented else 'view alone'}",
                   lambda rows, o=one, a=augmented: measure_loader(
                       o, a, rows.get(f"recipe/ich/{o.name}", {}).get("pictures_s"), setting))
    for sequence in competition.models.sequences:
        yield f"sequence/ich/{sequence.name}", lambda rows, s=sequence: measure_sequence(
            s, [16 if setting.quick else rows.get(f"recipe/ich/{member}", {}).get("width", 2048) for member in s.members],
            setting)
    for one in chosen if setting.quick else experiments:
        fitted = subject(one, one.targets_of(competition.targets), setting)
        yield f"batch/ich/{one.name}", lambda rows, f=fitted: measure_memory(f, setting)


def variants(name: str, one: Subject, setting: Setting) -> Iterator[Job]:
    """Precisions and memory formats of one recipe; compiled in the recipe's own format alone, for that takes long."""
    own = one.experiment.train.channels_last
    kinds = ("fp32",) if setting.quick else ("fp32", "fp16", "bf16")
    choices = [(kind, last, False) for kind in kinds for last in (True, False)]
    choices += [] if setting.quick else [(kind, own, True) for kind in kinds[::-1]]
    for kind, last, compiled in choices:
        changed = replace(one, experiment=change(one.experiment, train__precision=kind, train__channels_last=last))
        words = (kind, "channels_last" if last else "contiguous", *(("compiled",) if compiled else ()))
        yield (f"variant/{name}/{one.experiment.name}/{' '.join(words)}",
               lambda rows, o=changed, c=compiled: measure_variant(o, c, setting))


class time_limit:
    """Raises TooLong in the block after ``limit`` seconds; an outer limit goes on afterwards."""

    def __init__(self, limit: float, what: str) -> None:
        """Bind the limit in seconds and what takes them."""
        self.limit, self.what = limit, what

    def __enter__(self) -> None:
        def give_up(*_: Any) -> None:
            raise TooLong(f"{self.what} took more than {self.limit:.0f} s")

        self.before, self.start = signal.signal(signal.SIGALRM, give_up), time.monotonic()
        self.outer, _ = signal.setitimer(signal.ITIMER_REAL, max(self.limit, 0.1))

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGALRM, self.before)
        rest = self.outer - (time.monotonic() - self.start) if self.outer else 0.0
        signal.setitimer(signal.ITIMER_REAL, max(rest, 0.1) if self.outer else 0.0)


def measured(work: Callable[[dict[str, Row]], Row], rows: dict[str, Row], left: float) -> tuple[Row | None, bool]:
    """A row and whether the device still works; no row where the call's own time ran out rather than the row's."""
    usable = True
    try:
        with time_limit(min(LONGEST, left), "measuring"):
            row = work(rows)
    except TooLong as error:
        # Compiling has a limit of its own, whatever the call had left.
        own = "compiling" in str(error) or left >= LONGEST
        return ({"failed": str(error)} if own else None), True
    except Exception as error:
        row = {"failed": reason(error)[:300]}
        # After an illegal access every later call would fail alike; running out of memory is harmless.
        usable = "CUDA error" not in str(error) or isinstance(error, torch.cuda.OutOfMemoryError)
    return row, usable


def clean_up(setting: Setting) -> None:
    """Give back what the last measurement held."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if setting.cuda:
        torch.cuda.empty_cache()


def rounded(row: Row) -> Row:
    """Numbers to four significant digits."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}


def write(path: Path, head: dict[str, Any], rows: dict[str, Row]) -> None:
    """Everything measured so far, atomically."""
    with replacing(path) as part:
        part.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")


def read(path: Path, head: dict[str, Any], again: bool) -> dict[str, Row]:
    """The rows of earlier calls on the same device; without those that failed where ``again``."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text())
    for name in ("device", "quick"):
        if kept[name] != head[name]:
            raise SystemExit(f"{path} was measured with {name} {kept[name]}, this is {head[name]}; use --out OTHER.json")
    return {key: row for key, row in kept["rows"].items() if not (again and "failed" in row)}


def table(rows: dict[str, Row]) -> None:
    """Print one table for each kind of row."""
    for kind in dict.fromkeys(key.split("/")[0] for key in rows):
        own = {key.partition("/")[2]: row for key, row in rows.items() if key.startswith(f"{kind}/")}
        columns = list(dict.fromkeys(name for row in own.values() for name in row))
        print(f"\n| {kind} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, row in own.items():
            print(f"| {name} | {' | '.join('' if row.get(one) is None else str(row[one]) for one in columns)} |")


def run(setting: Setting, path: Path, head: dict[str, Any], rows: dict[str, Row], limit: float, only: str) -> bool:
    """Measure what ``rows`` lack until ``limit`` seconds are over; whether nothing is left."""
    start, alike = time.monotonic(), dict[str, str]()
    for key, work in jobs(setting, rows):
        one = (work.__defaults__ or (None,))[0]
        same = alike.setdefault(one.alike, key) if key.startswith("recipe/") else key
        if key in rows or only not in key:
            continue
        left = limit - (time.monotonic() - start)
        if left < 5:
            return False
        before = time.monotonic()
        if same != key and "failed" not in rows.get(same, {"failed": ""}):
            row: Row | None = {**rows[same], "same_as": same.partition("/")[2]}
            usable = True
        else:
            row, usable = measured(work, rows, left)
        clean_up(setting)
        if row is None:
            return False
        rows[key] = rounded(row)
        write(path, head, rows)
        print(f"{key}: {rows[key]} ({time.monotonic() - before:.0f} s)", flush=True)
        if not usable:
            print("the device no longer answers; start again")
            return False
    return True


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=450.0, help="measure no longer than this")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gpu.json"))
    parser.add_argument("--only", default="", help="rows whose key holds this, e.g. recipe/ich")
    parser.add_argument("--again", action="store_true", help="measure what failed once more")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=16, help="processes of the loader")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --quick shows that this runs")
    setting = Setting(device, args.quick, 1 if args.quick else args.workers)
    name = machine_of(device)
    head = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "date": date.today().isoformat(),
            "quick": args.quick}
    rows = read(args.out, head, args.again)
    done = run(setting, args.out, head, rows, args.seconds, args.only)
    table(rows)
    print(f"\n{name}, torch {torch.__version__}: {len(rows)} rows in {args.out}; "
          + ("all measured" if done else "not all is measured yet: run it again"))


if __name__ == "__main__":
    main()
