"""What a section of the page is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd


class _Block:
    @property
    def kind(self) -> str:
        """The macro of ``page.html.j2`` that draws it."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Heading(_Block):
    """Begins a part of a section."""

    words: str


@dataclass(frozen=True)
class Words(_Block):
    """A paragraph."""

    words: str
    tone: str = ""
    """``good``, ``bad`` or ``warn`` for a colored edge, "" for none."""


@dataclass(frozen=True)
class Figures(_Block):
    """Numbers that a reader looks for first, large and side by side."""

    values: Mapping[str, tuple[str, str]]
    """Name -> the number in words, and one line below it."""


@dataclass(frozen=True)
class Table(_Block):
    """A table whose columns sort on a click."""

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
class Plot(_Block):
    """A drawing of :func:`radstack.report.plots.svg`."""

    svg: str
    caption: str
    wide: bool = False
    """Takes the whole width; others stand side by side where there is room."""


@dataclass(frozen=True)
class Picture(_Block):
    """A picture of :mod:`radstack.report.images`."""

    src: str
    """Data URI."""
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Slices(_Block):
    """A stack of slices to leaf through: the chosen one large, all of them as a strip, and curves along them."""

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
