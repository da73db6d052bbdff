"""What the report says beside the scores: parts that get a score of their own, tables for people, scores of others."""

import numpy as np
import pandas as pd

from radstack.core.paths import Paths
from radstack.recipes.competition import Cases, Published

LARGE = 13.0
"""Millimeters from which a nodule counts as large."""
PUBLISHED: tuple[Published, ...] = ()  # CHANGE: Published("first place", 0.8, "300 test pictures, two readers", "Kaggle")
"""Scores of others, printed below ours and never compared with ours."""


def balance(rows: pd.DataFrame) -> pd.DataFrame:
    """0/1 columns that the folds share evenly; for labels of 0 and 1 ``Data`` needs none."""
    return pd.DataFrame({"large": (rows["diameter"] >= LARGE).astype(int)})


def strata(rows: pd.DataFrame) -> pd.DataFrame:
    """Size of labeled rows: each gets a column in the score table."""
    return pd.DataFrame({"size": np.where(rows["diameter"] >= LARGE, "large", "small")}, index=rows.index)


def nodules(cases: Cases, paths: Paths) -> pd.DataFrame:
    """One row a test picture, with the place where the nodule was found and its ``diameter`` in mm by the final model."""
    table = cases.test_rows[["id", "group"]]
    for more in (cases.localized[["id", "top", "left"]], cases.test[cases.final]):
        table = table.merge(more, on="id", how="left")
    return table
