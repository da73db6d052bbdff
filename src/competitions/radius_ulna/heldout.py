"""The protocol of the HKU-Shenzhen study: pictures balanced over the phases are held out and scored, all others train.

``bash run_all.sh radius_ulna --recipes heldout``, then ``study.py radius_ulna --recipes heldout``. It held out 25
pictures of each phase of the radius and 50 of the ulna; here they are of children of whom no picture trains.
"""

from competitions.radius_ulna import COMPETITION
from competitions.radius_ulna.phases import BONES, PHASE_COLUMNS
from radstack.core.folds import HoldOut
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe

EACH = {"radius": 25, "ulna": 50}
"""Pictures of a phase."""
QUOTAS = tuple((name, EACH[bone]) for bone in BONES for name in PHASE_COLUMNS if name.startswith(bone))

HELDOUT = change(
    COMPETITION,
    name="radius_ulna-heldout",
    source="radius_ulna",
    title="Maturity phase of the distal radius and ulna, balanced pictures held out",
    folds=FoldRecipe(count=2, dealer=HoldOut(quotas=QUOTAS)),
    models__experiments=tuple(change(one, folds=(0,)) for one in COMPETITION.models.experiments),
    models__on_call=tuple(change(one, folds=(0,)) for one in COMPETITION.models.on_call),
    models__stackers=COMPETITION.models.stackers[:1],
    models__final="mean",
)
