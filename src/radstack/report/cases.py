"""Which cases are worth a look: the worst, those on which the models disagree most, and some at random."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from radstack.core.progress import track
from radstack.report.blocks import Block, Section, Table
from radstack.report.evidence import Evidence
from radstack.scoring.metrics import coarse, coarse_log_losses
from radstack.scoring.task import PROBABILITIES, Metric, Task, parts_of

EACH = 10
"""Cases of each reason."""
PER_LABEL = 2
"""Worst cases of each label, so that a rare one is seen at all."""
BUDGET = 24_000_000
"""Bytes of pictures, of the page's 30 MB; cases after these, the less bad ones, have their table alone."""


@dataclass(frozen=True)
class Case:
    """What one entry of the browser shows: a picture, or all pictures of a series."""

    key: str
    """Value of the competition's ``case_by`` column."""
    why: tuple[str, ...]
    """Why it was chosen."""
    labels: tuple[str, ...]
    """What the filter knows it by."""
    fold: int
    """-1 for pictures of no fold."""
    loss: float
    """Of the final model, mean over its rows; see :func:`row_losses`. NaN without labels."""
    dispute: float
    """Standard deviation between the networks' predictions, mean over rows of the largest over targets."""
    rows: pd.DataFrame
    """Its rows of the row table, in order, with labels."""
    predicted: dict[str, np.ndarray]
    """Model -> out-of-fold predictions float32 [rows, targets], in the same order; NaN where it does not answer."""
    blocks: tuple[Block, ...] = ()
    labeled: bool = True
    """Whether ``rows`` have labels; else these are NaN."""

    @property
    def which_fold(self) -> str:
        """The end of "the best network": of which fold, where there is one."""
        return f" of fold {self.fold}" if self.fold >= 0 else ""


def choose(evidence: Evidence, each: int = EACH) -> list[Case]:
    """At most ``each`` cases of each reason, the worst first; a case may have several. Random ones by a fixed seed."""
    table = case_table(evidence)
    by_label = table.explode("labels").sort_values("loss", ascending=False)
    reasons: dict[str, list[str]] = {}
    for why, keys in (("worst", table.nlargest(each, "loss").index), ("disputed", table.nlargest(each, "dispute").index),
                      ("worst of its label", by_label.groupby("labels").head(PER_LABEL).index.unique()),
                      ("random", table.sample(min(each, len(table)), random_state=0).index)):
        for key in keys:
            reasons.setdefault(key, []).append(why)
    places = evidence.train.groupby(evidence.context.competition.pages.case_by, sort=False).indices
    chosen = table.loc[list(reasons)].sort_values("loss", ascending=False)
    return [Case(str(row.Index), tuple(reasons[row.Index]), row.labels, int(evidence.fold[places[row.Index][0]]), row.loss,
                 row.dispute, evidence.train.iloc[places[row.Index]],
                 {name: predicted[places[row.Index]] for name, predicted in evidence.oof.items()})
            for row in chosen.itertuples()]


def case_table(evidence: Evidence) -> pd.DataFrame:
    """Every case that the final model answers: ``loss``, ``dispute``, ``labels`` (tuple), by key."""
    answered = evidence.answered(evidence.final)
    keys = evidence.train.loc[answered, evidence.context.competition.pages.case_by]
    losses = row_losses(evidence.task.metric, evidence.truth[answered], evidence.oof[evidence.final][answered])
    rows = pd.DataFrame({"loss": losses, "dispute": disputes(evidence)[answered], "key": keys.to_numpy()})
    table = rows.groupby("key", sort=False).mean()
    words = label_words(evidence).loc[answered].set_axis(keys.to_numpy(), axis=0)
    held = words.groupby(level=0, sort=False).any().loc[table.index]
    names = held.columns.to_numpy()
    return table.assign(labels=[tuple(names[row]) or ("none",) for row in held.to_numpy(bool)])


def row_losses(metric: Metric, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What cases are ranked by, float64 [rows]: the metric's loss, of classes their log loss.

    The share of errors would call all wrong ones equally bad; the log loss puts those first that were surest.
    """
    if metric.groups:
        return metric.across(coarse_log_losses(truth, predicted, metric.groups, metric.clip), truth, predicted)
    return metric.row_losses(truth, predicted)


def disputes(evidence: Evidence) -> np.ndarray:
    """Standard deviation between the networks that answer a target, largest over targets, float64 [n]."""
    return disagreement((evidence.oof[name] for name in evidence.experiments), evidence.truth.shape)


def disagreement(answers: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Standard deviation between ``answers`` (each of ``shape`` [n, targets], NaN for none), largest over targets [n]."""
    count, total, squares = (np.zeros(shape) for _ in range(3))
    for told in (one.astype(np.float64) for one in answers):  # one at a time: they are large
        count, total, squares = count + np.isfinite(told), total + np.nan_to_num(told), squares + np.nan_to_num(told)**2
    count = np.maximum(count, 1)
    return np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)).max(axis=1)


def label_words(evidence: Evidence) -> pd.DataFrame:
    """One bool column a word of the filter, rows as ``evidence.train``: positive targets, true classes, or strata."""
    task, competition = evidence.task, evidence.context.competition
    if task.metric.kind.predicts == PROBABILITIES:
        return evidence.train[list(task.targets)] > 0.5
    if task.metric.groups:
        parts = zip(task.metric.groups, coarse(evidence.truth, task.metric.groups))
        return pd.DataFrame({f"{group.name} {name}": part[:, place] > 0.5 for group, part in parts
                             for place, name in enumerate(group.coarse)}, index=evidence.train.index)
    strata = competition.pages.strata
    return parts_of(strata(evidence.train)) if strata else pd.DataFrame(index=evidence.train.index)


def cases(evidence: Evidence) -> tuple[Section, list[Case]]:
    """The section and what its browser shows; the pictures are the competition's own."""
    view, chosen, left = evidence.context.competition.pages.case_view, [], BUDGET
    worth = choose(evidence)
    with track(len(worth), "cases", brief=True) as steps:
        for case in worth:
            own = view(case, evidence.cases, evidence.context.paths) if view and evidence.cases and left > 0 else []
            left -= sum(len(getattr(block, "src", "")) + len(getattr(block, "svg", "")) for block in own)
            chosen.append(replace(case, blocks=(*own, models_table(evidence, case))))
            steps.step()
    rows = [{"case": case.key, "why": ", ".join(case.why), "labels": ", ".join(case.labels), "fold": case.fold,
             "loss": case.loss, "disagreement": case.dispute} for case in chosen]
    listed = Table(pd.DataFrame(rows), "The list", folded=True)
    lead = (f"Out-of-fold predictions of {evidence.final}: the worst cases, those on which the networks disagree most, the "
            "worst of each label, and some at random. Filter them; left and right arrow turn the pages.")
    return Section("cases", "Cases", lead, (listed,)), chosen


def models_table(evidence: Evidence, case: Case) -> Table:
    """What every model says of a case, the final one first."""
    return said_table(evidence.task, evidence.final, case)


def said_table(task: Task, final: str, case: Case) -> Table:
    """What every model says of a case, the one called ``final`` first; the label stands above where there is one."""
    targets = list(task.targets)
    said = {"label": case.rows[targets].to_numpy(float), final: case.predicted[final], **case.predicted}
    # A case's rows as one; NaN where a target is not answered.
    across = np.max if task.metric.kind.predicts == PROBABILITIES else np.mean
    values = {name: across(predicted, axis=0) for name, predicted in said.items() if np.isfinite(predicted).any()}
    table = pd.DataFrame(values, index=targets).T.rename_axis("model").reset_index()
    note = "" if len(case.rows) == 1 else "Of a case's slices: the largest probability, or the mean."
    return Table(table, "Every model", dict.fromkeys(targets, ".3f"), note, folded=True, strong=("label", final))
