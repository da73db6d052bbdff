"""The results table of Iglovikov et al. 2018: regions by head and sex, and a network of the whole film beside them."""

from competitions.bone_age.experiments import HEADS, REGIONS, SEXES
from competitions.bone_age.views import GRAY
from radstack.core.recipe import change
from radstack.images.views import Film
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.study import Cell, Study

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
    """The results table, of the regions and heads that the competition's recipes have; and registration against none."""
    names = {one.name for one in competition.recipes}
    if "A_regression" not in names:
        return ()
    return (Study("results", "Results: regions, heads, sexes", SOURCE, cells=cells(names), unit=UNIT, note=NOTE),
            registration(competition))


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


def registration(competition: Competition) -> Study:
    """A network of the registered hand against the same one on the whole film, which nobody masked or registered."""
    base: Experiment = competition.recipe("A_regression")
    size, channels = base.view.size, len(base.view.mean)
    plain = change(base, name="film_regression", view=Film(size, (GRAY,) * channels, (GRAY,) * channels),
                   sampling__keep="", note="the plain network that the source speaks of: no mask, no registration")
    rows = (Cell("registered hand, region A", "both sexes", (base.name,), KNOWN["A", "regression", "both"]),
            Cell("whole film", "both sexes", (plain.name,)))
    return Study("registration", "Registration: the same network with and without it", SOURCE, (plain,), rows,
                 unit=UNIT, note="The source says that it failed without, and names no number.")
