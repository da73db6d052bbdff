"""Tables of Pietz and Proeve 2018: four variants of the age network, and how eighteen slices become one age."""

from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Backbone, Experiment
from radstack.recipes.study import Cell, Study

SOURCE = "Pietz and Proeve 2018"
UNIT = "mean absolute error, years"
ARTICLE = {"a slice": 0.64, "a person": 0.48}
"""The article's: a slice of validation (SD .48), a person of test (SD .32)."""
NOTEBOOK = {"a slice": 0.731, "a person": 0.485}
"""The notebook's, both of test; the standard error of its 14 persons is .085."""
RULES = {"mean": "mean of the slices", "weights": "weights by slice", "inner": "outer slices dropped",
         "forest": "random forest", "extra_trees": "extra trees", "attention": "attention (later)"}


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
    return (*made, *([] if competition.phantoms else [imagenet(ours)]))


def imagenet(ours: Experiment) -> Study:
    """VGG16 from ImageNet weights, which the thesis tried first, beside the encoder of the bone network."""
    vgg = change(ours, name="vgg16_imagenet", backbone=Backbone("torchvision/vgg16"), train__batch_size=32,
                 optim__lr=1e-4, note="VGG16 from ImageNet on the masked slice; the source says that it does not learn")
    cells = (Cell("encoder of the bone network", "years", (ours.name,)), Cell("VGG16, ImageNet", "years", (vgg.name,)))
    return Study("imagenet", "VGG16 from ImageNet", SOURCE, (vgg,), cells, unit=UNIT, note="Of single slices.")
