"""The demo: the same stages on phantoms, with recipes that two cores can train from scratch in minutes."""

from functools import partial

from competitions.ich import COMPETITION, draw_demo, truth
from competitions.ich.experiments import EXTRA_FEATURES, METRIC_LOSS, stackers
from competitions.ich.views import means_of_three, neighbors, three_windows
from radstack.competition import CacheRecipe, FoldRecipe
from radstack.experiment import Backbone, Experiment, Op, Optim, Sampling, Schedule, Train
from radstack.recipe import change
from radstack.sequence.recipe import DeltasBilstm, Sequence, TwoLevel

SIDE = 96

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
    optim=Optim("adam", lr=4e-3, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.5, floor=0.02),
    sampling=Sampling(rare_class="epidural", rare_copies=2),
    train=Train(epochs=6, batch_size=64, precision="bf16"),
    tta=("plain", "hflip"),
)

RESNET_NEIGHBORS = change(RESNET, name="resnet_neighbors", view=neighbors(SIDE))

SHUFFLENET = change(RESNET, name="shufflenet_means", view=means_of_three(SIDE), backbone__name="torchvision/shufflenet_v2_x0_5",
                    train__precision="fp32")

MOBILENET = change(RESNET, name="mobilenet", backbone__name="timm/mobilenetv3_small_050", train__precision="fp32")

EFFICIENTNET = change(RESNET, name="efficientnet", backbone__name="efficientnet_pytorch/efficientnet-b0",
                      backbone__args={"width_coefficient": 0.35, "depth_coefficient": 0.35}, train__precision="fp32")

EXPERIMENTS = (RESNET, RESNET_NEIGHBORS, SHUFFLENET, MOBILENET, EFFICIENTNET)

SEQUENCES = (
    Sequence("bilstm", ("resnet",), DeltasBilstm(hidden=64, dropout=0.2), lr=2e-3, gamma=0.9, epochs=10, bag=4,
             batch_size=8, precision="fp32"),
    Sequence("two_level", tuple(experiment.name for experiment in EXPERIMENTS),
             TwoLevel(project=(96, 48), hidden=48, layers=1, filters=(64, 48, 48, 48), dropout=0.3), lr=3e-3, gamma=0.3,
             milestones=(8, 12), epochs=14, bag=3, batch_size=16, reverse=0.5, reverse_tta=True, precision="fp32"),
)

DEMO = change(
    COMPETITION,
    name="ich-demo",
    title="RSNA 2019 intracranial hemorrhage, phantoms",
    get_demo=partial(draw_demo, size=128),
    truth=truth,
    demo_size=320,
    disk={"input": 1_000_000_000},
    cache=CacheRecipe(side=SIDE, fill=COMPETITION.cache.fill),
    folds=FoldRecipe(count=3),
    experiments=EXPERIMENTS,
    sequences=SEQUENCES,
    stackers=stackers(
        tuple(experiment.name for experiment in EXPERIMENTS), tuple(sequence.name for sequence in SEQUENCES),
        {"columns": EXTRA_FEATURES, "lr": 0.05, "rounds": 400, "patience": 40},
        {"columns": EXTRA_FEATURES, "trees": 100},
    ),
)
