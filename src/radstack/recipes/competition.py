"""A Competition is the data contract: everything the stages must be told, and nothing else.

Its fields are groups: where the rows come from (:class:`Data`), what is learned (:class:`Models`), what the report shows
(:class:`Pages`), how phantoms are drawn (:class:`Phantoms`). ``competitions/_template`` is the one to copy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.paths import Paths
from radstack.core.say import Report
from radstack.recipes.baseline import Baseline
from radstack.recipes.experiment import Experiment
from radstack.recipes.localizer import Localizer
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker
from radstack.recipes.submission import LONG, Layout
from radstack.scoring.task import Metric

MOST_FOLDS = 127
"""Tables hold a fold's number in a byte."""


class Index(Protocol):
    """Reads what the organizer ships: headers of the raw files and his label tables."""

    def __call__(self, folder: Path, workers: int, parts: Path, /, report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The index and the quarantine of ``folder``, ``input/<name>``, which is only read, by ``workers`` processes.

        ``parts`` is a folder for pieces, so that a killed run goes on; ``report`` is told what was found.

        Returns:
            One row a picture (``id``, ``path`` below ``folder``, ``group`` (the patient), ``split`` (``train`` or ``test``),
            the targets, NaN in test, and whatever later steps need), and one row a file that was set aside (``reason``).
        """


class IndexNew(Protocol):
    """Lists pictures that nobody labeled, in any folder."""

    def __call__(self, folder: Path, workers: int, parts: Path, given: pd.DataFrame, /) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The index rows of ``folder``, all of split ``test``, and the quarantine, as :class:`Index` makes them.

        ``given`` is the user's table of what stands beside the pictures (text; empty where he gave none).
        """


class Picture(Protocol):
    """Decodes and crops one row."""

    def __call__(self, paths: Paths, row: Any, cache: "CacheRecipe", /) -> np.ndarray:
        """What is cached of ``row`` of the localization table: [height, width] of ``cache.size`` and ``cache.dtype``."""


class Draw(Protocol):
    """Draws phantoms."""

    def __call__(self, folder: Path, *, series: int, workers: int) -> None:
        """Write ``series`` phantoms (patients' series, pictures or volumes) below ``folder`` in the organizer's layout."""


class CaseView(Protocol):
    """Draws one case of the report."""

    def __call__(self, case: Any, cases: "Cases", paths: Paths, /) -> list[Any]:
        """The pictures of ``case`` (:class:`radstack.report.cases.Case`), as blocks of ``radstack.report.blocks``."""


class LocalizationScore(Protocol):
    """Measures stage 02 on phantoms."""

    def __call__(self, paths: Paths, localized: pd.DataFrame, truth: pd.DataFrame, /) -> Mapping[str, float]:
        """Name -> what stage 02 reached, from the localization table and what was drawn."""


DTYPES = ("int16", "uint8")
"""Pixels in physical units, gray levels."""


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

    def __post_init__(self) -> None:
        """Refuse a size, a kind of pixels or a shard that cannot be."""
        if len(self.size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.size):
            raise UserError(f"cache.size is {list(self.size)}; give height and width in pixels, such as [256,256]")
        if self.dtype not in DTYPES:
            raise UserError(f"cache.dtype is {self.dtype}; take one of {', '.join(DTYPES)}")
        if self.per_shard < 1:
            raise UserError(f"cache.per_shard is {self.per_shard}; give the pictures of a shard, such as 2048")


class Dealer(Protocol):
    """Deals patients into folds: :func:`radstack.core.folds.make_folds`, or a competition's own."""

    def __call__(self, train: pd.DataFrame, labels: pd.DataFrame, count: int, seed: int, /) -> pd.DataFrame:
        """The fold of each patient, columns ``group`` and ``fold`` (0 to ``count`` - 1).

        ``train`` are the index rows of train, ``labels`` the 0/1 columns that the folds share evenly, same rows.
        """


@dataclass(frozen=True)
class FoldRecipe:
    """How patients are dealt into folds."""

    count: int = 5
    """Number of folds."""
    seed: int = 0
    """Breaks ties between equally good folds."""
    dealer: Dealer | None = None
    """A competition's own; None spreads every label evenly, the rarest first (:mod:`radstack.core.folds`)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be dealt."""
        if self.count < 2:
            raise UserError(f"folds.count is {self.count}; take 2 or more, such as --set folds.count=5")
        if self.count > MOST_FOLDS:
            raise UserError(f"folds.count is {self.count}; take {MOST_FOLDS} or fewer")


@dataclass(frozen=True)
class Published:
    """A score that others report. It stands apart from ours: other rows, and often labels of another quality."""

    name: str  # Whose it is
    score: float  # By the competition's metric
    labels: str  # The rows and what their labels are, e.g. ``200 test pictures, mean of six readings``
    source: str  # Where it is reported


@dataclass(frozen=True)
class Cases:
    """What a table for people is made from; all tables are keyed by ``id``."""

    final: str  # The model that is submitted
    test: dict[str, pd.DataFrame]  # Model -> its predictions of the test rows, mean over folds
    oof: dict[str, pd.DataFrame]  # Model -> its out-of-fold predictions of the training rows, with ``fold``
    test_rows: pd.DataFrame  # The index rows of test, those without a prediction too
    oof_rows: pd.DataFrame  # The training rows that are cached, with labels
    localized: pd.DataFrame  # The localization table
    cached: pd.DataFrame  # The row table: where the picture of each row lies in the cache (``shard``, ``slot``)
    experiments: tuple[Experiment, ...] = ()
    """Networks that are trained and predicted; their weights lie in ``paths.weights / name``."""


@dataclass(frozen=True)
class Data:
    """Where the rows, their labels and their pixels come from."""

    index: Index
    label_files: Callable[[Path], tuple[Path, ...]]
    """The organizer's tables below ``input/<name>``, whose content enters the keys."""
    sample_file: Callable[[Path], Path]
    """The organizer's sample submission, or his list of test pictures, below ``input/<name>``."""
    picture: Picture
    balance: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """Index rows -> the 0/1 columns that are spread evenly over the folds; None for the targets."""
    kaggle: str = ""
    """Name of the competition at Kaggle, ``owner/name`` of a data set; empty where the data are nobody's to give."""
    disk: int = 0
    """Bytes that ``input/<name>`` needs."""
    rows: tuple[int, int] = (0, 0)
    """Training and test pictures of the whole data set, for a plan before stage 01 counts them; 0 where data are private."""
    a_series: int = 1
    """Pictures of a series, on average."""
    label_columns: tuple[str, ...] = ()
    """Columns of the index that say the labels in other words; where one changes, only what learns from labels is old."""
    columns_file: Callable[[Path], Path | None] | None = None
    """The organizer's table, below ``input/<name>``, of what must be known of new pictures beside their pixels; None, or
    gives None, where there is none."""
    index_new: IndexNew | None = None
    """None for radiographs, each a picture of its own, with the columns that the user's table has."""
    recipe: Any = None
    """What decides, beside the files, what is in the index; where it changes, stage 01 runs anew."""


@dataclass(frozen=True)
class Models:
    """Everything that learns to predict, and which of it is submitted."""

    experiments: tuple[Experiment, ...]
    """Level one: networks."""
    stackers: tuple[Stacker, ...]
    """Level two, in the order they are run; later ones may name earlier ones as members."""
    final: str
    """The stacker, sequence or experiment that is submitted."""
    sequences: tuple[Sequence, ...] = ()
    """Models of a patient's pictures in order."""
    on_call: tuple[Experiment, ...] = ()
    """Experiments that run only when ``--only`` names them: in a demo, the full recipes."""


@dataclass(frozen=True)
class Pages:
    """What the report shows beside the scores."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Split of the score table (``out of fold``, ``test``) -> what its labels are, printed beside its scores."""
    strata: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """Labeled rows -> bool or text columns, same order; each part gets a score of its own."""
    published: tuple[Published, ...] = ()
    """Scores of others, printed below ours."""
    baselines: tuple[Baseline, ...] = ()
    """What is known without a picture, as rows of the score table; models that do not beat them are named."""
    case_tables: Mapping[str, Callable[[Cases, Paths], pd.DataFrame]] = field(default_factory=dict)
    """Tables for people: ``reports/<comp>/<name>.csv`` -> what writes it."""
    case_by: str = "id"
    """Column of the row table whose values are the cases of the report: ``id``, or ``series`` for stacks of slices."""
    case_view: CaseView | None = None
    localization_score: LocalizationScore | None = None
    acquisition: tuple[str, ...] = ()
    """Columns of the localization table that say how a picture was taken, beside the usual ones (``USUAL`` of
    ``report/shift.py``): by these the report compares train with test."""
    within: tuple[float, ...] = ()
    """Errors of numbers that readers ask about, in the metric's unit: the share of cases within each is told."""
    interval_by: tuple[str, ...] = ()
    """Columns of the index by whose values errors differ, such as sex: each value has intervals of its own."""


@dataclass(frozen=True)
class Phantoms:
    """How a demo's pictures are drawn, and what was drawn."""

    draw: Draw
    size: int
    """How many are drawn unless ``--demo-size`` says otherwise."""
    truth: Callable[[Path], pd.DataFrame | None]
    """Read by the report alone: ``id``, ``split``, each target (as drawn) and ``q_<target>``, the best possible prediction:
    its true probability, or the median of what its label can be; None where ``input/<name>`` holds no truth file."""


@dataclass(frozen=True)
class Plain:
    """What is run where nobody annotated anything, so that networks cannot learn to find the anatomy."""

    annotated: Callable[[Path], bool]
    """Whether ``input/<name>`` holds an annotation."""
    edits: Mapping[str, Any]
    """Edits of the competition, as :func:`radstack.core.recipe.change` takes them: a chain without steps, and the models
    that need no more than the picture."""


@dataclass(frozen=True)
class Competition:
    """One competition. Every field without a default must be given, or the import fails."""

    name: str
    """Folder name below ``input/``, ``cache/`` ...; the demo's ends in ``-demo``, that of small recipes in ``-small``."""
    title: str
    """One line for people."""
    targets: tuple[str, ...]
    """Label columns, in the order of every table."""
    metric: Metric
    """How predictions are scored."""
    data: Data
    localizer: Localizer
    """How the anatomy is found."""
    cache: CacheRecipe
    models: Models
    folds: FoldRecipe = FoldRecipe()
    submission: Layout = LONG
    """Form, columns and range of a submission."""
    pages: Pages = Pages()
    phantoms: Phantoms | None = None
    """Demos only."""
    plain: Plain | None = None
    """None where annotations are needed, or no network finds the anatomy."""
    source: str = ""
    """Folder name below ``input/``; empty for ``name``. Another set of recipes for the same data names theirs."""

    def __post_init__(self) -> None:
        """Refuse two recipes of one name: they would write into one folder, and ``--only`` could not tell them apart."""
        names = [item.name for item in self.recipes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{self.name} has two recipes called {', '.join(twice)}; give one another name")

    @property
    def recipes(self) -> tuple[Any, ...]:
        """Experiments (those on call, too), sequence models and stackers, in the order in which they run."""
        models = self.models
        return (*models.experiments, *models.on_call, *models.sequences, *models.stackers)

    @property
    def words(self) -> list[str]:
        """How a command line names it: ``ich``, ``ich --demo``, ``ich --recipes small``."""
        name, _, variant = self.name.partition("-")
        return [name, *(["--demo"] if variant == "demo" else ["--recipes", variant] if variant else [])]

    def targets_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The targets that a network predicts, in order.

        UserError where it names an unknown one, or some alone and the metric has no groups of classes: its tables could be
        neither scored nor stacked.
        """
        own = experiment.targets_of(self.targets)
        if own != self.targets and not self.metric.groups:
            others = ", ".join(one for one in self.targets if one not in own)
            raise UserError(f"{experiment.name}.targets leaves out {others}, and {self.metric.name} needs all targets: "
                            "it has no groups of classes; leave targets empty")
        return own

    def recipe(self, name: str) -> Any:
        """The experiment, sequence model or stacker called ``name``."""
        return {item.name: item for item in self.recipes}[name]
