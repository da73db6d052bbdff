"""The full recipes: nine networks and four tables of the HKU-Shenzhen study for either bone; what later systems add.

Where the study is silent, the number is a usual default: same padding for networks that valid convolutions leave nothing of,
dropout .5, 100 epochs.
"""

from competitions.radius_ulna.phases import BONES, LEARNED, LEARNED_PHASES, PHASES, TARGETS
from competitions.radius_ulna.views import bone, both
from radstack.core.recipe import change
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Sampling, Schedule, Train
from radstack.recipes.losses import Ordinal, SoftmaxCrossEntropy
from radstack.recipes.stacker import Stacker

SIZES = tuple(len(TARGETS[name]) for name in BONES)
"""Stages of the radius and of the ulna: 7 and 6."""
IN_PHASE = {name: tuple(tuple(f"{TARGETS[name][0][0]}{stage}" for stage in LEARNED[name] if stage in PHASES[name][phase])
                        for phase in LEARNED_PHASES[name]) for name in BONES}
"""Bone -> the target columns of each phase: what balancing repeats."""
PHASE_LOSS = {name: SoftmaxCrossEntropy(merged=tuple(len(stages) for stages in IN_PHASE[name])) for name in BONES}
"""The networks of the HKU-Shenzhen study tell phases; what they say of a phase is shared equally among its stages."""

NETS = {
    **dict.fromkeys((1, 2, 3), ((32, 7), (64, 5), (64, 3), (32, 3))),
    **dict.fromkeys((4, 5), ((32, 3), (64, 3), (64, 3), (32, 3))),
    **dict.fromkeys((6, 7), ((32, 3), (64, 3), (64, 3), (128, 3), (128, 3))),
    **dict.fromkeys((8, 9), ((32, 7), (64, 5), (64, 3), (128, 3), (128, 3))),
}
"""Channels and kernel of each convolution of the study's nine networks."""
DENSE = {1: (1024, 256), 2: (1024, 1024), 3: (4096, 1024), 4: (1024, 1024), 5: (4096, 1024), 6: (1024, 1024),
         7: (4096, 1024), 8: (1024, 1024), 9: (4096, 1024)}  # fmt: skip
"""Units of their dense layers."""
BASE = 3
"""The network of the tables on balance and augmentation."""
BEST = {"radius": 7, "ulna": 8}
"""The study's choice, on which optimizers were compared."""
RATES = (1e-2, 1e-3, 1e-4)
"""Learning rates of the fourth table; the study's best are 1e-4 (radius) and 1e-3 (ulna), with Adam."""

SHIFTS = (
    Op("Affine", {"translate_percent": (-0.06, 0.06), "scale": (0.9, 1.1), "rotate": (-5, 5), "p": 1.0}),
    Op("RandomGamma", {"gamma_limit": (80, 125), "p": 0.5}),
)
"""The study shifts and scales; no flips, as medial and lateral are what tells."""
FIVEFOLD = 5
"""Times an epoch shows each picture, each time moved otherwise."""

ARTICLE = Experiment(
    name="article",
    view=bone("radius"),
    backbone=Backbone("radstack/plain", pretrained=False),
    optim=Optim("adam", lr=1e-4),
    train=Train(epochs=100, batch_size=16, precision="fp32"),
    note="Adam 1e-4, cross-entropy, batch 16, Xavier; the study names no number of epochs and shows about forty to "
         "convergence; its scores stand in report.PUBLISHED",
)


def net(number: int, dropout: float = 0.5) -> dict[str, object]:
    """Arguments of ``radstack/plain`` for one of the nine: valid where the study's can exist, same for nets 8 and 9."""
    padding = "same" if number >= 8 else "valid"
    return {"convs": NETS[number], "dense": DENSE[number], "padding": padding, "dropout": dropout}


def article(name: str, base: Experiment = ARTICLE) -> tuple[Experiment, ...]:
    """The four tables of the HKU-Shenzhen study for one bone, each row a recipe ``<bone>_<what differs>``.

    Balance and augmentation on the base network; nine networks, each also without dropout; optimizers and rates on the best.
    """
    own = change(base, view=bone(name), targets=TARGETS[name], loss=PHASE_LOSS[name])
    raw = change(own, name=f"{name}_raw", backbone__args=net(BASE, 0.0))
    even = change(raw, name=f"{name}_balanced", sampling=Sampling(balance=IN_PHASE[name]))
    ready = change(even, name=f"{name}_augmented", augment=SHIFTS, sampling__copies=FIVEFOLD)
    nets = [change(ready, name=f"{name}_net{number}{'' if rate else '_no_dropout'}", backbone__args=net(number, rate))
            for number in NETS for rate in (0.5, 0.0) if (number, rate) != (BASE, 0.0)]
    best = change(ready, backbone__args=net(BEST[name]))
    studied = [change(best, name=f"{name}_{kind}_{rate:g}".replace("-0", "-"), optim=Optim(kind, lr=rate))
               for kind in ("adam", "sgd") for rate in RATES if (kind, rate) != ("adam", ARTICLE.optim.lr)]
    return raw, even, ready, *nets, *studied


def ordinal(name: str, base: Experiment) -> tuple[Experiment, ...]:
    """``base`` over all stages of one bone: softmax, CORAL, cumulative link."""
    own = change(base, view=bone(name, size=base.view.size), targets=TARGETS[name])
    return tuple(change(own, name=f"{name}_{kind}", loss=loss) for kind, loss in
                 (("stages", SoftmaxCrossEntropy()), ("coral", Ordinal()), ("cumulative", Ordinal(link="cumulative"))))


def joint(base: Experiment, link: str = "cumulative") -> Experiment:
    """``base`` on both crops side by side, with one ordinal score a bone."""
    return change(base, name="joint_ordinal", view=both(), targets=(), loss=Ordinal(groups=SIZES, link=link))


LATER = change(
    ARTICLE,
    name="later",
    augment=SHIFTS,
    backbone=Backbone("radstack/plain", pretrained=False, args=net(BEST["radius"])),
    schedule=Schedule("cosine", warmup=1.0, floor=0.01),
    optim=Optim("adam", lr=1e-3),
    note="all stages instead of phases; ordered classes by CORAL (Cao 2020) or the cumulative link",
)


def pretrained(name: str) -> tuple[Experiment, ...]:
    """ImageNet networks over all stages of one bone, at twice the crop's size."""
    base = change(
        LATER, targets=TARGETS[name], loss=Ordinal(link="cumulative"),
        optim=Optim("adamw", lr=3e-4, weight_decay=0.01, clip_norm=1.0),
        train=Train(epochs=40, batch_size=16, precision="bf16", ema=0.995),
        note="an ImageNet trunk at 256 x 192, as later systems have it")
    trunks = {"resnet34": "timm/resnet34.a1_in1k", "efficientnet": "timm/tf_efficientnet_b0.ns_jft_in1k"}
    return tuple(change(base, name=f"{name}_{short}", view=bone(name).in_color((256, 192)), backbone=Backbone(trunk))
                 for short, trunk in trunks.items())


JOINT = change(joint(LATER), backbone__args={**net(BEST["radius"]), "size": both().size},
               note="one network for both bones, as later systems have it")
ARTICLE_TABLES = tuple(recipe for name in BONES for recipe in article(name))
"""An ablation of some fifty networks: too much for every run, so only those of ``ARTICLE_BEST`` are in ``EXPERIMENTS``."""
ARTICLE_BEST = ("radius_net7", "ulna_adam_0.001")
"""What the study ends with: net 7 with Adam 1e-4, net 8 with Adam 1e-3, both with dropout."""
EXPERIMENTS = (*(recipe for recipe in ARTICLE_TABLES if recipe.name in ARTICLE_BEST),
               *(recipe for name in BONES for recipe in (*ordinal(name, LATER), *pretrained(name))), JOINT)
ON_CALL = tuple(recipe for recipe in ARTICLE_TABLES if recipe.name not in ARTICLE_BEST)


def stackers(members: tuple[str, ...], rounds: int = 500) -> tuple[Stacker, ...]:
    """The mean of all networks that answer, boosted trees over them, and ``final``, the pool of both."""
    return (
        Stacker("mean", "class_mean", members, {"groups": SIZES}),
        Stacker("lightgbm", "class_lightgbm", members, {"groups": SIZES, "rounds": rounds}),
        Stacker("final", "class_mean", ("mean", "lightgbm"), {"groups": SIZES}),
    )


STACKERS = stackers(tuple(one.name for one in EXPERIMENTS))
