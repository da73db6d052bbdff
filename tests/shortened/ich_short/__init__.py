"""``ich`` for the tests: the demo's recipes, files and folder names, each network trained for one epoch on two folds."""

from functools import partial

from competitions.ich import COMPETITION
from competitions.ich.demo import DEMO as WHOLE
from phantoms import draw_demo
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe

__all__ = ["COMPETITION", "DEMO"]

DEMO = change(
    WHOLE,
    phantoms__draw=partial(draw_demo, "ich", size=96),
    folds=FoldRecipe(count=2),
    models__experiments=tuple(change(one, train__epochs=1) for one in WHOLE.models.experiments),
    models__sequences=tuple(change(one, epochs=1, bag=1) for one in WHOLE.models.sequences),
)
