"""How a competition finds its anatomy: by rules, or by a chain of networks trained on the competition's own folds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.experiment import Experiment


@dataclass(frozen=True)
class Classical:
    """Rules that look at one picture at a time; nothing is trained."""

    read: Callable[[Path], np.ndarray]
    """Pixels of one raw file: int16 [height, width] in physical units."""
    look: Callable[[np.ndarray], dict[str, Any]]
    """Where the anatomy is in one picture, and cheap features of it."""
    settle: Callable[[pd.DataFrame], pd.DataFrame]
    """All pictures' findings -> the crop of each, in pixels of the raw picture."""


def same_picture(picture: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """The next step sees what this one saw."""
    return picture


def same_place(rows: pd.DataFrame, answers: np.ndarray, side: int) -> np.ndarray:
    """The answers are places in the small picture already."""
    return answers


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
    follow: Callable[[np.ndarray, np.ndarray], np.ndarray] = same_picture
    """Picture uint8 [side, side] and answer -> the picture that the next step sees."""
    back: Callable[[pd.DataFrame, np.ndarray, int], np.ndarray] = same_place
    """Rows, answers [rows, targets] and side -> the same points in the small picture, which all folds share."""


@dataclass(frozen=True)
class Chain:
    """Networks in a row. Fold k's chain never meets fold k, and finds the anatomy of fold k and of the test pictures."""

    side: int
    """Height and width in pixels of the small pictures that the networks see."""
    prepare: Callable[[Path, int], tuple[np.ndarray, dict[str, Any]]]
    """``prepare(file, side)``: the small picture, uint8 [side, side], and columns that lead back to raw pixels."""
    steps: tuple[Step, ...]
    """In order."""
    settle: Callable[[Any, np.ndarray, np.ndarray], dict[str, Any]]
    """``settle(row, picture, map)``: columns of the localization table, from the answers (in ``row``), the small picture
    and the probability map of the chain's mask, both uint8 [side, side]. ``flag`` says what is wrong, "" for nothing."""
    show: Callable[..., None]
    """``show(paths, row, picture, map, file)`` draws the steps of one picture into a PNG file."""
    per_shard: int = 512
    """Small pictures in one file."""
