"""Pictures for people on a dark ground, as on a viewing station: the eye adapts to the bones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from radstack.core.files import replacing

if TYPE_CHECKING:  # half a second to import, and only pictures need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACK, INK, WARNING = "#111111", "#eeeeee", "#ff6b5e"


def dark(width: float, height: float, **how: Any) -> "Figure":
    """An empty figure, in inches; ``how`` goes to matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=BACK, **how)


def show_gray(ax: "Axes", image: np.ndarray, low: float = 0, high: float = 255) -> None:
    """Show [height, width] in gray without axes; of bool, True is white."""
    ax.imshow(image, cmap="gray", vmin=low, vmax=1 if image.dtype == bool else high)
    ax.axis("off")


def outline(ax: "Axes", corners: Any, color: str, **how: Any) -> None:
    """Outline a box x1, y1, x2, y2, given by edges, which are half a pixel off matplotlib's centers."""
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = np.asarray(corners, float) - 0.5
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, **how))


def save_png(figure: "Figure", path: Path, dpi: float = 110) -> None:
    """Write a PNG file."""
    with replacing(path) as part:
        # A third of the time of the usual level, 6, for a file a tenth larger.
        figure.savefig(part, format="png", dpi=dpi, facecolor=BACK, pil_kwargs={"compress_level": 3})
