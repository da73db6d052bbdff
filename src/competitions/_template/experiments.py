"""What learns to predict: experiments (networks) and the stackers over them. ``change`` makes one from another."""

from competitions._template.views import whole
from radstack.core.recipe import change
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Schedule, Train
from radstack.recipes.losses import Regression
from radstack.recipes.stacker import Stacker

RESNET18 = Experiment(
    name="resnet18",
    view=whole(224),
    backbone=Backbone("timm/resnet18.a1_in1k"),
    # CHANGE: ``BinaryCrossEntropy`` for labels that may be true together; all losses stand in radstack/recipes/losses.py.
    loss=Regression(center=13.0, scale=7.0),
    augment=(Op("HorizontalFlip", {"p": 0.5}), Op("VerticalFlip", {"p": 0.5})),
    optim=Optim("adamw", lr=3e-4),
    schedule=Schedule("cosine", warmup=1),
    train=Train(epochs=20, batch_size=32),
    note="a network to begin with; no source",
)

CONVNEXT = change(RESNET18, name="convnext_nano", backbone__name="timm/convnext_nano.in12k_ft_in1k", optim__lr=1e-4)

EXPERIMENTS = (RESNET18, CONVNEXT)


def stackers(members: tuple[str, ...]) -> tuple[Stacker, ...]:
    """A linear fit over the networks called ``members``, on the other folds; equal weights where a fit does not pay."""
    return (Stacker("final", "linear", members),)


STACKERS = stackers(tuple(experiment.name for experiment in EXPERIMENTS))
