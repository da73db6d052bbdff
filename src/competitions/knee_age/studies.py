"""Tables of Pietz and Proeve 2018, four variants of the age network and how eighteen slices become one age, and of the
thesis (Pietz 2018): which network finds the bones.
"""

from typing import Any

import numpy as np
import pandas as pd

from competitions.knee_age.localizer import THRESHOLD
from competitions.knee_age.report import ARTICLE_MASKS
from competitions.knee_age.volume import DEPTH, thinned
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Backbone, Experiment
from radstack.recipes.study import Cell, MaskNetworks, Study

SOURCE = "Pietz and Proeve 2018"
UNIT = "mean absolute error, years"
ARTICLE = {"a slice": 0.64, "a person": 0.48}
"""The article's: a slice of validation (SD .48), a person of test (SD .32)."""
NOTEBOOK = {"a slice": 0.731, "a person": 0.485}
"""The notebook's, both of test; the standard error of its 14 persons is .085."""
RULES = {"mean": "mean of the slices", "weights": "weights by slice", "inner": "outer slices dropped",
         "forest": "random forest", "extra_trees": "extra trees", "attention": "attention (later)"}
THESIS = "Pietz 2018 (thesis)"
MODELS = {"A": (32, 1.0), "B": (16, 1.5), "C": (48, 1.0), "D": (8, 2.0), "E": (32, 1.5)}
"""The thesis's networks: channels at full size, and how they grow with each halving. A is the one of stage 02."""
UNET = 64
"""Channels of the U-Net at full size; they double with each halving, 31 M parameters in all."""
VOLUMES = (16, 32, 64, 128)
"""Channels of the network of volumes at full size and after each halving."""


def studies(competition: Competition) -> tuple[Study, ...]:
    """All of them, of the competition's own networks."""
    ours: Experiment = competition.recipe("masked_pretrained")
    grid = tuple(Cell(row, column, (f"{row}_{column}",)) for row in ("raw", "masked")
                 for column in ("scratch", "pretrained"))
    ages = tuple(Cell(f"{what}, {whose}", "years", (model,), known[what])
                 for what, model in (("a slice", "masked_pretrained"), ("a person", "extra_trees"))
                 for whose, known in (("article", ARTICLE), ("notebook", NOTEBOOK)))
    rules = tuple(Cell(words, "years", (name,)) for name, words in RULES.items())
    made = [Study("variants", "Four variants: raw or masked, from scratch or pretrained", SOURCE, cells=grid, unit=UNIT,
                  note="Of single slices. The source says that all but masked and pretrained fail."),
            Study("ages", "The article's numbers and its notebook's", SOURCE, cells=ages, unit=UNIT,
                  note="The article names a slice of validation and a person of test, the notebook test alone."),
            Study("rules", "One age of eighteen slices", SOURCE, cells=rules, unit=UNIT,
                  note="Each is fitted on the other folds.")]
    bones, small = competition.localizer.networks[0], competition.phantoms is not None
    assert isinstance(bones, Experiment)
    made += [networks(bones, small), volumes(bones, small)]
    return (*made, *([] if competition.phantoms else [imagenet(ours)]))


def imagenet(ours: Experiment) -> Study:
    """VGG16 from ImageNet weights, which the thesis tried first, beside the encoder of the bone network."""
    vgg = change(ours, name="vgg16_imagenet", backbone=Backbone("torchvision/vgg16"), train__batch_size=32,
                 optim__lr=1e-4, note="VGG16 from ImageNet on the masked slice; the source says that it does not learn")
    cells = (Cell("encoder of the bone network", "years", (ours.name,)), Cell("VGG16, ImageNet", "years", (vgg.name,)))
    return Study("imagenet", "VGG16 from ImageNet", SOURCE, (vgg,), cells, unit=UNIT, note="Of single slices.")


def slices(rows: pd.DataFrame) -> np.ndarray:
    """Row numbers of the slices that a network of volumes sees of each volume, int [volumes, 24]."""
    numbers = [own.sort_values("position").index.to_numpy() for _, own in rows.groupby("series", sort=False)]
    return np.stack([own[thinned(len(own))] for own in numbers])


def networks(base: Experiment, phantoms: bool) -> Study:
    """Models A to E and a U-Net, for all bones as one."""
    args = base.backbone.args
    share, depth = args.get("width", 32) / MODELS["A"][0], args.get("depth", 4)
    own = [base if name == "A" else change(base, name=f"{base.name}_{name}", note=f"model {name} of the thesis",
                                           backbone__args={**args, "width": round(width * share), "growth": growth})
           for name, (width, growth) in MODELS.items()]
    widths = tuple(round(UNET * share) * 2**level for level in range(depth + 1))
    own.append(change(base, name=f"{base.name}_unet", backbone=change(base.backbone, name="radstack/unet",
                                                                      args={"widths": widths}),
                      note="U-Net with batch norm, as many levels as model A"))
    titles = [f"{name}: {round(width * share)} channels, x {growth:g}" for name, (width, growth) in MODELS.items()]
    return compared("networks", "Networks that find the bones: models A to E, U-Net", base,
                    dict(zip([*titles, f"U-Net: {widths[0]} channels, x 2"], own)), phantoms)


def volumes(base: Experiment, phantoms: bool) -> Study:
    """Slice by slice against whole volumes."""
    share, side = base.backbone.args.get("width", 32) / MODELS["A"][0], base.view.size[1]
    deep = change(base, name=f"{base.name}_3d", view=Whole((DEPTH * side, side), base.view.mean, base.view.std),
                  backbone=change(base.backbone, name="radstack/unet_volume",
                                  args={"slices": DEPTH, "widths": tuple(round(width * share) for width in VOLUMES)}),
                  optim=change(base.optim, clip_norm=1.0), train__batch_size=2, train__channels_last=False,
                  note="a 3-D U-Net on 24 slices at once, every second one of 41 (Pietz 2018)")
    return compared("volumes", "Bones slice by slice (2-D) and in whole volumes (3-D)", base,
                    {"2-D, model A": base, "3-D U-Net": deep}, phantoms, joined=(deep.name,))


def compared(name: str, title: str, base: Experiment, own: dict[str, Experiment], phantoms: bool,
             joined: tuple[str, ...] = ()) -> Study:
    """A study of networks of all bones, by row; the thesis's number is that of model A."""
    known: dict[str, Any] = dict(zip(("dice", "jaccard"), ARTICLE_MASKS["bone"]))
    cells = tuple(Cell(row, measure.capitalize(), (one.name,), known[measure] if one == base else float("nan"),
                       measure=measure) for row, one in own.items() for measure in known)
    note = ("A case is a volume: 24 of its slices, every second one of 41, all pixels together. The thesis scored 10 test "
            "volumes, and draws the others' numbers without naming them.")
    if phantoms:
        note += " Phantoms: three eighths of the channels, small slices, few epochs."
    masks = MaskNetworks(base.name, tuple(own.values()), THRESHOLD, slices, joined)
    return Study(name, title, THESIS, cells=cells, masks=masks, unit="overlap of the bones' mask", note=note)
