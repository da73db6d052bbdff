"""Pictures a second in training and prediction: against timm's training script, and against bare loops.

    python benchmarks/steps.py --timm PATH/train.py     # three minutes on two cores; PATH: a clone of timm's repository
    python benchmarks/steps.py                          # without timm's script: reading and bare loops alone

timm's script is not in its package: git clone --depth 1 https://github.com/huggingface/pytorch-image-models

All on a processor, in fp32 and channels last, with AdamW, on the same drawn pictures, read by the process that trains.
Laps of both sides go in turn; with one thread CPU time counts, else the clock; the median lap is taken.

- *Training*: our loop and timm's ``main``, each in a process of its own, from its loader to its log. ``plain`` has no
  augmentation, clipping or average of the weights, ``recipe`` has all three: our augmentation is that of
  ``ich --recipes small`` (with rotation), timm's its crop, flip and color jitter in the same range. Checkpoints are
  between laps.
- *Reading*: batches alone, ours from a shard with three windows, timm's from a folder of PNG files.
- *Loop*: the share of a step that is not forward, loss, backward and optimizer: batches, standardizing, guard,
  progress. A bare step of a twin network follows each step of the loop, on the same pictures, ready-made.
- *Prediction*: two views, from pictures to table, against a bare network that looks at as many ready-made pictures.
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]

import batches
import kept_memory

from competitions.ich.small import PLAIN
from radstack.core.limits import STEPS, keep_memory
from radstack.core.recipe import change
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.images.views import IMAGENET, Whole
from radstack.nets.backbones import build
from radstack.recipes.experiment import Backbone, Experiment, Optim, Sampling, Train
from radstack.recipes.losses import SoftmaxCrossEntropy
from radstack.training.inference import predict
from radstack.training.loader import Batch, Pictures, at_once, loader, normalizer, plain_batches
from radstack.training.loop import Loop, Position
from radstack.training.run import Learner, Lessons, Run

CLASSES = 6
TARGETS = tuple(f"class{number}" for number in range(CLASSES))
VISITS = 1000
"""Of each picture in an epoch, so that a run is as long as a real one and logs as rarely."""
CLIP, EMA = 1.0, 0.995


@dataclass(frozen=True)
class Case:
    """A network of timm, with the side of its pictures, how many make a step, and the steps of a lap."""

    model: str
    side: int
    batch: int
    steps: int

    def experiment(self, like_a_recipe: bool) -> Experiment:
        """Our recipe; the other side has the same in :func:`timm_options`."""
        plain = Experiment(
            "steps", Whole((self.side, self.side), *IMAGENET), Backbone(f"timm/{self.model}", pretrained=False),
            loss=SoftmaxCrossEntropy(), optim=Optim("adamw", lr=1e-4, weight_decay=0.01),
            sampling=Sampling(copies=VISITS), tta=("plain", "hflip"),
            train=Train(epochs=1, batch_size=self.batch, precision="fp32"))
        return change(plain, augment=PLAIN.augment, optim__clip_norm=CLIP, train__ema=EMA) if like_a_recipe else plain

    def pictures(self) -> np.ndarray:
        """Smooth pictures of as many rows as a lap has, uint8 [rows, side, side]."""
        coarse = np.random.default_rng(0).integers(0, 256, (self.batch * self.steps, 12, 12), np.uint8)
        return np.stack([cv2.resize(one, (self.side, self.side), interpolation=cv2.INTER_CUBIC) for one in coarse])

    def run(self, folder: Path, like_a_recipe: bool = False) -> Run:
        """A run of ours that keeps its pictures in memory and its files in ``folder``."""
        pictures = self.pictures()
        rows, fold_of_row = row_table(len(pictures)), np.ones(len(pictures), int)
        return Run(self.experiment(like_a_recipe), 0, TARGETS, rows, fold_of_row, pictures, "key",
                   folder / "fold0.checkpoint", torch.device("cpu"), 0, 1e9, lambda _: None)

    def learner(self, run: Run) -> Learner:
        """An untrained network of ours and its optimizer."""
        return Learner(run.experiment, TARGETS, build(run.experiment.backbone, CLASSES), run.device)


CASES = {"lite0": Case("efficientnet_lite0", 144, 16, 2), "resnet18": Case("resnet18", 64, 32, 3),
         "seresnext26": Case("seresnext26d_32x4d", 96, 16, 2)}
SMALLEST = {"smallest": Case("test_resnet", 32, 2, 1)}
"""Of ``--quick``."""


def labels(rows: int) -> np.ndarray:
    """The class of each row, int [rows]."""
    return np.arange(rows) % CLASSES


def row_table(rows: int) -> pd.DataFrame:
    """Ids, labels, and where a shard has the pixels."""
    known = {"id": [str(row) for row in range(rows)], "series": "s", "shard": 0, "slot": np.arange(rows)}
    return pd.DataFrame(known | dict(zip(TARGETS, np.eye(CLASSES, dtype=np.float32)[labels(rows)].T)))


def now() -> float:
    """CPU seconds of this process where it has one thread, which other work disturbs less than the clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = now()
    work()
    return now() - start


# --- Training: a process for each side, which makes a lap when it is told to ---


class Laps(Lessons):
    """Lessons whose batches come in laps."""

    steps_of_lap: int

    def batches(self, at: Position) -> Iterator[list[Batch]]:
        """A lap of batches whenever it is wanted."""
        whole = super().batches(at)
        while True:
            wanted()
            start = now()
            yield from islice(whole, self.steps_of_lap)
            print(now() - start, flush=True)


def wanted() -> None:
    """Wait until the next lap is; end this process where none will be."""
    if not sys.stdin.readline():
        sys.exit()


def race_ours(case: Case, like_a_recipe: bool, folder: Path) -> None:
    """Lap after lap of our loop."""
    run = case.run(folder, like_a_recipe)
    lessons = Laps(run, case.learner(run))
    lessons.steps_of_lap = case.steps
    Loop(lessons, run.checkpoint, run.key, run.checkpoint_seconds, run.report).run()


class InMemory(torch.utils.data.Dataset):
    """A data set for timm's loader: pictures as it hands them on, or those that it augments."""

    transform: Callable[[Any], Any]
    """Set by timm."""

    def __init__(self, case: Case, augmented: bool) -> None:
        from PIL import Image

        colored = np.repeat(case.pictures()[..., None], 3, axis=3)
        self.augmented, self.labels = augmented, labels(len(colored))
        self.pictures = ([Image.fromarray(one) for one in colored] if augmented else
                         list(np.ascontiguousarray(colored.transpose(0, 3, 1, 2))))

    def __getitem__(self, row: int) -> tuple[Any, int]:
        """Picture uint8 [3, height, width], and its class."""
        picture = self.pictures[row]
        return self.transform(picture) if self.augmented else picture, int(self.labels[row])

    def __len__(self) -> int:
        return len(self.pictures)


def timm_options(case: Case, like_a_recipe: bool, folder: Path) -> list[str]:
    """What timm's script is told; none of its epochs, which are laps here, is followed by a checkpoint."""
    ways = (f"--model {case.model} --num-classes {CLASSES} --img-size {case.side} -b {case.batch} -j 0 --device cpu "
            "--channels-last --opt adamw --lr 1e-4 --weight-decay 0.01 --sched step --warmup-epochs 0 "
            "--decay-epochs 1000000 --smoothing 0 --epochs 1000000 --val-interval 1000000 --val-split=")
    recipe = (f"--clip-grad {CLIP} --model-ema --model-ema-decay {EMA} --model-ema-warmup --scale 0.81 1 "
              "--ratio 0.9 1.1 --color-jitter 0.1 --train-interpolation bilinear")
    return [*ways.split(), *(recipe.split() if like_a_recipe else ["--no-aug"]), "--output", str(folder)]


def race_timm(script: Path, case: Case, like_a_recipe: bool, folder: Path) -> None:
    """Lap after lap of timm's script, whose data set alone is ours."""
    spec = importlib.util.spec_from_file_location("timm_train", script)
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    epoch = module.train_one_epoch

    def lap(*args: Any, **kwargs: Any) -> Any:
        wanted()
        start = now()
        result = epoch(*args, **kwargs)
        print(now() - start, flush=True)
        return result

    module.train_one_epoch, module.create_dataset = lap, lambda *args, **kwargs: InMemory(case, like_a_recipe)
    sys.argv = [str(script), *timm_options(case, like_a_recipe, folder)]
    module.main()


class Racer:
    """A process that makes a lap whenever it is told to."""

    def __init__(self, options: argparse.Namespace, side: str, name: str, like_a_recipe: bool, said: Path) -> None:
        """Start it; its standard error goes to the file ``said``."""
        told = ["--race", side, name, str(int(like_a_recipe)), "--threads", str(options.threads)]
        quick = ["--quick"] if options.quick else []
        command = [sys.executable, __file__, *told, "--timm", str(options.timm), *quick]
        self.said = said
        with said.open("w") as handle:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=handle,
                                            text=True)

    def lap(self) -> float:
        """Seconds of one; where the process failed, end with what it said."""
        assert self.process.stdin and self.process.stdout
        try:
            print(file=self.process.stdin, flush=True)
            return float(self.process.stdout.readline())
        except (ValueError, BrokenPipeError):
            self.process.wait()
            raise SystemExit("".join(self.said.read_text().splitlines(keepends=True)[-12:])) from None

    def end(self) -> None:
        """No more laps."""
        with suppress(BrokenPipeError):
            self.process.communicate()


def race(options: argparse.Namespace, name: str, case: Case, like_a_recipe: bool) -> tuple[float, float]:
    """Pictures a second of the median lap, ours and timm's; the first lap of each warms up."""
    with tempfile.TemporaryDirectory() as folder:
        racers = [Racer(options, side, name, like_a_recipe, Path(folder, side)) for side in ("ours", "timm")]
        try:
            laps = [[racer.lap() for racer in racers] for _ in range(options.rounds + 1)][1:]
        finally:
            for racer in racers:
                racer.end()
    ours, other = (case.batch * case.steps / statistics.median(each) for each in zip(*laps))
    return ours, other


def training(options: argparse.Namespace, cases: dict[str, Case]) -> None:
    """Print the table of ours against timm's script."""
    if not options.timm:
        print("Training is not compared: timm's train.py was not given (--timm PATH/train.py)\n")
        return
    print("| training | pixels | batch | way | ours, pictures/s | timm, pictures/s | ours / timm |\n"
          "|---|---:|---:|---|---:|---:|---:|")
    for name, case in cases.items():
        for way in ("recipe",) if options.quick else ("plain", "recipe"):
            ours, other = race(options, name, case, way == "recipe")
            print(f"| {name} | {case.side} | {case.batch} | {way} | {ours:.1f} | {other:.1f} | {ours / other:.3f} |",
                  flush=True)
    print()


# --- Reading ---


def reading(options: argparse.Namespace, cases: dict[str, Case]) -> None:
    """Print what a picture costs until it is part of a batch."""
    print("| reading | ours, us a picture | timm, us a picture | timm / ours |\n|---|---:|---:|---:|")
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            ways = our_reading(case, Path(folder)), timm_reading(case, Path(folder))
            rounds = [[seconds(way) for way in ways] for _ in range(options.rounds + 1)][1:]
        ours, other = (statistics.median(each) / (case.batch * case.steps) * 1e6 for each in zip(*rounds))
        print(f"| {name} | {ours:.0f} | {other:.0f} | {other / ours:.2f} |", flush=True)
    print()


def our_reading(case: Case, folder: Path) -> Callable[[], object]:
    """All batches from a shard of int16 pictures, three windows each, standardized."""
    drawn = [one.astype(np.int16) for one in case.pictures()]
    write_shard(shard_path(folder, 0), [lambda one=one: one for one in drawn], drawn[0].shape)  # type: ignore[misc]
    rows = row_table(len(drawn))
    view, targets = change(PLAIN.view, side=case.side), rows[list(TARGETS)].to_numpy(np.float32)
    pictures = Pictures(view.reader(Shards(folder), rows), targets, np.zeros((len(rows), 0), np.float32))
    visits = plain_batches(np.arange(len(rows)), case.batch)
    ready = normalizing(view)
    return lambda: [ready(batch.images) for batch in loader(pictures, visits, 0, False)]


def timm_reading(case: Case, folder: Path) -> Callable[[], object]:
    """All batches from a folder of PNG files by timm's loader, standardized, without augmentation."""
    from timm.data import create_dataset, create_loader

    for row, (picture, label) in enumerate(zip(case.pictures(), labels(case.batch * case.steps))):
        file = folder / "train" / str(label) / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), picture)
    pictures = create_dataset("", root=str(folder), split="train", is_training=True)
    batched = create_loader(pictures, (3, case.side, case.side), case.batch, is_training=True, no_aug=True,
                            num_workers=0, device=torch.device("cpu"))
    return lambda: list(batched)


def normalizing(view: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a network of ours gets of a batch's pictures."""
    ready = normalizer(view.mean, view.std, torch.device("cpu"))
    return lambda images: ready(images).contiguous(memory_format=torch.channels_last)


# --- The loop, and prediction ---


class Beside(Lessons):
    """Lessons in which a bare step follows each step of the loop."""

    shares: list[float]
    """Of each pair of steps: what the bare one took of the other."""

    def __init__(self, run: Run, learner: Learner, twin: Learner, count: int) -> None:
        super().__init__(run, learner)
        self.twin, self.count, self.shares = twin, count, []
        self.ready = normalizing(run.experiment.view)

    def batches(self, at: Position) -> Iterator[list[Batch]]:
        """The batches of as many steps as are counted."""
        whole = super().batches(at)
        for _ in range(self.count):
            start = now()
            batch = next(whole)
            yield batch
            taken = now() - start
            self.shares.append(self.bare(batch[0]) / taken)

    def bare(self, batch: Batch) -> float:
        """Seconds of a bare step of the twin on ready-made pictures."""
        twin, images = self.twin, self.ready(batch.images)
        model = twin.model.train()
        return seconds(lambda: kept_memory.step(twin.optimizer, lambda: twin.loss(model(images), batch.targets)[0]))


def overhead(case: Case, count: int) -> float:
    """Share of the median step that is not the network's, its loss's and its optimizer's."""
    with tempfile.TemporaryDirectory() as folder:
        run = case.run(Path(folder))
        lessons = Beside(run, case.learner(run), case.learner(run), count)
        Loop(lessons, run.checkpoint, run.key, run.checkpoint_seconds, run.report).run()
    return 1 - statistics.median(lessons.shares[min(2, count - 1):])


def prediction(case: Case, rounds: int) -> tuple[float, float]:
    """Pictures that the network looks at a second: in our prediction, and bare."""
    keep_memory(STEPS)
    with tempfile.TemporaryDirectory() as folder:
        run = case.run(Path(folder))
        learner = case.learner(run)
    net, one, rows, count = learner.net.eval(), run.experiment, run.rows, len(run.rows)
    size = at_once(run.device, one.view.size)
    store = np.zeros((count, net.width), np.float16)
    images = normalizing(one.view)(torch.from_numpy(np.repeat(run.cache[:, None], 3, axis=1)))

    def ours() -> None:
        predict(one, net, TARGETS, rows, np.arange(count), run.cache, store, workers=0, report=run.report)

    @torch.inference_mode()
    def bare() -> None:
        for _ in one.tta:
            batches.look(net, images, size)

    ways: tuple[Callable[[], None], ...] = ours, bare
    taken = [[seconds(way) for way in ways] for _ in range(rounds + 1)][1:]
    own, other = (len(one.tta) * count / statistics.median(each) for each in zip(*taken))
    return own, other


def bare_loops(options: argparse.Namespace, cases: dict[str, Case]) -> None:
    """Print what the loop and the prediction add to the network."""
    print("| network | loop's share of a step | predicted, pictures/s | bare, pictures/s | predicted / bare |\n"
          "|---|---:|---:|---:|---:|")
    for name, case in cases.items():
        share, (ours, other) = overhead(case, 2 * options.rounds + 2), prediction(case, options.rounds)
        print(f"| {name} | {share:.1%} | {ours:.1f} | {other:.1f} | {ours / other:.3f} |", flush=True)


def main() -> None:
    """Compare and print; in a process of its own make laps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timm", type=Path, help="train.py of timm's repository")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--rounds", type=int, default=5, help="laps of each")
    parser.add_argument("--only", nargs="+", choices=CASES, help="networks")
    parser.add_argument("--quick", action="store_true", help="one tiny network, to see that it runs")
    parser.add_argument("--race", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(0)
    cases = SMALLEST if options.quick else CASES
    if options.race:
        side, name, like_a_recipe = options.race
        with tempfile.TemporaryDirectory() as folder:
            given = cases[name], like_a_recipe == "1", Path(folder)
            race_ours(*given) if side == "ours" else race_timm(options.timm, *given)
        return
    if options.only:
        cases = {name: case for name, case in cases.items() if name in options.only}
    print(f"{options.threads} threads, {options.rounds} rounds\n")
    training(options, cases)
    reading(options, cases)
    bare_loops(options, cases)


if __name__ == "__main__":
    main()
