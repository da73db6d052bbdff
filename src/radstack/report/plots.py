"""Drawings by matplotlib as SVG whose colors are those of the page, so that light and dark need no second one."""

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # half a second to import, and only the report needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

INK, SOFT, BACK = "#010203", "#010204", "#010205"
"""Text; frame, grid and what is beside the point; the page behind. :func:`svg` puts the page's own colors in their place."""
COLORS = tuple(f"#01021{digit}" for digit in range(8))
"""Of curves, in the order of ``--c1`` ... of ``page.css``; distinct to color-blind eyes (Okabe and Ito 2008)."""
PAGE = {INK: "currentColor", SOFT: "var(--soft)", BACK: "var(--back)",
        **{color: f"var(--c{place})" for place, color in enumerate(COLORS, start=1)}}
LEFT, RIGHT = 0.08, 0.99
"""Where the axes of :func:`along` begin and end, in widths of the drawing; ``--left`` and ``--right`` of ``page.css``."""
LEGEND = {"fontsize": 7.5, "handlelength": 1, "frameon": True, "facecolor": BACK, "edgecolor": "none", "framealpha": 0.7}
"""Of a legend within a small panel: curves shine through."""
NAMES = 6
"""Names in a row of :func:`legend_above`."""
SERIAL = count()
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.size": 9, "text.color": INK, "axes.edgecolor": SOFT, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.grid": True, "grid.color": SOFT, "grid.linewidth": 0.4,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False,
    "legend.fontsize": 8, "axes.titlesize": 10, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "lines.linewidth": 1.5, "path.simplify_threshold": 0.5,
}


def style() -> AbstractContextManager[None]:
    """Matplotlib's settings within the block: those of the page."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**STYLE, "axes.prop_cycle": cycler(color=COLORS)}
    return mpl.rc_context(settings)


def figure(width: float = 5.2, height: float = 3.4, down: int = 1, across: int = 1, **how: Any) -> tuple[Figure, Any]:
    """A figure (inches) in the page's style and its axes, as ``Figure.subplots(down, across, **how)`` gives them."""
    from matplotlib.figure import Figure

    with style():
        made = Figure(figsize=(width, height), layout="constrained")
        return made, made.subplots(down, across, **how)


def panels(parts: Mapping[str, Any], draw: Callable[[Axes, Any], object], x: str = "", y: str = "", across: int = 2,
           width: float = 5.2, height: float = 2.2, **how: Any) -> Figure:
    """One panel a part, ``across`` in a row, each ``height`` inches high: ``draw(ax, part)`` below the part's name.

    ``x`` and ``y`` stand once along all panels; ``how`` goes to :func:`figure`. Places that are left over stay empty.
    """
    across = min(across, len(parts))
    down = -(-len(parts) // across)
    made, grid = figure(width, max(height * down, 2.4), down, across, squeeze=False, **how)
    for ax in grid.flat[len(parts):]:
        ax.set_axis_off()
    for ax, (name, part) in zip(grid.flat, parts.items()):
        draw(ax, part)
        ax.set_title(name, fontsize=9)
    for words, put in ((x, made.supxlabel), (y, made.supylabel)):
        if words:
            put(words, fontsize=9)
    return made


def along(slices: int, height: float = 2.3, width: float = 9.0) -> tuple[Figure, Axes]:
    """A figure whose x axis is the slices 0 ... ``slices`` - 1, placed so that the page's cursor meets them."""
    made, ax = figure(width, height)
    made.set_layout_engine("none")
    ax.set_position((LEFT, 0.2, RIGHT - LEFT, 0.74))
    ax.set(xlim=(-0.5, slices - 0.5))
    return made, ax


def curves(slices: int, values: Mapping[str, np.ndarray], height: float, own: str, more: int = 2,
           dotted: str = "") -> "tuple[Figure, Axes]":
    """Curves along slices by name, on :func:`along`, with room for the rows of :func:`legend_above`.

    The caller adds ``more`` curves, of which ``own`` is the color; the others are dashed once their colors begin again. The
    one called ``dotted`` gets dots.
    """
    rows = -(-(len(values) + more) // NAMES)
    made, ax = along(slices, height=height + 0.18 * rows)
    left, bottom, width, _ = ax.get_position().bounds
    ax.set_position((left, bottom, width, 0.98 - bottom - 0.2 * rows / made.get_figheight()))
    colors = [color for color in COLORS if color != own]
    for number, (name, curve) in enumerate(values.items()):
        ax.plot(curve, color=colors[number % len(colors)], linewidth=1, linestyle="-" if number < len(colors) else "--",
                label=name, markersize=4, marker="o" if name == dotted else "")
    return made, ax


def legend_above(ax: "Axes") -> None:
    """The names of the curves in rows above the axes."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=NAMES, borderaxespad=0.2, columnspacing=1.2, frameon=False,
              fontsize=8, labelcolor=INK)


def svg(made: "Figure", dpi: int = 110) -> str:
    """The figure as an ``<svg>`` element; what was drawn with ``rasterized=True`` is a picture of ``dpi`` in it."""
    import matplotlib as mpl

    # Every drawing gets names of its own: two of one name would share clips, and a hidden one's do not work.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": str(next(SERIAL))}):
        text = io.StringIO()
        made.savefig(text, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()[text.getvalue().index("<svg"):]
    for color, own in PAGE.items():
        drawn = drawn.replace(color, own)
    return drawn
