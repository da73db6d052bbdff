"""RSNA 2017 pediatric bone age: months from a hand radiograph, mean absolute error.

Source: Iglovikov, Rakhlin, Kalinin and Shvets 2018 (first version 2017), "Paediatric Bone Age Assessment Using Deep
Convolutional Neural Networks", and the authors' later code, neuro-inc/ml-recipe-bone-age.
"""

import numpy as np
import pandas as pd

from competitions.bone_age import localizer
from competitions.bone_age.cases import view
from competitions.bone_age.experiments import EXPERIMENTS, LITE0, ON_CALL, SCALE, STACKERS
from competitions.bone_age.frame import FRAME
from competitions.bone_age.index import build_index, index_new
from competitions.bone_age.labels import label_files, sample_file
from competitions.bone_age.report import PUBLISHED, hands, strata
from radstack.recipes.competition import CacheRecipe, Competition, Data, Models, Pages
from radstack.recipes.submission import Layout
from radstack.scoring.task import Metric

YEARS = (0, 3, 6, 9, 12, 15, 21)
"""Edges of the age groups that folds share evenly, in years."""


def balance(rows: pd.DataFrame) -> pd.DataFrame:
    """Sex and age group of each row as 0/1 columns ``male 3-6`` ..."""
    group = np.clip(np.digitize(rows["boneage"] / 12, YEARS[1:-1]), 0, len(YEARS) - 2)
    return pd.DataFrame({f"{sex} {YEARS[place]}-{YEARS[place + 1]}": ((rows["male"] == code) & (group == place)).astype(int)
                         for sex, code in (("male", 1), ("female", 0)) for place in range(len(YEARS) - 1)})


COMPETITION = Competition(
    name="bone_age",
    title="RSNA 2017 pediatric bone age",
    targets=("boneage",),
    metric=Metric("mean absolute error", (1,), "months"),
    data=Data(build_index, label_files, sample_file, localizer.registered_hand, balance, kaggle="kmader/rsna-bone-age",
              disk=20_000_000_000, rows=(14_036, 200), columns_file=sample_file, index_new=index_new),
    localizer=localizer.chain(512),
    cache=CacheRecipe(size=(round(FRAME[0] * SCALE), round(FRAME[1] * SCALE)), fill=0,
                      by=("map_crc", "inverted", *localizer.MATRIX), dtype="uint8"),
    models=Models(EXPERIMENTS, STACKERS, final="final", on_call=ON_CALL),
    plain=localizer.unannotated(512, LITE0),
    submission=Layout("id", ("boneage",), 0, 240, sample_ids=("Case ID", "Image ID"), form="wide"),
    pages=Pages(labels={"out of fold": "one reading", "test": "mean of six readings"}, strata=strata, published=PUBLISHED,
                case_tables={"hands": hands}, case_view=view, acquisition=("inverted",),
                interval_by=("male",), within=(6, 12, 24)),
)
