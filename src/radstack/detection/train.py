"""Train a detector on one fold, phase by phase, from wherever the last checkpoint stands to the fixed last step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from radstack.core.progress import Log, track
from radstack.detection.augment import augmented
from radstack.detection.nets import Phase, Targets, as_input, build, losses, parts, phases
from radstack.detection.trunks import ANYWHERE, Weights, trunk
from radstack.nets.optim import optimizer, schedule, set_rate
from radstack.nets.precision import precision
from radstack.recipes.detector import Detector, FourSteps
from radstack.training import checkpoint
from radstack.training.fit import seed_everything
from radstack.training.guard import Guard, RollBack


@dataclass(frozen=True)
class DetectRun:
    """One detector on one fold, and the settings that do not change its result."""

    recipe: Detector
    fold: int
    """Seeds the run; the scored fold is left out by whoever makes the run."""
    ids: np.ndarray
    """Of the training pictures, for messages."""
    pictures: Sequence[np.ndarray]
    """The training pictures: uint8 [height, width], of any sizes."""
    boxes: np.ndarray
    """float [pictures, classes, 4] in their pixels; NaN where a class is not in the picture."""
    key: str
    """Of the artifact; a checkpoint of another key is not resumed."""
    checkpoint: Path
    device: torch.device
    checkpoint_seconds: float
    report: Callable[[str], None]
    weights: Weights = ANYWHERE
    """Where pretrained weights may come from."""


def train(run: DetectRun) -> tuple[FasterRCNN, dict[str, Any]]:
    """Build and train; return the network and facts for the manifest. The same on a CPU bit for bit, resumed or not.

    Raises:
        UserError: the recipe cannot be built, or the loss is not finite even after rolling back (names the pictures met).
    """
    seed_everything(run.recipe.seed, run.fold)
    learner = DetectLearner(run)
    guard = Guard(run.ids, run.recipe.bad_steps, run.report)
    total = sum(phase.iterations for phase in learner.phases)
    learner.resume()
    log = Log(run.checkpoint.parent / f"fold{run.fold}_log", learner.done)
    start, first = time.monotonic(), learner.done
    with track(total, "train", done=first, report=run.report, log=log) as steps:
        while learner.done < total:
            try:
                learner.advance(guard, steps.step)
            except RollBack:
                learner.roll_back(guard)
                steps.done = learner.done
    seconds = max(time.monotonic() - start, 1e-9)
    rate = (total - first) * run.recipe.batch_size / seconds
    return learner.net, {"images_per_second": round(rate, 1), "started_from": learner.start}


class DetectLearner:
    """Everything that changes while training, so that a checkpoint of it is a checkpoint of the run."""

    def __init__(self, run: DetectRun) -> None:
        """Build the networks of ``run``."""
        self.run, self.phases, self.rate_factor = run, phases(run.recipe), 1.0
        self.net, self.start = build(run.recipe, run.weights)
        alternating = isinstance(run.recipe.schedule, FourSteps)
        first = trunk(run.recipe, run.weights).net if alternating else nn.Identity()
        self.modules = parts(self.net, first).to(run.device)
        self.learnable = {name for name, weight in self.modules.named_parameters() if weight.requires_grad}
        self.precision = precision(run.recipe.precision, run.device)
        self.done = 0

    def resume(self) -> None:
        """Go on from the checkpoint; without one, begin and write it."""
        state = checkpoint.load(self.run.checkpoint, self.run.key, self.run.report)
        if state is None:
            self._enter()
            self.save()
            return
        self.done, self.rate_factor = int(state["done"]), float(state["rate_factor"])
        self.modules.load_state_dict(state["modules"])
        self._enter()
        if state["optimizer"]:
            self.optimizer.load_state_dict(state["optimizer"])
        self.precision.load_state_dict(state["precision"])
        self.run.report(f"going on at step {self.done}")

    def save(self) -> None:
        """Write a checkpoint. Between two phases there is no optimizer to keep."""
        inside = self._place()[1] > 0
        checkpoint.save(self.run.checkpoint, {
            "key": self.run.key, "done": self.done, "rate_factor": self.rate_factor, "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict() if inside else {}, "precision": self.precision.state_dict()})

    def roll_back(self, guard: Guard) -> None:
        """Return to the last checkpoint with half the learning rate; a second time is an error."""
        if self.rate_factor < 1.0:
            raise guard.give_up()
        self.resume()
        self.rate_factor, guard.bad = 0.5, 0
        self.save()
        self.run.report(f"rolled back after {guard.limit} bad steps, learning rate halved; pictures met: "
                        f"{', '.join(guard.suspects)}")

    def advance(self, guard: Guard, tell: Callable[..., None]) -> None:
        """Run the rest of the phase; the checkpoint at its end belongs to the next one."""
        number, begun = self._place()
        phase, saved = self.phases[number], time.monotonic()
        for step in range(begun, phase.iterations):
            rows, loss, moved, wait = self.step(phase, step / phase.iterations)
            guard.judge(moved, torch.from_numpy(rows), torch.full((len(rows),), loss))
            self.done += 1
            rate = float(self.optimizer.param_groups[0]["lr"])
            tell(loss=loss if moved else None, lr=rate, images=len(rows), wait=wait)
            if time.monotonic() - saved >= self.run.checkpoint_seconds and guard.bad == 0:
                self.save()
                saved = time.monotonic()
        self.save()
        if number + 1 < len(self.phases):
            self._enter()

    def step(self, phase: Phase, fraction: float) -> tuple[np.ndarray, float, bool, float]:
        """One optimizer step at ``fraction`` of the phase.

        Returns:
            Row numbers met, the loss, whether the weights moved, and the seconds that the pictures took to come.
        """
        recipe, start = self.run.recipe, time.perf_counter()
        set_rate(self.optimizer, recipe.optim.lr * self.rate_factor * schedule(recipe.rate, fraction, 1.0))
        rows, images, targets = self._batch()
        wait = time.perf_counter() - start
        seen, known = self.net.transform(images, targets)
        found = losses(self.modules, phase, seen, known, self.precision.autocast)
        loss = torch.stack(list(found.values())).sum()
        self.precision.backward(loss, self.optimizer)
        norm = self.precision.step(self.optimizer, recipe.optim.clip_norm)
        return rows, float(loss.detach()), bool(np.isfinite(norm)), wait

    def _place(self) -> tuple[int, int]:
        """The phase that the next step belongs to, and the steps done in it."""
        begun = self.done
        for number, phase in enumerate(self.phases[:-1]):
            if begun < phase.iterations:
                return number, begun
            begun -= phase.iterations
        return len(self.phases) - 1, begun

    def _enter(self) -> None:
        """Let the parts of the next step's phase learn and the others stand still, with a fresh optimizer."""
        number, begun = self._place()
        phase = self.phases[number]
        for name, weight in self.modules.named_parameters():
            weight.requires_grad_(name in self.learnable and name.split(".")[0] in phase.learn)
        if phase.afresh and not begun:
            _forget(self.net.rpn.head)
        self.modules.train()
        self.optimizer = optimizer(self.run.recipe.optim, self.modules)

    def _batch(self) -> tuple[np.ndarray, list[torch.Tensor], Targets]:
        """The pictures of the next step, augmented: a function of seed, fold and number of the step."""
        run, recipe = self.run, self.run.recipe
        places = self.done * recipe.batch_size + np.arange(recipe.batch_size)
        rows = np.array([_row(int(place), len(run.pictures), (recipe.seed, run.fold)) for place in places])
        images, targets = [], []
        for place, row in zip(places, rows):
            rng = np.random.default_rng((recipe.seed, run.fold, int(place), 1))
            picture, boxes = augmented(run.pictures[row], run.boxes[row], recipe, rng)
            there = np.flatnonzero(np.isfinite(boxes).all(1))
            images.append(as_input(picture, self.net, run.device))
            targets.append({"boxes": torch.tensor(boxes[there], dtype=torch.float32, device=run.device),
                            "labels": torch.tensor(there + 1, device=run.device)})
        return rows, images, targets


def _row(place: int, count: int, seed: tuple[int, int]) -> int:
    """The picture at ``place`` of endless passes over ``count`` pictures, each pass in an order of its own."""
    order = np.random.default_rng((*seed, place // count)).permutation(count)
    return int(order[place % count])


def _forget(head: nn.Module) -> None:
    """Draw the proposal layers again as torchvision does (Gaussian of .01, Ren 2015)."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
