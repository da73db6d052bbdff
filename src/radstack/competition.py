"""A Competition is the data contract: everything the stages must be told, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.experiment import Experiment
from radstack.sequence.recipe import Sequence
from radstack.stack.recipe import Stacker

Report = Callable[[str], None]
"""Prints one line of progress."""


@dataclass(frozen=True)
class CacheRecipe:
    """How pixels are kept between decoding and training."""

    side: int
    """Height and width of a cached picture in pixels."""
    fill: int
    """Value outside the picture (air in CT)."""
    per_shard: int = 2048
    """Pictures in one shard file."""


@dataclass(frozen=True)
class FoldRecipe:
    """How patients are dealt into folds."""

    count: int = 5
    """Number of folds."""
    seed: int = 0
    """Breaks ties between equally good folds."""


@dataclass(frozen=True)
class Metric:
    """What the leaderboard computes. Lower is better."""

    name: str
    """As printed."""
    weights: tuple[float, ...]
    """One a target; they need not sum to 1."""


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
    """Name of the competition at Kaggle."""
    disk: Mapping[str, int]
    """Bytes needed on disk for ``input``."""
    index: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
    """``index(folder, workers, parts, report=) -> (index, quarantine)``."""
    label_files: Callable[[Path], tuple[Path, ...]]
    """The organizer's tables below ``input/<name>``, whose content enters the keys."""
    read: Callable[[Path], np.ndarray]
    """Pixels of one raw file: int16 [height, width] in physical units."""
    clean: Callable[[np.ndarray], np.ndarray]
    """The same pixels with what is not anatomy (a head rest, a table) blanked."""
    localize: Callable[[np.ndarray], dict[str, Any]]
    """Where the anatomy is in one picture, and cheap features of it."""
    settle: Callable[[pd.DataFrame], pd.DataFrame]
    """All pictures' localizations -> the crop of each: adds ``top``, ``left``, ``side`` in pixels of the raw picture."""
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
    """The organizer's sample submission below ``input/<name>``."""
    truth: Callable[[Path], pd.DataFrame | None] | None = None
    """Phantoms only, read by the report alone: ``id``, ``split``, each target (drawn 0/1) and ``q_<target>``, its true
    probability, which is the best possible prediction."""
    on_call: tuple[Experiment, ...] = ()
    """Experiments that run only when ``--only`` names them: in a demo, the full recipes."""
    demo_size: int = 0
    """Default number of phantom series; 0 where there is no demo."""
    clip: float = 1e-6
    """Submitted probabilities stay this far from 0 and 1."""

    def recipe(self, name: str) -> Any:
        """The experiment, sequence or stacker called ``name``."""
        everyone: tuple[Any, ...] = (*self.experiments, *self.on_call, *self.sequences, *self.stackers)
        return {item.name: item for item in everyone}[name]
