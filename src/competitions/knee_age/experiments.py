"""The full recipes: the age network of Pietz and Proeve 2018 with and without each step, later parts, the stackers.

Where they are silent, the number is that of Pietz 2018 or the code.
"""

from competitions.knee_age.views import Knee
from competitions.knee_age.volume import BONES
from radstack.core.recipe import change
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Schedule, Train
from radstack.recipes.losses import Expectation, Regression
from radstack.recipes.sequence import Attention, Sequence
from radstack.recipes.stacker import Stacker

SIDE = 224
"""Of the cached pictures."""
YEARS = Regression(center=17.5, scale=1.5, squared=True)
"""By squared error; mean and SD of the cohort's ages bring them to about -2..2."""

MASKED_PRETRAINED = Experiment(
    name="masked_pretrained",
    view=Knee(SIDE),
    backbone=Backbone("radstack/unet_sum_encoder", pretrained=False, start="bone_mask"),
    loss=YEARS,
    optim=Optim("adam", lr=1e-3),
    schedule=Schedule("cosine", warmup=0.5, floor=0.01),
    train=Train(epochs=30, batch_size=64, restarts=5, precision="fp16"),
    note="as Pietz and Proeve 2018: picture within the eroded mask, encoder of the same fold's bone network, one linear "
         "layer; started over where it does not converge, judged by the training rows",
)


def baselines(base: Experiment) -> tuple[Experiment, ...]:
    """``base`` without the mask, without the pretraining, and without either; Pietz and Proeve 2018: they fail."""
    raw, fresh = change(base.view, masks=("",)), change(base.backbone, start="")
    return (change(base, name="raw_scratch", view=raw, backbone=fresh, note="what Pietz and Proeve 2018 tried first"),
            change(base, name="raw_pretrained", view=raw, note="the gain of pretraining alone"),
            change(base, name="masked_scratch", backbone=fresh, note="the gain of the mask alone"))


BONES_PRETRAINED = change(
    MASKED_PRETRAINED,
    name="bones_pretrained",
    view__masks=BONES,
    note="each bone's mask as a channel of its own, as later systems of the same group have them",
)

SHIFTS = (Op("Affine", {"translate_percent": {"x": (-0.05, 0.05), "y": (-0.05, 0.05)}, "scale": (0.95, 1.05),
                        "rotate": (-5, 5), "p": 0.7}),)

IMAGENET = change(
    MASKED_PRETRAINED,
    name="imagenet_distribution",
    view__masks=BONES,
    backbone=Backbone("timm/tf_efficientnet_b0.ns_jft_in1k"),
    augment=SHIFTS,
    loss=Expectation(first=10, last=25, scale=1.5, divergence=1.0, spread=0.7),
    optim=Optim("adamw", lr=3e-4, weight_decay=0.01),
    schedule=Schedule("cosine", warmup=1.0, floor=0.01),
    train=Train(epochs=20, batch_size=32, precision="fp16", ema=0.995),
    note="an ImageNet trunk and a distribution over years (Gao 2017), which later systems use",
)

EXPERIMENTS = (*baselines(MASKED_PRETRAINED), MASKED_PRETRAINED, BONES_PRETRAINED, IMAGENET)

ATTENTION = Sequence(
    "attention", ("masked_pretrained",), model=Attention(hidden=64, dropout=0.1), loss=change(YEARS, squared=False),
    lr=3e-3, gamma=0.97, epochs=120, bag=20, batch_size=16, precision="fp32",
    note="gated attention over the slices instead of trees, as later systems have it",
)


def combined(member: str) -> tuple[Stacker, ...]:
    """How Pietz and Proeve 2018 make one age of those of ``member``; ``final`` is the mean of trees, attention and slices.

    The plain mean of the slices stands in for it where it is better out of fold: of few men trees learn little.
    """
    return (
        Stacker("mean", "series_mean", (member,)),
        Stacker("weights", "series_weights", (member,)),
        Stacker("inner", "series_inner", (member,)),
        Stacker("forest", "series_forest", (member,), {"trees": 300, "leaf_volumes": 3}),
        Stacker("extra_trees", "series_extra_trees", (member,)),
        Stacker("final", "mean", ("forest", "extra_trees", "attention", "mean")),
    )


STACKERS = combined("masked_pretrained")
