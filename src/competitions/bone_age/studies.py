"""The results table of Iglovikov et al. 2018: regions by head and sex, and a network of the whole film beside them; and
their network of masks with and without its parts.
"""

from typing import Any

from competitions.bone_age.experiments import HEADS, REGIONS, SEXES, article, stackers
from competitions.bone_age.views import GRAY
from radstack.core.recipe import change
from radstack.images.views import Film
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.localizer import Chain
from radstack.recipes.losses import Dice, Jaccard
from radstack.recipes.stacker import Stacker
from radstack.recipes.study import OVERLAPS, Cell, MaskNetworks, Study

SOURCE = "Iglovikov et al. 2018, results"
TOGETHER = "A + B + C, linear"
KNOWN = {
    ("A", "regression", "both"): 8.08, ("C", "regression", "both"): 8.42, (TOGETHER, "regression", "both"): 7.52,
    ("A", "regression", "female"): 7.12, ("C", "regression", "female"): 6.79, (TOGETHER, "regression", "male"): 6.30,
    (TOGETHER, "regression", "female"): 6.49, (TOGETHER, "expectation", "male"): 6.16,
    (TOGETHER, "expectation", "female"): 6.39, (TOGETHER, "all", "all"): 6.10,
}
"""Months by region, head and sex, as the text names them; the table itself is a picture that is lost."""
UNIT = "mean absolute error, months"
NOTE = ("The source held 1,000 hands out, each read once; --recipes heldout does so, too. A column of one sex is of "
        "children of that sex alone, by networks that learned from them alone.")


def studies(competition: Competition) -> tuple[Study, ...]:
    """The results table, of the regions and heads that the competition's recipes have; registration against none; networks
    of masks, where hands are annotated.
    """
    own = (*own_networks(competition), *own_ensembles(competition))
    known = {one.name: one for one in (*competition.recipes, *own)}
    localizer, made = competition.localizer, []
    if "A_regression" in known:
        made += [Study("results", "Results: regions, heads, sexes", SOURCE, own, cells(set(known)), unit=UNIT, note=NOTE),
                 registration(known["A_regression"])]
    if isinstance(localizer, Chain) and localizer.steps:
        made.append(masks(localizer.steps[0].experiment, competition.models.experiments[0].folds))
    return tuple(made)


def own_networks(competition: Competition) -> tuple[Experiment, ...]:
    """The source's networks made of a competition's own of three regions, which see the sex or the size of the hand beside
    the picture, as the source's do not; none where the competition has the source's.

    There are eighteen, so that each meets half as many pictures, in batches of half the size: as many steps.
    """
    known = {one.name: one for one in competition.models.experiments}
    if not set(REGIONS) <= set(known):
        return ()
    return article({name: halved(change(known[name], head__columns=(), note="")) for name in REGIONS})


def halved(base: Experiment) -> Experiment:
    """``base`` with half its epochs and half its batch, and the rate that fits such a batch (the square-root rule of
    Malladi et al. 2022, arXiv 2205.10287).
    """
    return change(base, train__epochs=max(base.train.epochs // 2, 1), train__batch_size=max(base.train.batch_size // 2, 1),
                  optim__lr=round(base.optim.lr / 2 ** 0.5, 6))


def own_ensembles(competition: Competition) -> tuple[Stacker, ...]:
    """What the source's tables make of :func:`own_networks`."""
    if not own_networks(competition):
        return ()
    return tuple(one for one in stackers(tuple(HEADS), ()) if one.name not in ("mean", "final"))


def cells(names: set[str]) -> tuple[Cell, ...]:
    """The source's rows and columns, as far as models of these ``names`` fill them."""
    made = []
    for head in HEADS:
        for sex, keep in SEXES.items():
            own = {region: f"{region}_{head}" + ("" if sex == "both" else f"_{sex}") for region in REGIONS}
            joint = ("agnostic" if head == "regression" else f"agnostic_{head}") if sex == "both" else f"{head}_own"
            made += [Cell(row, f"{head}, {sex}", (model,), KNOWN.get((row, head, sex), float("nan")), part=keep)
                     for row, model in (*own.items(), (TOGETHER, joint))]
    made.append(Cell(TOGETHER, "all twelve", ("specific",), KNOWN[TOGETHER, "all", "all"]))
    return tuple(cell for cell in made if cell.models[0] in names)


def registration(base: Experiment) -> Study:
    """A network of the registered hand against the same one on the whole film, which nobody masked or registered."""
    size, channels = base.view.size, len(base.view.mean)
    plain = change(base, name="film_regression", view=Film(size, (GRAY,) * channels, (GRAY,) * channels),
                   sampling__keep="", note="the plain network that the source speaks of: no mask, no registration")
    rows = (Cell("registered hand, region A", "both sexes", (base.name,), KNOWN["A", "regression", "both"]),
            Cell("whole film", "both sexes", (plain.name,)))
    return Study("registration", "Registration: the same network with and without it", SOURCE, (base, plain), rows,
                 unit=UNIT, note="The source says that it failed without, and names no number.")


def masks(base: Experiment, folds: tuple[int, ...]) -> Study:
    """The U-Net that finds the hand, without its batch norm and by other losses, on ``folds`` (all where there are none)."""
    def other(end: str, **edits: Any) -> Experiment:
        return change(base, name=f"{base.name}_{end}", note="", **edits)

    rows = {
        "U-Net, batch norm, H - log J": base,
        "without batch norm": other("no_norm", backbone__args={**base.backbone.args, "norm": False}),
        "J of each pixel, as printed": other("pixel", loss=Jaccard(over="pixel")),
        "H alone": other("cross", loss=Jaccard(over="nothing")),
        "Dice (later)": other("dice", loss=Dice()),
    }
    made = tuple(Cell(row, measure.capitalize(), (one.name,), measure=measure) for row, one in rows.items()
                 for measure in OVERLAPS)
    return Study("masks", "Networks that find the hand: batch norm and loss", "Iglovikov et al. 2018, segmentation",
                 cells=made, masks=MaskNetworks(base.name, tuple(rows.values()), folds=folds), unit="overlap of the hand",
                 note="The source names one network, the U-Net of the first row, and no number. Before clean-up.")
