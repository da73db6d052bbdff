"""What a section of the page is made of. Each block's ``kind`` is a macro of ``page.html.j2`` that draws it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd


@dataclass(frozen=True)
class Heading:
    """Begins a part of a section."""

    kind: ClassVar[str] = "heading"
    words: str


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    words: str
    tone: str = ""
    """``good``, ``bad`` or ``warn`` for a colored edge, "" for none."""


@dataclass(frozen=True)
class Figures:
    """Numbers that a reader looks for first, large and side by side."""

    kind: ClassVar[str] = "figures"
    values: Mapping[str, tuple[str, str]]
    """Name -> the number in words, and one line below it."""


@dataclass(frozen=True)
class Table:
    """A table whose columns sort on a click."""

    kind: ClassVar[str] = "table"
    frame: pd.DataFrame
    caption: str
    formats: Mapping[str, str] = field(default_factory=dict)
    """Column -> format, e.g. ``.4f`` (``.4g`` for floats without one); NaN is left empty."""
    note: str = ""
    """Small print below."""
    folded: bool = False
    """Shown only after a click on the caption."""
    strong: tuple[str, ...] = ()
    """Values of the first column whose rows stand out."""


@dataclass(frozen=True)
class Plot:
    """A drawing of :func:`radstack.report.plots.svg`."""

    kind: ClassVar[str] = "plot"
    svg: str
    caption: str
    wide: bool = False
    """Takes the whole width; others stand side by side where there is room."""


@dataclass(frozen=True)
class Picture:
    """A picture of :mod:`radstack.report.images`."""

    kind: ClassVar[str] = "picture"
    src: str
    """Data URI."""
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Slices:
    """A stack of slices to leaf through: the chosen one large, all of them as a strip, and curves along them."""

    kind: ClassVar[str] = "slices"
    src: str
    """Data URI of all slices in one picture, ``across`` in a row (:func:`radstack.report.images.sheet`)."""
    count: int
    across: int
    captions: tuple[str, ...]
    """One line a slice."""
    marks: tuple[str, ...]
    """One a slice: ``true`` where the label is positive, ``wrong`` where the prediction is far off, "" otherwise."""
    svg: str
    """Curves over the slices, made on :func:`radstack.report.plots.along`; a cursor follows the chosen slice."""
    caption: str
    start: int = 0
    """The slice shown first."""
    wide: bool = True


Block = Heading | Words | Figures | Table | Plot | Picture | Slices


@dataclass(frozen=True)
class Section:
    """One entry of the table of contents."""

    key: str
    """Anchor, e.g. ``result``."""
    title: str
    lead: str
    """What the section says, in a sentence or two."""
    blocks: tuple[Block, ...]
