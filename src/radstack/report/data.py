"""Section data: patients and rows of each fold, labels, strata, what was set aside, and what the networks see."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pandas as pd

from radstack.core.folds import fold_of, patients_on_both_sides
from radstack.images import windows
from radstack.images.shards import Shards, shard_path
from radstack.recipes.experiment import Drawn
from radstack.report.added import added_blocks
from radstack.report.blocks import Block, Figures, Heading, Picture, Plot, Section, Table, Words
from radstack.report.evidence import Evidence
from radstack.report.images import data_uri, fitted, sheet
from radstack.report.plots import COLORS, INK, SOFT, figure, svg
from radstack.report.shift import shift_of_test
from radstack.running.tables import read_folds
from radstack.scoring.task import NUMBERS, parts_of

LISTED = 200
"""Rows of a list of single pictures."""
PICTURES, SEEN, VIEWS = 12, 6, 6
"""Random pictures of the cache, how many of them are shown as each view, how many views."""
LONGEST, WIDTH = 180, 1200
"""Pixels that small pictures are enlarged to and large ones shrunk; pixels of a row of them."""
LEGEND = {"ncols": 5, "loc": "lower right", "bbox_to_anchor": (1, 1), "fontsize": 8, "frameon": False, "labelcolor": INK}
"""Above the axes, in the page's ink."""


def data(evidence: Evidence) -> Section:
    """The section."""
    labels = numbers if evidence.task.metric.kind.predicts == NUMBERS else classes
    blocks = (*sizes(evidence), Heading("Labels"), *labels(evidence), *slices_a_series(evidence.index), *spreads(evidence),
              *shift_of_test(evidence), *added_blocks(evidence), Heading("Pictures"), *pictures(evidence),
              Heading("What was set aside or looks odd"), *quarantine(evidence.quarantine), *faulty_fields(evidence.index),
              *flags(evidence))
    return Section("data", "Data", "Patients are dealt into folds once, with all rows; test has no labels here.", blocks)


def sizes(evidence: Evidence) -> Iterator[Block]:
    """The numbers of train and test, a table of the folds, and a warning where patients are in train and in test."""
    index, fold = evidence.index, fold_of(evidence.index, read_folds(evidence.context))
    what, parts = columns_of(index), {f"fold {number}": rows for number, rows in index.groupby(fold) if number >= 0}
    parts |= dict(list(index.groupby("split", sort=False)))
    table = pd.DataFrame([{"part": part, **{name: rows[column].nunique() for name, column in what.items()}}
                          for part, rows in parts.items()])
    whole = table["part"].isin(index["split"].unique())
    yield Figures({**{f"{name}, {part}": (f"{number:,}", "in the index")
                      for part, *found in table[whole].itertuples(index=False) for name, number in zip(what, found)},
                   "set aside": (f"{len(evidence.quarantine):,}", "files or rows")})
    used = pd.Series(evidence.fold).value_counts().rename(lambda number: f"fold {number}").to_dict()
    table["used"] = table["part"].map({**used, "train": len(evidence.train)})
    ends = table[~whole].sort_values("rows").iloc[[0, -1]][["part", "rows", "patients"]].to_numpy()
    note = "The {} is {} ({:,} rows of {:,} patients), the {} {} ({:,} rows of {:,})."
    yield Table(table, "Patients and rows of the index in each fold and split; used are the training rows that are cached "
                "and learned from.", dict.fromkeys(("used", *what), ",.0f"),
                note.format("smallest", *ends[0], "largest", *ends[1]), strong=tuple(table["part"][whole]))
    if origin := evidence.manifest(evidence.context.paths.folds / "folds.csv").get("origin"):
        yield Words(f"The folds were given: {'; '.join([origin['from'], *origin['notes']])}. Told by {origin['by']}, "
                    f"SHA-256 {origin['sha256'][:16]}.")
    both = patients_on_both_sides(index)
    if both:
        yield Words(f"Some patients are in train and in test ({len(both):,}), such as {both[0]}: networks meet them again "
                    "on test. Scores out of fold are not touched by that.", "warn")


def columns_of(rows: pd.DataFrame) -> dict[str, str]:
    """What is counted in a table: name -> column; series only where one has several rows."""
    return {"rows": "id", **({"series": "series"} if rows["series"].nunique() < len(rows) else {}), "patients": "group"}


def classes(evidence: Evidence) -> Iterator[Block]:
    """How frequent each target is, overall and in each fold; classes of one group together."""
    task, truth = evidence.task, evidence.truth
    held = pd.DataFrame(np.where(np.isnan(truth), np.nan, truth > 0.5), columns=list(task.targets))
    table = pd.DataFrame({"target": task.targets})
    for name, column in columns_of(evidence.train).items():
        any_of = held.groupby(evidence.train[column].to_numpy()).max()  # NaN where no row has the label
        table[name], table[f"share of {name}"] = any_of.sum().to_numpy(), any_of.mean().to_numpy()
    yield Table(table, "Training rows where each target holds, and patients or series with at least one such row; shares "
                "are of those with a label.",
                {str(name): ".2%" if str(name).startswith("share") else ",.0f" for name in table})
    groups = {group.name: len(group.classes) for group in task.metric.groups} or {"": len(task.targets)}
    for name, part in zip(groups, np.split(np.arange(len(task.targets)), np.cumsum(list(groups.values()))[:-1])):
        yield Plot(share_drawing([task.targets[place] for place in part], truth[:, part], evidence.fold),
                   f"How frequent each {f'class of {name}' if name else 'target'} is: the bar over all training rows, a dot "
                   "for each fold. Dots far from the bar's end mean folds that are hard to compare.")


def share_drawing(names: list[str], truth: np.ndarray, fold: np.ndarray) -> str:
    """Bars of the share of each of ``names`` in ``truth`` [rows, names], and a dot for each fold, as SVG."""
    labeled = np.isfinite(truth).all(axis=1)
    truth, fold = truth[labeled], fold[labeled]
    drawing, ax = figure(5.6, 0.9 + 0.32 * len(names))
    overall, folds, level = truth.mean(axis=0) * 100, np.unique(fold), np.arange(len(names))
    ax.barh(level, overall, color=SOFT, height=0.7)
    for place, number in enumerate(folds):
        offset = (place - (len(folds) - 1) / 2) * 0.5 / max(len(folds), 2)
        ax.scatter(truth[fold == number].mean(axis=0) * 100, level + offset, s=18, color=COLORS[place % len(COLORS)],
                   zorder=3, label=f"fold {number}")
    ax.set(yticks=level, yticklabels=[f"{name}  {value:.3g} %" for name, value in zip(names, overall)],
           xlabel="share of rows, %", xlim=(0, None))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.legend(**LEGEND)
    return svg(drawing)


def numbers(evidence: Evidence) -> Iterator[Block]:
    """Distribution of each target, overall and in each fold."""
    task, unit = evidence.task, evidence.task.metric.unit
    parts = {f"fold {number}": evidence.fold == number for number in np.unique(evidence.fold)} | {"all": evidence.fold >= 0}
    table = pd.concat([pd.DataFrame(evidence.truth[held], columns=list(task.targets)).describe().T.assign(part=name)
                       for name, held in parts.items()]).rename_axis("target").reset_index()
    table = table.rename(columns={"count": "rows", "50%": "median", "std": "standard deviation"})
    yield Table(table[["target", "part", *table.columns.drop(["target", "part"])]],
                f"Labels of the training rows{f' in {unit}' if unit else ''}.", {"rows": ",.0f"})
    for place, target in enumerate(task.targets):
        values = {name: evidence.truth[held, place] for name, held in parts.items() if name != "all"}
        yield Plot(_histograms(values, f"{target}, {unit}" if unit else target),
                   f"How {target} is distributed in each fold, as shares of its rows; lines should lie close together.")


def slices_a_series(index: pd.DataFrame) -> Iterator[Block]:
    """How many slices the series have, where they have several."""
    lengths = {str(name): rows.groupby("series").size().to_numpy() for name, rows in index.groupby("split", sort=False)}
    if any((one > 1).any() for one in lengths.values()):
        ends = "; ".join(f"{name}: {one.min()} to {one.max()}, median {np.median(one):g}" for name, one in lengths.items())
        yield Plot(_histograms(lengths, "slices in a series"), f"Slices in a series of the index, as shares of the series. "
                   f"{ends[0].upper()}{ends[1:]}.")


def _histograms(values: dict[str, np.ndarray], label: str) -> str:
    """One line a part, shares in common bins, as SVG; whole numbers get bins of whole numbers."""
    drawing, ax = figure(5.6, 3.0)
    everything = np.concatenate(list(values.values()))
    low, high = everything.min(), everything.max()
    bins = int(np.clip(2 * np.sqrt(min(len(np.unique(one)) for one in values.values())), 8, 40))
    step, edges = max(round((high - low) / bins), 1), np.linspace(low, high, bins + 1)
    if (everything == np.rint(everything)).all():
        edges = np.arange(low, high + step + 1, step) - 0.5
    for place, (name, one) in enumerate(values.items()):
        ax.stairs(np.histogram(one, edges)[0] / len(one) * 100, edges, color=COLORS[place % len(COLORS)], label=name)
    ax.set(xlabel=label, ylabel="share, %", ylim=(0, None))
    ax.legend(**LEGEND)
    return svg(drawing)


def spreads(evidence: Evidence) -> Iterator[Block]:
    """Strata, and what the folds were balanced by, in each fold."""
    competition, fold = evidence.context.competition, evidence.fold
    strata, balance = competition.pages.strata, competition.data.balance
    parts = {"stratum": parts_of(strata(evidence.train)) if strata else pd.DataFrame(),
             "balanced": balance(evidence.train) if balance else pd.DataFrame()}
    captions = {"stratum": "Parts of the training rows that get a score of their own",
                "balanced": "What the folds were balanced by, as far as whole patients allow it"}
    for name, values in ((name, table.astype(float)) for name, table in parts.items() if len(table.columns)):
        folds = values.groupby(fold).mean().T.rename(columns=lambda number: f"fold {number}")
        table = pd.DataFrame({name: map(str, values), "rows": values.sum().array, "share": values.mean().array})
        shares = ["share", *folds]
        yield Table(table.join(folds.reset_index(drop=True)), f"{captions[name]}: share of all rows and of each fold's.",
                    dict.fromkeys(shares, ".1%") | {"rows": ",.0f"})


def pictures(evidence: Evidence) -> Iterator[Block]:
    """Random pictures of the cache, and some of them as each view gives them to its networks."""
    recipe, cache, rows = evidence.context.competition.cache, Shards(evidence.context.paths.cache), chosen(evidence)
    if not len(rows):
        return
    named = evidence.train.iloc[rows]
    frames = gray([_flat(cache(row.shard, row.slot)) for row in named.itertuples()], recipe.fill)
    shown = "as they are" if recipe.dtype == "uint8" else "in one window about the median of what is not background"
    yield Picture(_sheet(frames), f"{len(frames)} random training pictures as they are cached, {recipe.dtype} of "
                  f"{' x '.join(map(str, recipe.size))} pixels, {shown}: "
                  f"{', '.join(named['id'].astype(str))}.", wide=True)
    seen: list[tuple[Any, Any, list[str]]] = []
    for name, one in ((name, evidence.recipes[name]) for name in evidence.experiments):
        names = next((names for view, drawn, names in seen if (view, drawn) == (one.view, one.drawn)), None)
        names.append(name) if names else seen.append((one.view, one.drawn, [name]))
    for view, drawn, names in seen[:VIEWS]:
        read, channels = view.reader(cache, evidence.train), len(view.mean)
        looks, told = _painted(evidence, read, drawn, rows) if drawn else ([read(int(row)) for row in rows[:SEEN]], "")
        looks = looks if channels == 3 else [_flat(np.moveaxis(look, 2, 0)) for look in looks]
        how = {1: "gray", 3: "three channels as red, green and blue"}.get(channels, f"{channels} channels side by side")
        yield Picture(_sheet(looks), f"Seen by {', '.join(names)}: {' x '.join(map(str, view.size))} pixels, {how}{told}.")


def _painted(evidence: Evidence, read: Any, drawn: Drawn, rows: np.ndarray) -> tuple[list[np.ndarray], str]:
    """Up to ``SEEN`` pictures with what is drawn on them in training, and the words that say what; plain ones for none."""
    targets = evidence.context.competition.targets
    paint, labels = drawn.painter(read, targets), evidence.train[list(targets)].to_numpy(np.float32)
    tried = ((row, *paint(row, read(row), labels[row], seed)) for seed, row in enumerate(rows.tolist() * SEEN))
    made = list(islice(((picture, label) for row, picture, label in tried
                        if not np.array_equal(label, labels[row], equal_nan=True)), SEEN))
    if not made:
        return [read(int(row)) for row in rows[:SEEN]], ""
    kinds = [next(name for name, value in zip(targets, label) if value) for _, label in made]
    return [picture for picture, _ in made], f", with what is drawn on training pictures ({', '.join(kinds)})"


def chosen(evidence: Evidence) -> np.ndarray:
    """Row numbers of ``PICTURES`` random training rows by a fixed seed, of as many series, whose shards are there."""
    random, series = np.random.default_rng(0), evidence.train["series"].to_numpy()
    some = random.permutation(len(series))[:50 * PICTURES]
    ones = some[np.unique(series[some], return_index=True)[1]]
    picked = np.sort(random.permutation(ones)[:PICTURES])
    folder = evidence.context.paths.cache
    return np.array([row for row in picked if shard_path(folder, evidence.train["shard"].iloc[row]).exists()], int)


def gray(pictures: list[np.ndarray], fill: int) -> list[np.ndarray]:
    """Pictures [height, width] as uint8 by one window: three deviations about the median of what is not background.

    Background is ``fill`` and the lowest tenth of the range (percentiles 0.5 to 99.5); the deviation is 1.4826 times the
    median absolute one, so that bone or metal does not widen the window. Pictures of uint8 get the full range.
    """
    values = np.concatenate([picture[picture != fill] for picture in pictures])
    if pictures[0].dtype == np.uint8 or not values.size:
        return [picture.astype(np.uint8) for picture in pictures]
    low, high = np.percentile(values, (0.5, 99.5))
    inside = values[values >= low + (high - low) / 10]
    width = max(6 * 1.4826 * float(np.median(np.abs(inside - np.median(inside)))), 1.0)
    return [windows.apply(picture, [(float(np.median(inside)), width)])[..., 0] for picture in pictures]


def _flat(picture: np.ndarray) -> np.ndarray:
    """A cached picture as [height, width]; several maps or channels, first axis, side by side."""
    return np.array(picture) if picture.ndim == 2 else np.concatenate(list(picture), axis=1)


def _sheet(frames: list[np.ndarray]) -> str:
    height, width = frames[0].shape[:2]
    longest = LONGEST * max(round(width / height / 2), 1)
    size = dict.fromkeys(("fx", "fy"), max(longest // max(height, width), 1))
    sized = [cv2.resize(fitted(frame, longest), None, **size, interpolation=cv2.INTER_NEAREST) for frame in frames]
    return data_uri(sheet(sized, min(max(WIDTH // sized[0].shape[1], 1), 6)))


def quarantine(table: pd.DataFrame) -> Iterator[Block]:
    """What stages 01 and 02 set aside."""
    if table.empty:
        yield Words("Nothing was set aside: every file could be indexed and decoded.", "good")
        return
    counts = table.groupby(["stage", "split", "reason"], dropna=False).size().reset_index(name="rows")
    yield Table(counts.sort_values("rows", ascending=False), "What could not be used: rows by stage, split and reason.")
    yield _one_by_one(table, "What could not be used")


def faulty_fields(index: pd.DataFrame) -> Iterator[Block]:
    """Which optional fields of headers were faulty and taken for absent, by the column ``faulty`` (comma-joined names)."""
    if "faulty" not in index or not (index["faulty"] != "").any():
        return
    one = index.assign(field=index["faulty"].str.split(",")).explode("field")
    counts = one[one["field"] != ""].groupby(["field", "split"]).size().unstack(fill_value=0).reset_index()
    yield Table(counts, f"Fields of headers with a faulty value, by pictures of the {len(index):,} of the index: they were "
                "taken for absent, and the pictures are used.")


def flags(evidence: Evidence) -> Iterator[Block]:
    """What was flagged in columns ``flag`` and ``<what>_flag``, and how localization fares against the phantoms' truth."""
    localized = evidence.localized
    columns = [str(name) for name in localized if str(name) == "flag" or str(name).endswith("_flag")]
    parts = [localized[["id", "split"]].assign(by=name.removesuffix("_flag").replace("flag", "localization"),
                                               flag=localized[name])[localized[name].fillna("") != ""] for name in columns]
    if columns and not sum(map(len, parts)):
        yield Words("Localization flagged nothing.", "good")
    elif columns:
        flagged = pd.concat(parts)
        counts = flagged.groupby(["by", "flag", "split"]).size().unstack(fill_value=0).reset_index()
        yield Table(counts, f"Pictures that were flagged, of {len(localized):,}: by what, why, and in which split.")
        yield _one_by_one(flagged, "Flagged pictures")
    if len(evidence.localization):
        yield Table(evidence.localization, "Localization against the truth of the phantoms.")


def _one_by_one(table: pd.DataFrame, caption: str) -> Table:
    return Table(table.head(LISTED), f"{caption}, one by one{f' (the first {LISTED})' if len(table) > LISTED else ''}",
                 folded=True)
