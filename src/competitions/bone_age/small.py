"""Small recipes for real hands: an ImageNet start from PyPI and pictures that two cores train on within 100 minutes.

``bash run_all.sh bone_age --recipes small``, for about a thousand hands, a hundred of them annotated; without
annotations the network of the whole film runs alone. The whole data set wants ``experiments.py``.
"""

from competitions.bone_age import COMPETITION
from competitions.bone_age.experiments import LITE0
from competitions.bone_age.frame import frame_size, region_box
from competitions.bone_age.localizer import HAND_LANDMARKS, HAND_LANDMARKS_FINE, HAND_MASK, chain, unannotated
from competitions.bone_age.views import GRAY
from radstack.core.recipe import change
from radstack.images.views import Box, Whole
from radstack.recipes.competition import FoldRecipe
from radstack.recipes.experiment import LITE0_FIRST, Op, Optim, Sampling, Train
from radstack.recipes.losses import Regression
from radstack.recipes.stacker import Stacker

SIDE = 384
"""Of the pictures in which stage 02 looks for the hand, in pixels: the film is seen at 300 x 225."""
ZOOM = 0.375
"""Of the frame in the cache: the films have half their resolution, and a carpus 280 pixels wide is sharp then."""
SIZES = {"A": (300, 225), "B": (224, 224), "C": (168, 392), "D": (200, 325)}
"""Height and width of the regions that the networks see, in pixels."""

MASK = change(
    HAND_MASK,
    view=Whole((128, 128)),
    backbone__args={"widths": (8, 16, 24, 32, 48)},
    augment=(
        Op("HorizontalFlip", {"p": 0.5}),
        Op("Affine", {"translate_percent": (-0.1, 0.1), "scale": (0.8, 1.2), "rotate": (-30, 30), "mask_interpolation": 1,
                      "p": 1.0}),
        Op("RandomGamma", {"gamma_limit": (60, 160), "p": 0.5}),
        Op("RandomBrightnessContrast", {"brightness_limit": 0.2, "contrast_limit": 0.3, "p": 0.5}),
    ),
    optim=Optim("adam", lr=3e-3),
    train=Train(epochs=80, batch_size=4, precision="fp32"),
)
COARSE = change(HAND_LANDMARKS, view=Whole((96, 96)), optim=Optim("adam", lr=2e-3),
                backbone__args={"size": (96, 96), "second": 3, "widths": (8, 16, 32, 48, 64), "dense": (128, 128),
                                "dropout": 0.0},
                train=Train(epochs=120, batch_size=8, precision="fp32"))
NUDGE = Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.9, 1.1), "rotate": (-10, 10), "p": 1.0})
"""As far as the first landmark network is off on real hands."""
FINE = change(HAND_LANDMARKS_FINE, view=Whole((192, 192)), augment=(NUDGE,), optim=Optim("adam", lr=1e-2),
              backbone__args={"widths": (8, 16, 24, 32, 48)}, train=Train(epochs=40, batch_size=4, precision="fp32"))

TONES = (
    Op("RandomGamma", {"gamma_limit": (60, 160), "p": 0.7}),
    Op("RandomBrightnessContrast", {"brightness_limit": 0.2, "contrast_limit": 0.3, "p": 0.5}),
    Op("CoarseDropout", {"num_holes_range": (1, 4), "hole_height_range": (0.08, 0.2), "hole_width_range": (0.08, 0.2),
                         "p": 0.4}),
)
PLAIN = change(
    LITE0,
    name="plain",
    backbone__frozen=LITE0_FIRST,
    backbone__dropout=0.3,
    augment=(Op("HorizontalFlip", {"p": 0.5}),
             Op("Affine", {"translate_percent": (-0.2, 0.2), "scale": (0.8, 1.2), "rotate": (-20, 20), "p": 1.0}), *TONES),
    # Not the softmax over months: in so few steps it does not learn to shift its answer by sex.
    loss=Regression(line=True),
    train=Train(epochs=16, batch_size=16, precision="fp32"),
)
ON_A = change(
    PLAIN,
    name="A",
    view=Box(region_box("A", ZOOM), SIZES["A"], (GRAY,) * 3, (GRAY,) * 3),
    # No flips: the thumb is on one side.
    augment=(Op("Affine", {"translate_percent": (-0.08, 0.08), "scale": (0.85, 1.15), "rotate": (-15, 15),
                           "shear": (-5, 5), "p": 1.0}), *TONES),
    head__columns=("male", "hand_length"),
    # A region cut from a hand that is not registered shows another part of it.
    sampling=Sampling(keep="registered == 1"),
    tta=("plain", "turn5", "turn-5"),
    note="a region of the registered hand",
)
REGIONS = tuple(change(ON_A, name=region, view__box=region_box(region, ZOOM), view__size=size)
                for region, size in SIZES.items())

STACKERS = (
    Stacker("together", "mean", tuple(one.name for one in REGIONS),
            note="on 733 real hands out of fold 7.94 months, without the fingers 8.19 (2026-11-30)"),
    Stacker("corrected", "correct_bias", ("together",), {"column": "registered"},
            note="on the same networks these 7.94 months become 7.78"),
    Stacker("final", "route", ("corrected", PLAIN.name), {"column": "registered", "values": (1, 0)},
            note="a hand that is not registered is answered by the network of the whole film"),
)

SMALL = change(
    COMPETITION,
    name="bone_age-small",
    source="bone_age",
    title="RSNA 2017 pediatric bone age, small recipes",
    folds=FoldRecipe(count=3),
    localizer=chain(SIDE, MASK, COARSE, FINE, even=True),
    cache__size=frame_size(ZOOM),
    plain=unannotated(SIDE, PLAIN, even=True),
    models__experiments=(PLAIN, *REGIONS),
    models__stackers=STACKERS,
)
