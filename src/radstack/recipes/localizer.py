"""How a competition finds its anatomy: by rules, or by networks trained on its own folds, a chain of them or a detector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.recipes.detector import Detector
from radstack.recipes.experiment import Experiment


class Localizer:
    """What a competition's localizer says of itself, whatever its kind; here is what rules say, which learn nothing."""

    detectors: Mapping[str, Detector] = MappingProxyType({})
    """By the name that ``--set localizer.detector=NAME`` chooses one by."""

    @property
    def networks(self) -> tuple[Experiment | Detector, ...]:
        """Recipes of the networks that stage 02 trains."""
        return ()

    @property
    def bytes_a_row(self) -> int:
        """Bytes that stage 02 keeps of an index row."""
        return 0

    def annotated(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Network -> which of the index ``rows`` it can learn from, bool [rows]."""
        return {}


@dataclass(frozen=True)
class Classical(Localizer):
    """Rules that look at one picture at a time; nothing is trained."""

    read: Callable[[Path], np.ndarray]
    """Pixels of one raw file: int16 [height, width] in physical units."""
    look: Callable[[np.ndarray], dict[str, Any]] | None = None
    """Where the anatomy is in one picture, and cheap features of it; None: the whole picture is the anatomy."""
    write_boxes: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """All pictures' findings -> the crop of each, in pixels of the raw picture; None: each finding stands as it is."""


def has_mask(rows: pd.DataFrame) -> np.ndarray:
    """Whose column ``mask`` names a hand-made mask, bool [rows]."""
    return (rows["mask"] != "").to_numpy()


@dataclass(frozen=True)
class Step:
    """One network of a chain."""

    experiment: Experiment
    """Its loss says what it finds: a mask or points. Weights lie below ``weights/`` like any other experiment's."""
    known: Callable[[pd.DataFrame], np.ndarray]
    """Rows -> bool [rows], who is annotated for this step."""
    labels: Callable[[Path, pd.DataFrame, int], Any]
    """``labels(input folder, rows, side)``: what is learned of each row, by row number; ``rows`` hold the answers of the
    steps before."""
    targets: tuple[str, ...] = ()
    """Columns that the answers fill, for points."""
    follow: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """Picture uint8 [side, side] and answer -> the picture that the next step sees; None: the same one."""
    back: Callable[[pd.DataFrame, np.ndarray, int], np.ndarray] | None = None
    """Rows, answers [rows, targets] and side -> the same points in the small picture, which all folds share; None: they are
    points in it."""

    def __post_init__(self) -> None:
        """Refuse several networks a fold, of which stage 02 would read one."""
        if self.experiment.train.several:
            raise UserError(f"{self.experiment.name} localizes, by one network a fold; leave train.seeds, "
                            "train.snapshots and train.averages as they are")


@dataclass(frozen=True)
class Chain(Localizer):
    """Networks in a row. Fold k's chain never meets fold k, and finds the anatomy of fold k and of the test pictures."""

    side: int
    """Height and width in pixels of the small pictures that the networks see."""
    prepare: Callable[[Path, pd.DataFrame, int], tuple[np.ndarray, dict[str, Any]]]
    """``prepare(input folder, rows, side)`` of the index rows of one file: their small pictures, uint8 [rows, side, side],
    and columns that lead back to raw pixels, one value for all or one a row."""
    steps: tuple[Step, ...]
    """In order; with none, nothing is looked for and ``write_boxes`` takes the picture as it is."""
    write_boxes: Callable[[Any, np.ndarray, np.ndarray], dict[str, Any]]
    """``write_boxes(row, picture, maps)``: columns of the localization table, from the answers (in ``row``), the small
    picture, uint8 [side, side], and the probability maps of the steps that find masks, uint8 [masks, side, side]. ``flag``
    says what is wrong, "" for nothing."""
    show: Callable[..., None]
    """``show(paths, row, picture, maps, file)`` draws the steps of one picture into a PNG file."""
    per_shard: int = 512
    """Small pictures in one file; those of one raw file stay together."""
    advice: str = ""
    """What stage 02 prints: what would be gained if more were annotated."""

    @property
    def masks(self) -> tuple[str, ...]:
        """Names of the steps that find masks, in the order of their maps."""
        return tuple(one.name for one in self.networks if one.loss.moves_with_picture == "mask")

    @property
    def networks(self) -> tuple[Experiment, ...]:
        """Those of the steps."""
        return tuple(step.experiment for step in self.steps)

    @property
    def bytes_a_row(self) -> int:
        """A small picture, and its masks three times: one a row and fold that answers, and joined."""
        return self.side**2 * (1 + 3 * len(self.masks))

    def annotated(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """By step."""
        return {step.experiment.name: step.known(rows) for step in self.steps}


@dataclass(frozen=True)
class Detection(Localizer):
    """A detector of one box a class. Fold k's never meets fold k, and boxes fold k and the test pictures."""

    detector: Detector
    read: Callable[[Path], np.ndarray]
    """Pixels of one raw file: uint8 [height, width]."""
    drawn: Callable[[pd.DataFrame], np.ndarray]
    """Index rows -> the hand-made boxes that are learned from, float [rows, classes, 4] in raw pixels, NaN where there are
    none."""
    write_boxes: Callable[[pd.DataFrame], pd.DataFrame]
    """The index rows with what was found (see :func:`radstack.stages.detect.found_columns`) and ``flag``, "" for nothing
    wrong -> the localization table, with whatever the crops need beside."""
    show: Callable[..., None]
    """``show(picture, row, file)`` draws the boxes of one row of that table on its raw picture into a PNG file."""
    detectors: Mapping[str, Detector] = field(default_factory=dict)
    """By the name that ``--set localizer.detector=NAME`` chooses one by."""

    @property
    def networks(self) -> tuple[Detector, ...]:
        """The detector."""
        return (self.detector,)

    def annotated(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Rows with a hand-made box."""
        return {self.detector.name: np.isfinite(self.drawn(rows)).all(-1).any(-1)}
