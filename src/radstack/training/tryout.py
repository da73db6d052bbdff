"""A recipe tried on two random pictures, so that what cannot work is said before hours of training and not after."""

from typing import Any

import pandas as pd
import torch

from radstack.core.errors import UserError, reason
from radstack.core.recipe import change
from radstack.core.registry import check_name, pick
from radstack.nets.backbones import build
from radstack.nets.objectives import objective
from radstack.nets.optim import OPTIMIZERS, optimizer, schedule
from radstack.nets.precision import PRECISIONS
from radstack.recipes.experiment import Experiment
from radstack.training.augment import pipeline
from radstack.training.inference import tta
from radstack.training.loader import Batch

PICTURES = 2


def check_words(experiment: Experiment, targets: tuple[str, ...], rows: pd.DataFrame | None = None) -> None:
    """Look up every name that a recipe holds but its network's, also those that only prediction reads.

    Args:
        experiment: the recipe.
        targets: columns that it predicts.
        rows: the row table of stage 03, None where it is not made yet.

    Raises:
        UserError: a name is unknown (with the nearest), or does not go with another one.
    """
    tta(experiment.tta)
    pick(PRECISIONS, experiment.train.precision, "precision")
    pick(OPTIMIZERS, experiment.optim.name, "optimizer")
    schedule(experiment.schedule, 0.0, float(experiment.train.epochs))
    pipeline(experiment.augment, experiment.view.size, experiment.loss.moves_with_picture)
    judge = objective(experiment.loss, targets)
    if experiment.train.restarts:
        judge.check_constant()
    if rows is None:
        return
    sampling = experiment.sampling
    named = (sampling.rare_class, *(name for names in sampling.balance for name in names), sampling.weight,
             *experiment.head.columns)
    for name in filter(None, named):
        check_name(list(rows.columns), name, "column of the row table")
    if sampling.keep:
        try:
            rows.head(1).eval(sampling.keep)
        except Exception as error:
            raise UserError(f"sampling.keep='{sampling.keep}' cannot be evaluated on the row table: {error}") from error


def try_out(experiment: Experiment, targets: tuple[str, ...], rows: pd.DataFrame | None = None) -> None:
    """:func:`check_words`, then build the untrained network and let it look at random pictures of the view's size.

    Raises:
        UserError: a name is unknown, or sizes, channels, outputs and loss do not fit each other.
    """
    check_words(experiment, targets, rows)
    judge = objective(experiment.loss, targets)
    net = build(change(experiment.backbone, pretrained=False, start=""), judge.outputs, len(experiment.view.mean),
                head=experiment.head, shares=judge.shares).eval()
    optimizer(experiment.optim, net)
    batch = random_batch(experiment, len(targets), PICTURES, experiment.view.size)
    try:
        for look in tta(experiment.tta):
            with torch.inference_mode():
                judge(net(look(batch.images.float()), batch.columns), batch.targets)
    except (RuntimeError, ValueError, IndexError) as error:
        size = " x ".join(map(str, (*experiment.view.size, len(experiment.view.mean))))
        raise UserError(f"{experiment.name}: {experiment.backbone.name} does not work on pictures of {size} "
                        f"({reason(error)}); change view, backbone.args or loss") from error


def random_batch(one: Experiment, targets: int, count: int, size: tuple[int, int]) -> Batch:
    """``count`` random pictures of ``size`` with labels that the loss takes."""
    images = torch.randint(0, 256, (count, len(one.view.mean), *size), dtype=torch.uint8)
    return Batch(images, random_labels(one, targets, count, size), torch.ones(count, len(one.head.columns)),
                 torch.arange(count))


def random_labels(experiment: Experiment, targets: int, count: int, size: tuple[int, int]) -> torch.Tensor:
    """Random labels: float32 [count, targets] in the loss's range, or uint8 masks [count, *size]."""
    loss: Any = experiment.loss
    if loss.moves_with_picture == "mask":
        return torch.randint(0, 2, (count, *size), dtype=torch.uint8)
    if loss.moves_with_picture == "points":
        return torch.rand(count, targets) * 2 - 1
    if hasattr(loss, "groups"):
        parts = [torch.nn.functional.one_hot(torch.randint(0, classes, (count,)), classes)
                 for classes in loss.groups or (targets,)]
        return torch.cat(parts, 1).float()
    if hasattr(loss, "center"):
        return loss.center + loss.scale * torch.randn(count, targets)
    if hasattr(loss, "first"):
        return loss.first + (loss.last - loss.first) * torch.rand(count, targets)
    return torch.randint(0, 2, (count, targets)).float()
