"""A trained network over many rows: predictions and embeddings, averaged over test-time views.

Out-of-fold and test tables use the same list of views.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.nn import functional

from radstack.core.limits import STEPS, keep_memory
from radstack.core.progress import track
from radstack.core.recipe import change
from radstack.core.registry import pick
from radstack.core.say import Report
from radstack.images.views import resized
from radstack.nets.backbones import Net, build
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Experiment
from radstack.training.loader import Pictures, at_once, columns_of, loader, normalizer, plain_batches

Tta = Callable[[torch.Tensor], torch.Tensor]
"""A batch [batch, channels, height, width] to one of the same shape (height and width swapped by transposing)."""


def center_crop(images: torch.Tensor, share: float) -> torch.Tensor:
    """The middle ``share`` of height and width, brought back to the size of ``images`` bilinearly."""
    height, width = images.shape[2:]
    rows, columns = round(height * share), round(width * share)
    top, left = (height - rows) // 2, (width - columns) // 2
    crop = images[:, :, top : top + rows, left : left + columns]
    return functional.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False)


def turn(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turned counterclockwise about the center, bilinearly; what comes in from outside repeats the border."""
    batch, _, height, width = images.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # The grid runs from -1 to 1 on both sides, so that a turn of pixels is stretched by the sides' ratio there.
    matrix = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], device=images.device)
    # In bfloat16 the grid of a picture 500 pixels wide would be rounded to whole pixels.
    with torch.autocast(images.device.type, enabled=False):
        grid = functional.affine_grid(matrix.expand(batch, 2, 3), list(images.shape), align_corners=False)
        turned = functional.grid_sample(images.float(), grid, "bilinear", "border", align_corners=False)
    return turned.to(images.dtype)


TTA: dict[str, Tta] = {
    "plain": lambda images: images,
    "hflip": lambda images: images.flip(3),
    "transpose": lambda images: images.transpose(2, 3),
    "crop90": partial(center_crop, share=0.9),
    # For views whose channels are neighboring slices (SeuTao, RSNA 2019 first place).
    "channel_reverse": lambda images: images.flip(1),
    "turn5": partial(turn, degrees=5),
    "turn-5": partial(turn, degrees=-5),
    "turn10": partial(turn, degrees=10),
    "turn-10": partial(turn, degrees=-10),
}


def tta(names: tuple[str, ...]) -> tuple[Tta, ...]:
    """The functions of ``names``, in that order; an unknown name is a UserError with the nearest."""
    return tuple(pick(TTA, name, "test-time view") for name in names)


def load_net(experiment: Experiment, targets: tuple[str, ...], weights: Path, device: torch.device) -> Any:
    """The network of ``experiment`` with trained ``weights`` (safetensors), ready to predict."""
    keep_memory(STEPS)  # all that it is asked for has the same steps
    judge = objective(experiment.loss, targets)
    net = build(change(experiment.backbone, pretrained=False), judge.outputs, len(experiment.view.mean),
                head=experiment.head, shares=judge.shares)
    net.load_state_dict(load_file(weights))
    layout = torch.channels_last if experiment.train.channels_last else torch.contiguous_format
    return net.to(device, memory_format=layout).eval()  # type: ignore[call-overload]


def predict(experiment: Experiment, net: Net, targets: tuple[str, ...], rows: pd.DataFrame, wanted: np.ndarray,
            cache: Any, store: np.ndarray, *, workers: int, report: Report, batch_size: int = 0) -> np.ndarray:
    """Predict the row numbers ``wanted`` of the row table by ``net`` on its device; the view reads from ``cache``.

    ``store``, float16 [len(rows), net.width], is filled at ``wanted`` with embeddings averaged over the test-time views;
    with no rows, embeddings are not kept. ``workers`` processes read pictures, ``batch_size`` at a time (with 0 as many as
    suit the device), halved when the GPU's memory is exhausted.

    Returns:
        float32 [len(rows), targets], NaN outside ``wanted``: what the objective answers to the outputs' mean over
        test-time views (probabilities, or numbers in the target's unit).
    """
    device = net.head.weight.device
    found = np.full((len(rows), len(targets)), np.nan, np.float32)
    pictures = Pictures(experiment.view.reader(cache, rows), found, columns_of(rows, experiment.head.columns))
    views = Views(experiment, net, device)
    answer = objective(experiment.loss, targets).to(device).answer
    with track(len(wanted), "predict", report=report) as steps:
        size = batch_size or at_once(device, experiment.view.size)
        batches = loader(pictures, plain_batches(wanted, size), workers, device.type == "cuda")
        for batch in steps.over(batches, lambda batch: len(batch.rows)):
            outputs, embeddings = views(batch.images, batch.columns)
            numbers = batch.rows.numpy()
            found[numbers] = answer(outputs).cpu().numpy()
            if len(store):
                store[numbers] = embeddings.half().cpu().numpy()
    return found


class Views:
    """Outputs and embeddings of a batch, averaged over the recipe's test-time views."""

    def __init__(self, experiment: Experiment, net: Net, device: torch.device) -> None:
        self.net, self.device, self.views = net, device, tta(experiment.tta)
        self.normalize = normalizer(experiment.view.mean, experiment.view.std, device)
        self.dtype = _dtype(experiment, device)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 outputs [batch, outputs] and embeddings [batch, width] of uint8 images and float32 columns of a batch."""
        try:
            return self._averaged(images, columns)
        except torch.cuda.OutOfMemoryError:
            if len(images) == 1:
                raise
            torch.cuda.empty_cache()
            halves = [self(*half) for half in zip(images.chunk(2), columns.chunk(2))]
            return torch.cat([half[0] for half in halves]), torch.cat([half[1] for half in halves])

    def _averaged(self, images: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ready, given = self.normalize(images), columns.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            embeddings = [self.net.embed(view(ready)).float() for view in self.views]
        # The head in fp32: its outputs are what the score is made of, and it costs nothing.
        outputs = [self.net.decide(embedding, given) for embedding in embeddings]
        return torch.stack(outputs).mean(0), torch.stack(embeddings).mean(0)


def _dtype(experiment: Experiment, device: torch.device) -> torch.dtype:
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return kinds.get(experiment.train.precision, torch.float16 if device.type == "cuda" else torch.float32)


@torch.inference_mode()
def predict_raw(experiment: Experiment, targets: tuple[str, ...], weights: Path, pictures: np.ndarray, device: torch.device,
            batch_size: int = 32) -> np.ndarray:
    """What a localizer with trained ``weights`` says of ``pictures``, uint8 [n, height, width].

    For a mask uint8 probability maps [n, height, width] (255 is certain), for points float32 [n, targets].
    """
    size = pictures.shape[1:]
    net, judge = load_net(experiment, targets, weights, device), objective(experiment.loss, targets).to(device)
    normalize = normalizer(experiment.view.mean, experiment.view.std, device)
    dtype, made = _dtype(experiment, device), []
    for start in range(0, len(pictures), batch_size):
        small = [resized(one, experiment.view.size) for one in pictures[start:start + batch_size]]
        batch = torch.from_numpy(np.stack(small))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            outputs = net(normalize(batch[:, None]).expand(-1, len(experiment.view.mean), -1, -1))
        answer = judge.answer(outputs.float())
        if experiment.loss.moves_with_picture == "mask":
            grown = functional.interpolate(answer[:, None], size=size, mode="bilinear", align_corners=False)
            answer = (grown[:, 0] * 255).round().byte()
        made.append(answer.cpu().numpy())
    return np.concatenate(made)
