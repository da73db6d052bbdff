"""What it gained to average several networks of one recipe: other seeds, snapshots, averages of the weights."""

from typing import Any

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Table
from radstack.report.ensemble import COLUMNS, compared_losses
from radstack.report.evidence import Evidence
from radstack.scoring.metrics import normalized

ONE = "one network, on average"
"""The row that says what is to be expected of a single network: the mean loss of all of them."""


def several_blocks(evidence: Evidence) -> list[Block]:
    """A table with the gain of each such recipe over its single networks; nothing where there is none."""
    table = averaging(evidence)
    words = table["verdict"].replace({"better": "better, more than noise", "worse": "worse, more than noise"})
    form = ".4f" if len(table) and table["after"].abs().median() < 2 else ".3f"
    return [Table(table.assign(verdict=words), "What averaging several networks a fold brought",
                  {**dict.fromkeys(("before", "after"), form), **dict.fromkeys(("gain", "low", "high"), f"+{form}")},
                  f"Paired by patient, out of fold; noise: the 95 % interval holds zero. {ONE.capitalize()}: the mean of "
                  "the single networks' losses; it is the fair comparison, since nobody knows beforehand which is best. A "
                  "network of some targets is compared on these.")] if len(table) else []


def averaging(evidence: Evidence) -> pd.DataFrame:
    """One row for each recipe with several networks, and one for each of these.

    Returns:
        ``model``, ``over`` (a single network, or ``ONE``), ``before`` and ``after`` (losses on the same rows), ``gain``,
        ``low``, ``high``, ``verdict`` as :func:`radstack.report.ensemble.additions`.
    """
    found = [(name, *row) for name, single in evidence.single.items() for row in _rows(evidence, name, single)]
    return pd.DataFrame(found, columns=list(COLUMNS[:-1]))


def _rows(evidence: Evidence, name: str, single: dict[str, np.ndarray]) -> list[tuple[Any, ...]]:
    """``over`` .. ``verdict`` of one recipe, ``ONE`` first."""
    after, before = _losses(evidence, evidence.oof[name]), {one: _losses(evidence, said) for one, said in single.items()}
    rows = np.isfinite(np.stack([after, *before.values()])).all(axis=0)  # the same, where a fold has no single ones, too
    if not rows.any():
        return []
    rivals = {ONE: np.mean(list(before.values()), axis=0), **before}
    return [(one, *compared_losses(evidence, losses[rows], after[rows], rows)) for one, losses in rivals.items()]


def _losses(evidence: Evidence, predicted: np.ndarray) -> np.ndarray:
    """Loss of each row over the targets that are answered, float64 [n]; NaN in rows that are not."""
    metric, said = evidence.task.metric, predicted.astype(np.float64)
    answered = np.isfinite(said).any(axis=1)
    losses = np.full((len(said), len(metric.scored(evidence.task.targets))), np.nan)
    losses[answered] = metric.kind.losses(evidence.truth[answered], said[answered], metric)
    own = np.isfinite(losses).any(axis=0)
    weights = normalized(np.where(own, metric.weights, 0.0).tolist()) if own.any() else np.zeros(len(own))
    return np.where(np.isfinite(losses[:, own]).all(axis=1) & own.any(), np.where(own, losses, 0.0) @ weights, np.nan)
