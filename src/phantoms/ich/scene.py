"""One slice while it is drawn, and what blood is made of."""

from dataclasses import dataclass

import numpy as np

from phantoms.ich.brain import Brain
from phantoms.ich.fields import Patch
from phantoms.ich.grid import Grid
from phantoms.ich.head import Head
from phantoms.ich.skull import Cranium

EPIDURAL, INTRAPARENCHYMAL, INTRAVENTRICULAR, SUBARACHNOID, SUBDURAL = range(5)
NO_CLASS = -1
"""For what no reader should call: chronic collections, air."""


@dataclass(frozen=True)
class Scene:
    """One slice while it is drawn."""

    head: Head
    grid: Grid
    """Head coordinates."""
    moved: Grid
    """The same after mass effect: where the brain that is seen here came from."""
    cranium: Cranium
    brain: Brain
    patch: Patch


@dataclass(frozen=True)
class Clot:
    """What a hemorrhage is made of."""

    density: float
    """HU of the clot."""
    rest: float
    """HU of the part that is not clotted (serum, old blood)."""
    clotted: float
    """Threshold on the grain field below which blood is ``rest``; -9 for a uniform clot."""
    counts: bool = True
    """Whether the unclotted part is acute as well (swirls of fresh blood) or not (acute on chronic)."""

    def fill(self, scene: Scene, hu: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Paint ``share`` into ``hu``, in place; return the acute share."""
        clot = np.clip(scene.patch.grain - self.clotted + 0.5, 0, 1)
        hu += share * (self.rest + clot * (self.density - self.rest) - hu)
        return share if self.counts else share * clot
