"""The protocol of Iglovikov et al. 2018: 1,000 hands are held out and scored, all others train; no cross-validation.

``bash run_all.sh bone_age --recipes heldout``, then ``study.py bone_age results --recipes heldout``. No hand is
left to fit weights on, so that networks count equally.
"""

from competitions.bone_age import COMPETITION, localizer
from competitions.bone_age.experiments import LITE0
from radstack.core.folds import HoldOut
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe
from radstack.recipes.stacker import Stacker

HELD = 1000
"""Hands."""

HELDOUT = change(
    COMPETITION,
    name="bone_age-heldout",
    source="bone_age",
    title="RSNA 2017 pediatric bone age, 1,000 hands held out",
    folds=FoldRecipe(count=2, dealer=HoldOut(HELD)),
    plain=localizer.unannotated(512, change(LITE0, folds=(0,))),
    models__experiments=tuple(change(one, folds=(0,)) for one in COMPETITION.models.experiments),
    models__on_call=tuple(change(one, folds=(0,)) for one in COMPETITION.models.on_call),
    models__stackers=tuple(Stacker(one.name, "mean", one.members, note="equal weights") if one.method == "linear" else one
                           for one in COMPETITION.models.stackers),
)
