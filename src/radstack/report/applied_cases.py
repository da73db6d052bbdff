"""Of the page of an applied set: cases to look at, and why."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from radstack.core.progress import track
from radstack.recipes.competition import Cases
from radstack.report.applied_set import KEEP, Applied, joined, test_means, voices
from radstack.report.blocks import Section, Table
from radstack.report.cases import BUDGET, Case, disagreement, row_losses, said_table
from radstack.report.evidence import aligned
from radstack.report.known import SAID
from radstack.running.context import Context
from radstack.running.tables import read_index, read_rows
from radstack.scoring.metrics import coarse
from radstack.scoring.task import NUMBERS, PROBABILITIES
from radstack.stages.apply import again, kept
from radstack.stages.stack import task_of

EACH, PER_TARGET = 6, 2
"""Cases of each reason, and of each end of a target."""


def cases_section(applied: Applied, pictures: pd.DataFrame) -> tuple[Section, list[Case]]:
    """The section and its browser: cases with the pictures of stage 09."""
    reasons = choose(applied, pictures)
    index = read_index(applied.there)
    by = applied.there.competition.pages.case_by
    if not reasons:
        return Section("cases", "Cases", "No picture was answered.", ()), []
    one = again(applied.there, index[index[by].isin(reasons)])
    chosen, left, view = [], BUDGET, one.competition.pages.case_view
    known = cases_of_set(applied, one)
    with track(len(reasons), "cases", brief=True) as steps:
        for case in make_cases(applied, one, reasons):
            own = view(case, known, one.paths) if view and left > 0 else []
            left -= sum(len(getattr(block, "src", "")) + len(getattr(block, "svg", "")) for block in own)
            table = said_table(task_of(one), one.competition.models.final, case)
            chosen.append(replace(case, blocks=(*own, table)))
            steps.step()
    rows = [{"case": case.key, "why": ", ".join(case.why), "disagreement": case.dispute,
             **({"loss": case.loss} if case.labeled else {})} for case in chosen]
    listed = Table(pd.DataFrame(rows), "The list", folded=True)
    lead = ("Cases to look at: the ends of each target, those on which the networks disagree most, flagged ones, some at "
            f"random{', and the worst by the labels' if applied.labeled is not None else ''}. Left and right arrow turn the "
            "pages.")
    return Section("cases", "Cases", lead, (listed,)), chosen


def choose(applied: Applied, pictures: pd.DataFrame) -> dict[str, list[str]]:
    """Case -> why it was chosen."""
    by, targets = applied.there.competition.pages.case_by, applied.targets
    usable = pictures[pictures[targets].notna().any(axis=1)]
    across = "max" if applied.kind == PROBABILITIES else "mean"
    table = usable.groupby(by, sort=False).agg({**dict.fromkeys(targets, across), "disagreement": "mean", "flag": joined})
    picks = [("disputed", table.nlargest(EACH, "disagreement").index),
             ("flagged", table.index[table["flag"] != ""][:EACH]),
             ("random", table.sample(min(EACH, len(table)), random_state=0).index)]
    picks += [(f"highest {target}", table.nlargest(PER_TARGET, target).index) for target in targets]
    if applied.kind == NUMBERS:
        picks += [(f"lowest {target}", table.nsmallest(PER_TARGET, target).index) for target in targets]
    if applied.labeled is not None:
        picks.insert(0, ("worst", losses_of(applied, usable).nlargest(EACH).index))
    reasons: dict[str, list[str]] = {}
    for why, keys in picks:
        for key in keys:
            reasons.setdefault(key, []).append(why)
    return reasons


def losses_of(applied: Applied, pictures: pd.DataFrame) -> pd.Series:
    """Loss of each labeled case, mean over its rows, by key."""
    assert applied.labeled is not None
    row, targets = applied.there.competition.submission.row, applied.targets
    truth = applied.labeled.set_index("id")[targets].reindex(pictures[row]).to_numpy(np.float64)
    known = np.isfinite(truth).all(axis=1)
    losses = row_losses(applied.there.competition.metric, truth[known], pictures.loc[known, targets].to_numpy(np.float64))
    keys = pictures.loc[known, applied.there.competition.pages.case_by]
    return pd.Series(losses).groupby(keys.to_numpy(), sort=False).mean()


def cases_of_set(applied: Applied, one: Context) -> Cases:
    """What the competition's pictures of cases are made from."""
    final, targets, training = one.competition.models.final, applied.targets, applied.known.answers
    if training is None:
        training = pd.DataFrame(columns=[*targets, *(f"{SAID}{name}" for name in targets),
                                         *one.competition.pages.interval_by], dtype=float)
    training = training.assign(id=np.arange(len(training)).astype(str))
    said = training[["id", *(f"{SAID}{name}" for name in targets)]].set_axis(["id", *targets], axis=1)
    tests = {name: test_means(one, name).reset_index() for name in one.options.only}
    return Cases(final, tests, {final: said}, read_index(one), training, pd.read_parquet(one.paths.cache / "boxes.parquet"),
                 read_rows(one, "test")[0], tuple(one.experiments))


def make_cases(applied: Applied, one: Context, reasons: dict[str, list[str]]) -> Iterator[Case]:
    """The chosen cases, in the order of ``reasons``, under the names of the page."""
    by, targets = one.competition.pages.case_by, applied.targets
    rows = read_rows(one, "test")[0]
    rows = rows[rows[by].isin(reasons)].reset_index(drop=True)
    rows = rows.drop(columns=targets, errors="ignore").merge(_labels(applied), how="left",
                                                             left_on=one.competition.submission.row, right_on="labels of")
    said = {name: aligned(rows, test_means(one, name).reset_index(), one.competition.targets) for name in one.options.only}
    doubt = disagreement((said[name] for name in voices(one)), (len(rows), len(targets)))
    places = rows.groupby(by, sort=False).indices
    losses = losses_of(applied, kept(one, KEEP, "found")) if applied.labeled is not None else pd.Series(dtype=float)
    shown = rows.assign(**{name: [applied.renamed(name, str(value)) for value in rows[name]]
                           for name in dict.fromkeys(("id", "series", "group", by))})
    for key in (key for key in reasons if key in places):
        own, labeled = places[key], key in losses
        answer = {name: predicted[own] for name, predicted in said.items()}
        words = words_of(applied, answer[one.competition.models.final])
        yield Case(applied.renamed(by, str(key)), tuple(reasons[key]), words, -1, float(losses.get(key, np.nan)),
                   float(doubt[own].mean()), shown.iloc[own], answer, labeled=labeled)


def _labels(applied: Applied) -> pd.DataFrame:
    """``labels of`` (the submission's row) and the targets."""
    if applied.labeled is None:
        return pd.DataFrame(columns=["labels of", *applied.targets]).astype(dict.fromkeys(applied.targets, float))
    return applied.labeled[["id", *applied.targets]].rename(columns={"id": "labels of"})


def words_of(applied: Applied, said: np.ndarray) -> tuple[str, ...]:
    """What a case is called, for the filter: targets that are more likely than not, or the called classes."""
    metric = applied.there.competition.metric
    if applied.kind == PROBABILITIES:
        return tuple(name for name, p in zip(applied.targets, np.nan_to_num(said).max(axis=0)) if p > 0.5) or ("none",)
    mean = np.nanmean(said, axis=0, keepdims=True)
    return tuple(f"{group.name} {group.coarse[int(part[0].argmax())]}"
                 for group, part in zip(metric.groups, coarse(mean, metric.groups))) if metric.groups else ()
