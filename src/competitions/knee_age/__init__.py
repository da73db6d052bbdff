"""Age of young men from 3-D knee MRI: years from a coronal volume, mean absolute error.

Sources: Pietz and Proeve 2018, an article on age from knee MRI; Pietz 2018, the master thesis on its segmentation, and the
code of both, pietz/knee-mri-segmentation.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import phantoms
from competitions.knee_age import localizer
from competitions.knee_age.cases import view
from competitions.knee_age.experiments import ATTENTION, EXPERIMENTS, SIDE, STACKERS
from competitions.knee_age.index import build_index, index_new
from competitions.knee_age.labels import columns_file, label_files, sample_file
from competitions.knee_age.localizer import MASKS
from competitions.knee_age.report import PUBLISHED, bones, decision, strata, volumes
from competitions.knee_age.volume import CENTRAL, MOST
from radstack.recipes.competition import CacheRecipe, Competition, Data, Models, Pages
from radstack.recipes.submission import Layout
from radstack.scoring.task import Metric

YEARS = (15, 16, 17, 18, 19)
"""Inner edges of the age groups that folds share evenly."""


def balance(rows: pd.DataFrame) -> pd.DataFrame:
    """Source and age group of each row, and whether it has a mask, as 0/1 columns ``epi``, ``15-16`` ..."""
    group = np.digitize(rows["age_years"], YEARS)
    names = ["younger", *(f"{year}-{year + 1}" for year in YEARS[:-1]), "older"]
    columns = {name: group == place for place, name in enumerate(names)}
    columns |= {source: rows["source"] == source for source in sorted(rows["source"].unique())}
    return pd.DataFrame(columns | {"annotated": rows["mask"] != ""}, index=rows.index).astype(int)


def truth(folder: Path) -> pd.DataFrame | None:
    """What was drawn, a row for each slice that a volume can have, for the report alone; None where volumes are real."""
    known = phantoms.truth("knee_age", folder)
    if known is None:
        return None
    slices = known.loc[known.index.repeat(MOST)].assign(position=np.tile(np.arange(MOST), len(known)))
    return slices.assign(id=slices["series"] + "_" + slices["position"].map("{:02d}".format)).reset_index(drop=True)


COMPETITION = Competition(
    name="knee_age",
    title="Age of young men from knee MRI",
    targets=("age_years",),
    metric=Metric("mean absolute error", (1,), "years"),
    data=Data(build_index, label_files, sample_file, localizer.planes, balance, disk=5_000_000_000, index_new=index_new,
              columns_file=columns_file),
    localizer=localizer.chain(SIDE),
    cache=CacheRecipe(size=(SIDE, SIDE * (1 + len(MASKS))), fill=0, by=("map_crc",), dtype="uint8",
                      per_shard=CENTRAL * 16, keep="central"),
    models=Models(EXPERIMENTS, STACKERS, final="final", sequences=(ATTENTION,)),
    submission=Layout("subject,visit", ("age_years",), 10, 30, form="wide", row="series"),
    pages=Pages(strata=strata, published=PUBLISHED, case_by="series", case_view=view, acquisition=("source",),
                case_tables={"volumes": volumes, "decision": decision, "bones": bones}, within=(0.5, 1, 2)),
)
