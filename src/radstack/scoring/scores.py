"""Scores of many models on the same rows, as one table."""

import numpy as np
import pandas as pd

from radstack.core.progress import track
from radstack.scoring.intervals import interval
from radstack.scoring.metrics import efficiency
from radstack.scoring.task import Task


def score_rows(split: str, models: dict[str, pd.DataFrame], rows: pd.DataFrame, constant: pd.Series,
               best: pd.DataFrame | None, task: Task, strata: pd.DataFrame | None = None) -> pd.DataFrame:
    """Score ``models`` on labeled ``rows``.

    Args:
        split: name of these rows, first column of the result.
        models: name -> prediction table; ids outside ``rows`` are left out, and a model that lacks some is scored on
            what it has (column ``rows``).
        rows: ``id``, ``group`` and the labels.
        constant: one value a target (prevalences or medians of training).
        best: best possible predictions, for phantoms.
        task: targets and metric.
        strata: parts of ``rows`` (same order) that get a score of their own: each True of a bool column, each value of
            a text or categorical one; a row without a value is in no part.

    Returns:
        ``split``, ``model``, ``rows``, ``score``, ``low``, ``high`` (95 %, over patients), ``efficiency`` where ``best``
        is known, then the metric's details of each target, and ``score <part>`` of each stratum.
    """
    always = rows[["id"]].assign(**constant.to_dict())
    tables = {"constant": always, **models} | ({"floor": best} if best is not None else {})
    parts = rows[["id"]].join(parts_of(strata).set_index(rows.index)) if strata is not None else rows[["id"]]
    found = []
    with track(len(tables), f"scores {split}, models", brief=True) as steps:
        for name, table in tables.items():
            found.append({"split": split, "model": name, **_scores(table, rows, parts, task)})
            steps.step()
    scored = pd.DataFrame(found)
    if best is not None:
        limits = scored.set_index("model")["score"]
        efficient = efficiency(scored["score"].to_numpy(), limits["constant"], limits["floor"])
        scored.insert(6, "efficiency", efficient)
    return scored


def parts_of(strata: pd.DataFrame) -> pd.DataFrame:
    """One bool column a part: bool columns as they are, one for each value of the others (categories in their order)."""
    return pd.get_dummies(strata, prefix="", prefix_sep="", dtype=bool)


def _scores(table: pd.DataFrame, rows: pd.DataFrame, parts: pd.DataFrame, task: Task) -> dict[str, float]:
    targets = list(task.targets)
    both = rows[["id", "group", *targets]].merge(table[["id", *targets]], on="id", suffixes=("", " predicted"),
                                                 validate="one_to_one")
    truth = both[targets].to_numpy(np.float64)
    predicted = both[[f"{target} predicted" for target in targets]].to_numpy(np.float64)
    losses = task.metric.row_losses(truth, predicted)
    score = interval(losses, both["group"])
    members = parts.set_index("id").loc[both["id"]]
    stratified = {f"score {name}": float(losses[held.to_numpy()].mean()) if held.any() else float("nan")
                  for name, held in members.items()}
    return {"rows": len(both), "score": score.value, "low": score.low, "high": score.high,
            **task.metric.details(truth, predicted, task.targets), **stratified}
