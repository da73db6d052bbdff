"""Pixels as data URIs: what the page shows, it holds."""

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np

from radstack.report.plots import Figure

QUALITY = 82
"""Of WebP: bleeds of a few gray levels still show."""


def data_uri(picture: np.ndarray, quality: int = QUALITY) -> str:
    """``picture`` (uint8 [height, width], or RGB [height, width, 3]) as a WebP data URI."""
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(made, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(made.getvalue()).decode()


def sheet(frames: Sequence[np.ndarray], across: int = 8) -> np.ndarray:
    """Frames of one shape (uint8 [height, width] or RGB) side by side, ``across`` in a row, black after the last."""
    height, width, *colors = frames[0].shape
    down = -(-len(frames) // across)
    made = np.zeros((down * height, across * width, *colors), np.uint8)
    for place, frame in enumerate(frames):
        top, left = place // across * height, place % across * width
        made[top:top + height, left:left + width] = frame
    return made


def fitted(picture: np.ndarray, longest: int) -> np.ndarray:
    """``picture`` (uint8) shrunk, areas averaged, until its longer side has at most ``longest`` pixels."""
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def drawn(figure: Figure, dpi: int = 110) -> np.ndarray:
    """A matplotlib figure as RGB uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def overlaid(gray: np.ndarray, heat: np.ndarray, most: float = 0.6) -> np.ndarray:
    """``heat`` (float [height, width], 0 to 1) in color over ``gray`` (uint8, same shape): RGB, at most ``most`` opaque."""
    from matplotlib import colormaps

    color = colormaps["inferno"](heat)[..., :3] * 255
    opaque = (most * heat)[..., None]
    return ((1 - opaque) * gray[..., None] + opaque * color).round().astype(np.uint8)
