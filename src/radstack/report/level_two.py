"""What level two learned, from its manifests: weights, importances, calibration, kernels, slices; the rest as tables."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from radstack.recipes.stacker import Stacker
from radstack.report.blocks import Block, Heading, Plot, Table
from radstack.report.evidence import Evidence
from radstack.report.plots import COLORS, SOFT, figure, svg
from radstack.stack.method import TAKEN
from radstack.stack.predictions import fold_files

FEATURES = 15
"""Features whose importance is shown."""
PARTS = 6
"""Parts of a blend (sexes, classes) that a drawing of its weights still holds."""
Notes = Mapping[str, Any]
"""``fold0`` ... -> what a method learned of the other folds, as its manifest holds it."""
Show = Callable[[Stacker, Notes, Evidence], list[Block]]


def learned_blocks(evidence: Evidence, stackers: list[Stacker]) -> list[Block]:
    """Theme by theme what ``stackers`` learned; notes of methods without a theme, or that do not fit it, as plain tables."""
    made: dict[str, list[Block]] = {heading: [] for heading, _ in [*THEMES.values(), (REST, plain)]}
    for one, notes in ((one, notes_of(evidence, one.name)) for one in stackers):
        heading, show = THEMES.get(one.method, (REST, plain))
        blocks = show(one, notes, evidence) if notes else []
        made[heading if blocks else REST] += blocks or (plain(one, notes, evidence) if notes else [])
    # Drawings first: they stand side by side, and a table between them would break the row.
    return [block for heading, blocks in made.items() if blocks
            for block in (Heading(heading), *sorted(blocks, key=lambda one: isinstance(one, Table)))]


def notes_of(evidence: Evidence, name: str) -> dict[str, Any]:
    """Notes of each fold from the first manifest that a stacker has; folds without notes are left out."""
    for fold in np.unique(evidence.fold):
        facts = evidence.manifest(fold_files(evidence.context.paths.oof / name, int(fold))[0])
        if "learned" in facts:
            return {key: value for key, value in facts["learned"].items() if value}
    return {}


def plain(stacker: Stacker, notes: Notes, _: Evidence) -> list[Block]:
    """All notes as they are: a row an entry, a column a fold."""
    table = pd.DataFrame({fold: dict(_flat(note)) for fold, note in notes.items()})
    table = table.rename_axis("note").reset_index()
    return [Table(table, f"{stacker.name}: notes of {stacker.method}, fold by fold", folded=True)]


def _flat(note: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Entries of nested dictionaries under their joined names; lists as text."""
    if isinstance(note, dict):
        for key, value in note.items():
            yield from _flat(value, (*path, str(key)))
    else:
        text = ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in np.ravel(note)) \
            if isinstance(note, list) else note
        yield ", ".join(path), text


def blend_weights(stacker: Stacker, notes: Notes, targets: tuple[str, ...]) -> pd.DataFrame:
    """Weights as they are applied (equal ones where a fit was not kept): ``part``, ``member``, ``fold``, ``weight``.

    A member that was left out has the weight 0.
    """
    rows = []
    for fold, names, path, found in ((fold, taken(stacker, note), *one) for fold, note in notes.items()
                                     for one in _with_weights(note)):
        weights = np.asarray(found["weights"], float).reshape(len(names), -1)
        if not found.get("kept", True):
            weights = np.full_like(weights, 1 / len(weights))
        for target, column in zip(targets if weights.shape[1] > 1 else [""], weights.T):
            part = ", ".join((*path, target) if target else path)
            own = dict(zip(names, column.tolist(), strict=True))
            rows += [{"part": part, "member": member, "fold": fold.replace("fold", "fold "), "weight": own.get(member, 0.0)}
                     for member in stacker.members]
    return pd.DataFrame(rows)


def taken(stacker: Stacker, note: Any) -> tuple[str, ...]:
    """The members that the fit of a fold took, in the order of what it learned."""
    return tuple(note.get(TAKEN, stacker.members))


def _with_weights(note: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Each nested dictionary that holds ``weights``, and the names on the way to it."""
    if isinstance(note, dict) and "weights" in note:
        yield path, note
    elif isinstance(note, dict):
        for key, value in note.items():
            yield from _with_weights(value, (*path, str(key)))


def weights(stacker: Stacker, notes: Notes, evidence: Evidence) -> list[Block]:
    """Weights of a blend: a drawing of few parts, and a folded table; nothing where there is one member."""
    table = blend_weights(stacker, notes, evidence.task.targets) if len(stacker.members) > 1 else pd.DataFrame()
    if not len(table):
        return []
    if len(evidence.task.targets) == 1:  # its name says nothing beside the parts
        table["part"] = table["part"].str.replace(rf"(, )?{re.escape(evidence.task.targets[0])}$", "", regex=True)
    wide = table.pivot_table(index=["part", "member"], columns="fold", values="weight", sort=False)
    wide = wide.assign(mean=wide.mean(axis=1)).reset_index()
    wide = wide if table["part"].nunique() > 1 else wide.drop(columns="part")
    shown = Table(wide, f"{stacker.name}: weights fold by fold", dict.fromkeys(wide.columns[1:], ".3f"),
                  "Where a fit did not pay inside its training folds, members count equally.", folded=True)
    if table["part"].nunique() > PARTS:
        return [shown]
    return [Plot(weight_plot(stacker, table), f"{stacker.name}: weight of each member; a small dot is a fold, a large one "
                 "their mean. Folds that differ widely mean that members are exchangeable."), shown]


def weight_plot(stacker: Stacker, table: pd.DataFrame) -> str:
    """Weights of :func:`blend_weights`, members from top to bottom, parts in colors."""
    parts = list(dict.fromkeys(table["part"]))
    made, ax = figure(5.2, 0.9 + (0.2 + 0.05 * len(parts)) * len(stacker.members))
    for number, part in enumerate(parts):
        own = table[table["part"] == part].pivot_table(index="member", columns="fold", values="weight").loc[
            list(stacker.members)]
        y = np.arange(len(own)) + 0.5 * (number + 0.5) / len(parts) - 0.25
        ax.plot(own.to_numpy(), np.tile(y[:, None], own.shape[1]), ".", color=COLORS[number], markersize=4, alpha=0.6)
        ax.plot(own.mean(axis=1), y, "o", color=COLORS[number], markersize=6, label=part)
    ax.set(xlabel="weight", yticks=range(len(own)), yticklabels=list(own.index), ylim=(len(own) - 0.5, -0.5), xlim=(
        -0.02, None))
    ax.tick_params(axis="y", labelsize=8)
    if len(parts) > 1:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
    return svg(made)


def importances(stacker: Stacker, notes: Notes, _: Evidence) -> list[Block]:
    """The features that trees use most, mean over folds and classes."""
    named = [(found, taken(stacker, note)) for note in notes.values() for name, found in note.items() if name != TAKEN]
    fits = [found for found, _ in named]
    shares = pd.DataFrame([{readable(name, members): gain for name, gain in found["gain"].items()}
                           for found, members in named if isinstance(found, dict) and found.get("gain")])
    if shares.empty:
        return []
    mean = shares.fillna(0.0).mean().nlargest(FEATURES)
    made, ax = figure(5.2, 0.8 + 0.18 * len(mean))
    ax.barh(list(mean.index), mean, color=COLORS[0], height=0.7)
    ax.set(xlabel="share of the importance", ylim=(len(mean) - 0.5, -0.5))
    ax.tick_params(axis="y", labelsize=7)
    trees = [found["trees"] for found in fits if isinstance(found, dict) and "trees" in found]
    grown = f" of {min(trees)} to {max(trees)} trees" if trees else ""
    kept = len(fits) - len(shares)
    less = f"; {kept} more have too few patients and keep the blend" if kept else ""
    return [Plot(svg(made), f"{stacker.name}: what the trees look at, mean over {len(shares)} fits{grown} (one a class and "
                 f"fold{less}). Only the ten best features of each fit are counted.")]


def readable(feature: str, members: tuple[str, ...]) -> str:
    """A column of :func:`radstack.stack.features.class_features` in words, members by name: ``resnet: any``."""
    found = re.fullmatch(r"(m\d+|blend)(?:_(.+)|([+-]\d+))", feature)
    if not found:
        return feature.replace("_", " ")
    source = found[1] if found[1] == "blend" else members[int(found[1][1:])]
    what = f"slice {found[3]}" if found[3] else found[2].replace("series_mean", "mean of the series")
    return f"{source}: {what}"


def calibration(stacker: Stacker, notes: Notes, _: Evidence) -> list[Block]:
    """What was decided for each target: in how many folds a calibration was kept, its gain, scale and bias."""
    rows = pd.DataFrame([{"target": target, **found} for note in notes.values() for target, found in note.items()
                         if target != TAKEN])
    table = rows.groupby("target", sort=False).agg(kept=("kept", "sum"), **{name: (name, "mean") for name in (
        "gain", "error", "scale", "bias")}).reset_index()
    table["kept"] = [f"{kept} of {len(notes)} folds" for kept in table["kept"]]
    return [Table(table, f"{stacker.name}: calibration of each target, mean over folds",
                  {"gain": "+.5f", "error": ".5f", "scale": ".3f", "bias": "+.3f"},
                  "Gain in log loss by cross-fitting inside the training folds, its standard error, and the line scale x "
                  "log odds + bias that was fitted; applied only where it was kept. A scale below 1 says that the members "
                  "are overconfident.")]


def corrections(stacker: Stacker, notes: Notes, evidence: Evidence) -> list[Block]:
    """What is added to an answer, by the answer: a line a fold and target, dotted where it did not pay."""
    made, ax = figure(5.2, 2.8)
    fits = [(number, note[target]) for note in notes.values() for number, target in enumerate(evidence.task.targets)]
    for number, found in fits:
        ax.plot(found["answers"], found["corrections"], "-" if found["kept"] else ":", color=COLORS[number % len(COLORS)])
    unit = f", {evidence.task.metric.unit}" if evidence.task.metric.unit else ""
    ax.axhline(0, color=SOFT, linewidth=0.7)
    ax.set(xlabel=f"answer{unit}", ylabel=f"added to it{unit}")
    kept = sum(found["kept"] for _, found in fits)
    return [Plot(svg(made), f"{stacker.name}: what is added to an answer, a line a fold: the median error of training rows "
                 f"with answers near it. It pays, and is applied, in {kept} of {len(fits)} fits; dotted where not.")]


def kernels(stacker: Stacker, notes: Notes, _: Evidence) -> list[Block]:
    """How neighboring slices are weighted, mean over folds; targets of one kernel share a row."""
    means = {target: np.mean([note[target] for note in notes.values()], axis=0) for target in next(iter(notes.values()))}
    rows: dict[tuple[float, ...], list[str]] = {}
    for target, kernel in means.items():
        rows.setdefault(tuple(kernel.round(4)), []).append(target)
    reach = len(next(iter(rows))) // 2
    columns = ["this slice" if not offset else f"slice {offset:+d}" for offset in range(-reach, reach + 1)]
    table = pd.DataFrame(list(rows), columns=columns)
    table.insert(0, "targets", ["all" if len(names) == len(means) else ", ".join(names) for names in rows.values()])
    return [Table(table, f"{stacker.name}: weights of neighboring slices", dict.fromkeys(columns, ".3f"))]


def along_slices(stacker: Stacker, notes: Notes, _: Evidence) -> list[Block]:
    """What each slice number counts, by target and member: the mean over folds, and each fold faintly."""
    from matplotlib.ticker import MaxNLocator

    made, ax = figure(5.2, 2.8)
    found: dict[str, list[np.ndarray]] = {}
    for note in notes.values():
        for target, values in ((target, values) for target, values in note.items() if target != TAKEN):
            for member, own in zip(taken(stacker, note), np.atleast_2d(values), strict=True):
                found.setdefault(member if len(stacker.members) > 1 else target, []).append(own)
    lines = [(name, np.stack(values)) for name, values in found.items()]
    for number, (name, values) in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        ax.plot(values.T, color=SOFT if len(lines) == 1 else color, linewidth=0.7, alpha=0.7 if len(lines) == 1 else 0.3)
        ax.plot(values.mean(axis=0), color=color, marker=".", label=name)
    ax.set(xlabel="slice, front to back", ylabel="share", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if 1 < len(lines) <= len(COLORS):
        ax.legend()
    what = "weight" if "weight" in stacker.method else "importance"
    return [Plot(svg(made), f"{stacker.name}: {what} of each slice, mean over folds, with each fold as a thin line.")]


REST = "What else was learned"
"""Heading of the plain tables."""
BLENDS, TREES, STEPS, SLICES = "Weights of the blends", "What the trees look at", "Calibration and smoothing", \
    "What each slice counts"
THEMES: dict[str, tuple[str, Show]] = {
    "weights": (BLENDS, weights), "climb": (BLENDS, weights), "linear": (BLENDS, weights),
    "lightgbm": (TREES, importances), "forest": (TREES, importances), "calibrate": (STEPS, calibration),
    "correct_bias": (STEPS, corrections), "choose": (BLENDS, weights), "shrink": (STEPS, calibration),
    "smooth": (STEPS, kernels), "series_weights": (SLICES, along_slices), "series_forest": (SLICES, along_slices),
    "series_extra_trees": (SLICES, along_slices),
}
"""Stacking method -> heading and what shows its notes."""
