"""``bone_age`` for the tests: the demo's recipes, files and folder names, trained for few epochs on two folds.

The network that finds the hand sees it small and has all its epochs: with fewer it finds none, and one
flag says so of all pictures.
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
