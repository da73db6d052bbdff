"""A linear probe (Alain 2016): the last layer alone, fitted to the features of a trunk that stays as its start left it.

Of tens of patients a network of millions of weights learns much by heart. Here nothing of it moves: its features of each
training row are computed once, not augmented, and the last layer has the least loss with a penalty on its weights. Which
penalty, patients say who are held out inside the training rows; the scored fold has no say.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from torch import nn

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.nets.backbones import Net
from radstack.nets.objective_base import Objective
from radstack.nets.objectives import objective
from radstack.recipes.experiment import Experiment
from radstack.training import inference, loader
from radstack.training.distributed import seed_everything
from radstack.training.run import Run, taught

PARTS = 5
"""Parts of the patients that are held out in turn."""
STEPS = 200
"""Of L-BFGS at most; it ends before where the loss stands still."""


def fit_probe(run: Run, make: Callable[[], Net]) -> tuple[list[dict[str, torch.Tensor]], dict[str, Any]]:
    """Fit the last layer of the network that ``make`` builds; the one network's weights, and facts for the manifest.

    A UserError where the network has more to fit than one layer on pooled features.
    """
    experiment = run.experiment
    seed_everything(experiment.train.seed, run.fold)
    layout = torch.channels_last if experiment.train.channels_last else torch.contiguous_format
    net: Net = make().to(run.device, memory_format=layout).eval()  # type: ignore[call-overload]
    layer = layer_of(experiment, net)
    wanted = loader.training_rows(run.rows, taught(run), run.fold, experiment.sampling.keep)
    judge = objective(experiment.loss, run.targets)
    data = Data(features(run, net, wanted), labels_of(run, wanted), visits(run, wanted), judge)
    held = held_out_losses(data, layer, run.rows["group"].to_numpy()[wanted], experiment.probe)
    penalty = experiment.probe[int(np.argmin(held))]
    fit_layer(layer, data, penalty)
    return [net.state_dict()], {"started_from": net.start, "penalty": penalty,
                                "held_out": dict(zip(map(str, experiment.probe), np.round(held, 5).tolist()))}


def layer_of(experiment: Experiment, net: Net) -> nn.Linear:
    """The layer to fit; a UserError unless a probe of ``experiment`` is one linear layer on pooled features of a start."""
    if not isinstance(net.head, nn.Linear) or experiment.head.columns or experiment.head.hidden:
        raise UserError(f"{experiment.name}: a probe fits one linear layer to pooled features; leave head.columns and "
                        "head.hidden empty and take a backbone that answers a picture, not a pixel")
    if experiment.train.several:
        raise UserError(f"{experiment.name}: a probe has one result whatever the seed; leave train.seeds, train.snapshots "
                        "and train.averages as they are")
    if net.start == "random":
        raise UserError(f"{experiment.name}: the features of a random network say nothing; set backbone.pretrained or "
                        "backbone.start")
    return net.head


class Data:
    """Rows to fit a layer to: features brought to mean 0 and deviation 1, which :func:`fit_layer` undoes."""

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, visits: torch.Tensor, judge: Objective) -> None:
        """Take float32 ``features`` [rows, width], ``labels`` [rows, targets] and how often each row counts [rows]."""
        self.mean, self.deviation = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
        self.features = (features - self.mean) / self.deviation
        self.labels, self.visits, self.judge = labels, visits / visits.mean(), judge.to(features.device)

    def loss(self, layer: nn.Linear, part: slice | np.ndarray = slice(None)) -> torch.Tensor:
        """Mean loss of the rows ``part`` by ``layer``."""
        return (self.judge.rows(layer(self.features[part]), self.labels[part]) * self.visits[part]).mean()


def features(run: Run, net: Net, wanted: np.ndarray) -> torch.Tensor:
    """Pooled features of the rows ``wanted``, plain view, float32 [wanted, width] on the run's device."""
    store = np.empty((len(run.rows), net.width), np.float16)
    plain = change(run.experiment, tta=("plain",))
    inference.predict(plain, net, run.targets, run.rows, wanted, run.cache, store, workers=run.workers, report=run.report)
    return torch.from_numpy(store[wanted]).to(run.device).float()


def labels_of(run: Run, wanted: np.ndarray) -> torch.Tensor:
    """Labels of the rows ``wanted``, float32 [wanted, targets]."""
    return torch.from_numpy(run.rows[list(run.targets)].to_numpy(np.float32)[wanted]).to(run.device)


def visits(run: Run, wanted: np.ndarray) -> torch.Tensor:
    """How often each of the rows ``wanted`` counts, float32 [wanted]."""
    column = run.experiment.sampling.weight
    counts = loader.columns_of(run.rows, (column,))[wanted, 0] if column else np.ones(len(wanted), np.float32)
    return torch.from_numpy(counts).to(run.device)


def held_out_losses(data: Data, layer: nn.Linear, group: np.ndarray, penalties: tuple[float, ...]) -> np.ndarray:
    """Mean loss for each penalty of patients who are held out, by numbers or names ``group`` [rows], float64 [penalties]."""
    parts = min(PARTS, len(np.unique(group)))
    losses = np.zeros(len(penalties))
    if parts < 2 or len(penalties) < 2:
        return losses
    for rest, held in GroupKFold(parts).split(group, groups=group):
        for place, penalty in enumerate(penalties):
            minimize(layer, data, penalty, rest)
            with torch.no_grad():
                losses[place] += float(data.loss(layer, held)) * len(held) / len(group)
    return losses


def minimize(layer: nn.Linear, data: Data, penalty: float, part: slice | np.ndarray = slice(None)) -> None:
    """Give ``layer`` the least mean loss of the rows ``part`` plus half of ``penalty`` times its squared weights."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    steps = torch.optim.LBFGS(layer.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        steps.zero_grad()
        loss = data.loss(layer, part) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    steps.step(closure)


@torch.no_grad()
def fit_layer(layer: nn.Linear, data: Data, penalty: float) -> None:
    """:func:`minimize` on all rows, then rewrite ``layer`` for features as the trunk gives them."""
    with torch.enable_grad():
        minimize(layer, data, penalty)
    bias = layer.bias.clone()
    layer.weight /= data.deviation
    layer.bias.zero_()
    layer.bias.copy_(bias - layer(data.mean[None])[0])
