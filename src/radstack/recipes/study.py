"""A Study is a named group of recipes and the table or figure that a source made of them, in the source's layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.recipe import change
from radstack.recipes.experiment import Experiment

OVERLAPS = ("dice", "jaccard")
"""Of networks of masks: mean over cases of the overlap with the hand-made mask."""
MEASURES = ("loss", "accuracy", "balanced accuracy", "auc", *OVERLAPS)
"""Of a cell: the competition's loss, a share of right answers in percent, the mean of that share over classes (what it is on
rows of which each class has as many), the area under the ROC curve, ``OVERLAPS``."""


@dataclass(frozen=True)
class Cell:
    """One number of a table: how well some models do on some rows, beside the source's number."""

    row: str
    column: str
    models: tuple[str, ...]
    """Names of recipes; of several, such as seeds of one, each row's losses are averaged."""
    source: float = float("nan")
    """The source's number, in the cell's measure and unit."""
    part: str = ""
    """A pandas query on the row table; empty for all rows."""
    of: str = ""
    """A target, or group of classes, by the name that the score table has; empty for the whole score."""
    measure: str = "loss"
    """One of ``MEASURES``."""


@dataclass(frozen=True)
class Curve:
    """One line of a figure: what a network tells of the fold that is held out, over the steps of its training."""

    row: str
    column: str
    """The panel."""
    model: str
    of: str = "loss"
    """A column of ``held_out.csv``: ``loss``, or a target or group of classes."""
    measure: str = "loss"
    """``loss``, or ``accuracy``: what of every hundred is told right."""


@dataclass(frozen=True)
class MaskNetworks:
    """Networks of masks side by side, trained on the annotated pictures as stage 02 does, each scored on the fold that it
    never met.
    """

    step: str
    """The step of the competition's chain whose hand-made masks they learn; no step before it may guide it."""
    networks: tuple[Experiment, ...]
    """Of any kind and loss. The step's own may be one: it is that of stage 02, trained once."""
    threshold: float = 0.5
    """Least probability of a pixel of the mask."""
    cases: Callable[[pd.DataFrame], np.ndarray] | None = None
    """Annotated rows -> row numbers, int [cases, pictures], of what is scored as one case, such as the slices of a volume;
    None: each picture is a case."""
    joined: tuple[str, ...] = ()
    """Names of networks that see all pictures of a case at once, one above the other."""
    folds: tuple[int, ...] = ()
    """Those that are worked on; empty for all."""


@dataclass(frozen=True)
class Study:
    """A table or a figure of a source. It has cells, curves, or a table of its own; any of them together."""

    name: str
    """File name below ``reports/<comp>/studies/``."""
    title: str
    source: str
    """Whose table it is, by author, year and number."""
    recipes: tuple[Any, ...] = ()
    """Experiments, sequence models and stackers that the competition does not have yet; names are shared with its own."""
    cells: tuple[Cell, ...] = ()
    curves: tuple[Curve, ...] = ()
    table: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame] | None = None
    """``table(training rows, index)`` -> cells that no model makes: row, column, n, value, and low, high, source where
    known."""
    masks: MaskNetworks | None = None
    """Networks that cells of ``OVERLAPS`` are of."""
    unit: str = ""
    """Of the cells' numbers."""
    note: str = ""
    """What a reader must know to compare."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models that the cells and curves are of, in order."""
        named = [*(model for cell in self.cells for model in cell.models), *(curve.model for curve in self.curves)]
        return tuple(dict.fromkeys(named))


def seeds(recipe: Experiment, count: int) -> tuple[Experiment, ...]:
    """``recipe`` and ``count - 1`` more of it that start from other seeds, called ``<name>_seed1`` ..."""
    return (recipe, *(change(recipe, name=f"{recipe.name}_seed{seed}", train__seed=recipe.train.seed + seed)
                      for seed in range(1, count)))
