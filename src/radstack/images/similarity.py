"""Similarity transforms of the plane (scale, rotation, shift, reflection), and pictures moved by them.

Points are (x, y) in pixels, y down; pixel centers lie at integers, the edges of the first pixel at -0.5 and 0.5.
"""

from dataclasses import dataclass

import cv2
import numpy as np

OVERSAMPLE = 2
"""Shrunk pictures are drawn this much finer and averaged: bilinear interpolation alone skips pixels."""


@dataclass(frozen=True)
class Similarity:
    """``target = matrix[:, :2] @ source + matrix[:, 2]``."""

    matrix: np.ndarray  # Float64 [2, 3]

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move points [n, 2]."""
        return np.asarray(points, float) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> "Similarity":
        """The way back."""
        return Similarity(cv2.invertAffineTransform(self.matrix))

    def after(self, first: "Similarity") -> "Similarity":
        """``first``, then this one."""
        linear = self.matrix[:, :2]
        return Similarity(np.column_stack([linear @ first.matrix[:, :2], linear @ first.matrix[:, 2] + self.matrix[:, 2]]))

    @property
    def scale(self) -> float:
        """Target pixels in a source pixel."""
        return float(np.hypot(*self.matrix[:, 0]))


def from_points(source: np.ndarray, target: np.ndarray, reflect: bool) -> Similarity:
    """The similarity that brings ``source`` nearest to ``target``, both [n, 2], in the sense of least squares.

    With the points as complex numbers it is ``target = a source + b``, for a reflection of the conjugate of the source:
    the two-dimensional case of Umeyama (1991) with the sign of the determinant given. ValueError where the source points
    coincide.
    """
    z, w = (np.asarray(points, float) @ (1, 1j) for points in (source, target))
    z = z.conj() if reflect else z
    spread = np.vdot(z - z.mean(), z - z.mean()).real
    if not spread > 0:
        raise ValueError("points that coincide have no direction")
    a = np.vdot(z - z.mean(), w - w.mean()) / spread
    b = w.mean() - a * z.mean()
    sign = -1 if reflect else 1
    return Similarity(np.array([[a.real, -sign * a.imag, b.real], [a.imag, sign * a.real, b.imag]]))


def resized(scale: float) -> Similarity:
    """From a picture to its copy at ``scale``: the edges coincide, not the centers of the first pixels."""
    shift = (scale - 1) / 2
    return Similarity(np.array([[scale, 0.0, shift], [0.0, scale, shift]]))


def warp(image: np.ndarray, transform: Similarity, size: tuple[int, int], fill: int = 0) -> np.ndarray:
    """Move a picture [height, width] into one of ``size`` (height, width), of the same type; ``fill`` outside.

    Where the transform shrinks, every source pixel counts by its area.
    """
    if transform.scale >= 1:
        return _interpolated(image, transform, size, fill)
    fine = resized(OVERSAMPLE).after(transform)
    if fine.scale < 1:
        # Without a size OpenCV keeps to the scale exactly and rounds the size alone.
        image = cv2.resize(image, None, fx=fine.scale, fy=fine.scale, interpolation=cv2.INTER_AREA)
        fine = fine.after(resized(fine.scale).inverse())
    drawn = _interpolated(image, fine, (OVERSAMPLE * size[0], OVERSAMPLE * size[1]), fill)
    return cv2.resize(drawn, size[::-1], interpolation=cv2.INTER_AREA)


def _interpolated(image: np.ndarray, transform: Similarity, size: tuple[int, int], fill: int) -> np.ndarray:
    return cv2.warpAffine(image, transform.matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
                          borderValue=fill)
