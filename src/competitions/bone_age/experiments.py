"""The full recipes: networks of Iglovikov et al. 2018 for three regions, two heads and either sex; what later systems add.

Where they are silent, the number is that of their later code (neuro-inc/ml-recipe-bone-age).
"""

from collections.abc import Mapping

from competitions.bone_age.views import GRAY, region
from radstack.core.recipe import change
from radstack.images.views import Box, Film
from radstack.recipes.experiment import Backbone, Experiment, Head, Op, Optim, Schedule, Train
from radstack.recipes.losses import Expectation, Regression
from radstack.recipes.stacker import Stacker

SCALE = 0.25
"""Of the 2080 x 1600 frame in the cache; region A is then 500 x 375 pixels."""
REGIONS = ("A", "B", "C")
SEXES = {"both": "", "male": "male == 1", "female": "male == 0"}
"""Who trains a network, as a query on the index. Everyone is predicted; level two takes each child's own."""
HEADS = {"regression": Regression(), "expectation": Expectation()}

ARTICLE_AUGMENT = (
    Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.95, 1.05), "rotate": (-5, 5), "p": 0.7}),
    Op("RandomGamma", {"gamma_limit": (80, 120), "p": 0.5}),
)
"""No flips: a registered hand has its thumb on one side. Some pictures are left as they are, since interpolation blurs:
networks that saw blurred growth plates only take sharp ones for younger."""

ARTICLE = Experiment(
    name="A_regression",
    view=region("A", SCALE),
    backbone=Backbone("radstack/vgg_elu", pretrained=False, args={"size": (500, 375)}),
    augment=ARTICLE_AUGMENT,
    loss=Regression(),
    optim=Optim("adam", lr=2e-5, betas=(0.5, 0.999)),
    train=Train(epochs=50, batch_size=8, precision="fp16"),
    note="six VGG blocks, dropout 0.3, 24.8 M parameters; published scores stand in report.PUBLISHED",
)


def region_of(experiment: Experiment) -> str:
    """The region that a recipe sees: those of Iglovikov et al. 2018 begin with its name, the others see the whole hand."""
    return experiment.name[0] if experiment.name[1:2] == "_" else "A"


def on_region(base: Experiment, view: Box) -> Experiment:
    """``base``, a network of the source's own kind, for the region that ``view`` shows."""
    return change(base, view=view, backbone__args={**base.backbone.args, "size": view.size})


def article(bases: Mapping[str, Experiment]) -> tuple[Experiment, ...]:
    """A network of every region for either head and sex, by the region's own of ``bases``: ``A_regression`` (both sexes),
    ``A_regression_male`` ...
    """
    made = []
    for head, loss in HEADS.items():
        for area, base in bases.items():
            for sex, keep in SEXES.items():
                name = f"{area}_{head}" if sex == "both" else f"{area}_{head}_{sex}"
                kept = " and ".join(filter(None, (base.sampling.keep, keep)))
                made.append(change(base, name=name, loss=loss, sampling__keep=kept))
    return tuple(made)


LATER_AUGMENT = (
    Op("Affine", {"translate_percent": (-0.2, 0.2), "scale": (0.8, 1.2), "rotate": (-20, 20), "p": 1.0}),
    Op("RandomGamma", {"gamma_limit": (80, 120), "p": 0.5}),
    Op("RandomBrightnessContrast", {"brightness_limit": 0.1, "contrast_limit": 0.1, "p": 0.5}),
)

INCEPTION_SEX = Experiment(
    name="inception_sex",
    view=region("A", SCALE).in_color(region("A", SCALE).size),
    backbone=Backbone("timm/inception_v3.tf_in1k"),
    augment=LATER_AUGMENT,
    head=Head(columns=("male",), columns_width=32, hidden=(1000, 1000)),
    loss=Regression(),
    optim=Optim("adam", lr=1e-3),
    schedule=Schedule("cosine", warmup=1.0, floor=0.01),
    train=Train(epochs=300, batch_size=16, precision="fp16"),
    tta=("plain", "turn5", "turn-5", "turn10", "turn-10"),
    note="16 Bit, first place, 4.27 on the 200 test hands: sex through 32 units, two layers of 1000, heavy augmentation; "
         "its flips are left out, for the hand is registered",
)

EFFICIENTNET_SEX = change(
    INCEPTION_SEX,
    name="efficientnet_sex",
    backbone=Backbone("timm/tf_efficientnet_b4.ns_jft_in1k", dropout=0.2),
    head=Head(columns=("male",), columns_width=32),
    optim=Optim("adamw", lr=2e-4, weight_decay=1e-2, clip_norm=1.0),
    train=Train(epochs=60, batch_size=16, precision="bf16", ema=0.9998),
    note="after Deeplasia (3.87 on the 200 test hands): masked hand, EfficientNet, sex, rotations at test time",
)

CONVNEXT_DISTRIBUTION = change(
    EFFICIENTNET_SEX,
    name="convnext_distribution",
    backbone=Backbone("timm/convnextv2_tiny.fcmae_ft_in22k_in1k_384", args={"drop_path_rate": 0.1}),
    loss=Expectation(divergence=1.0, spread=4.0),
    optim=Optim("adamw", lr=1e-4, weight_decay=0.05, clip_norm=1.0),
    note="label distribution over months beside the expectation (Gao 2017), SD 4 months",
)

LATER = (INCEPTION_SEX, EFFICIENTNET_SEX, CONVNEXT_DISTRIBUTION)
LITE0 = change(
    INCEPTION_SEX,
    name="lite0",
    view=Film((300, 225), (GRAY,) * 3, (GRAY,) * 3),
    backbone=Backbone("pypi/efficientnet_lite0", dropout=0.2),
    augment=(Op("HorizontalFlip", {"p": 0.5}), *LATER_AUGMENT),
    head=Head(columns=("male",), columns_width=32),
    optim=Optim("adamw", lr=1e-3, weight_decay=0.01, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.5, floor=0.01),
    train=Train(epochs=12, batch_size=32, precision="bf16"),
    tta=("plain", "hflip"),
    note="small, with an ImageNet start from a package at PyPI, which knows pictures by mean and deviation 0.5; the whole "
         "film, neither masked nor registered, so it may be flipped; numbers are a first guess and not tuned",
)

ON_CALL = (LITE0,)
EXPERIMENTS = (*article({name: on_region(ARTICLE, region(name, SCALE)) for name in REGIONS}), *LATER)


def stackers(heads: tuple[str, ...], later: tuple[str, ...]) -> tuple[Stacker, ...]:
    """The ensembles of Iglovikov et al. 2018, and ``final``: everything that can win, weighted per sex.

    ``A_regression_own`` is the network of the child's own sex; ``agnostic``, ``regression_own`` ... are the rows of the
    table of Iglovikov et al., linear over the three regions; ``specific`` is their final system of twelve networks.
    """
    routed = [Stacker(f"{name}_{head}_own", "route", (f"{name}_{head}_male", f"{name}_{head}_female"),
                      {"column": "male", "values": (1, 0)}) for head in heads for name in REGIONS]
    own = {head: tuple(f"{name}_{head}_own" for name in REGIONS) for head in heads}
    everyone = tuple(name for head in heads for name in own[head])
    by_sex = {"kind": "lad", "by": "male", "intercept": True}
    agnostic = tuple(Stacker("agnostic" if head == "regression" else f"agnostic_{head}", "linear",
                             tuple(f"{name}_{head}" for name in REGIONS), {"kind": "lad", "intercept": True})
                     for head in heads)
    unbiased = [Stacker(f"{name}_unbiased", "linear", (name,), by_sex, note="linear bias correction of Deeplasia, per sex")
                for name in later]
    return (
        *routed,
        *agnostic,
        *unbiased,
        *(Stacker(f"{head}_own", "linear", own[head], by_sex, note="A + B + C linear, one sex") for head in heads),
        Stacker("mean", "mean", everyone),
        Stacker("specific", "linear", everyone, by_sex,
                note="final system of Iglovikov et al. 2018, 6.10 months on single readings"),
        Stacker("final", "linear", (*everyone, *(one.name for one in unbiased)), by_sex),
    )


STACKERS = stackers(tuple(HEADS), tuple(experiment.name for experiment in LATER))
