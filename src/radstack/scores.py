"""Scores of many models on the same rows, as one table."""

import numpy as np
import pandas as pd

from radstack.bootstrap import interval
from radstack.metrics import class_aucs, class_log_losses, efficiency, row_log_losses
from radstack.stack.rows import Task


def score_rows(split: str, models: dict[str, pd.DataFrame], rows: pd.DataFrame, prior: pd.Series,
               best: pd.DataFrame | None, task: Task) -> pd.DataFrame:
    """Score ``models`` on labeled ``rows``.

    Args:
        split: name of these rows, first column of the result.
        models: name -> prediction table; ids outside ``rows`` are left out, and a model that lacks some is scored on
            what it has (column ``rows``).
        rows: ``id``, ``group`` and 0/1 targets.
        prior: prevalence of each target in training, the constant predictor.
        best: true probabilities, for phantoms.
        task: targets and weights.

    Returns:
        ``split``, ``model``, ``rows``, ``score``, ``low``, ``high`` (95 %, over patients), ``efficiency`` where ``best``
        is known, then ``loss <target>`` and ``auc <target>``.
    """
    constant = rows[["id"]].assign(**prior.to_dict())
    tables = {"constant": constant, **models} | ({"floor": best} if best is not None else {})
    scored = pd.DataFrame([{"split": split, "model": name, **_scores(table, rows, task)}
                           for name, table in tables.items()])
    if best is not None:
        limits = scored.set_index("model")["score"]
        efficient = efficiency(scored["score"].to_numpy(), limits["constant"], limits["floor"])
        scored.insert(6, "efficiency", efficient)
    return scored


def _scores(table: pd.DataFrame, rows: pd.DataFrame, task: Task) -> dict[str, float]:
    targets = list(task.targets)
    both = rows[["id", "group", *targets]].merge(table[["id", *targets]], on="id", suffixes=("", " predicted"),
                                                 validate="one_to_one")
    truth = both[targets].to_numpy(np.float64)
    predicted = both[[f"{target} predicted" for target in targets]].to_numpy(np.float64)
    score = interval(row_log_losses(truth, predicted, task.weights, task.clip), both["group"])
    losses = {f"loss {target}": value for target, value in zip(targets, class_log_losses(truth, predicted, task.clip))}
    aucs = {f"auc {target}": value for target, value in zip(targets, class_aucs(truth, predicted))}
    return {"rows": len(both), "score": score.value, "low": score.low, "high": score.high, **losses, **aucs}
