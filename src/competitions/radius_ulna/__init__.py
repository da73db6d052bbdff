"""Maturity phase of the distal radius and ulna from a radiograph of the hand, scored by accuracy.

Sources: "the HKU-Shenzhen study" of the distal radius and ulna, a Chinese article of unknown author on 1,101 radiographs of
that hospital; Luk et al. 2014 for the stages R1 to R11 and U1 to U9.
"""

import pandas as pd

from competitions.radius_ulna import localizer
from competitions.radius_ulna.cases import view
from competitions.radius_ulna.experiments import EXPERIMENTS, IN_PHASE, ON_CALL, STACKERS
from competitions.radius_ulna.index import BOX_COLUMNS, build_index, index_new
from competitions.radius_ulna.labels import label_files, sample_file
from competitions.radius_ulna.phases import ALL_TARGETS, BONES, PHASE_COLUMNS, TARGETS, phase_of
from competitions.radius_ulna.report import PUBLISHED, confusion, drawn_boxes, pictures, scores
from competitions.radius_ulna.views import STORED
from radstack.recipes.competition import CacheRecipe, Competition, Data, Models, Pages
from radstack.recipes.submission import Layout
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.task import Metric

GROUPS = tuple(ClassGroup(bone, tuple(phase_of(bone, int(stage[1:])) for stage in TARGETS[bone])) for bone in BONES)
"""The phase in which each stage of a bone is scored."""


def balance(rows: pd.DataFrame) -> pd.DataFrame:
    """The phase of each bone as 0/1 columns ``radius_pre`` .. ``ulna_mature``, and ``boxed``: both were boxed by hand."""
    stages = [list(stages) for bone in BONES for stages in IN_PHASE[bone]]
    columns = {name: rows[of_phase].sum(axis=1) for name, of_phase in zip(PHASE_COLUMNS, stages)}
    return pd.DataFrame(columns | {"boxed": rows[BOX_COLUMNS].notna().all(axis=1)}, index=rows.index).astype(int)


COMPETITION = Competition(
    name="radius_ulna",
    title="Maturity phase of the distal radius and ulna",
    targets=ALL_TARGETS,
    metric=Metric("classification error", (1, 1), groups=GROUPS),
    data=Data(build_index, label_files, sample_file, localizer.crops, balance, disk=5_000_000_000, index_new=index_new,
              label_columns=("radius_stage", "ulna_stage")),
    localizer=localizer.detection(),
    cache=CacheRecipe(size=STORED, fill=0, by=(*localizer.FOUND, *BOX_COLUMNS, "mirrored"), dtype="uint8"),
    models=Models(EXPERIMENTS, STACKERS, final="final", on_call=ON_CALL),
    submission=Layout("file", ALL_TARGETS, 0, 1, form="classes", row="path",
                      calls=tuple(ClassGroup(f"{group.name}_phase", group.classes) for group in GROUPS)),
    pages=Pages(published=PUBLISHED, case_view=view, case_tables={
        "accuracy": scores, "confusion": confusion, "boxes": drawn_boxes, "pictures": pictures}),
)
