"""A detector on one fold: its augmented pictures, phases and steps, for the training loop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from radstack.core.errors import UserError
from radstack.core.say import Report
from radstack.detection.nets import Targets, as_input, build, losses, parts, phases, shrunk
from radstack.detection.trunks import ANYWHERE, Weights, trunk
from radstack.images.similarity import Similarity, resized, warp
from radstack.nets.optim import optimizer, schedule, set_rate
from radstack.nets.precision import precision
from radstack.recipes.detector import Detector, FourSteps, Jitter
from radstack.training.distributed import averaging, distributed, main_process_first, seed_everything, spread
from radstack.training.loop import Loop, Position, Step, Trainable

Lesson = tuple[np.ndarray, list[torch.Tensor], Targets]
"""Row numbers, pictures and targets of a step."""
KEPT = 0.5
"""A box of which the augmentation leaves less than this share in the picture is no longer a label."""


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
    report: Report
    weights: Weights = ANYWHERE
    """Where pretrained weights may come from."""


def train(run: DetectRun) -> tuple[FasterRCNN, dict[str, Any]]:
    """Build and train; return the network and facts for the manifest. The same on a CPU bit for bit, resumed or not.

    A UserError where the recipe cannot be built, or the loss is not finite even after rolling back (names the pictures met).
    """
    learner = DetectLearner(run)
    rate = Loop(learner, run.checkpoint, run.key, run.checkpoint_seconds, run.report).run()
    return learner.net, {"images_per_second": round(rate, 1), "started_from": learner.start}


class DetectLearner(Trainable):
    """The networks and what they learn from, as the training loop drives them; each phase is an epoch of the loop."""

    advice = "look at these pictures, or use a detector of precision='fp32' or of a lower optim.lr"

    def __init__(self, run: DetectRun) -> None:
        """Build the networks; a UserError where that cannot be done, or batches cannot be shared by the processes."""
        recipe, (rank, world) = run.recipe, distributed()
        if recipe.batch_size % world:
            raise UserError(f"{recipe.name}: batch_size {recipe.batch_size} does not divide into {world} processes; use "
                            f"--gpus 1 or a batch_size of {-(-recipe.batch_size // world) * world}")
        seed_everything(recipe.seed, run.fold)
        self.run, self.phases, self.bad_steps = run, phases(recipe), recipe.bad_steps
        self.stretches, self.total = len(self.phases), sum(phase.iterations for phase in self.phases)
        with main_process_first():  # one download, which the other processes find
            self.net, self.start = build(recipe, run.weights)
            first = trunk(recipe, run.weights).net if isinstance(recipe.schedule, FourSteps) else nn.Identity()
        self.parts = parts(self.net, first).to(run.device)
        self.learnable = {name for name, weight in self.parts.named_parameters() if weight.requires_grad}
        self.precision = precision(recipe.precision, run.device)
        if rank:
            seed_everything(recipe.seed, run.fold, rank)
        self._enter(0)

    def batches(self, at: Position) -> Iterator[Lesson]:
        """The pictures of each step that the phase has left; at its first step with a fresh optimizer."""
        if at.step == 0:
            self._enter(at.stretch, self.phases[at.stretch].afresh)
        left = range(at.done, at.done + self.phases[at.stretch].iterations - at.step)
        return map(self._lesson, left)

    def step(self, batch: Lesson, at: Position) -> Step:
        """One optimizer step."""
        recipe, phase = self.run.recipe, self.phases[at.stretch]
        rate = recipe.optim.lr * at.rate_factor * schedule(recipe.rate, at.step / phase.iterations, 1.0)
        set_rate(self.optimizer, rate)
        rows, images, targets = batch
        seen, known = self.net.transform(images, targets)
        found = self.losses(phase, seen, known, self.precision.autocast)
        loss = torch.stack(list(found.values())).sum()
        self.precision.backward(loss, self.optimizer)
        moved = bool(np.isfinite(self.precision.step(self.optimizer, recipe.optim.clip_norm)))
        value = loss.detach().cpu()
        return Step(moved, float(value), rate, recipe.batch_size, self.run.ids[rows], value.expand(len(rows)))

    def state(self) -> dict[str, Any]:
        """Weights of all parts, the phase's optimizer, and the loss scale."""
        return {"parts": self.parts.state_dict(), "optimizer": self.optimizer.state_dict(),
                "precision": self.precision.state_dict()}

    def restore(self, state: dict[str, Any], at: Position) -> None:
        """Undo :meth:`state`. Between two phases the optimizer is that of the phase before, and is left."""
        self.parts.load_state_dict(state["parts"])
        self.precision.load_state_dict(state["precision"])
        if at.step:
            self._enter(at.stretch)
            self.optimizer.load_state_dict(state["optimizer"])

    def _enter(self, number: int, afresh: bool = False) -> None:
        """Let the parts of phase ``number`` learn and the others stand still, with a fresh optimizer."""
        for name, weight in self.parts.named_parameters():
            weight.requires_grad_(name in self.learnable and name.split(".")[0] in self.phases[number].learn)
        if afresh:
            _forget(self.net.rpn.head)
        self.parts.train()
        self.optimizer = optimizer(self.run.recipe.optim, self.parts)
        self.losses = averaging(Losses(self.parts), self.run.device)

    def _lesson(self, number: int) -> Lesson:
        """Make this process's pictures of step ``number``, augmented: a function of seed, fold and number of the step."""
        run, recipe = self.run, self.run.recipe
        places = spread(number * recipe.batch_size + np.arange(recipe.batch_size), *distributed())
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


class Losses(nn.Module):
    """:func:`radstack.detection.nets.losses` as a network, so that its gradients can be averaged over processes."""

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, *inputs: Any) -> dict[str, torch.Tensor]:
        """The losses of phase, images, targets and autocast."""
        return losses(self.parts, *inputs)


def augmented(picture: np.ndarray, boxes: np.ndarray, recipe: Detector, rng: np.random.Generator
              ) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [height, width] and its boxes [classes, 4], resized and jittered; a box that left is NaN."""
    scale, size = shrunk(picture.shape, recipe)
    move = drawn(recipe.jitter, size, rng).after(resized(scale))
    exponent = np.exp(rng.uniform(-recipe.jitter.gamma, recipe.jitter.gamma))
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return cv2.LUT(warp(picture, move, size), table), moved(boxes, move, size)


def drawn(jitter: Jitter, size: tuple[int, int], rng: np.random.Generator) -> Similarity:
    """A random move of a picture of ``size`` (height, width) about its center."""
    center = (np.array(size[::-1]) - 1) / 2
    angle, zoom = np.radians(rng.uniform(-jitter.angle, jitter.angle)), 1 + rng.uniform(-jitter.scale, jitter.scale)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < jitter.flip:
        linear = linear * (-1, 1)
    shift = rng.uniform(-jitter.shift, jitter.shift, 2) * size[::-1]
    return Similarity(np.column_stack([linear, center + shift - linear @ center]))


def moved(boxes: np.ndarray, move: Similarity, size: tuple[int, int]) -> np.ndarray:
    """Boxes [n, 4] after ``move``, cut to a picture of ``size`` (height, width); NaN where too little is left.

    The new box bounds the old one's inscribed ellipse: the corners of what is boxed are empty as a rule, and bounding them
    too would make every label of a turned picture too large.
    """
    boxes = np.asarray(boxes, float)
    # Points lie half a pixel off the edges: see radstack.images.similarity and radstack.images.boxes.
    center = move.apply((boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5) + 0.5
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ move.matrix[:, :2].T ** 2)
    whole = np.concatenate([center - half, center + half], axis=1)
    cut = np.clip(whole, 0, [*size[::-1], *size[::-1]])
    left = (cut[:, 2:] - cut[:, :2]).prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)
    return np.where((left >= KEPT)[:, None], cut, np.nan)


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
