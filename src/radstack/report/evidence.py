"""What the page is made from: everything read once, the models' out-of-fold predictions in the order of one row table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import manifest_of
from radstack.core.files import read_json
from radstack.recipes.competition import Cases
from radstack.recipes.experiment import Experiment
from radstack.running.context import Context
from radstack.scoring.task import Task


@dataclass(frozen=True)
class Evidence:
    """One competition as far as it was run. Rows are those of training that are cached, ``n`` of them."""

    context: Context
    task: Task
    names: list[str]
    """Models that are predicted, in the order of the recipes."""
    index: pd.DataFrame
    """The index of stage 01, train and test."""
    quarantine: pd.DataFrame
    """What could not be used: ``stage``, ``split``, ``path``, ``reason``, ``detail``."""
    localized: pd.DataFrame
    """The localization table, train and test; ``flag`` where the competition has flags."""
    train: pd.DataFrame
    """The row table of training, numbered 0 to n - 1, with labels."""
    fold: np.ndarray
    """int [n]."""
    oof: dict[str, np.ndarray]
    """Model -> out-of-fold predictions float32 [n, targets]; NaN in rows and targets that it does not answer."""
    scores: pd.DataFrame
    """The score table of stage 09."""
    localization: pd.DataFrame
    """``measure``, ``value`` of stage 02 on phantoms; without rows elsewhere."""
    cases: Cases | None
    """What a competition's own tables and pictures are made from; None as long as the final model is not predicted."""
    single: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Experiment whose predictions are a mean of several networks a fold -> name of a network -> what it says alone, as
    ``oof``."""
    operating: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The operating points of :mod:`radstack.report.operating`."""

    @property
    def truth(self) -> np.ndarray:
        """Labels, float64 [n, targets]."""
        return self.train[list(self.task.targets)].to_numpy(np.float64)

    @property
    def final(self) -> str:
        """The model that is submitted, or the last one predicted."""
        return self.context.competition.models.final if self.cases else self.names[-1]

    @property
    def recipes(self) -> dict[str, Any]:
        """Recipe of each model in ``names``: Experiment, Sequence or Stacker."""
        known = self.context.recipes
        return {recipe.name: recipe for recipe in known if recipe.name in self.names}

    @property
    def experiments(self) -> list[str]:
        """Names of level one."""
        return [name for name, recipe in self.recipes.items() if isinstance(recipe, Experiment)]

    def answered(self, model: str) -> np.ndarray:
        """Rows that ``model`` answers in full, bool [n]."""
        return np.isfinite(self.oof[model]).all(axis=1)

    def scored(self, split: str = "out of fold") -> pd.DataFrame:
        """The score table of one split by model."""
        return self.scores[self.scores["split"] == split].set_index("model")

    def manifest(self, path: Path) -> dict[str, Any]:
        """Manifest beside ``path``; empty when there is none."""
        return read_json(manifest_of(path)) if manifest_of(path).exists() else {}


def aligned(rows: pd.DataFrame, table: pd.DataFrame, targets: tuple[str, ...]) -> np.ndarray:
    """Predictions of a table keyed by ``id`` in the order of ``rows``, float32 [rows, targets]; NaN where it has none."""
    return table.set_index("id")[list(targets)].reindex(rows["id"]).to_numpy(np.float32)
