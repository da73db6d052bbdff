"""``bone_age`` for the tests: the demo's recipes, files and folder names, trained for few epochs on two folds.

Landmarks are learned so briefly that no hand could be registered by them; three points of the hand's mask stand in for them,
so that some hands are registered and the others flagged. How well landmarks are found is held by the demo.
"""

from typing import Any

import numpy as np

from competitions.bone_age import COMPETITION
from competitions.bone_age.demo import COARSE, FINE, MASK, SMALL_SIDE
from competitions.bone_age.demo import DEMO as WHOLE
from competitions.bone_age.localizer import COARSE as FIRST
from competitions.bone_age.localizer import FINE as SECOND
from competitions.bone_age.localizer import chain, to_unit, write_boxes
from radstack.core.recipe import change
from radstack.images import masks
from radstack.images.views import Whole
from radstack.recipes.competition import FoldRecipe

__all__ = ["COMPETITION", "DEMO"]


def by_mask(row: Any, picture: np.ndarray, maps: np.ndarray) -> dict[str, Any]:
    """As the competition's rule, with tip, thumb and capitate at the upper, left and lower edge of the hand's mask."""
    y, x = np.nonzero(masks.clean(maps[0]).mask)
    if len(x):
        top, left, low = y.argmin(), x.argmin(), int(0.8 * y.max() + 0.2 * y.min())
        points = np.array([[x[top], y[top]], [x[left], y[left]], [np.median(x[y == low]), low]], float)
        unit = to_unit(points, len(picture)).ravel().tolist()
        row = row._replace(**dict(zip(FIRST, unit)), **dict(zip(SECOND, unit)))
    return write_boxes(row, picture, maps)


DEMO = change(
    WHOLE,
    localizer=change(chain(SMALL_SIDE, change(MASK, view=Whole((64, 64))), change(COARSE, train__epochs=4),
                           change(FINE, train__epochs=1)), write_boxes=by_mask),
    folds=FoldRecipe(count=2),
    models__experiments=tuple(change(one, train__epochs=2) for one in WHOLE.models.experiments),
)
