"""Studies: tables and figures of the sources as numbers, as text, as pictures, and as a section of the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import read_json, read_table
from radstack.recipes.study import OVERLAPS, Cell, Curve, Study
from radstack.report.blocks import Block, Heading, Plot, Section, Table, Words
from radstack.report.plots import COLORS, figure, panels, svg
from radstack.running.context import Context
from radstack.running.tables import read_index, read_rows
from radstack.scoring.intervals import interval
from radstack.scoring.metrics import class_aucs
from radstack.scoring.task import Metric
from radstack.stack.predictions import read_member
from radstack.stages.decode import prepared_rows
from radstack.stages.mask_networks import annotated_cases, read_scores
from radstack.stages.train import weights_file

COLUMNS = ("row", "column", "n", "value", "low", "high", "source", "missing")
ABSENT = "weights not at hand"
"""Why a cell has no number: the network starts from published weights that nobody brought."""
INKS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Colors of a picture that stands alone (Okabe and Ito 2008)."""
DRAWS = 200
"""Bootstrap draws of an area under the ROC curve."""


def measured(context: Context, study: Study) -> pd.DataFrame:
    """The cells of a study with ``COLUMNS``: rows, mean, interval by patients (95 %), the source's number.

    Out of fold; a model of some folds is measured on those, and one that is not among the chosen ones has no number.
    UserError where a model is not predicted.
    """
    rows = rows_of(context, study)
    made = [pd.DataFrame([_cell(context, study, rows, cell) for cell in study.cells], columns=list(COLUMNS))]
    if study.table:
        made.append(study.table(rows, read_index(context)).reindex(columns=list(COLUMNS)))
    return pd.concat([one for one in made if len(one)] or made[:1], ignore_index=True)


def rows_of(context: Context, study: Study) -> pd.DataFrame:
    """The training rows that a study is of; networks of masks need no stage after 02. A UserError that says what to run."""
    return prepared_rows(context, "train")[0] if study.masks else read_rows(context, "train")[0]


def _cell(context: Context, study: Study, rows: pd.DataFrame, cell: Cell) -> dict[str, Any]:
    about = {"row": cell.row, "column": cell.column, "source": cell.source, "missing": ""}
    if cell.measure in OVERLAPS:
        return about | _overlap(context, study, cell)
    if not set(cell.models) <= set(context.options.only):
        return about | {"n": 0, "missing": ABSENT}
    competition = context.competition
    part = labeled(competition.metric, competition.targets, rows.query(cell.part) if cell.part else rows, cell.of)
    tables = [_told(context, model, part) for model in cell.models]
    common = part.set_index("id").loc[sorted(set.intersection(*(set(table.index) for table in tables)))]
    if not len(common):
        return about | {"n": 0}
    predicted = [table.loc[common.index].to_numpy(np.float64) for table in tables]
    measure = _auc if cell.measure == "auc" else _loss
    return about | {"n": len(common), **measure(context, cell, common, predicted)}


def _overlap(context: Context, study: Study, cell: Cell) -> dict[str, Any]:
    """Mean Dice or Jaccard over the cases of a network of masks, with its interval by patients."""
    assert study.masks is not None
    name, = cell.models
    table = read_scores(context, study.masks, name)
    if not len(table):
        return {"n": 0}
    found = interval(table[cell.measure].to_numpy(), table["group"])
    return {"n": len(table), "value": found.value, "low": found.low, "high": found.high}


def labeled(metric: Metric, targets: tuple[str, ...], rows: pd.DataFrame, of: str) -> pd.DataFrame:
    """The rows that have the label of the group ``of`` of classes; all where it is no group."""
    names, columns = [group.name for group in metric.groups], list(targets)
    return rows[metric.held(rows[columns].to_numpy())[:, names.index(of)]] if of in names else rows


def _told(context: Context, model: str, part: pd.DataFrame) -> pd.DataFrame:
    """What a model says of the rows of ``part`` that it answers, by id."""
    table = read_member(context.paths.oof / model, context.folds_of(model), tests=False).oof.set_index("id")
    own = table.loc[table.index.isin(part["id"]), list(context.competition.targets)]
    return own[own.notna().any(axis=1)]


def _loss(context: Context, cell: Cell, rows: pd.DataFrame, predicted: list[np.ndarray]) -> dict[str, float]:
    """Mean loss, or share of right answers in percent, with its interval; of several models the mean of their losses."""
    metric, targets = context.competition.metric, context.competition.targets
    truth = rows[list(targets)].to_numpy()
    if cell.of:
        place = metric.scored(targets).index(cell.of)
        losses = [metric.kind.losses(truth, one, metric)[:, place] for one in predicted]
    else:
        losses = [metric.row_losses(truth, one) for one in predicted]
    even = _evened(truth, metric, cell.of) if cell.measure == "balanced accuracy" else 1.0
    found = interval(np.mean(losses, axis=0) * even, rows["group"])
    if "accuracy" in cell.measure:
        return {"value": 100 * (1 - found.value), "low": 100 * (1 - found.high), "high": 100 * (1 - found.low)}
    return {"value": found.value, "low": found.low, "high": found.high}


def _evened(truth: np.ndarray, metric: Metric, of: str) -> np.ndarray:
    """Weights of mean 1 with which all classes of a group count alike, float64 [rows]."""
    place = [group.name for group in metric.groups].index(of)
    first, group = sum(metric.sizes[:place]), metric.groups[place]
    classes = np.array(group.classes)[truth[:, first:first + len(group.classes)].argmax(axis=1)]
    names, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return len(classes) / (len(names) * counts[codes])


def _auc(context: Context, cell: Cell, rows: pd.DataFrame, predicted: list[np.ndarray]) -> dict[str, float]:
    """Area under the ROC curve of a target; the interval is of patients drawn with replacement."""
    place = context.competition.targets.index(cell.of)
    truth, said = rows[[cell.of]].to_numpy(), np.mean([one[:, [place]] for one in predicted], axis=0)
    members = list(pd.Series(np.arange(len(rows))).groupby(rows["group"].to_numpy()).indices.values())
    rng, areas = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = np.concatenate([members[pick] for pick in rng.integers(len(members), size=len(members))])
        areas.append(class_aucs(truth[drawn], said[drawn])[0])
    low, high = np.nanquantile(areas, [0.025, 0.975])
    return {"value": float(class_aucs(truth, said)[0]), "low": float(low), "high": float(high)}


def without_curves(context: Context, study: Study) -> tuple[str, ...]:
    """The models of a study's curves whose training noted nothing of the held-out fold."""
    names = dict.fromkeys(curve.model for curve in study.curves)
    return tuple(name for name in names if not all(file.exists() for file in logs_of(context, name).values()))


def logs_of(context: Context, model: str) -> dict[int, Path]:
    """Fold -> what training notes of the fold that is held out."""
    recipe = context.competition.recipe(model)
    from radstack.training.run import held_out_file  # slow to import

    return {fold: held_out_file(weights_file(context, recipe, fold)) for fold in context.folds_of(recipe)}


def traced(context: Context, study: Study) -> pd.DataFrame:
    """The curves of a study: ``row``, ``column``, ``fold``, ``step``, ``value``; a UserError where none was logged."""
    made = [pd.DataFrame(columns=["row", "column", "fold", "step", "value"])]
    for curve in study.curves:
        for fold, file in logs_of(context, curve.model).items():
            if not file.exists():
                raise UserError(f"{curve.model} was trained without a look at its held-out fold; train it again with: "
                                f"{context.command('04_train', curve.model)} --held-out --force")
            made.append(_curve(curve, fold, pd.read_csv(file)))
    return pd.concat(made, ignore_index=True)


def _curve(curve: Curve, fold: int, log: pd.DataFrame) -> pd.DataFrame:
    value = log[curve.of] if curve.measure == "loss" else 100 * (1 - log[curve.of])
    return pd.DataFrame({"row": curve.row, "column": curve.column, "fold": fold, "step": log["step"], "value": value})


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """Cells in the source's layout: a line a ``row``, a column a ``column``; ``value [low, high] n`` and the source's."""
    words = table.assign(text=[_words(one) for one in table.to_dict("records")])
    made = words.pivot_table(index="row", columns="column", values="text", aggfunc="first", sort=False)
    return made.reindex(index=table["row"].unique(), columns=table["column"].unique()).fillna("").reset_index()


def _words(cell: dict[str, Any]) -> str:
    missing = cell.get("missing")  # not in tables of before, and no text in those that no model makes
    text = _number(cell["value"]) if cell["n"] else missing if isinstance(missing, str) and missing else "none"
    if cell["n"] and pd.notna(cell["low"]):
        text += f" [{_number(cell['low'])}, {_number(cell['high'])}]"
        text += f" n={int(cell['n'])}"
    return text + (f"; source {_number(cell['source'])}" if pd.notna(cell["source"]) else "")


def _number(value: float) -> str:
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def counted(context: Context, study: Study) -> str:
    """How many rows a study is of, in words."""
    if study.masks:
        return f"{annotated_cases(context, study.masks):,} annotated cases"
    return f"{len(rows_of(context, study)):,} training rows"


def markdown(study: Study, table: pd.DataFrame, rows: str, name: str) -> str:
    """The study as text: title, source, the table in the source's layout; ``rows`` are :func:`counted`."""
    shown = layout(table)
    how = "; out of fold, intervals of 95 % over patients." if study.models else "."
    lines = [f"# {study.title}", "", f"{study.source}. {name}, {rows}"
             + (f", {study.unit}" if study.unit else "") + how, ""]
    if study.note:
        lines += [study.note, ""]
    if len(table):
        head = ["", *shown.columns[1:]]
        lines += ["| " + " | ".join(map(str, head)) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(map(str, line)) + " |" for line in shown.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def drawing(study: Study, table: pd.DataFrame, curves: pd.DataFrame, colors: tuple[str, ...] = COLORS) -> Any:
    """The curves where there are some, else the cells as points with intervals and the source's as crosses."""
    if len(curves):
        names = list(curves["row"].unique())
        made = panels({str(name): part for name, part in curves.groupby("column", sort=False)},
                      lambda ax, part: _lines(ax, part, names, colors), x="step")
        made.legend(*made.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)  # inside it hides curves
        return made
    rows, columns = list(table["row"].unique()), list(table["column"].unique())
    made, ax = figure(9.5, 1.2 + 0.28 * len(rows) * max(len(columns) / 3, 1))
    for place, column in enumerate(columns):
        own = table[table["column"] == column]
        y = np.array([rows.index(row) for row in own["row"]]) + (place - (len(columns) - 1) / 2) * 0.6 / max(len(columns), 1)
        value, color = own["value"].to_numpy(float), colors[place % len(colors)]
        sides = np.nan_to_num(np.abs(own[["low", "high"]].to_numpy(float).T - value))
        ax.errorbar(value, y, xerr=sides, fmt="o", color=color, markersize=4, label=str(column))
        ax.plot(own["source"].to_numpy(float), y, "x", color=color)
    ax.set_yticks(range(len(rows)), [str(row) for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(f"{study.unit or 'value'}; crosses are the source's")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return made


def _lines(ax: Any, part: pd.DataFrame, names: list[str], colors: tuple[str, ...]) -> None:
    for name, own in part.groupby("row", sort=False):
        mean = own.groupby("step")["value"].mean()
        ax.plot(mean.index, mean.to_numpy(), color=colors[names.index(str(name)) % len(colors)], label=str(name))


def files_of(folder: Path) -> tuple[Path, ...]:
    """What studies left below ``reports/<comp>/studies``, of which the page has a section."""
    return tuple(sorted(folder.glob("*.csv")))


def section(folder: Path) -> Section | None:
    """The section of the page on all studies that were made; None where none was."""
    blocks: list[Block] = []
    for file in files_of(folder):
        if file.stem.endswith("_curves"):
            continue
        about, table = read_json(file.with_suffix(".json")), read_table(file)
        curves = folder / f"{file.stem}_curves.csv"
        lines = read_table(curves) if curves.exists() else pd.DataFrame()
        study = Study(about["name"], about["title"], about["source"], unit=about["unit"], note=about["note"])
        blocks += [Heading(study.title), Words(f"{study.source}. {study.note}".strip())]
        blocks += [Table(layout(table).rename(columns={"row": ""}), study.title)] if len(table) else []
        blocks += [Plot(svg(drawing(study, table, lines)), study.title)] if len(table) or len(lines) else []
    lead = "Tables and figures of the sources, made of this competition's own rows. n are rows, intervals are over patients."
    return Section("studies", "Studies", lead, tuple(blocks)) if blocks else None
