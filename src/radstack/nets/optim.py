"""Optimizers by name, and the learning rate as a pure function of the epoch, so that a resumed run needs no state."""

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer

from radstack.core.errors import UserError, reason
from radstack.core.registry import pick
from radstack.nets.precision import apex_module
from radstack.recipes.experiment import Optim, Schedule

Groups = list[dict[str, Any]]
"""Parameter groups: what decays, and what does not."""


def adam(groups: Groups, recipe: Optim) -> Optimizer:
    """Adam (Kingma and Ba 2015) with L2 weight decay."""
    return torch.optim.Adam(groups, lr=recipe.lr, betas=recipe.betas)


def adamw(groups: Groups, recipe: Optim) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def sgd(groups: Groups, recipe: Optim) -> Optimizer:
    """Stochastic gradient descent with momentum and L2 weight decay."""
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def rmsprop(groups: Groups, recipe: Optim) -> Optimizer:
    """RMSProp with momentum and L2 weight decay; mean square over .9, as Inception v3 was trained (Szegedy 2016)."""
    return torch.optim.RMSprop(groups, lr=recipe.lr, momentum=recipe.momentum, alpha=0.9)


def fused_adam(groups: Groups, recipe: Optim) -> Optimizer:
    """Adam of NVIDIA Apex: the rule of :func:`adam` in one kernel.

    Raises:
        UserError: Apex is absent, is another package, or was built without its CUDA extensions.
    """
    optimizers = apex_module("apex.optimizers", native="optim.name='adam'", needs="FusedAdam")
    try:
        return optimizers.FusedAdam(groups, lr=recipe.lr, betas=recipe.betas, adam_w_mode=False)
    except RuntimeError as error:
        raise UserError(f"Apex's FusedAdam does not run here ({reason(error)}); set optim.name='adam'") from error


OPTIMIZERS: dict[str, Callable[[Groups, Optim], Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
    "rmsprop": rmsprop,
    "fused_adam": fused_adam,
}


def optimizer(recipe: Optim, net: nn.Module) -> Optimizer:
    """Make the optimizer of ``recipe``; weight decay spares biases, norms and everything else with one dimension."""
    make = pick(OPTIMIZERS, recipe.name, "optimizer")
    return make(param_groups_weight_decay(net, recipe.weight_decay), recipe)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def constant(recipe: Schedule, epoch: float, total: float) -> float:
    """Always the peak."""
    return 1.0


def exponential(recipe: Schedule, epoch: float, total: float) -> float:
    """``gamma`` to the number of whole epochs done."""
    return recipe.gamma ** math.floor(epoch)


def steps(recipe: Schedule, epoch: float, total: float) -> float:
    """``gamma`` to the number of milestones passed."""
    return recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)


def cosine(recipe: Schedule, epoch: float, total: float) -> float:
    """Half a cosine from the peak after warm-up to the floor at the end (Loshchilov and Hutter 2017)."""
    done = (epoch - recipe.warmup) / max(total - recipe.warmup, 1e-9)
    return recipe.floor + (1 - recipe.floor) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2


def cyclic(recipe: Schedule, epoch: float, total: float) -> float:
    """From the peak straight down to the floor in each cycle, then up again at once."""
    if recipe.cycle <= 0:
        raise UserError(f"schedule.cycle is {recipe.cycle}; give its length in epochs, above 0")
    return 1 - (1 - recipe.floor) * (epoch % recipe.cycle) / recipe.cycle


SCHEDULES: dict[str, Callable[[Schedule, float, float], float]] = {
    "constant": constant,
    "exponential": exponential,
    "steps": steps,
    "cosine": cosine,
    "cyclic": cyclic,
}


def schedule(recipe: Schedule, epoch: float, total: float) -> float:
    """The learning rate at ``epoch`` as a factor of the peak.

    Args:
        recipe: shape of the schedule.
        epoch: epochs done, with a fraction inside one: optimizer steps done / steps an epoch.
        total: epochs in the whole run.
    """
    factor = pick(SCHEDULES, recipe.name, "schedule")(recipe, epoch, total)
    return factor * min(1.0, epoch / recipe.warmup) if recipe.warmup else factor
