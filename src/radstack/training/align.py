"""A line through the answers of a trained network, so that for its training rows they agree with the labels on average.

Dropout and augmentation shift what a network sees in training (Li 2019, arXiv 1801.05134; Touvron 2019, arXiv 1906.06423).
So its answers to pictures that are not augmented are off by a constant and a factor, which differ from network to network.
On real hands that was up to six months, and nearly as much on the patients that the network was not trained on; their labels
are not used here.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from radstack.core.recipe import change
from radstack.recipes.losses import Regression
from radstack.training import inference, loader
from radstack.training.run import Learner, Run, taught


def aligned(run: Run, learner: Learner) -> tuple[list[dict[str, torch.Tensor]], dict[str, Any]]:
    """Weights of all networks that the run leaves, each with its lines in its last layer, and facts for the manifest.

    ``lines`` holds slope and offset, in the target's unit, by network and target.
    """
    net, loss = copy.deepcopy(learner.result).eval(), run.experiment.loss
    assert isinstance(loss, Regression) and isinstance(net.head, nn.Linear)  # its objective refuses networks of maps
    made, lines = [], []
    for weights in learner.networks():
        net.load_state_dict(weights)
        line = fitted(*answers(run, net))
        slope, offset = torch.from_numpy(line).to(net.head.weight).T
        with torch.no_grad():
            net.head.weight *= slope[:, None]
            net.head.bias.copy_(slope * net.head.bias + (offset + (slope - 1) * loss.center) / loss.scale)
        made.append({name: value.clone() for name, value in net.state_dict().items()})
        lines.append(line.round(4).tolist())
    return made, {"lines": lines}


def answers(run: Run, net: Any) -> tuple[np.ndarray, np.ndarray]:
    """What ``net`` predicts of the run's training rows, and their labels, float64 [rows, targets] each."""
    wanted = loader.training_rows(run.rows, taught(run), run.fold, run.experiment.sampling.keep)
    # Plain views: recipes that differ in ``tta`` alone share their weights, and so their line.
    # As many pictures at once as training held: its optimizer and gradients are still in memory.
    plain, recipe = change(run.experiment, tta=("plain",)), run.experiment.train
    said = inference.predict(plain, net, run.targets, run.rows, wanted, run.cache,
                             np.empty((0, net.width), np.float16), workers=run.workers, report=run.report,
                             batch_size=recipe.batch_size // recipe.accumulate)
    return said[wanted].astype(np.float64), run.rows[list(run.targets)].to_numpy(np.float64)[wanted]


def fitted(said: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Slope and offset by least squares of each target, float64 [targets, 2]; both inputs are [rows, targets], labels may
    be NaN.

    Where all answers are the same the slope is 0 and the offset the labels' mean; with fewer than two labels, 1 and 0.
    """
    made = np.tile([1.0, 0.0], (said.shape[1], 1))
    for target, held in enumerate(~np.isnan(labels).T):
        if held.sum() > 1:
            away = said[held, target] - said[held, target].mean()
            spread = away @ away
            slope = (away @ labels[held, target]) / spread if spread else 0.0
            made[target] = slope, labels[held, target].mean() - slope * said[held, target].mean()
    return made
