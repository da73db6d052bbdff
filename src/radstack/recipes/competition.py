"""A Competition is the data contract: everything the stages must be told, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.paths import Paths
from radstack.recipes.experiment import Experiment
from radstack.recipes.localizer import Chain, Classical, Detection
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker
from radstack.recipes.submission import LONG, Layout
from radstack.scoring.task import Metric


@dataclass(frozen=True)
class CacheRecipe:
    """How pixels are kept between decoding and training."""

    size: tuple[int, int]
    """Height and width of a cached picture in pixels."""
    fill: int
    """Value outside the picture (air in CT)."""
    by: tuple[str, ...]
    """Columns of the localization table that, with the file, decide a cached picture."""
    dtype: str = "int16"
    """``int16`` for physical units, ``uint8`` for gray levels."""
    per_shard: int = 2048
    """Pictures in one shard file."""
    keep: str = ""
    """A pandas query on the localization table for the rows that later stages work on; empty for all."""


@dataclass(frozen=True)
class FoldRecipe:
    """How patients are dealt into folds."""

    count: int = 5
    """Number of folds."""
    seed: int = 0
    """Breaks ties between equally good folds."""


@dataclass(frozen=True)
class Published:
    """A score that others report. It stands apart from ours: other rows, and often labels of another quality."""

    name: str
    """Whose it is."""
    score: float
    """By the competition's metric."""
    labels: str
    """The rows and what their labels are, e.g. ``200 test pictures, mean of six readings``."""
    source: str
    """Where it is reported."""


@dataclass(frozen=True)
class Cases:
    """What a table for people is made from; all tables are keyed by ``id``."""

    final: str
    """The model that is submitted."""
    test: dict[str, pd.DataFrame]
    """Model -> its predictions of the test rows, mean over folds."""
    oof: dict[str, pd.DataFrame]
    """Model -> its out-of-fold predictions of the training rows, with ``fold``."""
    test_rows: pd.DataFrame
    """The index rows of test, those without a prediction too."""
    oof_rows: pd.DataFrame
    """The training rows that are cached, with labels."""
    localized: pd.DataFrame
    """The localization table."""
    cached: pd.DataFrame
    """The row table: where the picture of each row lies in the cache (``shard``, ``slot``)."""
    experiments: tuple[Experiment, ...] = ()
    """Networks that are trained and predicted; their weights lie in ``paths.weights / name``."""


@dataclass(frozen=True)
class Competition:
    """One competition. Every field without a default must be given, or the import fails."""

    name: str
    """Folder name below ``input/``, ``cache/`` ...; the demo's ends in ``-demo``."""
    title: str
    """One line for people."""
    targets: tuple[str, ...]
    """Label columns, in the order of every table."""
    metric: Metric
    """How predictions are scored."""
    get_demo: Callable[..., None]
    """``get_demo(folder, series=, workers=)`` draws phantoms in the organizer's layout."""
    kaggle: str
    """Name of the competition at Kaggle, ``owner/name`` of a data set; empty where the data are nobody's to give."""
    disk: Mapping[str, int]
    """Bytes needed on disk for ``input``."""
    index: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
    """``index(folder, workers, parts, report=) -> (index, quarantine)``."""
    label_files: Callable[[Path], tuple[Path, ...]]
    """The organizer's tables below ``input/<name>``, whose content enters the keys."""
    localizer: Classical | Chain | Detection
    """How the anatomy is found."""
    picture: Callable[[Paths, Any, CacheRecipe], np.ndarray]
    """``picture(paths, row, cache)``: what is cached of a row of the localization table, [height, width]."""
    cache: CacheRecipe
    folds: FoldRecipe
    experiments: tuple[Experiment, ...]
    """Level one."""
    sequences: tuple[Sequence, ...]
    """Models of a patient's pictures in order."""
    stackers: tuple[Stacker, ...]
    """Level two, in the order they are run; later ones may name earlier ones as members."""
    final: str
    """The stacker, sequence or experiment that is submitted."""
    sample_file: Callable[[Path], Path]
    """The organizer's sample submission, or his list of test pictures, below ``input/<name>``."""
    submission: Layout = LONG
    """Form, columns and range of a submission."""
    balance: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """Index rows -> the 0/1 columns that are spread evenly over the folds; None for the targets."""
    truth: Callable[[Path], pd.DataFrame | None] | None = None
    """Phantoms only, read by the report alone: ``id``, ``split``, each target (as drawn) and ``q_<target>``, the best
    possible prediction: its true probability, or the median of what its label can be."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Split of the score table (``out of fold``, ``test``) -> what its labels are, printed beside its scores."""
    strata: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """Labeled rows -> bool or text columns, same order; each part gets a score of its own."""
    published: tuple[Published, ...] = ()
    """Scores of others, printed below ours."""
    case_tables: Mapping[str, Callable[[Cases, Paths], pd.DataFrame]] = field(default_factory=dict)
    """Tables for people: ``reports/<comp>/<name>.csv`` -> what writes it."""
    case_by: str = "id"
    """Column of the row table whose values are the cases of the report: ``id``, or ``series`` for stacks of slices."""
    case_view: Callable[[Any, Cases, Paths], list[Any]] | None = None
    """``(radstack.report.cases.Case, cases, paths)`` -> the pictures of a case, as blocks of ``radstack.report.blocks``."""
    localization_score: Callable[[Paths, pd.DataFrame, pd.DataFrame], Mapping[str, float]] | None = None
    """``(paths, localization table, truth)`` -> what stage 02 reached on phantoms, by name."""
    annotate: Callable[..., str] | None = None
    """``annotate(context, picture, file)`` draws what the trained competition says of a new picture into a PNG file, and
    says it in one line."""
    on_call: tuple[Experiment, ...] = ()
    """Experiments that run only when ``--only`` names them: in a demo, the full recipes."""
    demo_size: int = 0
    """Default number of phantom series; 0 where there is no demo."""

    def __post_init__(self) -> None:
        """Refuse two recipes of one name: they would write into one folder, and ``--only`` could not tell them apart."""
        names = [item.name for item in self._everyone]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.name} has two recipes called {', '.join(twice)}")

    @property
    def _everyone(self) -> tuple[Any, ...]:
        return (*self.experiments, *self.on_call, *self.sequences, *self.stackers)

    def recipe(self, name: str) -> Any:
        """The experiment, sequence or stacker called ``name``."""
        return {item.name: item for item in self._everyone}[name]
