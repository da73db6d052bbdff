"""Training that starts over where it did not converge, as Pietz 2018 did by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from radstack.core.progress import track
from radstack.core.recipe import change
from radstack.nets.backbones import Net
from radstack.training import checkpoint
from radstack.training.distributed import main_process_first, same_everywhere, seed_everything
from radstack.training.learner import Learner
from radstack.training.loader import loader, plain_batches, training_rows
from radstack.training.run import Run, fit, training_pictures

APART = 1000
"""Between the seeds of two attempts."""


def train(run: Run, make: Callable[[], Net]) -> tuple[Learner, dict[str, Any]]:
    """Seed, make the network, :func:`radstack.training.run.fit`; again with another seed as the recipe's ``restarts`` say.

    A killed run goes on with the attempt whose checkpoint it finds. The last attempt counts, converged or not.

    Returns:
        The learner, and facts for the manifest.

    Raises:
        UserError: as ``fit``; restarts of a loss for which no constant is known.
    """
    recipe = run.experiment.train
    attempts = [_attempt(run, number) for number in range(recipe.restarts + 1)]
    begun = checkpoint.key_in(run.checkpoint)
    first = next((number for number, one in enumerate(attempts) if one.key == begun), 0)
    for number, one in enumerate(attempts[first:], first):
        seed_everything(one.experiment.train.seed, one.fold)
        with main_process_first():  # one download, which the other processes find
            net = make()
        learner, facts = fit(one, net)
        if not recipe.restarts:
            break
        share = share_of_constant(one, learner)
        facts |= {"restarts": number, "share_of_constant": round(share, 4)}
        if share < recipe.converged:
            break
        last = number == recipe.restarts
        run.report(f"did not converge: {share:.2f} of the best constant's loss; {'kept, the last try' if last else 'again'}")
        if not last:
            checkpoint.remove(run.checkpoint)
    return learner, facts


def _attempt(run: Run, number: int) -> Run:
    if not number:
        return run
    seeded = change(run.experiment, train__seed=run.experiment.train.seed + APART * number)
    return replace(run, experiment=seeded, key=f"{run.key}-{number}")


@torch.inference_mode()
def share_of_constant(run: Run, learner: Learner, batch_size: int = 64) -> float:
    """Mean loss of the training rows, not augmented and without dropout, over that of the best constant output.

    Raises:
        UserError: the recipe's loss knows no constant.
    """
    rows = training_rows(run.rows, run.fold_of_row, run.fold, run.experiment.sampling.keep)
    labels = run.rows[list(run.targets)].to_numpy(np.float32)[rows]
    net = learner.result.eval()  # what would be kept: the average where there is one
    losses = []
    batches = loader(training_pictures(run), plain_batches(rows, batch_size), run.workers, run.device.type == "cuda")
    with track(len(rows), "look whether it converged", report=run.report, brief=True) as steps:
        for batch in batches:
            told = (batch.columns.to(run.device),) if batch.columns.shape[1] else ()
            outputs = net(learner.normalize(batch.images), *told)
            losses.append(learner.loss(outputs, batch.targets.to(run.device))[1])
            steps.step(len(batch.rows), images=len(batch.rows))
    return same_everywhere(float(torch.cat(losses).mean()) / learner.loss.constant(torch.from_numpy(labels)))
