"""Section models: how they learned, where each is good, and what its predictions are worth."""

from functools import reduce

import numpy as np
import pandas as pd

from radstack.recipes.stacker import Stacker
from radstack.report.blocks import Block, Heading, Plot, Section, Table
from radstack.report.classes import class_blocks
from radstack.report.evidence import Evidence
from radstack.report.learning import learning
from radstack.report.numbers import number_blocks
from radstack.report.operating import operating_blocks
from radstack.report.plots import COLORS, Axes, Figure, figure, panels, svg
from radstack.report.probabilities import probability_blocks
from radstack.scoring.intervals import interval
from radstack.scoring.task import CLASSES, NUMBERS, PROBABILITIES

SHOWN = 12
"""Models of a dot plot, the best ones."""
VALUES = 8
"""Values that a column of parts may have."""
ROWS, PATIENTS = 10, 5
"""Parts with fewer are left out: their scores say nothing."""
ACQUISITION = ("intercept", "slope", "bits", "bits_stored", "pixel_representation", "channels", "padding", "window_center",
               "window_width", "kvp", "visit", "mirrored", "inverted")
"""Columns of numbers that tell one way of taking pictures from another; of text columns all that have few values do."""
SIZES = (("rows", "columns"), ("height", "width"))
"""Columns of a raw picture's size in pixels."""


def models(evidence: Evidence) -> Section:
    """Training, scores by class and by part of the data, then what fits the kind of the metric."""
    single, own = best_networks(evidence), evidence.context.competition.pages.strata
    strata = own(evidence.train) if own else None
    kinds = {PROBABILITIES: lambda: probability_blocks(evidence, single, before_calibration(evidence, single)),
             NUMBERS: lambda: number_blocks(evidence, single, strata), CLASSES: lambda: class_blocks(evidence, single)}
    lead = ("How the networks learned, what each model scores by class and by part of the data, and how far the predictions "
            f"of {evidence.final} can be trusted: all on training rows, each predicted by a model that never met its fold.")
    blocks = (*learning(evidence), *score_blocks(evidence), *part_blocks(evidence, strata),
              *kinds[evidence.task.metric.kind.predicts](), *operating_blocks(evidence))
    return Section("models", "Models", lead, blocks)


def best_networks(evidence: Evidence) -> dict[str, str]:
    """Target or group -> the experiment with the least loss of those that answer as many rows as the final model."""
    scored, task = evidence.scored(), evidence.task
    networks = scored[scored.index.isin(evidence.experiments)]
    if evidence.final in scored.index:
        networks = networks[networks["rows"] >= scored.loc[evidence.final, "rows"]]
    losses = {name: networks[f"loss {name}"].dropna() for name in task.metric.scored(task.targets)}
    return {name: str(column.idxmin()) for name, column in losses.items() if len(column)}


def before_calibration(evidence: Evidence, single: dict[str, str]) -> dict[str, str]:
    """Target -> what the final calibration started from: its only member, or the best single network."""
    recipe = evidence.recipes[evidence.final]
    steps = recipe.members if isinstance(recipe, Stacker) and recipe.method == "calibrate" else ()
    return dict.fromkeys(evidence.task.targets, steps[0]) if len(steps) == 1 and steps[0] in evidence.oof else single


def score_blocks(evidence: Evidence) -> list[Block]:
    """The score table by class, a table a measure or one for all, and the losses as dots where there are several."""
    names, table = evidence.task.metric.scored(evidence.task.targets), evidence.scored()
    found = [str(column).split(" ", 1) for column in table if " " in str(column)]
    measures = list(dict.fromkeys(kind for kind, what in found if what in names and kind != "score"))
    if not measures:
        return []
    blocks: list[Block] = [Heading("Scores by class" if len(names) > 1 else "Scores in detail")]
    if len(names) > 1:
        count = f"the {SHOWN} best models" if len(table) > SHOWN else "every model"
        blocks.append(Plot(svg(draw_losses(evidence)), f"Loss of {count} by class, further left is better; the dotted line "
                           f"is the constant predictor, {evidence.final} is filled.", wide=True))
    if len(names) * len(measures) <= VALUES:
        return [*blocks, _scores_table(evidence, measures, "Every model in detail")]
    return [*blocks, *(_scores_table(evidence, [one], f"{WORDS.get(one, one)} by class") for one in measures)]


WORDS = {"loss": "Loss", "auc": "Area under the ROC curve", "kappa": "Quadratic kappa", "log_loss": "Log loss",
         "fine_loss": "Loss of the unmerged classes", "fine_kappa": "Quadratic kappa of the unmerged classes"}
"""What the measures of the score table are called."""


def _scores_table(evidence: Evidence, measures: list[str], caption: str) -> Table:
    """Model and one column for each measure and target; a sole target or measure is not repeated in every name."""
    names, scored = evidence.task.metric.scored(evidence.task.targets), evidence.scored()
    wanted = [(measure, name) for name in names for measure in measures if f"{measure} {name}" in scored]
    short = {(measure, name): measure.replace("_", " ") if len(names) == 1 else name if len(measures) == 1
             else f"{name} {measure.replace('_', ' ')}" for measure, name in wanted}
    table = pd.DataFrame({short[one]: scored[" ".join(one)] for one in wanted}).dropna(how="all")
    return Table(table.reset_index(), caption, {name: _form(table[name]) for name in table},
                 folded=len(measures) == 1 and measures[0] != "loss", strong=(evidence.final,))


def _form(values: pd.Series) -> str:
    """Four digits behind the point of small scores, two of large ones."""
    return ".4f" if values.abs().median() < 2 else ".2f"


def draw_losses(evidence: Evidence) -> Figure:
    """Loss of the best models, one panel a class."""
    scored, final = evidence.scored(), evidence.final
    columns = {name: f"loss {name}" for name in evidence.task.metric.scored(evidence.task.targets)}
    # By mean rank: a model that answers some classes only has no score.
    ranks = scored.drop(index=["constant", "floor"], errors="ignore")[list(columns.values())].rank().mean(axis=1)
    order = list(ranks.sort_values().index)
    kept = [*order[:SHOWN], *([final] if final in order[SHOWN:] else [])]
    level = pd.Series(range(len(kept))[::-1], kept)

    def panel(ax: Axes, column: str) -> None:
        if "constant" in scored.index:
            ax.axvline(scored.loc["constant", column], color=COLORS[7], ls=":", lw=1.2)
        values, is_final = scored.loc[kept, column], level.index == final
        ax.plot(values[~is_final], level[~is_final], "o", ms=4.5, color=COLORS[7], mfc="none")
        ax.plot(values[is_final], level[is_final], "o", ms=5.5, color=COLORS[0])
        ax.set_yticks(level, kept, fontsize=8)
        ax.locator_params(axis="x", nbins=4)
        ax.tick_params(axis="y", length=0)

    return panels(columns, panel, across=3, width=9.2, height=0.19 * len(kept) + 0.5, sharey=True)


def part_blocks(evidence: Evidence, strata: pd.DataFrame | None) -> list[Block]:
    """Scores of the final model and of the best network by part: the competition's strata, and how pictures were taken."""
    final, kept = evidence.final, evidence.answered(evidence.final)
    table = part_table(evidence, strata, kept) if kept.any() else pd.DataFrame()
    if table.empty:
        return []
    form, overall = _form(table[final]), evidence.task.metric.score(evidence.truth[kept], evidence.oof[final][kept])
    scored = evidence.scored().filter(regex="^score .")  # the competition's own strata
    scored = scored.rename(columns=lambda name: name.removeprefix("score ")).dropna(how="all").dropna(axis=1, how="all")
    note = (f"Parts of fewer than {ROWS} rows or {PATIENTS} patients are left out; low and high: 95 % interval, bootstrap "
            "over patients; last column: the best single network.")
    return [
        Heading("Scores by part of the data"),
        Plot(svg(draw_parts(table, final, overall)), f"Score of {final} (filled, 95 % interval over patients) and of the "
             "best single network (hollow) by part, with the number of rows; the dotted line is the final score on all "
             "rows. Lower is better.", wide=True),
        Table(table, "Score by part", dict.fromkeys(table.columns[4:], form), note, folded=True),
        *([Table(scored.reset_index(), "Every model by part", dict.fromkeys(scored, form), folded=True, strong=(final,))]
          if scored.size else [])]


def part_table(evidence: Evidence, strata: pd.DataFrame | None, kept: np.ndarray) -> pd.DataFrame:
    """One row a part of the rows ``kept`` (bool [n]), those of numbers ordered by their labels.

    Returns:
        ``what``, ``part``, ``rows``, ``patients``, the score of the final model in a column of its name, ``low``, ``high``,
        and the score of the network with the best one, where a network answers all these rows.
    """
    scored = evidence.scored().reindex(evidence.experiments)["score"].dropna()
    rivals = [name for name in scored.sort_values().index if evidence.answered(name)[kept].all()][:1]
    truth = evidence.truth[kept]
    losses = {name: evidence.task.metric.row_losses(truth, evidence.oof[name][kept])
              for name in dict.fromkeys((evidence.final, *rivals))}
    groups, rows = pd.factorize(evidence.train["group"][kept])[0], []
    order = truth[:, 0] if evidence.task.metric.kind.predicts == NUMBERS else np.zeros(len(truth))
    for what, column in columns_of_parts(evidence.train, strata).items():
        parts = column[kept].reset_index(drop=True)
        found = {str(value): held for value, held in parts.groupby(parts, sort=True).indices.items()
                 if len(held) >= ROWS and len(np.unique(groups[held])) >= PATIENTS}
        for value, held in sorted(found.items(), key=lambda part: order[part[1]].mean()) if len(found) > 1 else ():
            own = interval(losses[evidence.final][held], groups[held])
            rows.append({"what": what, "part": value, "rows": len(held), "patients": len(np.unique(groups[held])),
                         evidence.final: own.value, "low": own.low, "high": own.high,
                         **{name: float(losses[name][held].mean()) for name in rivals}})
    return pd.DataFrame(rows)


def columns_of_parts(rows: pd.DataFrame, strata: pd.DataFrame | None) -> dict[str, pd.Series]:
    """Name -> text column of parts: strata first, then columns of ``rows`` that tell how pictures were taken.

    Columns that part the rows alike are one, e.g. ``bits_stored, intercept``; those of more than ``VALUES`` values are none.
    """
    known = {str(name): column for name, column in strata.items()} if strata is not None else {}
    known |= {f"{high} × {wide}": rows[high].astype(str) + " × " + rows[wide].astype(str) for high, wide in SIZES
              if high in rows and wide in rows}
    known |= {str(name): column for name, column in rows.items() if str(name) not in known and (
        name in ACQUISITION or pd.api.types.is_string_dtype(column) or pd.api.types.is_bool_dtype(column))}
    alike: dict[bytes, list[str]] = {}
    for name, column in known.items():
        codes, values = pd.factorize(column, use_na_sentinel=False)
        if 1 < len(values) <= VALUES:
            alike.setdefault(codes.astype(np.int8).tobytes(), []).append(name)
    words = {name: known[name].astype(object).map(_word) for names in alike.values() for name in names}
    return {", ".join(names).replace("_", " "): reduce(lambda one, other: one + ", " + other, map(words.__getitem__, names))
            for names in alike.values()}


def _word(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value == "" or value != value:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw_parts(table: pd.DataFrame, final: str, overall: float) -> Figure:
    """Dots and intervals of :func:`part_table`, parts of one kind below each other."""
    made, ax = figure(9.2, 0.21 * len(table) + 0.9)
    place = -np.arange(len(table)) - 0.6 * (pd.factorize(table["what"])[0])
    ax.axvline(overall, color=COLORS[7], ls=":", lw=1.2)
    ax.hlines(place, table["low"], table["high"], color=COLORS[0], lw=1.3)
    ax.plot(table[final], place, "o", ms=5, color=COLORS[0], label=final)
    for name in [name for name in table.columns[7:] if name != final]:
        ax.plot(table[name], place, "o", ms=5, mfc="none", color=COLORS[1], label=name)
    ax.set_yticks(place, [f"{row.what}: {row.part} ({row.rows:,})" for row in table.itertuples()], fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="score")
    made.legend(loc="outside upper left", ncols=2)
    return made
