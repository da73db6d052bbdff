"""Pictures for people: the boxes of both bones, and a radiograph with its phases, their probabilities and the hint."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from competitions.radius_ulna.phases import BONES, LEARNED_PHASES, TARGETS, hint
from radstack.report.dark import BACK, INK, WARNING, dark, outline, save_png, show_gray

if TYPE_CHECKING:  # half a second to import, and only pictures need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"radius": "#ff922b", "ulna": "#5fb4ff"}
TALL = 7.8
"""Inches of a figure."""
SIDE = 3.0
"""Inches beside the radiograph, for what is said of it."""
LOWEST = 0.85
"""Of ``TALL``: what is said of a radiograph needs that much height."""
DPI = 110, 300
"""Least and most dots an inch: between them a picture keeps its own pixels."""


@dataclass(frozen=True)
class Findings:
    """What is said of one radiograph."""

    boxes: np.ndarray
    """Float [bones, 4], raw pixels."""
    scores: np.ndarray
    """The detector's, 0 to 1, [bones]; NaN where it found none."""
    stages: dict[str, np.ndarray]
    """Probabilities of the stages of ``TARGETS`` by bone."""
    phases: dict[str, str]
    """The likeliest phase by bone."""
    chances: dict[str, np.ndarray]
    """Probabilities of the phases of ``LEARNED_PHASES`` by bone."""
    flag: str = ""
    """What is doubtful about the boxes, "" for nothing."""
    labels: tuple[str, ...] = ()
    """The label of each bone, where it is known."""

    @property
    def hint(self) -> str:
        """What the pair of phases means."""
        return hint(*(self.phases[bone] for bone in BONES))


def boxed(picture: np.ndarray, found: np.ndarray, file: Path, drawn: np.ndarray | None = None, note: str = "") -> None:
    """Draw a radiograph (uint8 [height, width]) with its found boxes, and dotted those drawn by hand, into a PNG file.

    ``found`` and ``drawn`` are [bones, 4] in pixels; NaN is left out. ``note`` says why the picture was flagged.
    """
    figure = dark(TALL * picture.shape[1] / picture.shape[0], TALL, layout="constrained")
    ax = figure.subplots()
    show_gray(ax, picture)
    for place, bone in enumerate(BONES):
        _box(ax, found[place], COLORS[bone], bone)
    _dot(ax, drawn)
    if note:
        figure.suptitle(note, color=WARNING, fontsize=11)
    _save(figure, file, picture.shape[0])


def annotated(picture: np.ndarray, findings: Findings, file: Path, title: str = "") -> None:
    """Draw :func:`marked` into a PNG file."""
    _save(marked(picture, findings, title), file, max(picture.shape))


def marked(picture: np.ndarray, findings: Findings, title: str = "", drawn: np.ndarray | None = None) -> "Figure":
    """A radiograph (uint8 [height, width]) with boxes, phases, probabilities of the stages and the hint.

    ``drawn`` are boxes by hand, [bones, 4] in raw pixels, which are dotted; NaN is left out.
    """
    # A picture that is wider than tall is as wide as others are tall, so that the words keep their size beside it.
    tall = TALL * float(np.clip(picture.shape[0] / picture.shape[1], LOWEST, 1.0))
    wide = tall * picture.shape[1] / picture.shape[0]
    figure = dark(wide + SIDE, tall)
    ax = figure.add_axes((0, 0, wide / (wide + SIDE), 1))
    side = figure.add_axes(((wide + 0.15) / (wide + SIDE), 0.01, (SIDE - 0.25) / (wide + SIDE), 0.98))
    show_gray(ax, picture)
    for place, bone in enumerate(BONES):
        chance = findings.chances[bone].max()
        said = f"{bone}: {findings.phases[bone]} {chance:.0%}" if findings.phases[bone] else bone
        _box(ax, findings.boxes[place], COLORS[bone], said)
    _dot(ax, drawn)
    side.axis("off")
    side.set(xlim=(0, 1), ylim=(0, 1))
    side.text(0, 0.99, title, color=INK, fontsize=9, va="top")
    for place in range(len(BONES)):
        _bone(side, findings, place, 0.93 - 0.34 * place)
    lines = [(line, INK) for line in wrap(findings.hint, 34)]
    lines += [(line, WARNING) for doubt in findings.flag.split(", ") if doubt for line in wrap(f"boxes: {doubt}", 34)]
    for row, (line, color) in enumerate(lines):
        side.text(0, 0.24 - 0.028 * row, line, color=color, fontsize=10, va="top")
    return figure


def _dot(ax: "Axes", drawn: np.ndarray | None) -> None:
    """The boxes drawn by hand that there are."""
    for box in drawn if drawn is not None else ():
        if np.isfinite(box).all():
            _box(ax, box, INK, "", ":")


def _bone(side: "Axes", findings: Findings, place: int, top: float) -> None:
    """Phase of one bone and a bar for each of its stages, from ``top`` down."""
    bone = BONES[place]
    score = findings.scores[place]
    seen = "not found, a usual place" if np.isnan(score) else f"box {score:.2f}"
    label = f", label {findings.labels[place]}" if findings.labels else ""
    side.text(0, top, f"{bone}: {findings.phases[bone] or 'not answered'}", color=COLORS[bone], fontsize=15, va="top")
    words = "  ".join(f"{phase} {chance:.0%}" for phase, chance in zip(LEARNED_PHASES[bone], findings.chances[bone])
                      if np.isfinite(chance))
    side.text(0, top - 0.042, f"{words}\n{seen}{label}", color=INK, fontsize=8, va="top")
    for row, (stage, chance) in enumerate(zip(TARGETS[bone], findings.stages[bone])):
        y = top - 0.1 - 0.027 * row
        side.text(0, y, stage, color=INK, fontsize=8, va="center")
        if not np.isfinite(chance):
            continue
        side.barh(y, 0.65 * chance, left=0.14, height=0.019, color=COLORS[bone])
        side.text(0.16 + 0.65 * chance, y, f"{chance:.0%}", color=INK, fontsize=7, va="center")


def _box(ax: "Axes", box: np.ndarray, color: str, words: str, style: str = "-") -> None:
    """Outline a box, its words above it."""
    outline(ax, box, color, linewidth=1.4, linestyle=style)
    x1, y1, x2, y2 = box - 0.5
    # The radius's words above its box, the ulna's below: the boxes stand side by side.
    above = words.startswith(BONES[0])
    ax.annotate(words, ((x1 + x2) / 2, y1 if above else y2), (0, 4 if above else -4), textcoords="offset points",
                color=color, fontsize=8, ha="center", va="bottom" if above else "top", annotation_clip=True,
                bbox={"facecolor": BACK, "edgecolor": "none", "alpha": 0.7, "pad": 1})


def _save(figure: "Figure", path: Path, pixels: int) -> None:
    """Write a PNG file whose ``TALL`` inches hold as many ``pixels``, within the limits of ``DPI``."""
    save_png(figure, path, float(np.clip(pixels / TALL, *DPI)))
