"""The demo: the same stages on phantom hands, with recipes that two cores can train from scratch in minutes."""

from functools import partial

from competitions.bone_age import COMPETITION
from competitions.bone_age.experiments import ARTICLE, article, on_region, region_of, stackers
from competitions.bone_age.frame import region_box
from competitions.bone_age.localizer import HAND_LANDMARKS, HAND_LANDMARKS_FINE, HAND_MASK, chain
from competitions.bone_age.report import localization
from competitions.bone_age.views import region
from phantoms import draw_demo, truth
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.recipes.competition import FoldRecipe, Phantoms
from radstack.recipes.experiment import Head, Op, Optim, Schedule, Train
from radstack.recipes.losses import Expectation

SCALE = 0.1
"""Of the canonical frame: region A is 200 x 150 pixels."""

SMALL_SIDE = 192
"""Of the pictures in which stage 02 looks for the hand, in pixels."""

MASK = change(HAND_MASK, view=Whole((128, 128)), backbone__args={"widths": (8, 16, 24, 32, 48)},
              optim=Optim("adam", lr=3e-3), train=Train(epochs=38, batch_size=4, precision="bf16"))
COARSE = change(HAND_LANDMARKS, view=Whole((96, 96)), optim=Optim("adam", lr=2e-3),
                backbone__args={"size": (96, 96), "second": 3, "widths": (8, 16, 32, 48, 64), "dense": (128, 128),
                                "dropout": 0.0},
                train=Train(epochs=50, batch_size=8, precision="fp32"))
NUDGE = Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.92, 1.08), "rotate": (-8, 8), "p": 1.0})
"""As far as the first landmark network is off on phantoms."""

FINE = change(HAND_LANDMARKS_FINE, view=Whole((SMALL_SIDE, SMALL_SIDE)), augment=(NUDGE,),
              backbone__args={"widths": (8, 16, 24, 32, 48)}, optim=Optim("adam", lr=1e-2),
              train=Train(epochs=16, batch_size=4, precision="bf16"))

SMALL = change(
    ARTICLE,
    backbone__args={"widths": (8, 16, 32, 48), "dense": (128, 128), "dropout": 0.1},
    optim=Optim("adam", lr=2e-3, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.5, floor=0.01),
    train=Train(epochs=8, batch_size=16, precision="bf16"),
    note="",
)

VIEWS = {"A": region("A", SCALE, shrink=2), "B": region("B", SCALE), "C": region("C", SCALE)}

WITH_SEX = change(SMALL, name="A_distribution_sex", view=VIEWS["A"], head=Head(columns=("male",), columns_width=8),
                  loss=Expectation(divergence=1.0, spread=4.0), tta=("plain", "turn5", "turn-5"),
                  backbone__args={**SMALL.backbone.args, "size": VIEWS["A"].size})

EXPERIMENTS = (*article({name: on_region(SMALL, view) for name, view in VIEWS.items()}), WITH_SEX)

FULL = tuple(change(recipe, name=f"full_{recipe.name}", view__box=region_box(region_of(recipe), SCALE))
             for recipe in COMPETITION.models.experiments)
"""The full recipes on the demo's cache: their regions enlarged from it to the size they are made for."""

DEMO = change(
    COMPETITION,
    name="bone_age-demo",
    title="RSNA 2017 pediatric bone age, phantoms",
    phantoms=Phantoms(partial(draw_demo, "bone_age", size=480), 600, partial(truth, "bone_age")),
    plain=None,
    data__disk=1_000_000_000,
    pages__localization_score=localization,
    localizer=chain(SMALL_SIDE, MASK, COARSE, FINE),
    cache=change(COMPETITION.cache, size=(208, 160)),
    folds=FoldRecipe(count=3),
    models__experiments=EXPERIMENTS,
    models__on_call=(*FULL, *COMPETITION.models.on_call),
    models__stackers=stackers(("regression", "expectation"), ("A_distribution_sex",)),
)
