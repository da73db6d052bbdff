"""What each step is worth: the recipes that ``benchmarks/ablation_ich.py`` compares, on a larger phantom set.

The first three networks differ in their view alone, the first two sequence models in the space of their embeddings.
"""

from dataclasses import replace
from functools import partial

from competitions.ich.demo import BYOBNET, DEMO, RESNET, SIDE, TWO_LEVEL
from competitions.ich.experiments import stackers
from competitions.ich.views import brain_only, means_of_three, windows_and_neighbors
from phantoms import draw_demo
from radstack.core.recipe import change
from radstack.recipes.sequence import Sequence

WINDOWS = change(RESNET, name="windows", train__epochs=8)
BRAIN = change(WINDOWS, name="brain", view=brain_only(SIDE))
NEIGHBORS = change(WINDOWS, name="neighbors", view=windows_and_neighbors(SIDE))
# The figures in benchmarks/RESULTS.md were measured with these two, which the demo no longer has.
SHUFFLENET = change(RESNET, name="shufflenet_means", view=means_of_three(SIDE),
                    backbone__name="torchvision/shufflenet_v2_x0_5", train__precision="fp32", train__epochs=2)
EFFICIENTNET = change(RESNET, name="efficientnet", backbone__name="efficientnet_pytorch/efficientnet-b0",
                      backbone__args={"width_coefficient": 0.25, "depth_coefficient": 0.25, "batch_norm_momentum": 0.9,
                                      "drop_connect_rate": 0.0}, train__precision="fp32", train__epochs=2)
EXPERIMENTS = (WINDOWS, BRAIN, NEIGHBORS, change(BYOBNET, train__epochs=8), SHUFFLENET, EFFICIENTNET)

OWN: Sequence = replace(DEMO.models.sequences[0], name="bilstm_own", members=("neighbors",), space="own")
PROCRUSTES: Sequence = change(OWN, name="bilstm_procrustes", space="procrustes")
SEQUENCES = (OWN, PROCRUSTES, replace(TWO_LEVEL, members=tuple(experiment.name for experiment in EXPERIMENTS)))

ABLATION = change(
    DEMO,
    name="ich-ablation",
    title="RSNA 2019 intracranial hemorrhage, phantoms for the ablation",
    phantoms__draw=partial(draw_demo, "ich", size=128, seed=1),
    phantoms__size=500,
    models__experiments=EXPERIMENTS,
    models__on_call=(),
    models__sequences=SEQUENCES,
    models__stackers=stackers(tuple(experiment.name for experiment in EXPERIMENTS),
                              tuple(sequence.name for sequence in SEQUENCES),
                              DEMO.recipe("lightgbm").args, DEMO.recipe("forest").args),
)
