"""Pictures for people: the ages that a volume's slices show, and its slices with the bones that were found."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from competitions.knee_age.localizer import LEVELS, MASKS, ZERO, binary
from radstack.files import replacing

if TYPE_CHECKING:  # half a second to import, and only pictures need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"bone": "#eeeeee", "femur": "#ff922b", "tibia": "#5fb4ff", "fibula": "#7fd34e"}
BACK, INK = "#111111", "#eeeeee"
"""Dark, as on a viewing station."""
ACROSS = 6
"""Slices in a row of the overview."""
WINDOW = (ZERO - 2.5 * LEVELS, ZERO + 3 * LEVELS)
"""Gray levels shown as black and white: 2.5 standard deviations below the volume's mean to 3 above."""


def slice_ages(position: np.ndarray, ages: np.ndarray, combined: float, truth: float | None, path: Path, *,
               title: str) -> None:
    """Draw one age a slice, the volume's combined age and its label as lines, into a PNG file.

    Args:
        position: slice numbers from the front, [slices].
        ages: years, [slices].
        combined: years.
        truth: years, None if unknown.
        path: the file.
        title: what is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), facecolor=BACK, layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor(BACK)
    ax.plot(position, ages, "o-", color=COLORS["tibia"], label="one slice")
    ax.axhline(ages.mean(), color=INK, linewidth=0.8, linestyle=":", label=f"their mean {ages.mean():.2f}")
    ax.axhline(combined, color=COLORS["femur"], label=f"combined {combined:.2f}")
    if truth is not None:
        ax.axhline(truth, color=COLORS["fibula"], linestyle="--", label=f"true {truth:.2f} (error {combined - truth:+.2f})")
    ax.set_xlabel("slice, from the front", color=INK)
    ax.set_ylabel("age, years", color=INK)
    ax.set_title(title, color=INK, fontsize=10)
    ax.tick_params(colors=INK)
    ax.legend(facecolor=BACK, labelcolor=INK, fontsize=8)
    _save(figure, path)


def volume_with_bones(pictures: list[np.ndarray], maps: list[np.ndarray], path: Path, *, title: str) -> None:
    """Draw slices (uint8 [side, side]) with the outlines of femur, tibia and fibula (maps uint8 [masks, side, side])."""
    from matplotlib.figure import Figure

    down = -(-len(pictures) // ACROSS)
    figure = Figure(figsize=(1.7 * ACROSS, 1.75 * down + 0.4), facecolor=BACK, layout="constrained")
    axes = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, picture, own in zip(axes, pictures, maps):
        _outlined(ax, picture, own)
    figure.suptitle(title, color=INK, fontsize=10)
    _save(figure, path)


def slice_with_bones(picture: np.ndarray, maps: np.ndarray, path: Path, *, note: str) -> None:
    """Draw one slice plain, with the soft mask of all bones, and with the outline of each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.3), facecolor=BACK, layout="constrained")
    plain, soft, outlined = figure.subplots(1, 3)
    plain.imshow(picture, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1])
    soft.imshow(maps[0], cmap="gray", vmin=0, vmax=255)
    _outlined(outlined, picture, maps)
    for ax, name in ((plain, "picture"), (soft, "probability of bone"), (outlined, ", ".join(MASKS[1:]))):
        ax.axis("off")
        ax.set_title(name, color=INK, fontsize=9)
    figure.suptitle(note, color=INK, fontsize=10)
    _save(figure, path)


def _outlined(ax: "Axes", picture: np.ndarray, maps: np.ndarray) -> None:
    ax.imshow(picture, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1])
    for name, mask in zip(MASKS[1:], binary(maps)[1:]):
        if mask.any() and not mask.all():
            ax.contour(mask, levels=[0.5], colors=COLORS[name], linewidths=0.9)


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110, facecolor=BACK)
