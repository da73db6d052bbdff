"""What the report says of head CT beyond the score: what each series shows, and the scores of others."""

import pandas as pd

from competitions.ich.labels import TARGETS
from radstack.core.paths import Paths
from radstack.recipes.baseline import PLACE, SLICES, Baseline
from radstack.recipes.competition import Cases, Published

VALID = "stage 1, own validation split by study"
PRIVATE = "stage 2 test, labels of several readers (private leaderboard)"
PUBLISHED = (
    Published("four-network write-up: ResNeXt-101 32x8d", 0.084, VALID, "the write-up"),
    Published("four-network write-up: InceptionV3", 0.078, VALID, "the write-up"),
    Published("four-network write-up: EfficientNet-B3", 0.076, VALID, "the write-up"),
    Published("four-network write-up: SE-ResNeXt50", 0.071, VALID, "the write-up"),
    Published("second place, cross-validation", 0.0562, "stage 2 training, best fold by patient", "darraghdog's log"),
    Published("first place (SeuTao)", 0.04383, PRIVATE, "Kaggle"),
    Published("third place, one member's stacking (okotaku)", 0.04393, PRIVATE, "Kaggle"),
    Published("second place (NoBrainer)", 0.044, PRIVATE, "Kaggle"),
    Published("small CNN and LSTM at 256 pixels", 0.04989, PRIVATE, "Burduja 2020"),
)
"""The same models have .056 in cross-validation and .044 on the private test: scores of different rows do not compare."""

BASELINES = (Baseline("slice position alone", (PLACE,), parts=12), Baseline("series prior", (SLICES,), parts=4))
"""A network that is no better has learned where slices lie, or which scanner made them, and not what blood looks like."""


def series_table(cases: Cases, paths: Paths) -> pd.DataFrame:
    """What each test series shows, by the final model: for people, never for the submission."""
    from radstack.stack.vote import series_report

    places = cases.test_rows[["id", "group", "series", "position"]]
    return series_report(places.merge(cases.test[cases.final], on="id"), TARGETS)
