"""Pictures for people: the steps of a registration side by side, and a hand with the age that each region shows."""

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from competitions.bone_age.frame import CAPITATE, FRAME, REGIONS, TIP, region_box
from radstack.core.files import replacing
from radstack.images.similarity import resized

if TYPE_CHECKING:  # half a second to import, and only pictures need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"A": "#7fd34e", "B": "#ff6b5e", "C": "#5fb4ff"}
"""Of the regions' boxes."""
POINTS = {"fingertip": "#ffd43b", "thumb": "#ff922b", "capitate": "#f06595"}
"""Of the landmarks."""
BACK, INK = "#111111", "#eeeeee"
"""Dark, as on a viewing station: the eye adapts to the bones."""
NAMES = {"A": "whole hand", "B": "carpus", "C": "metacarpals, phalanges"}
FOUND_INCHES = 4.4
"""Longer side of a radiograph with what was found on it."""


def strip(steps: dict[str, np.ndarray], path: Path, points: np.ndarray | None = None, note: str = "") -> None:
    """Draw the steps of one hand side by side into a PNG file, each under its name.

    Args:
        steps: uint8 or bool [height, width] by name. ``registered`` gets the regions' boxes and the places where fingertip
            and capitate belong.
        path: the file.
        points: float [3, 2] in pixels of the step ``landmarks``: fingertip, thumb, capitate.
        note: why the hand was flagged, if it was.
    """
    figure, axes = _panels(len(steps))
    for ax, (name, image) in zip(axes, steps.items(), strict=True):
        _gray(ax, image)
        ax.set_title(name, color=INK, fontsize=9)
        if name == "landmarks" and points is not None:
            _mark(ax, points)
        if name == "registered":
            _boxes(ax, image.shape)
            targets = resized(image.shape[0] / FRAME[0]).apply(np.array([TIP, CAPITATE]))
            ax.plot(*targets.T, "+", color=INK, markersize=8)
    if note:
        figure.suptitle(f"not registered: {note}", color=COLORS["B"], fontsize=11)
    _save(figure, path)


def hand(registered: np.ndarray, ages: dict[str, float], answer: tuple[float, float, float], *, sex: str,
         truth: float | None = None, flags: str = "") -> "Figure":
    """A registered hand with its regions, the age that each shows, and the answer.

    Args:
        registered: uint8 [height, width], the frame at any scale.
        ages: months by region of ``REGIONS``; regions without an age, or with NaN, are drawn without one.
        answer: age, lower and upper end of the prediction interval, months.
        sex: as it is to be written.
        truth: the label in months, None if unknown.
        flags: what is doubtful about the hand, comma-joined, or "".
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.9), facecolor=BACK)
    ax, side = figure.add_axes((0.01, 0.01, 0.74, 0.98)), figure.add_axes((0.765, 0.01, 0.235, 0.98))
    ages = {name: age for name, age in ages.items() if np.isfinite(age)}
    _gray(ax, registered)
    _boxes(ax, registered.shape, ages)
    side.axis("off")
    for row, (text, color, size) in enumerate(_findings(ages, answer, sex, truth, flags)):
        side.text(0, 0.97 - 0.05 * row, text, color=color, fontsize=size, transform=side.transAxes, va="top")
    return figure


def found(raw: np.ndarray, points: np.ndarray, outline: np.ndarray | None = None, note: str = "") -> "Figure":
    """A radiograph with what localization found on it.

    Args:
        raw: uint8 [height, width].
        points: float [3, 2] in its pixels: fingertip, thumb, capitate; NaN is left out.
        outline: float or bool [height, width], whose contour at one half is drawn, None for none.
        note: why the hand was flagged, if it was.
    """
    from matplotlib.figure import Figure

    height, width = raw.shape
    figure = Figure(figsize=(FOUND_INCHES * width / max(raw.shape), FOUND_INCHES * height / max(raw.shape)), facecolor=BACK)
    ax = figure.add_axes((0, 0, 1, 1))
    _gray(ax, raw)
    if outline is not None and outline.min() < 0.5 < outline.max():
        ax.contour(outline, levels=[0.5], colors=COLORS["C"], linewidths=0.9)
    _mark(ax, points)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.text(0.02, 0.99, note, color=COLORS["B"], fontsize=9, transform=ax.transAxes, va="top")
    return figure


def age_words(months: float) -> str:
    """An age as it is read out: ``9 y 4 mo``, rounded to the month."""
    years, rest = divmod(round(months), 12)
    return f"{years} y {rest} mo"


def _findings(ages: dict[str, float], answer: tuple[float, float, float], sex: str, truth: float | None,
              flags: str) -> list[tuple[str, str, int]]:
    """Lines beside the hand: text, color, size of the letters."""
    age, low, high = answer
    lines = [("bone age", INK, 9), (age_words(age), INK, 17), (f"{age:.0f} months", INK, 10),
             (f"interval {low:.0f} to {high:.0f}", INK, 9), (sex, INK, 10), ("", INK, 9)]
    for name in (name for name in REGIONS if name in ages):
        lines += [(NAMES[name], COLORS[name], 9), (f"{age_words(ages[name])}  ({ages[name] - age:+.0f})", COLORS[name], 9)]
    if len(ages) > 1:
        lines += [(f"spread {max(ages.values()) - min(ages.values()):.0f} months", INK, 9)]
    if truth is not None:
        lines += [("", INK, 9), (f"label {age_words(truth)}", INK, 9), (f"error {age - truth:+.0f} months", INK, 9)]
    return lines + [(line, COLORS["B"], 9) for flag in flags.split(",") for line in wrap(flag, 26)]


def _panels(count: int) -> "tuple[Figure, np.ndarray]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * count, 3.1), facecolor=BACK, layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _gray(ax: "Axes", image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=1 if image.dtype == bool else 255)
    ax.axis("off")


def _mark(ax: "Axes", points: np.ndarray) -> None:
    for (name, color), (x, y) in zip(POINTS.items(), points, strict=True):
        ax.plot(x, y, "o", markersize=5, markerfacecolor="none", markeredgecolor=color)
        # A landmark outside the picture keeps its mark off the panel; its name would stretch the layout.
        ax.annotate(name, (x, y), (5, 0), textcoords="offset points", color=color, fontsize=6, annotation_clip=True)


def _boxes(ax: "Axes", shape: tuple[int, ...], ages: dict[str, float] | None = None) -> None:
    """Outline the regions on a frame of ``shape``; with ``ages``, write each region's age into its upper left corner."""
    from matplotlib.patches import Rectangle

    for name in REGIONS:
        top, left, height, width = region_box(name, shape[0] / FRAME[0])
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=COLORS[name], linewidth=1))
        age = "" if ages is None or name not in ages else f"  {age_words(ages[name])}"
        ax.text(left + 0.01 * shape[1], top + 0.01 * shape[0], name + age, color=COLORS[name], fontsize=8, va="top",
                bbox={"facecolor": BACK, "edgecolor": "none", "alpha": 0.6, "pad": 1})


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110, facecolor=BACK)
