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
    train=Train(epochs=5, batch_size=32, precision="bf16"),
    tta=("plain", "hflip"),
)

BYOBNET = change(RESNET, name="byobnet_neighbors", view=windows_and_neighbors(SIDE), backbone__name="timm/test_byobnet")

# Plain convolutions at full size with batch norm learn fast: three epochs do, in half of resnet's time.
VGG = change(RESNET, name="vgg_means", view=means_of_three(SIDE), backbone__name="radstack/vgg_elu",
             backbone__args={"size": (SIDE, SIDE), "widths": (8, 16, 32, 64), "dense": (64,), "dropout": 0.0},
             train__epochs=3)

# Four blocks instead of 17, of which the first keeps the size, since lesions are a few pixels wide. Convolving each channel
# by itself learns slowly at the others' rate; three times that, and dropout on the 1280 features, suits it.
MOBILENET = change(RESNET, name="mobilenet_means", view=means_of_three(SIDE), backbone__name="torchvision/mobilenet_v2",
                   backbone__args={"inverted_residual_setting": ((1, 16, 1, 1), (3, 24, 1, 2), (3, 40, 1, 2), (3, 64, 1, 2)),
                                   "width_mult": 0.5}, backbone__dropout=0.3, optim__lr=1e-2, train__precision="fp32",
                   train__epochs=4)

# BYOBNET and MOBILENET are on call: with them training takes twice as long, and the stack gains no more than chance.
EXPERIMENTS = (RESNET, VGG)

BILSTM = Sequence("bilstm", ("resnet",), DeltasBilstm(hidden=64, dropout=0.2), lr=2e-3, gamma=0.9, epochs=10,
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
    models__on_call=(BYOBNET, MOBILENET, *COMPETITION.models.experiments, *COMPETITION.models.on_call),
    models__sequences=SEQUENCES,
    models__stackers=stackers(
        tuple(experiment.name for experiment in EXPERIMENTS), tuple(sequence.name for sequence in SEQUENCES),
        {"columns": EXTRA_FEATURES, "lr": 0.05, "leaves": 8, "depth": 3, "leaf_rows": 100, "patience": 50,
         "threads": 1},  # on so few rows a second thread mostly waits
        {"columns": EXTRA_FEATURES, "trees": 100},
    ),
)
