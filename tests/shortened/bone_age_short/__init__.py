"""``bone_age`` for the tests: the demo's recipes, files and folder names, trained for few epochs on two folds.

Landmarks are learned so briefly that all hands are flagged: how well they are found is held by the demo.
"""

from competitions.bone_age import COMPETITION
from competitions.bone_age.demo import COARSE, FINE, MASK, SMALL_SIDE
from competitions.bone_age.demo import DEMO as WHOLE
from competitions.bone_age.localizer import chain
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.recipes.competition import FoldRecipe

__all__ = ["COMPETITION", "DEMO"]

DEMO = change(
    WHOLE,
    localizer=chain(SMALL_SIDE, change(MASK, view=Whole((64, 64))), change(COARSE, train__epochs=4),
                    change(FINE, train__epochs=1)),
    folds=FoldRecipe(count=2),
    models__experiments=tuple(change(one, train__epochs=2) for one in WHOLE.models.experiments),
)
