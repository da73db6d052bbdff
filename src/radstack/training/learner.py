"""Network, optimizer, precision and average of one run, and one step of them."""

import math
from typing import Any

import torch
from torch import nn

from radstack.nets.backbones import Net
from radstack.nets.objectives import objective
from radstack.nets.optim import moving_average, optimizer, schedule, set_rate
from radstack.nets.precision import precision
from radstack.recipes.experiment import Experiment
from radstack.training.distributed import averaging
from radstack.training.loader import Batch, normalizer


class Learner:
    """Everything that changes while training, so that a checkpoint of it is a checkpoint of the run."""

    def __init__(self, experiment: Experiment, targets: tuple[str, ...], net: Net, device: torch.device) -> None:
        """Bring ``net`` to ``device`` and make its optimizer, precision and average by the recipe."""
        recipe = experiment.train
        self.experiment, self.device = experiment, device
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.net: Net = net.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.loss = objective(experiment.loss, targets).to(device)
        self.precision = precision(recipe.precision, device)
        # Before prepare: Apex O2 halves the weights in place, and an average of halves would stand still.
        self.average = moving_average(self.net, recipe.ema) if recipe.ema else None
        prepared, self.optimizer = self.precision.prepare(self.net, optimizer(experiment.optim, self.net))
        self.model = averaging(prepared, device)
        self.normalize = normalizer(experiment.view.mean, experiment.view.std, device)

    def step(self, micros: list[Batch], epoch: float, number: int,
             rate_factor: float = 1.0) -> tuple[bool, float, torch.Tensor]:
        """One optimizer step over ``accumulate`` micro-batches, after ``epoch`` epochs (with a fraction) and ``number``
        steps.

        Returns whether the weights moved, the mean loss, and every row's loss [rows].
        """
        recipe = self.experiment
        peak = recipe.optim.lr * rate_factor
        set_rate(self.optimizer, peak * schedule(recipe.schedule, epoch, recipe.train.epochs))
        self.model.train()
        losses, rows = zip(*(self._backward(batch, len(micros)) for batch in micros))
        norm = self.precision.step(self.optimizer, recipe.optim.clip_norm)
        moved = math.isfinite(norm)
        if moved and self.average is not None:
            self.average.update(self.net, number + 1)
        return moved, float(torch.stack(losses).mean()), torch.cat(rows)

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def result(self) -> nn.Module:
        """The network to keep: the average where there is one."""
        return self.average.module if self.average is not None else self.net

    def state(self) -> dict[str, Any]:
        """Tensors and numbers from which :meth:`restore` goes on."""
        return {name: part.state_dict() if part is not None else {} for name, part in self._parts().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        for name, part in self._parts().items():
            if part is not None:
                part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {"net": self.net, "optimizer": self.optimizer, "precision": self.precision, "average": self.average}

    def _backward(self, batch: Batch, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.normalize(batch.images).contiguous(memory_format=self.layout)
        with self.precision.autocast():
            outputs = self.model(images, batch.columns.to(self.device, non_blocking=True))
        loss, rows = self.loss(outputs, batch.targets.to(self.device, non_blocking=True))
        self.precision.backward(loss / parts, self.optimizer)
        return loss.detach(), rows
