"""The demo: the same stages on phantoms, with recipes that two cores can train from scratch in minutes."""

from functools import partial

from competitions.ich import COMPETITION
from competitions.ich.experiments import EXTRA_FEATURES, METRIC_LOSS, stackers
from competitions.ich.views import means_of_three, three_windows, windows_and_neighbors
from phantoms import draw_demo, truth
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe, Phantoms
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Sampling, Schedule, Train
from radstack.recipes.sequence import DeltasBilstm, Sequence, TwoLevel

SIDE = 64

FLIP_AND_SHIFT = (
    Op("HorizontalFlip", {"p": 0.5}),
    Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.95, 1.05), "rotate": (-15, 15), "p": 0.5}),
)

RESNET = Experiment(
    name="resnet",
    view=three_windows(SIDE),
    backbone=Backbone("timm/test_resnet", pretrained=False),
    augment=FLIP_AND_SHIFT,
    loss=METRIC_LOSS,
    optim=Optim("adam", lr=3e-3, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.25, floor=0.01),
    sampling=Sampling(rare_class="epidural", rare_copies=2),
    train=Train(epochs=6, batch_size=32, precision="bf16"),
    tta=("plain", "hflip"),
)

BYOBNET = change(RESNET, name="byobnet_neighbors", view=windows_and_neighbors(SIDE), backbone__name="timm/test_byobnet")

# The last two convolve each channel by itself, which is slow to compute and to learn: two epochs take them a sixth of the
# way from the constant to the floor.
SHUFFLENET = change(RESNET, name="shufflenet_means", view=means_of_three(SIDE),
                    backbone__name="torchvision/shufflenet_v2_x0_5", train__precision="fp32", train__epochs=2)

# The source's batch norm keeps 99 % of its running statistics a step, which may lag after 274 steps: here it keeps 90 %.
EFFICIENTNET = change(RESNET, name="efficientnet", backbone__name="efficientnet_pytorch/efficientnet-b0",
                      backbone__args={"width_coefficient": 0.25, "depth_coefficient": 0.25, "batch_norm_momentum": 0.9,
                                      "drop_connect_rate": 0.0}, train__precision="fp32", train__epochs=2)

EXPERIMENTS = (RESNET, BYOBNET, SHUFFLENET, EFFICIENTNET)

BILSTM = Sequence("bilstm", ("byobnet_neighbors",), DeltasBilstm(hidden=64, dropout=0.2), lr=2e-3, gamma=0.9, epochs=10,
                  bag=4, batch_size=8, precision="fp32")

TWO_LEVEL = Sequence(
    "two_level", tuple(experiment.name for experiment in EXPERIMENTS),
    TwoLevel(project=(96, 48), hidden=48, layers=1, filters=(64, 48, 48, 48), dropout=0.4), lr=3e-3, gamma=0.3,
    milestones=(8, 12), epochs=14, bag=6, batch_size=16, reverse=0.5, reverse_tta=True, precision="fp32")

SEQUENCES = (BILSTM, TWO_LEVEL)

DEMO = change(
    COMPETITION,
    name="ich-demo",
    title="RSNA 2019 intracranial hemorrhage, phantoms",
    phantoms=Phantoms(partial(draw_demo, "ich", size=128), 224, partial(truth, "ich")),
    data__disk=1_000_000_000,
    cache=change(COMPETITION.cache, size=(SIDE, SIDE)),
    folds=FoldRecipe(count=3),
    models__experiments=EXPERIMENTS,
    models__on_call=(*COMPETITION.models.experiments, *COMPETITION.models.on_call),
    models__sequences=SEQUENCES,
    models__stackers=stackers(
        tuple(experiment.name for experiment in EXPERIMENTS), tuple(sequence.name for sequence in SEQUENCES),
        {"columns": EXTRA_FEATURES, "lr": 0.05, "leaves": 8, "depth": 3, "leaf_rows": 100, "patience": 50,
         "threads": 1},  # on so few rows a second thread mostly waits
        {"columns": EXTRA_FEATURES, "trees": 100},
    ),
)
