"""A competition folder from a folder of pictures and a table: look, decide or refuse, say what was found, write."""

import math
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from radstack.commands.own.form import as_code, asked_form, groups_of, plain_form
from radstack.commands.own.looking import (
    Wish,
    asked_ids,
    check_columns,
    check_place,
    grouped,
    match_of,
    on_empty_background,
    once,
    parted,
    targets_of,
    tests_of,
    usable_files,
)
from radstack.commands.own.matching import with_files
from radstack.commands.own.recipes import PROBE_SIDE, is_probed
from radstack.commands.own.tasks import Found, find, inputs_of
from radstack.commands.own.writing import written
from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_table, write_text
from radstack.core.folds import make_folds
from radstack.images.own.source import (
    CLASSES_KIND,
    FILE,
    GROUP,
    LABELS,
    NUMBER_KIND,
    ORDINAL_KIND,
    PICTURES,
    SAMPLE,
    TEST,
    TESTS,
    Source,
)
from radstack.images.own.words import number, word
from radstack.recipes.submission import Layout
from radstack.scoring import named
from radstack.scoring.task import Metric

HELD = "held_out.csv"
"""Labels that nobody trains on, where a share of the pictures stands for a test set."""
PARTS = 5
"""One part of so many is held out where there is no test set."""
ENOUGH = 25
"""Patients of the rarest class from which five folds are dealt (five of them in each), else three."""
MOST_SIDE, SEEN, SEEN_SLICES, SEEN_TINY = 256, 224, 128, 64
"""Pixels of a side: of a cached picture at most, and of what the small networks see of pictures, of slices in order (there
are many), and without pretrained weights."""


class Looks(NamedTuple):
    """What all pictures are like."""

    longer: float
    """Median of their longer sides in pixels."""
    crop: bool
    """Whether they are cut to what stands on their empty background."""


@dataclass(frozen=True)
class Plan:
    """What is to be written, and what was found."""

    source: Source
    train: pd.DataFrame
    """One row a labeled picture: the table's own columns, ``file`` below ``input/<name>``, ``group``."""
    test: pd.DataFrame
    held: pd.DataFrame
    sample: pd.DataFrame
    text: str
    """The file ``__init__.py``."""
    lines: list[str]
    """For the screen."""


def new_competition(wish: Wish, taken: tuple[str, ...], dry_run: bool = False) -> Plan:
    """Look at the folder and the table, write the competition unless ``dry_run``, and say what was found.

    Raises:
        UserError: something is missing or not clear; then nothing is written.
    """
    plan = plan_of(wish, taken)
    print("\n".join(plan.lines))
    if dry_run:
        print(f"\nwould write {wish.folder / '__init__.py'}:\n\n{plan.text}")
    else:
        write(wish, plan)
        print("\n".join(next_steps(wish, len(plan.held))))
    return plan


def next_steps(wish: Wish, held: int) -> list[str]:
    """What was written, and what to type next; ``held``: rows of the held-out labels."""
    recipes = [wish.name, "--recipes", "small"]
    place = ["--data-dir", str(wish.data_dir), "--out-dir", str(wish.data_dir)] if wish.data_dir != Path() else []
    lines = [f"wrote       {wish.folder / '__init__.py'}",
             f"next        {shlex.join(['bash', 'run_all.sh', *recipes, *place])}"]
    if held:
        beside = ["--columns", str(wish.input / TEST)] if wish.columns or wish.order else []
        scored = [str(wish.pictures), "answers.csv", "--labels", str(wish.input / HELD), *beside]
        lines.append(f"then        {shlex.join(['python', 'src/apply.py', *recipes, *scored, *place])}   "
                     "# scores what nobody trains on")
    return lines


def write(wish: Wish, plan: Plan) -> None:
    """Write the competition's folder and, below ``input/``, its tables and links to the pictures."""
    wish.input.mkdir(parents=True)
    (wish.input / PICTURES).symlink_to(wish.pictures.resolve(), target_is_directory=True)
    if wish.test:
        (wish.input / TESTS).symlink_to(wish.test.resolve(), target_is_directory=True)
    for name, table in ((LABELS, plan.train), (TEST, plan.test), (SAMPLE, plan.sample), (HELD, plan.held)):
        if len(table):
            write_table(wish.input / name, table)
    wish.folder.mkdir(parents=True)
    write_text(wish.folder / "__init__.py", plan.text)


def plan_of(wish: Wish, taken: tuple[str, ...]) -> Plan:
    """Everything that is found out; nothing is written."""
    check_place(wish, taken)
    table = read_text_table(wish.labels, ())
    check_columns(wish, table)
    sample = read_text_table(wish.sample, ()) if wish.sample else None
    files = usable_files(wish.pictures, wish.workers)
    match = match_of(wish, table, sample, files)
    id_column = wish.id or match.column
    targets = targets_of(wish, table, sample, {id_column, match.column})
    asked = asked_ids(sample, id_column, targets)
    labeled, rest = parted(table, targets, asked, id_column)
    rows, lost = with_files(once(labeled, id_column, match.column), match, wish.several or bool(wish.file), wish.pictures)
    found = find(rows.drop_duplicates(id_column), targets, wish.task, "")
    rows, how = grouped(wish, rows, files, id_column)
    several = bool(rows[id_column].duplicated().any() or rows[FILE].isin(files.loc[files["slices"] > 0, "path"]).any())
    if several and wish.order:
        raise UserError(f"--order {wish.order} needs one picture a row, and {id_column} names several; type --id with a "
                        f"column "
                        "of its own for each picture")
    source = Source(found.kind, found.labels, id_column, wish.order, wish.weight, inputs_of(rows, list(wish.columns)),
                    several, match.key)
    looks = Looks(float(files[["height", "width"]].max(axis=1).median()), on_empty_background(wish, files))
    return arranged(wish, source, found, rows, tests_of(wish, source, rest, sample, asked, files, match), sample, looks,
                    [*told(source, found, rows, files, lost), f"groups      {how}"])


def arranged(wish: Wish, source: Source, found: Found, rows: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame | None,
             looks: Looks, lines: list[str]) -> Plan:
    """The plan: a test set held out where there is none, the form of the submission, the text, the lines of the screen."""
    names = [source.id, FILE, GROUP, *source.labels, *filter(None, (source.order, source.weight)), *source.columns]
    train, held = rows.assign(**{FILE: PICTURES + "/" + rows[FILE]})[list(dict.fromkeys(names))], pd.DataFrame()
    if test.empty:
        dealt = make_folds(train[GROUP], dummies(train, found), PARTS, 0).set_index("group")["fold"]
        out = train[GROUP].map(dealt) == PARTS - 1
        held, test = train.loc[out, [source.id, *source.labels]].drop_duplicates(), train[out].drop(columns=[*source.labels])
        train = train[~out]
        lines.append(f"test        none given: {len(held):,} of {len(held) + train[source.id].nunique():,} ids are held "
                     f"out; their labels "
                     f"go to {HELD}, and nobody trains on them")
    else:
        lines.append(f"test        {test[source.id].nunique():,} ids")
    both = sorted(set(test[GROUP]) & set(train[GROUP]))
    if both:
        raise UserError(f"{len(both)} groups have pictures in train and in test, the first is {both[0]}; name another "
                        f"--group, or take "
                        "them out of the table")
    ranges = {name: (values.min(), values.max()) for name in source.labels
              if (values := train[name].map(number)).notna().any()}
    layout, list_of = plain_form(source, ranges), pd.DataFrame({source.id: test[source.id].drop_duplicates()})
    if sample is not None:
        form = asked_form(source, ranges, sample)
        source, layout, list_of = form.source, form.layout, sample
    lines.append(f"submission  {', '.join(layout.header)}")
    text, more = text_of(wish, source, layout, train, found, looks)
    return Plan(source, train, test, held, list_of, text, [*lines, *more])


def dummies(train: pd.DataFrame, found: Found) -> pd.DataFrame:
    """0/1 columns that a held-out part shares evenly."""
    if found.kind == NUMBER_KIND:
        values = train[next(iter(found.labels))].map(number)
        return pd.get_dummies(pd.qcut(values, 4, labels=False, duplicates="drop")).astype(int)
    return pd.get_dummies(train[list(found.labels)].apply(lambda cells: cells.map(word))).astype(int)


def text_of(wish: Wish, source: Source, layout: Layout, train: pd.DataFrame, found: Found,
            looks: Looks) -> tuple[str, list[str]]:
    """The module, and what it decided, in lines."""
    side = int(np.clip(32 * math.ceil(looks.longer / 32), 32, MOST_SIDE))
    pretrained = lite0_is_here()
    seen = min(side, SEEN_TINY if not pretrained else SEEN_SLICES if source.order else SEEN)
    groups = train[GROUP].nunique()
    rarest = min((train.groupby(train[name].map(word))[GROUP].nunique().min() for name in found.counts), default=groups)
    folds = 5 if min(groups, rarest) >= ENOUGH else 3
    probe = f"; and its last layer alone: {min(side, PROBE_SIDE)}" if is_probed(source, groups, pretrained) else ""
    choice = (f"lite0, pretrained: {seen} pixels{probe}" if pretrained else
              "no pretrained weights are here, so two small networks from scratch; for lite0 run "
              "get_weights.py bone_age --recipes small --to weights_given first")
    metric = metric_of(source, wish.metric)
    title = f"{', '.join(source.labels)} from {train[FILE].nunique():,} pictures"
    text = written(wish.name, title, wish.pictures.as_posix(), source, layout, as_code(metric), side=side, seen=seen,
                   folds=folds, rows=len(train), groups=groups, choice=choice, pretrained=pretrained,
                   grouped=groups < train[source.id].nunique(),
                   squared=(f", window={wish.window}" if wish.window else "") + ", crop=True" * looks.crop)
    also = metric.also or "mae"
    cut = ["cut         to what stands on the empty background (crop=True)"] if looks.crop else []
    return text, [*cut, f"metric      {also}, {named.direction(also)}; models are trained and stacked by the {metric.name}",
                  f"networks    {choice}; {folds} folds"]


def told(source: Source, found: Found, rows: pd.DataFrame, files: pd.DataFrame, lost: list[str]) -> list[str]:
    """What was found, a line each."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in files["modality"].value_counts().items())
    sizes = files[["height", "width"]].astype(str).agg(" x ".join, axis=1).value_counts()
    shown = ", ".join(sizes.index[:3]) + " ..." * (len(sizes) > 3)
    bits = ", ".join(map(str, sorted(files["bits"].unique())))
    repeated, idle = int(rows[FILE].duplicated().sum()), len(files) - rows[FILE].nunique()
    lines = [f"pictures    {len(files):,} ({kinds}), {files['unread'].iloc[0]} cannot be read; {shown} pixels; {bits} bits",
             f"ids         {source.id} by {source.match}: {rows[source.id].nunique():,} matched, {len(lost):,} rows "
             f"without a picture, {idle:,} pictures without a row{f', {repeated} named twice' if repeated else ''}"]
    lines += [f"target      {name}: {found.kind}, {_counted(found, name)}" for name in source.labels]
    lines += [f"columns     {', '.join(source.inputs)}"] if source.columns else []
    several = f"{len(rows):,} pictures or volumes; those of an id are answered together"
    lines += [f"several     {several}"] if source.several else []
    lines += [f"order       {source.order}: stage 06 models each group's pictures as a sequence"] if source.order else []
    return lines


def _counted(found: Found, name: str) -> str:
    """How many rows have each word, or mean and deviation."""
    if name not in found.counts:
        return "mean {:g}, deviation {:g}".format(*found.labels[name])
    words = [f"{one} {count:,}" for one, count in found.counts[name].items()]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def lite0_is_here() -> bool:
    """Whether the weights of ``lite0`` were fetched before."""
    home = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch")
    return any((home / "hub" / "checkpoints").glob("efficientnet-lite0*"))


def metric_of(source: Source, name: str) -> Metric:
    """The loss by which models are stacked, and the leaderboard's score beside it; a UserError where it does not fit."""
    groups = groups_of(source)
    kind = "classification error" if groups else "mean absolute error" if source.kind == NUMBER_KIND else "weighted log loss"
    usual = {CLASSES_KIND: "accuracy", ORDINAL_KIND: "kappa", NUMBER_KIND: "mae"}.get(source.kind, "roc_auc")
    metric = Metric(kind, (1,) * (len(groups) or len(source.targets)), groups=groups)
    full = named.known(name or usual, metric.kind.predicts)
    if "squared" in full:
        metric = replace(metric, name="mean squared error")
    return replace(metric, also="" if full == "neg_mean_absolute_error" else full)
