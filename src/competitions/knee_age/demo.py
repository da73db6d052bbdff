"""The demo: the same stages on phantom knees, with recipes that two cores can train from scratch in minutes."""

from functools import partial

from competitions.knee_age import COMPETITION, truth
from competitions.knee_age.experiments import MASKED_PRETRAINED, baselines
from competitions.knee_age.localizer import BONE_MASK, MASKS, chain
from competitions.knee_age.report import localization
from phantoms import draw_demo
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe, Phantoms
from radstack.recipes.experiment import Op, Optim, Sampling, Schedule, Train

SIDE = 80
KERNEL = 3
"""Pixels by which the masks are eroded, as few as the slices are small."""

SMALL = {"width": 12, "depth": 3, "dropout": 0.0}
"""The network of Pietz 2018 with fewer channels and levels; the age networks take its encoder."""

MASK = change(
    BONE_MASK,
    view__size=(SIDE, SIDE),
    backbone__args=SMALL,
    augment=(Op("Affine", {"translate_px": {"x": (-8, 8), "y": 0}, "scale": 1.0, "rotate": 0, "shear": 0, "p": 1.0}),),
    # Without norm layers and with so few steps it is the clipped gradient that lets it learn this fast.
    optim=Optim("adam", lr=5e-3, betas=(0.9, 0.98), clip_norm=0.2),
    schedule=Schedule("cosine", warmup=1.0, floor=0.01),
    sampling=Sampling(per_series=8),
    train=Train(epochs=15, batch_size=4, precision="bf16"),
)
STARTED = change(MASK, backbone__start="bone_mask", train__epochs=5)
"""A bone's own network, started from that of all bones, which saves two thirds of the time."""
SINGLE = (change(STARTED, name="femur_mask"), change(STARTED, name="tibia_mask"),
          # Few slices show a fibula: in smaller batches, or at a lower rate, the network ends up finding none.
          change(STARTED, name="fibula_mask", optim__lr=4e-3, train__epochs=12, train__batch_size=12))

AGE = change(
    MASKED_PRETRAINED,
    view__side=SIDE,
    view__kernel=KERNEL,
    backbone__args=SMALL,
    optim=Optim("adam", lr=2e-3, betas=(0.9, 0.98), clip_norm=0.5),
    sampling=Sampling(per_series=6),
    train=Train(epochs=6, batch_size=16, restarts=1, precision="bf16"),
)

FULL = tuple(change(recipe, name=f"full_{recipe.name}", view__side=SIDE, view__kernel=KERNEL,
                    backbone__args=SMALL if recipe.backbone.name == AGE.backbone.name else recipe.backbone.args)
             for recipe in COMPETITION.models.experiments)
"""The full recipes on the demo's smaller slices; those that can start from a bone network have its widths here."""

DEMO = change(
    COMPETITION,
    name="knee_age-demo",
    title="Age of young men from knee MRI, phantoms",
    phantoms=Phantoms(partial(draw_demo, "knee_age", size=SIDE), 160, truth),
    data__disk=1_000_000_000,
    pages__localization_score=localization,
    localizer=chain(SIDE, (MASK, *SINGLE), shrink=8),
    cache=change(COMPETITION.cache, size=(SIDE, SIDE * (1 + len(MASKS)))),
    folds=FoldRecipe(count=3),
    models__experiments=(*baselines(AGE), AGE),
    models__on_call=FULL,
)
