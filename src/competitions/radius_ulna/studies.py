"""The tables and figures of the HKU-Shenzhen study, table 2 to table 7 and figures 9 to 12, for either bone."""

import numpy as np
import pandas as pd

from competitions.radius_ulna.experiments import (
    ARTICLE,
    ARTICLE_BEST,
    BEST,
    FIVEFOLD,
    IN_PHASE,
    NETS,
    RATES,
    article,
    net,
)
from competitions.radius_ulna.phases import BONES, LEARNED_PHASES
from competitions.radius_ulna.report import ARTICLE as STEPS
from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.study import Cell, Curve, Study, seeds

SOURCE = "HKU-Shenzhen study"
MEASURE = "balanced accuracy"
"""Each phase counts alike, as in the source's test pictures."""
COUNTS = {"radius": (75, 75, 175, 75), "ulna": (200, 250, 150)}
"""Pictures of each phase in the study; of the 96 of the radius at its peak it took 75."""
HELD = ("The source chose and scored on 150 (ulna) and 100 (radius) pictures, balanced over the phases; so each phase "
        "counts alike here. --recipes heldout holds as many out.")
DEMO_EPOCHS = 10
"""Of a network that meets each phantom once an epoch; one that meets it five times has as many steps."""
DEMO_LARGEST = {"adam": 1e-2, "sgd": 1e-1}
"""What the study's largest rate becomes on phantoms; where the study divides by ten, the demo divides by the root of ten. So
its usual rate, Adam 1e-4, is ten times as large, and the smallest still learns in few steps."""


def studies(competition: Competition) -> tuple[Study, ...]:
    """All of them; on phantoms of narrow networks, few epochs and larger rates (:data:`DEMO_LARGEST`)."""
    small = competition.phantoms is not None
    folds = competition.models.experiments[0].folds
    recipes = tuple(change(one, folds=folds) for one in (map(shrunk, every()) if small else every()))
    made = [counts("table2", "ulna"), counts("table3", "radius")]
    made.append(table("table4", "Table 4: raw and balanced", {"raw": "base net", "balanced": "balanced"}))
    made.append(table("table5", "Table 5: augmented fivefold", {
        "raw": "base net", "balanced": "balanced", "augmented": "fivefold augmentation"}))
    made.append(Study("table6", "Table 6 and figure 10: nine networks, with and without dropout", SOURCE, cells=nets(),
                      unit="accuracy, %", note=HELD))
    made.append(curves("figure9", "Figure 9: convergence, balanced or not",
                       {"raw": "{bone}_raw", "balanced": "{bone}_balanced"}))
    made.append(Study("figure11", "Figure 11: optimizer, rate, dropout", SOURCE, cells=optimizers(), unit="accuracy, %",
                      note=HELD))
    made.append(curves("figure12", "Figure 12: loss and held-out accuracy, Adam against SGD, with and without dropout", {
        f"{kind}, {'with' if dropout else 'without'} dropout": optimized("{bone}", kind, RATES[1], dropout)
        for kind in ("adam", "sgd") for dropout in (True, False)}))
    made.append(Study("table7", "Table 7: what the study ends with", SOURCE, cells=tuple(
        Cell("best network, optimizer and rate", bone, tuple(one.name for one in ENDS[name]),
             STEPS["optimizer and rate"][bone], of=bone, measure=MEASURE)
        for bone, name in zip(BONES, ARTICLE_BEST)), unit="accuracy, %", note=HELD + " Mean of three seeds."))
    return tuple(change(one, recipes=used(one, recipes), note=one.note + f" {DEMO_NOTE}" * (small and bool(one.models)))
                 for one in made)


ENDS = {one.name: seeds(one, 3) for bone in BONES for one in article(bone) if one.name in ARTICLE_BEST}
"""The two networks that the study ends with, of three seeds each: one training is luck to a point or two."""
DEMO_NOTE = ("Phantoms: a quarter of the channels, few epochs, larger rates: "
             "Adam's .01, .001, .0001 stand for .01, .0032, .001, SGD's for .1, .032, .01.")


def used(one: Study, recipes: tuple[Experiment, ...]) -> tuple[Experiment, ...]:
    """Those of ``recipes`` that a study needs."""
    return tuple(recipe for recipe in recipes if recipe.name in one.models)


def every() -> list[Experiment]:
    """The networks of the study's tables for both bones, and those of figure 11 without dropout."""
    made = [recipe for bone in BONES for recipe in article(bone)]
    known = {recipe.name: recipe for recipe in made}
    for bone in BONES:
        for kind, rate in ((kind, rate) for kind in ("adam", "sgd") for rate in RATES):
            name = optimized(bone, kind, rate, False)
            if name not in known:
                made.append(change(known[optimized(bone, kind, rate, True)], name=name, backbone__args=net(BEST[bone], 0.0)))
    return [*made, *(one for name in ARTICLE_BEST for one in ENDS[name][1:])]


def optimized(bone: str, kind: str, rate: float, dropout: bool) -> str:
    """Name of the best network of a bone by an optimizer; with Adam at the study's usual rate it is the one of table 6."""
    usual = (kind, rate) == ("adam", ARTICLE.optim.lr)
    name = f"{bone}_net{BEST[bone]}" if usual else f"{bone}_{kind}_{rate:g}".replace("-0", "-")
    return name if dropout else f"{name}_no_dropout"


def shrunk(recipe: Experiment) -> Experiment:
    """A network of the study with a quarter of its channels, trained from scratch on few phantoms in seconds."""
    args = recipe.backbone.args
    copies = recipe.sampling.copies if recipe.sampling.copies > 1 else 1
    convs = tuple((size // 4, kernel) for size, kernel in args["convs"])
    dense = tuple(size // 16 for size in args["dense"])
    rate = round(DEMO_LARGEST[recipe.optim.name] * (recipe.optim.lr / max(RATES)) ** 0.5, 6)
    return change(recipe, optim__lr=rate, train__epochs=-(-DEMO_EPOCHS // copies), train__precision="bf16",
                  backbone__args={**args, "padding": "same", "convs": convs, "dense": dense})


def counts(name: str, bone: str) -> Study:
    """How many pictures of each phase there are, in all and after balancing."""
    def table(rows: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
        found = [int((rows[list(stages)].sum(axis=1) > 0).sum()) for stages in IN_PHASE[bone]]
        made = []
        for phase, count, theirs in zip(LEARNED_PHASES[bone], found, COUNTS[bone]):
            made.append({"row": "pictures", "column": phase, "n": count, "value": count, "source": theirs})
            made.append({"row": "an epoch, balanced", "column": phase, "n": count, "value": max(found), "source": np.nan})
            made.append({"row": f"and augmented {FIVEFOLD} times", "column": phase, "n": count,
                         "value": FIVEFOLD * max(found), "source": np.nan})
        return pd.DataFrame(made)

    return Study(name, f"Table {name[-1]}: pictures of the {bone}", SOURCE, table=table, unit="pictures")


def table(name: str, title: str, steps: dict[str, str]) -> Study:
    """Accuracy by step of either bone."""
    cells = tuple(Cell(step, bone, (f"{bone}_{step}",), STEPS[theirs][bone], of=bone, measure=MEASURE)
                  for step, theirs in steps.items() for bone in BONES)
    return Study(name, title, SOURCE, cells=cells, unit="accuracy, %", note=HELD)


def nets() -> tuple[Cell, ...]:
    """Nine networks, each with and without dropout; of the base network without it that is the one of table 5."""
    cells = []
    for bone in BONES:
        for number in NETS:
            for words, end in (("dropout", ""), ("no dropout", "_no_dropout")):
                name = f"{bone}_net{number}{end}" if (number, end) != (3, "_no_dropout") else f"{bone}_augmented"
                theirs = STEPS["best of nine nets"][bone] if number == BEST[bone] and not end else float("nan")
                cells.append(Cell(f"net {number}", f"{bone}, {words}", (name,), theirs, of=bone, measure=MEASURE))
    return tuple(cells)


def optimizers() -> tuple[Cell, ...]:
    """The best network of each bone by optimizer, rate and dropout."""
    best = {"radius": ("adam", 1e-4), "ulna": ("adam", 1e-3)}
    return tuple(Cell(f"{kind} {rate:g}", f"{bone}, {'dropout' if dropout else 'no dropout'}",
                      (optimized(bone, kind, rate, dropout),),
                      STEPS["optimizer and rate"][bone] if dropout and (kind, rate) == best[bone] else float("nan"),
                      of=bone, measure=MEASURE)
                 for kind in ("adam", "sgd") for rate in RATES for bone in BONES for dropout in (True, False))


def curves(name: str, title: str, models: dict[str, str]) -> Study:
    """Loss and accuracy of the held-out fold over the steps, a panel each for either bone."""
    return Study(name, title, SOURCE, curves=tuple(
        Curve(row, f"{bone}, {words}", model.replace("{bone}", bone), of, measure) for row, model in models.items()
        for bone in BONES for words, of, measure in (("loss", "loss", "loss"), ("accuracy, %", bone, "accuracy"))),
        note="Of the fold that is held out, mean over folds.")


