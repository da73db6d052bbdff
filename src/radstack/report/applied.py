"""The page of an applied set: what was found and where, how sure the answers are, what was set aside, and cases to look at.

It is for pictures that nobody labeled; with labels it shows how the solution does on them. Where a picture, a series or a
patient is named, the name goes through a function, by which a page that leaves a hospital has pseudonyms.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from radstack.report.applied_cases import cases_section
from radstack.report.applied_scores import scores_section
from radstack.report.applied_set import COVERAGE, KEEP, Applied, half_widths, joined
from radstack.report.blocks import Block, Figures, Heading, Section, Table, Words
from radstack.report.known import SAID
from radstack.report.page import page
from radstack.report.plots import style
from radstack.report.shift import blocks_of
from radstack.scoring.intervals import wilson
from radstack.scoring.metrics import coarse
from radstack.scoring.task import NUMBERS, PROBABILITIES
from radstack.stages.apply import kept

LISTED = 1000
"""Answers, and rows of the quarantine, that are listed one by one."""
BINS = 5
"""Of probabilities, for the share that held in training."""
SET = "these pictures"


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
    if words := list(dict.fromkeys(kept(applied.there, KEEP, "shortened")["words"])):
        blocks.append(Words(f"For the deadline left out: {'; '.join(words)}.", "warn"))
    if applied.pseudonyms:
        blocks.append(Words("Names on this page are pseudonyms. What is burned into a picture is not: look at the pictures "
                            "before the page leaves.", "warn"))
    blocks += [spread_table(applied), *sure_blocks(applied), all_answers(applied, pictures)]
    return Section("answers", "Answers", "What was said of these pictures, and how sure that is by what is known of "
                   "training.", tuple(blocks))


def spread_table(applied: Applied) -> Table:
    """Mean and range of each target here and, as far as it is known, out of fold in training."""
    tables = {"here": applied.answers[applied.targets].astype(float)}  # a mean of float32 depends on the order of its sum
    if applied.known.answers is not None:
        tables["training"] = applied.known.answers[[f"{SAID}{name}" for name in applied.targets]].set_axis(
            applied.targets, axis=1).astype(float)
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
    known = ((group.name, one[held], true[held]) for group, one, true in pairs for held in [np.isfinite(true).all(axis=1)])
    return {name: (one.max(axis=1), one.argmax(axis=1) == true.argmax(axis=1)) for name, one, true in known}


def all_answers(applied: Applied, pictures: pd.DataFrame) -> Table:
    """The first answers one by one, with their intervals, the networks' disagreement and flags."""
    row = applied.there.competition.submission.row
    by_row = pictures.groupby(row, sort=False).agg(disagreement=("disagreement", "mean"), flag=("flag", joined))
    table = applied.answers.head(LISTED).merge(by_row, left_on="id", right_index=True, how="left")
    table = table.assign(id=[applied.renamed(row, str(one)) for one in table["id"]])
    more = f" (the first {LISTED:,} of {len(applied.answers):,})" if len(applied.answers) > LISTED else ""
    return Table(table, f"All answers{more}", dict.fromkeys((*applied.targets, "disagreement"), ".3f"),
                 "Disagreement: standard deviation between the networks (where there is one: between the models), the "
                 "largest over targets.", folded=True)


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
