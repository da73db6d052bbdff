"""Pictures for people: the steps of a registration side by side, and a hand with the age that each region shows."""

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from competitions.bone_age.frame import CAPITATE, FRAME, REGIONS, TIP, region_box
from radstack.images.similarity import resized
from radstack.report.dark import BACK, INK, dark, outline, save_png, show_gray

if TYPE_CHECKING:  # half a second to import, and only pictures need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"A": "#7fd34e", "B": "#ff6b5e", "C": "#5fb4ff", "D": "#d0a2ff"}
"""Of the regions' boxes."""
POINTS = {"fingertip": "#ffd43b", "thumb": "#ff922b", "capitate": "#f06595"}
"""Of the landmarks."""
NAMES = {"A": "whole hand", "B": "carpus", "C": "metacarpals, phalanges", "D": "fingers"}
WORDS = (0.05, 0.35)
"""Height and width that a region's words take, in those of the picture."""
FOUND_INCHES = 4.4
"""Longer side of a radiograph with what was found on it."""


def strip(steps: dict[str, np.ndarray], path: Path, points: np.ndarray | None = None, note: str = "") -> None:
    """Draw the steps of one hand (uint8 or bool [height, width] by name) side by side into a PNG file.

    ``registered`` gets the regions' boxes and the places where fingertip and capitate belong; ``landmarks`` gets ``points``,
    float [3, 2] in its pixels: fingertip, thumb, capitate. ``note`` says why the hand was flagged.
    """
    figure = dark(2.2 * len(steps), 3.1, layout="constrained")
    for ax, (name, image) in zip(figure.subplots(1, len(steps), squeeze=False)[0], steps.items(), strict=True):
        show_gray(ax, image)
        ax.set_title(name, color=INK, fontsize=9)
        if name == "landmarks" and points is not None:
            _mark(ax, points)
        if name == "registered":
            _boxes(ax, image.shape)
            targets = resized(image.shape[0] / FRAME[0]).apply(np.array([TIP, CAPITATE]))
            ax.plot(*targets.T, "+", color=INK, markersize=8)
    if note:
        figure.suptitle(f"not registered: {note}", color=COLORS["B"], fontsize=11)
    save_png(figure, path)


def hand(registered: np.ndarray, ages: dict[str, float], answer: tuple[float, float, float], *, sex: str,
         truth: float | None = None, flags: str = "") -> "Figure":
    """A registered hand (uint8 [height, width], the frame at any scale) with its regions, the age of each, and the answer.

    ``ages`` are months by region, NaN for none; ``answer`` is age and ends of the prediction interval in months, ``truth``
    the label; ``flags`` are what is doubtful about the hand, comma-joined.
    """
    figure = dark(7.2, 6.9)
    ax, side = figure.add_axes((0.01, 0.01, 0.74, 0.98)), figure.add_axes((0.765, 0.01, 0.235, 0.98))
    ages = {name: age for name, age in ages.items() if np.isfinite(age)}
    show_gray(ax, registered)
    _boxes(ax, registered.shape, ages)
    side.axis("off")
    for row, (text, color, size) in enumerate(_findings(ages, answer, sex, truth, flags)):
        side.text(0, 0.97 - 0.05 * row, text, color=color, fontsize=size, transform=side.transAxes, va="top")
    return figure


def found(raw: np.ndarray, points: np.ndarray, mask: np.ndarray | None = None, note: str = "") -> "Figure":
    """A radiograph (uint8 [height, width]) with what localization found on it.

    ``points`` are fingertip, thumb and capitate, float [3, 2] in its pixels, NaN is left out; of ``mask`` (float or bool
    [height, width]) the contour at one half is drawn; ``note`` says why the hand was flagged.
    """
    height, width = raw.shape
    figure = dark(FOUND_INCHES * width / max(raw.shape), FOUND_INCHES * height / max(raw.shape))
    ax = figure.add_axes((0, 0, 1, 1))
    show_gray(ax, raw)
    if mask is not None and mask.min() < 0.5 < mask.max():
        ax.contour(mask, levels=[0.5], colors=COLORS["C"], linewidths=0.9)
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
             (f"interval {low:.0f} to {high:.0f}" if np.isfinite(high) else "", INK, 9), (sex, INK, 10), ("", INK, 9)]
    for name in (name for name in REGIONS if name in ages):
        lines += [(NAMES[name], COLORS[name], 9), (f"{age_words(ages[name])}  ({ages[name] - age:+.0f})", COLORS[name], 9)]
    if len(ages) > 1:
        lines += [(f"spread {max(ages.values()) - min(ages.values()):.0f} months", INK, 9)]
    if truth is not None:
        lines += [("", INK, 9), (f"label {age_words(truth)}", INK, 9), (f"error {age - truth:+.0f} months", INK, 9)]
    return lines + [(line, COLORS["B"], 9) for flag in flags.split(",") for line in wrap(flag, 26)]


def _mark(ax: "Axes", points: np.ndarray) -> None:
    for (name, color), (x, y) in zip(POINTS.items(), points, strict=True):
        ax.plot(x, y, "o", markersize=5, markerfacecolor="none", markeredgecolor=color)
        # A landmark outside the picture keeps its mark off the panel; its name would stretch the layout.
        ax.annotate(name, (x, y), (5, 0), textcoords="offset points", color=color, fontsize=6, annotation_clip=True)


def _boxes(ax: "Axes", shape: tuple[int, ...], ages: dict[str, float] | None = None) -> None:
    """Outline the regions on a frame of ``shape``; with ``ages``, those that have one, and it in their corner."""
    words: list[tuple[float, float]] = []
    for name in REGIONS if ages is None else ages:
        top, left, height, width = region_box(name, shape[0] / FRAME[0])
        outline(ax, (left, top, left + width, top + height), COLORS[name], linewidth=1)
        age = f"  {age_words(ages[name])}" if ages else ""
        # Within the box's upper edge, or its lower one where another region's words are.
        y, held = top + 0.01 * shape[0], "top"
        if any(abs(left - x) < WORDS[1] * shape[1] and abs(y - taken) < WORDS[0] * shape[0] for x, taken in words):
            y, held = top + height - 0.01 * shape[0], "bottom"
        words.append((left, y))
        ax.text(left + 0.01 * shape[1], y, name + age, color=COLORS[name], fontsize=8, va=held,
                bbox={"facecolor": BACK, "edgecolor": "none", "alpha": 0.6, "pad": 1})
