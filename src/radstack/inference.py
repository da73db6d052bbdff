"""A trained network over many rows: probabilities and embeddings, averaged over test-time views."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from radstack.data import Pictures, loader, normalizer, plain_batches
from radstack.experiment import Experiment
from radstack.nets.backbones import Net, build
from radstack.progress import track
from radstack.recipe import change
from radstack.tta import tta

Report = Callable[[str], None]


def load_net(experiment: Experiment, outputs: int, weights: Path, device: torch.device) -> Net:
    """The network of ``experiment`` with trained ``weights`` (safetensors), ready to predict."""
    net = build(change(experiment.backbone, pretrained=False), outputs, len(experiment.view.mean))
    net.load_state_dict(load_file(weights))
    layout = torch.channels_last if experiment.train.channels_last else torch.contiguous_format
    return net.to(device, memory_format=layout).eval()  # type: ignore[call-overload]


def predict(experiment: Experiment, net: Net, rows: pd.DataFrame, wanted: np.ndarray, cache: Any, store: np.ndarray,
            *, workers: int, report: Report, batch_size: int = 64) -> np.ndarray:
    """Predict the rows ``wanted``.

    Args:
        experiment: its view, test-time views and precision.
        net: on its device.
        rows: the row table.
        wanted: row numbers.
        cache: what the view reads from.
        store: float16 [len(rows), net.width], filled at ``wanted`` with embeddings averaged over the test-time views;
            with no rows, embeddings are not kept.
        workers: processes that read pictures.
        report: takes progress lines.
        batch_size: pictures at a time; halved when the GPU's memory is exhausted.

    Returns:
        float32 [len(rows), targets], NaN outside ``wanted``: the sigmoid of the logits' mean over test-time views.
    """
    device = net.head.weight.device
    probabilities = np.full((len(rows), net.head.out_features), np.nan, np.float32)
    pictures = Pictures(experiment.view.reader(cache, rows), probabilities, None)
    look = Looker(experiment, net, device)
    with track(len(wanted), "predict", report=report) as steps:
        start = time.perf_counter()
        for batch in loader(pictures, plain_batches(wanted, batch_size), workers, device.type == "cuda"):
            wait = time.perf_counter() - start
            logits, embeddings = look(batch.images)
            numbers = batch.rows.numpy()
            probabilities[numbers] = torch.sigmoid(logits).cpu().numpy()
            if len(store):
                store[numbers] = embeddings.half().cpu().numpy()
            steps.step(len(numbers), images=len(numbers), wait=wait)
            start = time.perf_counter()
    return probabilities


class Looker:
    """Logits and embeddings of a batch, averaged over the recipe's test-time views."""

    def __init__(self, experiment: Experiment, net: Net, device: torch.device) -> None:
        """Bind network, views and precision."""
        self.net, self.device, self.views = net, device, tta(experiment.tta)
        self.normalize = normalizer(experiment.view.mean, experiment.view.std, device)
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        self.dtype = kinds.get(experiment.train.precision, torch.float16 if device.type == "cuda" else torch.float32)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [batch, channels, height, width] -> float32 logits [batch, targets], embeddings [batch, width]."""
        try:
            return self._look(images)
        except torch.cuda.OutOfMemoryError:
            if len(images) == 1:
                raise
            torch.cuda.empty_cache()
            halves = [self(half) for half in images.chunk(2)]
            return torch.cat([half[0] for half in halves]), torch.cat([half[1] for half in halves])

    def _look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ready = self.normalize(images)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            embeddings = [self.net.embed(view(ready)).float() for view in self.views]
        # The head in fp32: its logits are what the score is made of, and it costs nothing.
        logits = [self.net.head(embedding) for embedding in embeddings]
        return torch.stack(logits).mean(0), torch.stack(embeddings).mean(0)
