"""Tables of the four-network write-up on the RSNA 2019 data: networks, blend, windows, views at test time, folds, vote."""

from competitions.ich.labels import TARGETS
from competitions.ich.report import PUBLISHED
from competitions.ich.views import brain_only
from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.stacker import Stacker
from radstack.recipes.study import Cell, Study

SOURCE = "four-network write-up"
FOUR = ("resnext101_wsl", "inception_v3", "efficientnet_b3", "se_resnext50")
"""The source's networks, in its order."""
KNOWN = dict(zip(FOUR, (one.score for one in PUBLISHED[:4])))
ORDER = ("any", "epidural", "subdural", "subarachnoid", "intraventricular", "intraparenchymal")
"""The source's order of classes."""
BY_CLASS = dict(zip(ORDER, (0.115454, 0.019861, 0.0951, 0.07395, 0.03101, 0.052185)))
"""Loss of its SE-ResNeXt50 on one validation set, named by the public code that it came from."""
UNIT = "weighted log loss"
NOTE = "The source scored on a validation set of stage 1, by slices; ours are out of fold, by patients."


def studies(competition: Competition) -> tuple[Study, ...]:
    """All of them, of the competition's own networks where it has not the source's four."""
    # What learned from drawn hemorrhages is a start of others, and never met a real one.
    own = [one.name for one in competition.models.experiments if one.drawn is None]
    four = tuple(name for name in FOUR if name in own) or tuple(own[:4])
    best: Experiment = competition.recipe("se_resnext50" if "se_resnext50" in own else own[0])
    blend = Stacker("four_blend", "weights", four, note="the write-up's weighted mean; its weights are lost")
    made = [networks(four, blend), by_class(best.name, "loss"), by_class(best.name, "auc"), windows(best),
            test_time(competition, four), folds(competition, best)]
    known = {one.name for one in competition.recipes}
    last = [("vote", "The vote of a series, and its cost", ("final", "any_raised", "vote")),
            ("sequence", "Slices in order", (best.name, *(one.name for one in competition.models.sequences), "final"))]
    return (*made, *(Study(name, title, SOURCE, cells=tuple(Cell(model, "loss", (model,)) for model in models), unit=UNIT,
                           note=NOTE) for name, title, models in last if set(models) <= known))


def networks(four: tuple[str, ...], blend: Stacker) -> Study:
    """Four networks and their weighted mean."""
    cells = tuple(Cell(name, "loss", (name,), KNOWN.get(name, float("nan"))) for name in (*four, blend.name))
    return Study("networks", "Four networks and their weighted mean", SOURCE, (blend,), cells, unit=UNIT, note=NOTE)


def by_class(name: str, measure: str) -> Study:
    """Loss, or area under the ROC curve, of each class in the source's order."""
    assert set(ORDER) == set(TARGETS)
    known = BY_CLASS if (name, measure) == ("se_resnext50", "loss") else {}
    cells = tuple(Cell(target, measure, (name,), known.get(target, float("nan")), of=target, measure=measure)
                  for target in ORDER)
    words = {"loss": "Loss of each class", "auc": "Area under the ROC curve of each class"}[measure]
    return Study(f"classes_{measure}", f"{words}, {name}", SOURCE, cells=cells,
                 unit="log loss" if measure == "loss" else "AUC", note=NOTE)


def windows(best: Experiment) -> Study:
    """One window against three, all else alike."""
    one = change(best, name=f"{best.name}_brain", view=brain_only(best.view.size[0]), note="the brain window alone")
    cells = (Cell("three windows", "loss", (best.name,)), Cell("brain window", "loss", (one.name,)))
    return Study("windows", "One window against three", SOURCE, (one,), cells, unit=UNIT,
                 note="The source says that three are best, and the brain window the best of one.")


def test_time(competition: Competition, four: tuple[str, ...]) -> Study:
    """The same weights with and without views at test time; nothing is trained for it."""
    views: list[Experiment] = [competition.recipe(name) for name in four]
    plain = tuple(change(one, name=f"{one.name}_plain", tta=("plain",), note="no views at test time")
                  for one in views if one.tta != ("plain",))
    cells = [Cell(one.name.removesuffix("_plain"), words, (name,)) for one in plain
             for words, name in (("views", one.name.removesuffix("_plain")), ("plain", one.name))]
    return Study("tta", "Views at test time on and off", SOURCE, plain, tuple(cells), unit=UNIT)


def folds(competition: Competition, best: Experiment) -> Study:
    """Five folds made, three trained: what is scored then, and on how many rows."""
    count = competition.folds.count
    trained = tuple(range(max(count * 3 // 5, 2)))
    few = change(best, name=f"{best.name}_few", folds=trained, note="only some of the folds, as the source's final system")
    mean = Stacker("few_blend", "weights", (few.name,))
    cells = (Cell("all folds", "loss", (best.name,)), Cell(f"{len(trained)} of {count}", "loss", (few.name,)),
             Cell("a stack of these", "loss", (mean.name,)))
    return Study("folds", f"{count} folds made, {len(trained)} trained", SOURCE, (few, mean), cells, unit=UNIT,
                 note="The weights are shared: nothing is trained for it.")
