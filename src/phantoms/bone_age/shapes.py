"""Thickness of bone along the ray, weighed by density, for single bones in their own coordinates.

A bone is a shell of compact bone around spongy bone; both are as deep as they are wide. Lengths are mm; ``u`` runs from the
epiphysis along the shaft, ``v`` across it. Results are mm of compact bone.
"""

import numpy as np

SPONGY = 0.45
"""Attenuation of the medulla as a share of that of the cortex."""
END = 0.45
"""Cortex at the ends of bones, where it is a thin plate, in mm."""


def shell(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Squares of the outer and the inner half-depth (negative outside) -> mm of compact bone along the ray."""
    depth = np.sqrt(np.maximum(outer, 0))
    return 2 * (depth - (1 - SPONGY) * np.minimum(np.sqrt(np.maximum(inner, 0)), depth))


def rounded(depth: np.ndarray, radius: float) -> np.ndarray:
    """Share of the full width at ``depth`` behind an end that is rounded over ``radius``; 0 outside."""
    back = 1 - np.clip(depth / radius, 0, 1)
    return np.sqrt(1 - back * back)


def shaft(u: np.ndarray, v: np.ndarray, ends: tuple[float, float], half: np.ndarray, cortex: np.ndarray,
          rounding: tuple[float, float]) -> np.ndarray:
    """A tube of half-width ``half`` and thickness ``cortex`` along ``u``, between ``ends`` rounded over ``rounding``."""
    across = v * v
    outer = half * rounded(u - ends[0], rounding[0]) * rounded(ends[1] - u, rounding[1])
    inner = (half - cortex) * rounded(u - ends[0] - END, rounding[0]) * rounded(ends[1] - END - u, rounding[1])
    return shell(outer * outer - across, inner * np.abs(inner) - across)


def disc(u: np.ndarray, v: np.ndarray, thick: float, half: float, depth: float, flat: float) -> np.ndarray:
    """An epiphysis around the origin: ``thick`` and ``half`` are half-axes; ``flat`` 2 is an ellipse, 4 a rounded box."""
    def square(less: float) -> np.ndarray:
        edge = np.abs(v / max(half - less, 0.05)) ** flat + np.abs(u / max(thick - less, 0.05)) ** flat
        return (depth - less) ** 2 * (1 - edge)

    return shell(square(0.0), square(END))


def blob(x: np.ndarray, y: np.ndarray, radii: tuple[float, float], humps: tuple[float, float]) -> np.ndarray:
    """A carpal bone: an ellipse around the origin; ``humps``, shares of the radius, are its third and fourth harmonics."""
    a, b = x / radii[0], y / radii[1]
    away = np.hypot(a, b) + 1e-6
    cosine = b / away
    edge = 1 + humps[0] * (4 * cosine**3 - 3 * cosine) + humps[1] * (8 * cosine**4 - 8 * cosine**2 + 1)
    ratio = (away / edge) ** 2
    small = min(radii)
    within = 1 - min(0.8 / small, 0.5)
    return shell(small**2 * (1 - ratio**1.5), (small * within) ** 2 * (1 - (ratio / within**2) ** 1.5))
