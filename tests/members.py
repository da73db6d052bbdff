"""What tests of stacks share: tables written without a stage, and the score of the best constant."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.files import write_table
from radstack.scoring.metrics import weighted_log_loss
from radstack.stack.predictions import fold_files


def write_fold(folder: Path, fold: int, scored: pd.DataFrame, test: pd.DataFrame) -> None:
    """Write both tables of one fold."""
    for path, table in zip(fold_files(folder, fold), (scored, test)):
        write_table(path, table)


def prior_log_loss(prevalence: np.ndarray, weights: Sequence[float]) -> float:
    """Score of predicting each target's ``prevalence`` everywhere: the weighted mean of their entropies."""
    return weighted_log_loss(np.atleast_2d(prevalence), np.atleast_2d(prevalence), weights)
