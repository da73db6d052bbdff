"""External validation: what a trained solution reaches on pictures of another place, against labels given there."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_table
from radstack.recipes.competition import Competition
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.scoring.metrics import calibration_error
from radstack.scoring.task import PROBABILITIES, Task, score_rows
from radstack.stages.apply import answers
from radstack.submission.forms import row_names, target_codes

SPLIT = "external"


def external_scores(there: Context, labels: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the final model on labeled pictures; write and return the score table, and the labeled rows.

    Its rows are the best constant on these labels and the final model; its columns those of
    :func:`radstack.scoring.task.score_rows` (score, its 95 % interval over patients, each subgroup of ``pages.strata``),
    and for probabilities ``ece <target>``, ``predicted <target>`` and ``observed <target>`` (means), which say how well
    they are calibrated.

    Raises:
        UserError: the table has no labels, or none belongs to a picture that was answered.
    """
    competition, predicted = there.competition, answers(there)
    given = read_labels(labels, competition)
    rows = _rows(there).merge(given, on="id", validate="one_to_one")
    rows = rows[rows["id"].isin(predicted["id"])].reset_index(drop=True)
    if rows.empty:
        raise UserError(f"{labels} has labels of {len(given):,} pictures, and none of them was answered; compare its ids "
                        "with those of OUT.csv")
    final, targets = competition.models.final, competition.targets
    constant = competition.metric.constant(rows[list(targets)])
    scored = score_rows(SPLIT, {final: predicted}, rows, constant, None, Task(targets, competition.metric),
                        _strata(competition, rows))
    scored = scored.assign(**calibration(scored["model"], {"constant": rows[["id"]].assign(**constant), final: predicted},
                                         rows, competition))
    write_table(out, scored)
    _tell(scored, rows, len(given), len(predicted), competition)
    return scored, rows


def read_labels(file: Path, competition: Competition) -> pd.DataFrame:
    """``id`` and the targets (float64) of the rows that have all labels, or those of a group; several forms are known.

    The organizer's own, as of a submission; a column ``id`` (or those of the submission's row names) beside one column a
    target, or beside one column for each group of classes with the class in words.
    """
    return labels_in(read_text_table(file, ()), file, competition)


def labels_in(table: pd.DataFrame, file: Path, competition: Competition) -> pd.DataFrame:
    """The same of a table of text, which errors call ``file``."""
    layout, targets = competition.submission, list(competition.targets)
    if layout.form == "long" and {layout.id_column, *layout.values} <= set(table):
        wide = _wide(table, file, layout.id_column, layout.values[0], competition.targets)
    else:
        names = ("id", layout.id_column, *layout.sample_ids)
        column = next((name for name in names if set(name.split(",")) <= set(table)), "")
        if not column:
            raise UserError(f"{file} has no column id or {layout.id_column}; it needs one, and {','.join(targets)}")
        wide = table.assign(**_of_classes(table, competition)).assign(id=row_names(table, column))
    if missing := [target for target in targets if target not in wide]:
        groups = ", or one for each of " + ", ".join(group.name for group in competition.metric.groups)
        raise UserError(f"{file} has no column {', '.join(missing)}; it needs id and {','.join(targets)}"
                        + groups * bool(competition.metric.groups))
    numbers = wide[targets].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    whole = competition.metric.usable(numbers.to_numpy())
    ids = wide.loc[whole, "id"].astype("str")
    if not ids.is_unique:
        raise UserError(f"{file} names {ids[ids.duplicated()].iloc[0]} twice; keep one row")
    return numbers[whole].assign(id=ids)[["id", *targets]].reset_index(drop=True)


def _wide(table: pd.DataFrame, file: Path, names: str, values: str, targets: tuple[str, ...]) -> pd.DataFrame:
    """One row an id, a column a target; a UserError where a picture has two labels of a target."""
    table = table.drop_duplicates()  # organizers' tables repeat rows
    codes = target_codes(table[names], targets)
    parts = pd.DataFrame({"id": [name[:-len(targets[code]) - 1] for name, code in zip(table[names], codes)],
                          "target": np.array(targets)[codes], "value": pd.to_numeric(table[values], errors="coerce")})
    unlike = parts.groupby(["id", "target"])["value"].transform("nunique") > 1
    if unlike.any():
        first = parts[unlike].iloc[0]
        raise UserError(f"{file} has several labels of {first['id']} for {first['target']}, {first['value']:g} and others; "
                        "keep one")
    return parts.pivot_table("value", "id", "target").reset_index()


def _of_classes(table: pd.DataFrame, competition: Competition) -> dict[str, Any]:
    """0/1 columns of the targets of each group of classes that the table has as one column of words."""
    found, start = dict[str, Any](), 0
    for group in competition.metric.groups:
        names = competition.targets[start:start + len(group.classes)]
        start += len(names)
        if group.name in table and not set(names) <= set(table):
            first = {name: place for place, name in reversed(list(enumerate(group.classes)))}  # any of a coarse class scores
            places = table[group.name].map(first)
            found |= {name: (places == place).where(places.notna()).astype(float) for place, name in enumerate(names)}
    return found


def _rows(there: Context) -> pd.DataFrame:
    """The index by the submission's rows, without labels."""
    competition, index = there.competition, read_index(there)
    rows = index.drop_duplicates(competition.submission.row)
    return rows.assign(id=rows[competition.submission.row]).drop(columns=list(competition.targets), errors="ignore")


def _strata(competition: Competition, rows: pd.DataFrame) -> pd.DataFrame | None:
    if not competition.pages.strata:
        return None
    try:
        return competition.pages.strata(rows)
    except KeyError as error:
        print(f"  no subgroups: the pictures come without {error}", flush=True)
        return None


def calibration(models: pd.Series, tables: dict[str, pd.DataFrame], rows: pd.DataFrame,
                competition: Competition) -> dict[str, list[float]]:
    """Columns ``ece``, ``predicted`` and ``observed`` of each target, a value for each of ``models``; none but for
    probabilities.
    """
    if competition.metric.kind.predicts != PROBABILITIES:
        return {}
    found = dict[str, list[float]]()
    for target in competition.targets:
        truth = rows[target].to_numpy()
        said = [tables[model].set_index("id").loc[rows["id"], target].to_numpy(np.float64) for model in models]
        found[f"ece {target}"] = [calibration_error(truth, one) for one in said]
        found[f"predicted {target}"] = [float(one.mean()) for one in said]
        found[f"observed {target}"] = [float(truth.mean())] * len(said)
    return found


def _tell(scored: pd.DataFrame, rows: pd.DataFrame, labeled: int, answered: int, competition: Competition) -> None:
    print(f"  {competition.metric} on {len(rows):,} labeled answers of {rows['group'].nunique():,} patients "
          f"({labeled:,} labels, {answered:,} answers)")
    for row in scored.to_dict("records"):
        print(f"  {row['model']}: {row['score']:.5f} [{row['low']:.5f}, {row['high']:.5f}]")
        told = [f"{name} {value:.4f}" for name, value in row.items() if str(name).startswith(("score ", "ece "))]
        print(f"    {', '.join(told)}\n" if told else "", end="", flush=True)
