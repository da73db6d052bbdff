"""Numbers against numbers: agreement, errors over the range and by part of the data, and intervals that hold."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, SOFT, Axes, Figure, figure, panels, svg
from radstack.scoring.intervals import conformal, wilson

MOST = 4000
"""Points of a scatter, drawn at random by a fixed seed where there are more cases."""
MIDDLE = ("#2f8fd6", "#e0701f", "#1fa67a", "#c06aa8")
"""Colors of points: they are pixels, which cannot change with the page, so these are seen on light and dark."""
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Wanted coverages of intervals."""
LEVEL = 0.9
"""Coverage of the interval that is drawn."""
LIMITS = 1.96
"""Standard deviations to the limits of agreement (Bland and Altman 1986)."""
LEAST = 5
"""Cases of a part that gets a box."""
BINS = 8
"""Of the errors over the range, each with as many cases."""


def number_blocks(evidence: Evidence, single: Mapping[str, str], parts: pd.DataFrame | None) -> list[Block]:
    """Agreement, errors and intervals of every target beside ``single``, its best network; ``parts`` as :func:`cases_of`."""
    blocks: list[Block] = []
    for target in evidence.task.targets:
        other = single.get(target, evidence.final)
        cases = cases_of(evidence, target, other, parts)
        blocks += _blocks(evidence, target, cases, other) if len(cases) > 1 else []
    return blocks


def _blocks(evidence: Evidence, target: str, cases: pd.DataFrame, other: str) -> list[Block]:
    final, unit = evidence.final, evidence.task.metric.unit
    by, models = evidence.context.competition.pages.case_by, {final: "final", **({other: "other"} if other != final else {})}
    part = next((name for name in cases if name.startswith("part ") and 1 < cases[name].nunique() <= len(MIDDLE)), "")
    what = f"One point a {by}, the mean of its rows" if len(cases) < evidence.answered(final).sum() else "One point a case"
    held, named = coverage_table(cases, models), f", {target}" if len(evidence.task.targets) > 1 else ""
    blocks: list[Block] = [
        Heading(f"Agreement and errors{named}"),
        Plot(svg(draw_agreement(cases, part, unit), dpi=150), f"Predicted by {final} against true. {what}; on the solid "
             f"line both are equal, between the dashed lines lie {LEVEL:.0%} of the cases."),
        Plot(svg(draw_differences(cases, part, unit), dpi=150), "Bland-Altman: predicted less true against the mean of "
             f"both, with the mean difference and the limits of agreement (± {LIMITS} standard deviations)."),
        Plot(svg(draw_range(cases, models, unit)), "Mean error (filled, with its 95 % interval) and mean absolute error "
             f"(hollow) over the true value, in up to {BINS} bins of as many cases. A fall from above to below zero is a "
             "pull to the mean."),
        Plot(svg(draw_histogram(cases, models, unit)), "How errors are spread: predicted less true."),
    ]
    names = [name for name in cases if name.startswith("part ") and len(_boxed(cases, name)) > 1]
    if names:
        blocks.append(Plot(svg(draw_boxes(cases, names, unit)), f"Absolute error of {final} by part of the data, ordered "
                           "by true value: median, quartiles, whiskers to 1.5 times their distance; the dot is the mean."))
    if len(held):
        blocks += [
            Plot(svg(draw_coverage(held, models)), "Share of true values within intervals made from the errors of the other "
                 "folds, against the wanted share; on the dotted diagonal intervals hold what they promise."),
            Table(held, "Intervals: prediction ± half width", {
                "wanted": ".0%", **dict.fromkeys(("held", "low", "high"), ".1%"), "half width": ".3g"},
                "Split-conformal (Lei 2018), each fold by the errors of the others; half width in "
                f"{unit or 'units of the target'}, mean over folds; low and high: 95 % interval (Wilson).", folded=True)]
    return blocks


def cases_of(evidence: Evidence, target: str, other: str, parts: pd.DataFrame | None) -> pd.DataFrame:
    """One row a case: ``truth``, ``final``, ``other``, ``fold``, and ``part <name>`` of each column of ``parts``.

    A case's rows are averaged where they share one label, as slices of a volume do; otherwise each row is a case.
    """
    place, by = evidence.task.place(target), evidence.context.competition.pages.case_by
    final = evidence.oof[evidence.final][:, place]
    rows = pd.DataFrame({"truth": evidence.train[target].to_numpy(np.float64), "final": final,
                         "other": evidence.oof[other][:, place], "fold": evidence.fold}).astype(np.float64)
    if parts is not None:
        rows = rows.join(parts.reset_index(drop=True).add_prefix("part "))
    usable = np.isfinite(rows[["truth", "final", "other"]]).all(axis=1)
    rows, keys = rows[usable], evidence.train[by][usable]
    grouped = rows.groupby(keys.to_numpy(), sort=False)
    if len(grouped) == len(rows) or (grouped["truth"].transform("first") != rows["truth"]).any():
        return rows.reset_index(drop=True)
    kinds = {name: "first" if name.startswith("part ") else "mean" for name in rows}
    return grouped.agg(kinds).reset_index(drop=True)


def _scatter(ax: Axes, cases: pd.DataFrame, x: pd.Series, y: pd.Series, part: str) -> None:
    """At most ``MOST`` points as pixels, colored by ``part``; few ones are larger."""
    shown = cases.sample(min(MOST, len(cases)), random_state=0).index
    size, alpha = (14, 0.75) if len(shown) < 400 else (6, 0.45)
    values = cases.loc[shown, part].astype(str) if part else pd.Series("", index=shown)
    for color, (name, held) in zip(MIDDLE, values.groupby(values)):
        ax.scatter(x[held.index], y[held.index], s=size, alpha=alpha, color=color, lw=0, rasterized=True)
        if part:
            ax.plot([], [], "o", color=color, ms=4, label=name)
    if part:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(MIDDLE), handletextpad=0.2, borderpad=0)


def draw_agreement(cases: pd.DataFrame, part: str, unit: str) -> Figure:
    """Predicted against true with the identity and the interval of ``LEVEL``."""
    made, ax = figure(height=3.9)
    _scatter(ax, cases, cases["truth"], cases["final"], part)
    ends = np.array([cases[["truth", "final"]].min().min(), cases[["truth", "final"]].max().max()])
    width = conformal((cases["final"] - cases["truth"]).to_numpy(), LEVEL)
    ax.plot(ends, ends, color=COLORS[7], lw=1.2)
    for shift in (-width, width) if np.isfinite(width) else ():
        ax.plot(ends, ends + shift, color=COLORS[7], lw=1, ls="--")
    ax.set(xlabel=with_unit("true", unit), ylabel=with_unit("predicted", unit))
    return made


def draw_differences(cases: pd.DataFrame, part: str, unit: str) -> Figure:
    """Differences against means with their limits (Bland and Altman 1986)."""
    made, ax = figure(height=3.9)
    error = cases["final"] - cases["truth"]
    _scatter(ax, cases, (cases["final"] + cases["truth"]) / 2, error, part)
    mean, spread = error.mean(), error.std()
    for value, name, dash in ((mean, "mean\n", "-"), (mean - LIMITS * spread, "", "--"), (mean + LIMITS * spread, "", "--")):
        ax.axhline(value, color=COLORS[7], lw=1.2, ls=dash)
        ax.annotate(f"{name} {value:+.3g}".strip(), (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0),
                    textcoords="offset points", fontsize=8, va="center", annotation_clip=False)
    ax.set(xlabel=with_unit("mean of predicted and true", unit), ylabel=with_unit("predicted less true", unit))
    return made


def draw_range(cases: pd.DataFrame, models: Mapping[str, str], unit: str) -> Figure:
    """Mean error and mean absolute error of ``models`` (name -> column) in bins of the true value."""
    made, ax = figure(height=3.3)
    ax.axhline(0, color=COLORS[7], lw=1)
    for color, (name, column) in zip(COLORS, models.items()):
        table = range_table(cases["truth"], cases[column] - cases["truth"])
        low, high = table["bias"] - table["margin"], table["bias"] + table["margin"]
        ax.fill_between(table["truth"], low, high, color=color, alpha=0.15, lw=0)
        ax.plot(table["truth"], table["bias"], "o-", ms=4, color=color, label=f"{name}, mean error")
        ax.plot(table["truth"], table["size"], "o:", ms=4, mfc="none", color=color, label=f"{name}, absolute")
    ax.set(xlabel=with_unit("true", unit), ylabel=with_unit("error", unit))
    made.legend(loc="outside upper left", ncols=2, fontsize=7.5)
    return made


def range_table(truth: pd.Series, error: pd.Series) -> pd.DataFrame:
    """``truth``, ``bias``, its 95 % ``margin``, and ``size`` (means of a bin), bins of as many cases by the true value."""
    count = min(BINS, max(len(truth) // LEAST, 1))
    bins = pd.qcut(truth.rank(method="average"), count, duplicates="drop") if truth.nunique() > 1 else np.zeros(len(truth))
    rows = pd.DataFrame({"truth": truth, "bias": error, "size": error.abs()}).groupby(bins, observed=True)
    spread = rows["bias"].sem().fillna(0)
    return rows.mean().assign(margin=LIMITS * spread).reset_index(drop=True)


def draw_histogram(cases: pd.DataFrame, models: Mapping[str, str], unit: str) -> Figure:
    """Errors of ``models`` in bins between their 0.5 and 99.5 percentiles; rarer ones count to the outermost."""
    made, ax = figure(height=3.3)
    errors = {name: (cases[column] - cases["truth"]).to_numpy() for name, column in models.items()}
    low, high = np.quantile(np.concatenate(list(errors.values())), [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-9), 31)
    for place, (name, error) in enumerate(errors.items()):
        ax.hist(np.clip(error, low, edges[-1]), edges, histtype="stepfilled" if not place else "step", color=COLORS[place],
                alpha=0.45 if not place else 1, label=f"{name}, SD {error.std():.3g}")
    ax.axvline(0, color=COLORS[7], lw=1)
    ax.set(xlabel=with_unit("predicted less true", unit), ylabel="cases")
    made.legend(loc="outside upper left", ncols=2)
    return made


def coverage_table(cases: pd.DataFrame, models: Mapping[str, str]) -> pd.DataFrame:
    """How often intervals from the errors of the other folds hold, by model and level; without rows for a single fold."""
    fold, rows = cases["fold"].to_numpy(), []
    for name, column in models.items():
        errors = np.abs(cases[column] - cases["truth"]).to_numpy()
        for level in LEVELS if len(np.unique(fold)) > 1 else ():
            widths = {one: conformal(errors[fold != one], level) for one in np.unique(fold)}
            half = np.array([widths[one] for one in fold])
            share, low, high = wilson(int((errors <= half).sum()), len(errors))
            rows.append({"model": name, "wanted": level, "held": share, "low": low, "high": high,
                         "half width": float(np.mean(list(widths.values()))) if np.isfinite(half).all() else np.nan})
    return pd.DataFrame(rows)


def draw_coverage(table: pd.DataFrame, models: Mapping[str, str]) -> Figure:
    """Reached against wanted coverage with Wilson intervals."""
    made, ax = figure(height=3.3)
    ax.plot([LEVELS[0], 1], [LEVELS[0], 1], color=SOFT, ls=":", lw=1.2)
    for place, name in enumerate(models):
        own = table[table["model"] == name]
        where = own["wanted"] + 0.004 * place
        ax.vlines(where, own["low"], own["high"], color=COLORS[place], lw=1)
        ax.plot(where, own["held"], "o-", ms=4, color=COLORS[place], label=name)
    ax.set(xlabel="wanted share", ylabel="share held")
    ax.legend(loc="upper left")
    return made


def draw_boxes(cases: pd.DataFrame, names: list[str], unit: str) -> Figure:
    """Boxes of the absolute error by part, one panel a column of parts."""
    from matplotlib.cbook import boxplot_stats

    groups, line = {name.removeprefix("part "): _boxed(cases, name) for name in names}, {"color": COLORS[0], "lw": 1.1}

    def panel(ax: Axes, held: dict[str, np.ndarray]) -> None:
        stats = [boxplot_stats(errors)[0] | {"label": f"{value} ({len(errors):,})"} for value, errors in held.items()]
        ax.bxp(stats[::-1], orientation="horizontal", showfliers=False, showmeans=True, boxprops=line, whiskerprops=line,
               capprops=line, medianprops={"color": COLORS[1]},
               meanprops={"marker": "o", "mfc": COLORS[0], "mec": COLORS[0], "ms": 3.5})
        ax.tick_params(axis="y", length=0, labelsize=8)

    return panels(groups, panel, with_unit("absolute error", unit), across=1, sharex=True,
                  height=0.26 * max(map(len, groups.values())) + 0.7)


def _boxed(cases: pd.DataFrame, name: str) -> dict[str, np.ndarray]:
    """Absolute errors of each part of ``LEAST`` cases or more, in the order of the parts' mean true value."""
    error, groups = (cases["final"] - cases["truth"]).abs(), cases.groupby(name, observed=True)
    order = groups["truth"].mean().sort_values().index
    found = {str(value): error.loc[groups.groups[value]].to_numpy() for value in order}
    return {value: held for value, held in found.items() if len(held) >= LEAST}


def with_unit(words: str, unit: str) -> str:
    """``words, unit``; without a unit the words."""
    return f"{words}, {unit}" if unit else words
