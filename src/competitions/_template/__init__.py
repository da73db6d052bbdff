"""The competition to copy: the diameter of a nodule in mm from a small picture, scored by the mean absolute error.

Copy this folder to ``src/competitions/<name>/`` (or into a folder that ``RADSTACK_COMPETITIONS`` names), replace
``_template`` by ``<name>`` in its files, run ``bash run_all.sh <name> --demo``, then go through the lines that say CHANGE.
Raw data lie below ``input/<name>/``: ``train.csv``, ``test.csv`` and ``pictures/<id>.png``.

Sources belong here, by author and year. This competition has none: its pictures are drawn.
"""

from competitions._template import localizer
from competitions._template.cases import view
from competitions._template.experiments import EXPERIMENTS, STACKERS
from competitions._template.index import build_index
from competitions._template.labels import LARGEST, TARGETS, label_files, sample_file
from competitions._template.report import PUBLISHED, balance, nodules, strata
from radstack.recipes.competition import CacheRecipe, Competition, Data, Models, Pages
from radstack.recipes.submission import Layout
from radstack.scoring.task import Metric

COMPETITION = Competition(
    name="_template",  # the name of this folder
    title="Diameter of a nodule",  # CHANGE
    targets=TARGETS,
    # CHANGE: a name of ``radstack.scoring.task.KINDS``, and one weight for each target.
    metric=Metric("mean absolute error", (1,), unit="mm"),
    # CHANGE: ``disk`` in bytes, and ``kaggle="its-name"`` if the data come from there.
    data=Data(build_index, label_files, sample_file, localizer.crop, balance, disk=100_000_000),
    localizer=localizer.LOCALIZER,
    # CHANGE: ``by`` names the columns that the localizer made; stage 03 crops anew when one of their values changes.
    cache=CacheRecipe((localizer.SIDE, localizer.SIDE), fill=0, by=("top", "left"), dtype="uint8"),
    models=Models(EXPERIMENTS, STACKERS, final="final"),
    submission=Layout("id", TARGETS, 0, LARGEST, form="wide"),  # CHANGE: columns, range and form of the submission
    pages=Pages(strata=strata, published=PUBLISHED, case_tables={"nodules": nodules}, case_view=view),
)
