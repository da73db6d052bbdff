"""Section Result: how good it is, how sure that is, and what each addition brought."""

import numpy as np
import pandas as pd

from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Outside, Stacker
from radstack.report.blocks import Block, Figures, Heading, Plot, Section, Table, Words
from radstack.report.ensemble import additions
from radstack.report.evidence import Evidence
from radstack.report.leaderboard import leaderboard
from radstack.report.plots import COLORS, figure, svg
from radstack.report.several import several_blocks
from radstack.report.terminal import unbeaten_models
from radstack.scoring.named import direction

LIMITS = ("constant", "floor")
"""Rows of the score table that are no model."""


def result(evidence: Evidence) -> Section:
    """Constant, models, sequence models, stacks and floor; the verdict on each addition; the scores of others."""
    blocks: list[Block] = [headline(evidence), ranking(evidence), scores_table(evidence), *unbeaten(evidence)]
    added = additions(evidence)
    if len(added):
        blocks.append(verdicts(added))
    blocks += [*several_blocks(evidence), *leaderboard(evidence), *published(evidence)]
    lead = ("Each row is scored by models that never saw its patient, and by stacks fitted on the other folds. Intervals "
            "are 95 %, from a bootstrap over patients. Lower is better.")
    return Section("result", "Result", lead, tuple(blocks))


def headline(evidence: Evidence) -> Figures:
    """The four or five numbers that a reader looks for first."""
    table, final = evidence.scored(), evidence.final
    networks = table.loc[[name for name in evidence.experiments if name in table.index], "score"].dropna()
    shown = {"Constant prediction": _score(table, "constant")}
    if len(networks):
        shown["Best single network"] = _score(table, networks.idxmin(), f"{networks.idxmin()}, ")
    shown["Submitted"] = _score(table, final, f"{final}, ")
    if "floor" in table.index:
        shown["Floor"] = (f"{table.loc['floor', 'score']:.4f}", "the best that is possible")
        shown["Efficiency"] = (f"{table.loc[final, 'efficiency']:.0%}", "of the way from constant to floor")
    tested = evidence.scored("test")
    if final in tested.index:
        shown["On test phantoms"] = _score(tested, final)
    return Figures(shown)


def _score(table: pd.DataFrame, name: str, before: str = "") -> tuple[str, str]:
    row = table.loc[name]
    sure = "" if pd.isna(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"
    return f"{row['score']:.4f}", before + sure


def ranking(evidence: Evidence) -> Plot:
    """Every model's score with its interval, in the order of the recipes."""
    splits = [split for split in ("out of fold", "test") if len(evidence.scored(split))]
    scored = evidence.scored()["score"].dropna()  # networks of one group of classes have no score
    names = [name for name in scored.index if name not in LIMITS]  # a baseline stands beside the models
    made, ax = figure(9.5, 0.9 + 0.24 * len(names))
    for place, split in enumerate(splits):
        own = evidence.scored(split).reindex(names)
        y = np.arange(len(names)) + 0.22 * (place - (len(splits) - 1) / 2)
        reach = own[["low", "high"]].sub(own["score"], axis=0).abs().to_numpy().T
        ax.errorbar(own["score"], y, xerr=reach, fmt="o", markersize=4, linewidth=1.2, color=COLORS[place],
                    label=split)
    # A model far worse than the constant (a vote, a network that failed) must not squeeze all others.
    table = evidence.scored()
    worst = min(1.35 * table.loc["constant", "score"], table.loc[["constant", *names], "high"].max())
    best = np.nanmin(table[["low", "score"]].to_numpy())
    margin = 0.04 * (worst - best)
    for name, style in zip(LIMITS, ("--", ":")):
        if name in table.index:
            ax.axvline(table.loc[name, "score"], color=COLORS[7], linestyle=style, label=name)
    ax.set(yticks=np.arange(len(names)), yticklabels=names, xlabel=str(evidence.task.metric), ylim=(len(names) - 0.5, -0.5),
           xlim=(best - margin, worst + margin))
    for place, score in enumerate(scored[names]):
        if score > ax.get_xlim()[1]:  # as a vote's, whose probabilities are 0 and 1
            ax.annotate(f"{score:.3g} \N{RIGHTWARDS ARROW}", (0.995, place), xycoords=("axes fraction", "data"), ha="right",
                        va="center", fontsize=8, color=COLORS[0])
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    caption = ("Every model with its 95 % interval over patients. Two intervals may overlap where one model is surely "
               "better: both met the same patients, and the table of additions compares them in pairs.")
    return Plot(svg(made), caption, wide=True)


def scores_table(evidence: Evidence) -> Table:
    """Scores of both splits side by side."""
    table = evidence.scored()
    words = {Experiment: "network", Sequence: "sequence model", Stacker: "stack", Outside: "given"}
    kinds = {name: words[type(recipe)] for name, recipe in evidence.recipes.items()}
    kinds |= {f"{name}, {one}": "single network" for name, single in evidence.single.items() for one in single}
    kinds |= {one.name: "without a picture" for one in evidence.context.competition.pages.baselines}
    shown = pd.DataFrame({"model": table.index, "kind": [kinds.get(name, "limit") for name in table.index],
                          "out of fold": table["score"], "low": table["low"], "high": table["high"]})
    also = evidence.task.metric.also
    if also in table:
        shown = shown.assign(**{name: table[name] for name in (also, f"{also} low", f"{also} high")})
    if "efficiency" in table:
        shown["efficiency"] = table["efficiency"]
    shown = shown.assign(**{group.name: table[f"loss {group.name}"] for group in evidence.task.metric.groups})
    tested = evidence.scored("test")
    if len(tested):
        tested = tested.reindex(table.index)
        shown = shown.assign(**{"test": tested["score"], "test low": tested["low"], "test high": tested["high"],
                                "test efficiency": tested["efficiency"]})
    notes = [f"{split}: {labels}" for split, labels in evidence.context.competition.pages.labels.items()]
    note = "Constant: the share or median of the labels of other folds, for test of all training rows. "
    note += "Efficiency is (constant - score) / (constant - floor). " if "efficiency" in shown else ""
    efficiencies = dict.fromkeys(("efficiency", "test efficiency"), ".2f")
    note += f"{also}: {direction(also)}. " if also in table else ""
    return Table(shown, "Scores", dict.fromkeys(shown, ".4f") | efficiencies, note + "; ".join(notes),
                 strong=(evidence.final,))


def unbeaten(evidence: Evidence) -> list[Block]:
    """Models that are no better than what is known without a picture, a warning for each such limit."""
    baselines = [one.name for one in evidence.context.competition.pages.baselines]
    return [Words(f"{line[0].upper()}{line[1:]}.", "warn") for line in unbeaten_models(evidence.scored(), baselines)]


def verdicts(added: pd.DataFrame) -> Table:
    """The additions with what they are worth in words."""
    words = added["verdict"].replace({"better": "better, more than noise", "worse": "worse, more than noise"})
    return Table(added[["model", "over", "gain", "low", "high"]].assign(verdict=words),
                 "What each addition brought over its best member", dict.fromkeys(("gain", "low", "high"), "+.4f"),
                 "Paired by patient, out of fold; noise: the 95 % interval holds zero. The best member is chosen on these "
                 "very rows, so that gains are understated rather than overstated.")


def published(evidence: Evidence) -> list[Block]:
    """The scores of others, each with its data named."""
    table = evidence.scores[evidence.scores["split"] == "published"]
    if not len(table):
        return []
    shown = table[["model", "score", "labels", "source"]].rename(columns={"labels": "data"})
    warning = ("Phantoms are another competition than the real one: their scores and those of others do not compare."
               if evidence.context.competition.phantoms else "Scores of other rows or other labels do not compare.")
    return [Heading("Scores of others"), Words(warning, "warn"),
            Table(shown, "By the same metric, each on its own data", {"score": ".4g"})]
