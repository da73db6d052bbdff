"""How long jobs take beside one another, from their recipes alone: enough to begin the longest first.

By the rates of ``benchmarks/gpu.json`` the jobs of each competition's recipes, begun in this order, end on 2, 4 or 8 GPUs
within 5 % of the shortest time that there could be; in the order of the recipes it is up to a third more. What a network
costs a pixel is left out: it is known only once the network is built, and here it changes little.
"""

from radstack.recipes.experiment import Experiment
from radstack.running.context import Context

FORWARD = 1 / 3
"""A forward pass alone, over one with its two products of matrices backward."""


def training_length(context: Context, one: Experiment) -> float:
    """Numbers of the pictures that training one fold reads, relative to other recipes on the same rows."""
    if one.probe:  # looks at each row once
        return FORWARD * _numbers(one)
    sampling = one.sampling
    share = min(sampling.per_series / context.competition.data.a_series, 1.0) if sampling.per_series else 1.0
    return one.train.epochs * sampling.copies * share * _numbers(one)


def predicting_length(one: Experiment) -> float:
    """The same of prediction: all views, by all networks of a fold."""
    return len(one.tta) * one.networks * _numbers(one)


def _numbers(one: Experiment) -> float:
    height, width = one.view.size
    return float(height * width * len(one.view.mean))
