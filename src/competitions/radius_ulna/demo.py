"""The demo: the same stages on phantom hands, with recipes that two cores can train from scratch in minutes."""

from functools import partial

from competitions.radius_ulna import COMPETITION
from competitions.radius_ulna.experiments import IN_PHASE, LATER, joint, stackers
from competitions.radius_ulna.localizer import DETECTORS, ZFNET, detection
from competitions.radius_ulna.phases import BONES, TARGETS
from competitions.radius_ulna.report import localization
from competitions.radius_ulna.views import bone, both
from phantoms import draw_demo, truth
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe, Phantoms
from radstack.recipes.detector import FourSteps, Joint
from radstack.recipes.experiment import Experiment, Optim, Sampling, Schedule, Train
from radstack.recipes.losses import Ordinal

DETECTOR = change(
    ZFNET,
    args={"widths": (16, 32, 64, 64, 64), "groups": 4},
    dense=128,
    # Larger than the pictures: at 320 pixels the ulna is two cells of the map wide, and its boxes are loose.
    short_side=416,
    long_side=680,
    anchors=((0.09, 0.12, 0.16),),
    proposals=(100, 30),
    sampled=(64, 48),
    schedule=Joint(750),
    # After 900 steps 99 % of fold 0's boxes overlap by more than .7, with Adam's usual betas and a limit of 1 97 %.
    optim=Optim("adam", lr=2e-3, betas=(0.9, 0.98), clip_norm=0.5),
    rate=Schedule("cosine", warmup=0.1, floor=0.01),
    batch_size=2,
    note="",
)

FOUR_STEPS = change(DETECTOR, name="bones_zfnet_four_steps", schedule=FourSteps((250, 125, 250, 125)))
RESNET18 = change(DETECTOR, name="bones_resnet18_fpn", trunk="resnet18_fpn", args={}, roi=7,
                  anchors=((0.06,), (0.09,), (0.12,), (0.16,), (0.3,)))
"""The smallest of the pretrained trunks."""
SMALL_DETECTORS = {**DETECTORS, "demo": DETECTOR, "demo_four_steps": FOUR_STEPS, "demo_resnet18": RESNET18}
"""By the names that ``--set localizer.detector=NAME`` takes: the full ones, and those that two cores train."""

SMALL = {"convs": ((8, 3), (16, 3), (32, 3), (48, 3)), "dense": (128, 64), "dropout": 0.2, "padding": "same"}

EPOCHS = {"radius": 16, "ulna": 21}
"""About 590 steps of either bone, whose balanced epochs differ."""

NET = change(
    LATER,
    backbone__args=SMALL,
    optim=Optim("adam", lr=3e-3, betas=(0.9, 0.98), clip_norm=0.5),
    schedule=Schedule("cosine", warmup=2.0, floor=0.01),
    train=Train(epochs=16, batch_size=16, precision="bf16"),
    note="",
)


def network(name: str, kind: str = "found") -> Experiment:
    """The small ordinal network of one bone; its crops are made by boxes of ``kind``."""
    return change(NET, name=name if kind == "found" else f"{name}_{kind}", view=bone(name, kind), targets=TARGETS[name],
                  loss=Ordinal(link="cumulative"), sampling=Sampling(balance=IN_PHASE[name]), train__epochs=EPOCHS[name])


EXPERIMENTS = (
    *(network(name, kind) for kind in ("found", "drawn") for name in BONES),
    change(joint(NET), sampling=Sampling(balance=IN_PHASE["radius"]), backbone__args={**SMALL, "size": both().size}),
)

DEMO = change(
    COMPETITION,
    name="radius_ulna-demo",
    title="Maturity phase of the distal radius and ulna, phantoms",
    phantoms=Phantoms(partial(draw_demo, "radius_ulna", size=480), 600, partial(truth, "radius_ulna")),
    data__disk=1_000_000_000,
    pages__localization_score=localization,
    localizer=detection(DETECTOR, SMALL_DETECTORS),
    folds=FoldRecipe(count=3),
    models__experiments=EXPERIMENTS,
    models__on_call=tuple(change(recipe, name=f"full_{recipe.name}")
                          for recipe in (*COMPETITION.models.experiments, *COMPETITION.models.on_call)),
    models__stackers=stackers((*BONES, "joint_ordinal"), rounds=200),
)
