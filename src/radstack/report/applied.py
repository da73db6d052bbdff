"""The page of an applied set: what was found and where, how sure the answers are, what was set aside, and cases to look at.

It is for pictures that nobody labeled; with labels it shows how the solution does on them. Where a picture, a series or a
patient is named, the name goes through a function, by which a page that leaves a hospital has pseudonyms.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from radstack.core.progress import track
from radstack.recipes.competition import Cases
from radstack.report.blocks import Block, Figures, Heading, Plot, Section, Table, Words
from radstack.report.cases import BUDGET, Case, disagreement, row_losses, said_table
from radstack.report.evidence import Evidence, aligned
from radstack.report.known import SAID, Known
from radstack.report.page import page
from radstack.report.plots import style, svg
from radstack.report.shift import blocks_of, facts_of
from radstack.running.context import Context
from radstack.running.tables import read_index, read_rows
from radstack.scoring.intervals import conformal, wilson
from radstack.scoring.metrics import coarse
from radstack.scoring.task import NUMBERS, PROBABILITIES
from radstack.stack.predictions import read_tests
from radstack.stack.rows import mean_over_folds
from radstack.stages.apply import again, answers, any_readable, kept
from radstack.stages.stack import stack_folds, task_of

LISTED = 1000
"""Answers, and rows of the quarantine, that are listed one by one."""
EACH, PER_TARGET = 6, 2
"""Cases of each reason, and of each end of a target."""
COVERAGE = 0.9
"""Of intervals around numbers."""
BINS = 5
"""Of probabilities, for the share that held in training."""
LEAST = 5
"""Labeled answers from which on they are drawn."""
SET = "these pictures"
Rename = Callable[[str, str], str]
"""Column and value -> what the page calls it."""


@dataclass(frozen=True)
class Applied:
    """A set that is answered, and what its page says of it."""

    there: Context
    """The competition on these pictures, of :func:`radstack.stages.apply.apply` with :data:`KEEP`."""
    answers: pd.DataFrame
    """``id`` and targets of the submission's rows."""
    quarantine: pd.DataFrame
    """As written beside the answers."""
    known: Known
    scores: pd.DataFrame | None = None
    """Of ``commands/external``, where there are labels."""
    labeled: pd.DataFrame | None = None
    """The labeled rows that were answered: ``id`` (of the submission), columns of the index, targets."""
    renamed: Rename = lambda column, value: value
    pseudonyms: bool = False
    """Whether ``renamed`` hides the names."""

    @property
    def targets(self) -> list[str]:
        """All label columns."""
        return list(self.there.competition.targets)

    @property
    def kind(self) -> str:
        """What is predicted, as of :class:`radstack.scoring.task.Kind`."""
        return self.there.competition.metric.kind.predicts


def found(one: Context) -> pd.DataFrame:
    """A row a picture: ``id``, ``series``, ``group``, ``flag``; the final answer, and ``disagreement`` of the networks.

    The last two are NaN where nothing was answered.
    """
    targets, rows, readable = list(one.competition.targets), localized(one), any_readable(one)
    final = answers(one, by_picture=True).set_index("id")
    networks = (test_means(one, name).reindex(final.index)[targets].to_numpy() for name in voices(one) if readable)
    doubt = disagreement(networks, (len(final), len(targets)))
    flags = [name for name in rows if name == "flag" or str(name).endswith("_flag")]
    words = rows[flags].fillna("").agg(lambda own: ", ".join(filter(None, own)), axis=1) if flags else ""
    row = one.competition.submission.row
    names = rows[list(dict.fromkeys(("id", "series", "group", row)))].assign(flag=words)
    return names.merge(final.assign(disagreement=doubt).reset_index(), on="id", how="left")


def voices(one: Context) -> list[str]:
    """The models whose disagreement counts: the networks; where there is only one, all that the final model is made of."""
    networks = [network.name for network in one.experiments]
    final = one.competition.models.final
    return networks if len(networks) > 1 else [name for name in one.options.only if name != final] or [final]


def test_means(one: Context, name: str) -> pd.DataFrame:
    """What a model says of the pictures, mean over folds: the targets by ``id``."""
    tests = read_tests(one.paths.oof / name, stack_folds(one, name))
    return mean_over_folds(tests, one.competition.targets).set_index("id")


def acquired(one: Context) -> pd.DataFrame:
    """:func:`radstack.report.shift.facts_of` the pictures."""
    return facts_of(localized(one), one.competition.pages.acquisition)


def localized(one: Context) -> pd.DataFrame:
    """The localization table, or the index where no picture could be read."""
    file = one.paths.cache / "boxes.parquet"
    return pd.read_parquet(file) if file.exists() else read_index(one)


KEEP = {"found": found, "facts": acquired}
"""What the page needs of each part of a large folder."""


def applied_page(applied: Applied) -> str:
    """The page as text."""
    there, pictures = applied.there, kept(applied.there, KEEP, "found")
    with style():
        makers = [answers_section(applied, pictures), found_section(applied, pictures)]
        makers += [scores_section(applied)] if applied.scores is not None else []
        browser, chosen = cases_section(applied, pictures)
    lead = (f"{len(pictures):,} pictures of {pictures['group'].nunique():,} patients, answered by "
            f"{there.competition.models.final}.")
    return page(f"{there.competition.title}: {SET}", lead, [*makers, browser], chosen)


def answers_section(applied: Applied, pictures: pd.DataFrame) -> Section:
    """How many, what was said beside what was said in training, how sure that is, and all answers."""
    answers, lost = applied.answers, applied.quarantine
    prior = int((lost["reason"] == "no-picture").sum())
    blocks: list[Block] = [Figures({
        "answers": (f"{len(answers):,}", f"of {pictures['series'].nunique():,} series"),
        "in quarantine": (f"{len(lost):,}", "files and listed names, each with its reason"),
        "flagged": (f"{int((pictures['flag'] != '').sum()):,}", "pictures of which localization is not sure")})]
    if prior:
        blocks.append(Words(f"{prior:,} rows of the list have no usable picture and got the prior.", "warn"))
    if applied.pseudonyms:
        blocks.append(Words("Names on this page are pseudonyms. What is burned into a picture is not: look at the pictures "
                            "before the page leaves.", "warn"))
    blocks += [spread_table(applied), *sure_blocks(applied), all_answers(applied, pictures)]
    return Section("answers", "Answers", "What was said of these pictures, and how sure that is by what is known of "
                   "training.", tuple(blocks))


def spread_table(applied: Applied) -> Table:
    """Mean and range of each target here and, as far as it is known, out of fold in training."""
    tables = {"here": applied.answers[applied.targets]}
    if applied.known.answers is not None:
        tables["training"] = applied.known.answers[[f"{SAID}{name}" for name in applied.targets]].set_axis(
            applied.targets, axis=1)
    rows = [{"target": target, **{f"{name}, {words}": value for name, table in tables.items() for words, value in (
        ("mean", table[target].mean()), ("5 %", table[target].quantile(0.05)), ("95 %", table[target].quantile(0.95)))}}
        for target in applied.targets]
    return Table(pd.DataFrame(rows), "What was said: mean, and where the middle nine tenths end",
                 note="Training: out of fold." if len(tables) > 1 else "")


def sure_blocks(applied: Applied) -> Iterator[Block]:
    """How far answers like these held in training, out of fold."""
    yield Heading("How sure")
    training = applied.known.answers
    if training is None:
        yield Words("How far such answers held in training is not known here: the tables of stage 07 are not there.")
    elif applied.kind == NUMBERS:
        widths = half_widths(applied)
        yield Table(widths, f"Intervals: an answer ± half width holds the label in {COVERAGE:.0%} of the cases",
                    note="Split-conformal (Lei 2018) from the errors out of fold in training. It holds for pictures that "
                    "come from where those come from: see the shift below.")
    else:
        yield Table(held_table(applied, training), "What such answers were worth in training", {
            "share that held": ".1%", "low": ".1%", "high": ".1%"}, "Probabilities in bins: answers here, and of those of "
            "training out of fold the share that held, with its 95 % interval (Wilson). It holds for pictures that come "
            "from where those come from: see the shift below.")


def half_widths(applied: Applied) -> pd.DataFrame:
    """``target``, the columns ``interval_by``, ``half width``, ``training rows``."""
    training, own = applied.known.answers, list(applied.there.competition.pages.interval_by)
    if training is None:
        return pd.DataFrame(columns=["target", "half width", "training rows"])
    own = [name for name in own if name in training]
    parts = training.groupby(own) if own else [((), training)]
    return pd.DataFrame([{"target": target, **dict(zip(own, key)), "half width": conformal(
        (part[target] - part[f"{SAID}{target}"]).dropna().to_numpy(), COVERAGE), "training rows": len(part)}
        for key, part in parts for target in applied.targets])


def held_table(applied: Applied, training: pd.DataFrame) -> pd.DataFrame:
    """A row a target (or group of classes) and bin of probabilities: answers here, and what held in training."""
    rows = []
    here, there = (_called(applied, table, prefix) for table, prefix in ((applied.answers, ""), (training, SAID)))
    for name, (sure, right) in there.items():
        for low in np.arange(BINS) / BINS:
            inside, own = (_in_bin(values, low) for values in (sure, here[name][0]))
            if inside.any() or own.any():
                share = wilson(int(right[inside].sum()), int(inside.sum()))
                rows.append({"of": name, "probability": f"{low:.1f} to {low + 1 / BINS:.1f}", "answers here": int(own.sum()),
                             "in training": int(inside.sum()), **dict(zip(("share that held", "low", "high"), share))})
    return pd.DataFrame(rows)


def _in_bin(values: np.ndarray, low: float) -> np.ndarray:
    return np.minimum((values * BINS).astype(int), BINS - 1) == round(low * BINS)


def _called(applied: Applied, table: pd.DataFrame, prefix: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Target or group -> its probability (of classes: that of the called one), and whether it held where labels are."""
    metric, targets = applied.there.competition.metric, applied.targets
    said = table[[f"{prefix}{name}" for name in targets]].to_numpy(np.float64)
    truth = table[targets].to_numpy(np.float64)
    if applied.kind == PROBABILITIES:
        return {name: (said[:, place], truth[:, place] > 0.5) for place, name in enumerate(targets)}
    pairs = zip(metric.groups, coarse(said, metric.groups), coarse(truth, metric.groups))
    return {group.name: (one.max(axis=1), one.argmax(axis=1) == true.argmax(axis=1)) for group, one, true in pairs}


def all_answers(applied: Applied, pictures: pd.DataFrame) -> Table:
    """The first answers one by one, with their intervals, the networks' disagreement and flags."""
    row = applied.there.competition.submission.row
    by_row = pictures.groupby(row, sort=False).agg(disagreement=("disagreement", "mean"), flag=("flag", _joined))
    table = applied.answers.head(LISTED).merge(by_row, left_on="id", right_index=True, how="left")
    table = table.assign(id=[applied.renamed(row, str(one)) for one in table["id"]])
    more = f" (the first {LISTED:,} of {len(applied.answers):,})" if len(applied.answers) > LISTED else ""
    return Table(table, f"All answers{more}", dict.fromkeys((*applied.targets, "disagreement"), ".3f"),
                 "Disagreement: standard deviation between the networks (where there is one: between the models), the "
                 "largest over targets.", folded=True)


def _joined(words: pd.Series) -> str:
    return ", ".join(dict.fromkeys(word for word in words if word))


def found_section(applied: Applied, pictures: pd.DataFrame) -> Section:
    """Flags, the quarantine, and whether the pictures were taken as those of training."""
    blocks: list[Block] = [*flag_blocks(pictures), *quarantine_blocks(applied)]
    if applied.known.facts is None:
        blocks.append(Words("How the training pictures were taken is not known here (stage 02 or a bundle has it), so that "
                            "no shift is measured."))
    else:
        new = kept(applied.there, KEEP, "facts")
        unknown = [name for name in new if new[name].isna().all() or (new[name] == "").all()]
        new = new.drop(columns=unknown)  # a column that nobody filled says nothing of how a picture was taken
        blocks += [Words(f"Not known of these pictures: {', '.join(unknown)}.")] if unknown else []
        blocks += blocks_of(applied.known.facts, new.assign(group="new " + new["group"].astype(str)), SET)
    return Section("found", "Pictures", "What was found, what was set aside, and whether these pictures are like those of "
                   "training.", tuple(blocks))


def flag_blocks(pictures: pd.DataFrame) -> Iterator[Block]:
    """What localization flagged."""
    flagged = pictures.loc[pictures["flag"] != "", "flag"]
    if flagged.empty:
        yield Words("Localization flagged nothing.", "good")
        return
    counts = flagged.value_counts().rename_axis("flag").reset_index(name="pictures")
    yield Table(counts, f"Pictures of which localization is not sure, of {len(pictures):,}")


def quarantine_blocks(applied: Applied) -> Iterator[Block]:
    """What was set aside: by reason, and one by one."""
    table = applied.quarantine.fillna("")
    if table.empty:
        yield Words("Nothing was set aside: every file is behind an answer.", "good")
        return
    yield Table(table.groupby("reason").size().sort_values(ascending=False).reset_index(name="rows"),
                "Set aside: files and listed names without an answer of their own, by reason")
    more = f" (the first {LISTED:,})" if len(table) > LISTED else ""
    yield Table(table[["id", "path", "reason", "detail"]].head(LISTED), f"Set aside, one by one{more}", folded=True)


def scores_section(applied: Applied) -> Section:
    """The score on the labels with its interval, subgroups and calibration, and drawings of these."""
    assert applied.scores is not None and applied.labeled is not None
    scores, metric = applied.scores, applied.there.competition.metric
    final = applied.there.competition.models.final
    own = scores[scores["model"] == final].iloc[0]
    blocks: list[Block] = [
        Figures({str(metric): (f"{own['score']:.4f}", f"{own['low']:.4f} to {own['high']:.4f}, 95 % over patients"),
                 "labeled answers": (f"{len(applied.labeled):,}", f"of {applied.labeled['group'].nunique():,} patients")}),
        Table(scores.drop(columns="split").set_index("model").T.rename_axis("measure").reset_index(),
              "Score, subgroups and calibration", note="Constant: the best constant on these labels. Score NAME: of a "
              "subgroup. ECE: expected calibration error. Predicted, observed: means.", strong=("score",))]
    if len(applied.labeled) >= LEAST:
        blocks += drawings(applied)
    return Section("scores", "Score on the labels", "How the solution does on these pictures by the labels that were given.",
                   tuple(blocks))


def drawings(applied: Applied) -> Iterator[Block]:
    """Ranking and calibration of probabilities, agreement and errors of numbers, confusion of classes."""
    evidence = evidence_of(applied)
    if applied.kind == PROBABILITIES:
        from radstack.report.probabilities import curves_of, draw_bins, draw_roc, panels

        if curves := curves_of(evidence, {}):
            yield Plot(svg(draw_roc(curves)), "ROC curves, with the area under the curve; the dotted diagonal is chance.")
            yield Plot(svg(panels(curves, draw_bins, "predicted probability", "share of positives", height=2.3, sharex=True,
                                  sharey=True)), "Calibration: share of positives in bins of predicted probability, with 95 "
                       "% intervals; on the dotted diagonal a probability means what it says.")
    elif applied.kind == NUMBERS:
        yield from _number_drawings(applied, evidence)
    else:
        yield from _class_drawings(evidence)


def _number_drawings(applied: Applied, evidence: Evidence) -> Iterator[Block]:
    from radstack.report.numbers import cases_of, draw_agreement, draw_differences, draw_range

    unit = evidence.task.metric.unit
    for target in evidence.task.targets:
        cases = cases_of(evidence, target, evidence.final, None)
        yield Plot(svg(draw_agreement(cases, "", unit), dpi=150), f"Predicted against true {target}.")
        yield Plot(svg(draw_differences(cases, "", unit), dpi=150), "Bland-Altman: predicted less true against the mean.")
        yield Plot(svg(draw_range(cases, {evidence.final: "final"}, unit)), "Calibration: mean error (filled) and mean "
                   "absolute error (hollow) over the true value.")
    if applied.known.answers is not None:
        held = inside_intervals(applied)
        low, high = wilson(int(held.sum()), len(held))[1:]
        yield Words(f"Of {len(held):,} labels {held.mean():.1%} lie in the {COVERAGE:.0%} intervals of training "
                    f"({low:.1%} to {high:.1%}).", "good" if high >= COVERAGE else "warn")


def inside_intervals(applied: Applied) -> np.ndarray:
    """Whether each label lies in the interval around its answer, bool [labeled rows times targets]."""
    assert applied.labeled is not None
    widths, rows = half_widths(applied), applied.labeled
    said = applied.answers.set_index("id").loc[rows["id"]]
    own, held = [name for name in widths if name in applied.there.competition.pages.interval_by], []
    for target in applied.targets:
        width = rows[own].merge(widths[widths["target"] == target], on=own, how="left")["half width"] if own else \
            widths.loc[widths["target"] == target, "half width"].iloc[0]
        held.append(np.abs(rows[target].to_numpy() - said[target].to_numpy()) <= np.asarray(width))
    return np.concatenate(held)


def _class_drawings(evidence: Evidence) -> Iterator[Block]:
    from radstack.report.classes import accuracy_table, called_of, draw_confusion
    from radstack.report.probabilities import draw_bins, panels

    final = evidence.final
    said = {group.name: one for group in evidence.task.metric.groups if (one := called_of(evidence, final, group.name))}
    if not said:
        return
    yield Plot(svg(draw_confusion(said)), "Confusion of the scored classes: rows are the truth, columns what was called.")
    sure = {name: {final: (one.right, one.confidence)} for name, one in said.items()}
    yield Plot(svg(panels(sure, draw_bins, "probability of the called class", "accuracy", height=2.6, sharex=True,
                          sharey=True)), "Calibration: accuracy against the probability of the called class.")
    yield Table(accuracy_table({name: {final: one} for name, one in said.items()}), "Accuracy by class")


def evidence_of(applied: Applied) -> Evidence:
    """The labeled answers as what the drawings of stage 09 are made from."""
    there, rows = applied.there, applied.labeled
    assert rows is not None and applied.scores is not None
    final = there.competition.models.final
    none = pd.DataFrame()
    return Evidence(there, task_of(there), [final], rows, none, none, rows.reset_index(drop=True), np.zeros(len(rows), int),
                    {final: aligned(rows, applied.answers, there.competition.targets)}, applied.scores, none, None)


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
    table = usable.groupby(by, sort=False).agg({**dict.fromkeys(targets, across), "disagreement": "mean", "flag": _joined})
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
