"""Optimizers and schedules by name, and the average of the weights.

The learning rate is a pure function of the epoch, so that a resumed run needs no state for it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from radstack.core.errors import UserError, reason
from radstack.core.registry import pick
from radstack.nets.precision import apex_module
from radstack.recipes.experiment import Optim, Schedule

Groups = list[dict[str, Any]]
"""Parameter groups: what decays, and what does not."""


def fused_adam(groups: Groups, recipe: Optim) -> Optimizer:
    """Adam of NVIDIA Apex: the rule of ``adam`` in one kernel; a UserError where that or its CUDA extensions are absent."""
    optimizers = apex_module("apex.optimizers", native="optim.name='adam'", needs="FusedAdam")
    try:
        return optimizers.FusedAdam(groups, lr=recipe.lr, betas=recipe.betas, adam_w_mode=False)
    except RuntimeError as error:
        raise UserError(f"Apex's FusedAdam does not run here ({reason(error)}); set optim.name='adam'") from error


OPTIMIZERS: dict[str, Callable[[Groups, Optim], Optimizer]] = {
    # Adam (Kingma and Ba 2015), SGD and RMSProp with L2 weight decay, AdamW (Loshchilov and Hutter 2019) with decoupled one;
    # RMSProp's mean square over .9 is how Inception v3 was trained (Szegedy 2016).
    "adam": lambda groups, recipe: torch.optim.Adam(groups, lr=recipe.lr, betas=recipe.betas),
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas),
    "sgd": lambda groups, recipe: torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum),
    "rmsprop": lambda groups, recipe: torch.optim.RMSprop(groups, lr=recipe.lr, momentum=recipe.momentum, alpha=0.9),
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
    "constant": lambda recipe, epoch, total: 1.0,
    "exponential": lambda recipe, epoch, total: recipe.gamma ** math.floor(epoch),
    "steps": lambda recipe, epoch, total: recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones),
    "cosine": cosine,
    "cyclic": cyclic,
}


def schedule(recipe: Schedule, epoch: float, total: float) -> float:
    """The learning rate after ``epoch`` of ``total`` epochs, with a fraction inside one, as a factor of the peak."""
    factor = pick(SCHEDULES, recipe.name, "schedule")(recipe, epoch, total)
    return factor * min(1.0, epoch / recipe.warmup) if recipe.warmup else factor


def moving_average(net: nn.Module, decay: float) -> ModelEmaV3:
    """Start an average of ``net``, the bare network, not its DDP wrapper; ``update(net, step)`` follows each optimizer step.

    ``step`` counts from 1; ``module`` predicts and is saved; ``state_dict()`` is the whole state, plain tensors. The decay
    warms up as ``1 - step ** (-2/3)``, 0 at step 1, to at most ``decay`` (Crowson's rule, as timm documents it), so that
    short runs are not averages of the start. Floating-point buffers (batch-norm statistics) are averaged with the weights,
    integer ones (batch counters) copied.
    """
    return ModelEmaV3(net, decay=decay, use_warmup=True)
