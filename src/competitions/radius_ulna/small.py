"""Small recipes for real hands: ImageNet starts from PyPI for the detector and for a network of either bone.

``bash run_all.sh radius_ulna --recipes small``, for some hundred boxed hands. The whole data set wants ``experiments.py``.
"""

from competitions.radius_ulna import COMPETITION
from competitions.radius_ulna.experiments import IN_PHASE, LATER, stackers
from competitions.radius_ulna.localizer import ZFNET, detection
from competitions.radius_ulna.phases import BONES, TARGETS
from competitions.radius_ulna.views import CROP, bone
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe
from radstack.recipes.detector import Jitter, Joint
from radstack.recipes.experiment import Backbone, Experiment, Optim, Sampling, Schedule, Train
from radstack.recipes.losses import Ordinal

DETECTOR = change(
    ZFNET,
    name="bones_lite0_fpn",
    trunk="efficientnet_lite0_fpn",
    dense=256,
    roi=7,
    short_side=384,
    long_side=576,
    anchors=((0.05,), (0.08,), (0.12,), (0.16,), (0.24,)),
    ratios=(0.6, 0.8, 1.1),
    proposals=(200, 50),
    sampled=(64, 48),
    schedule=Joint(600),
    optim=Optim("adamw", lr=1e-3, weight_decay=0.01, clip_norm=1.0),
    rate=Schedule("cosine", warmup=0.05, floor=0.01),
    batch_size=4,
    jitter=Jitter(shift=0.1, scale=0.2, angle=20.0, gamma=0.4, flip=0.5),
    precision="fp32",
    note="about as many looks at each of seventy hands as at a picture of a large set; ends of bones are 0.04 to 0.17 of "
         "the short side",
)


def network(name: str) -> Experiment:
    """The ordinal network of one bone from an ImageNet start, at the crop's own size."""
    return change(
        LATER, name=name, view=bone(name).in_color(CROP), targets=TARGETS[name], loss=Ordinal(link="cumulative"),
        backbone=Backbone("pypi/efficientnet_lite0", dropout=0.2), sampling=Sampling(balance=IN_PHASE[name]),
        optim=Optim("adamw", lr=1e-3, weight_decay=0.01, clip_norm=1.0),
        train=Train(epochs=12, batch_size=16, precision="fp32"), note="")


SMALL = change(
    COMPETITION,
    name="radius_ulna-small",
    source="radius_ulna",
    title="Maturity phase of the distal radius and ulna, small recipes",
    folds=FoldRecipe(count=3),
    localizer=detection(DETECTOR),
    models__experiments=tuple(network(name) for name in BONES),
    models__on_call=(*COMPETITION.models.experiments, *COMPETITION.models.on_call),
    models__stackers=stackers(BONES, rounds=100),
)
