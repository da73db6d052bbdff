"""A competition folder from a folder of pictures and a table: look, decide or refuse, say what was found, write."""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.commands.clusters import clusters
from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_table, write_text
from radstack.core.folds import make_folds
from radstack.own.form import as_code, asked_form, groups_of, plain_form
from radstack.own.matching import Match, choose, matches, with_files
from radstack.own.names import MANY, key_of
from radstack.own.pictures import SOFT, scan
from radstack.own.source import (
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
from radstack.own.tasks import Found, find, inputs_of
from radstack.own.words import is_empty, number, word
from radstack.own.writing import written
from radstack.recipes.submission import Layout
from radstack.scoring import named
from radstack.scoring.task import Metric

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
PATIENT = re.compile(r"(patient|subject|participant|case|person)([_ ]?(id|no|number))?", re.IGNORECASE)
"""Columns that say whose a picture is, by their name."""
HELD = "held_out.csv"
"""Labels that nobody trains on, where a share of the pictures stands for a test set."""
PARTS = 5
"""One part of so many is held out where there is no test set."""
LEAST = 12
"""Labeled pictures that folds need."""
ENOUGH = 50
"""Patients of the rarest class from which five folds are dealt, else three."""
MOST_SIDE, SEEN, SEEN_SLICES, SEEN_TINY = 256, 192, 128, 64
"""Pixels of a side: of a cached picture at most, and of what the small networks see of pictures, of slices in order "
  "(there are
many), and without pretrained weights."""


@dataclass(frozen=True)
class Wish:
    """What the user typed."""

    name: str
    pictures: Path
    labels: Path
    into: Path
    data_dir: Path
    test: Path | None = None
    sample: Path | None = None
    id: str = ""
    file: str = ""
    target: tuple[str, ...] = ()
    group: str = ""
    order: str = ""
    weight: str = ""
    columns: tuple[str, ...] = ()
    task: str = ""
    metric: str = ""
    several: bool = False
    window: tuple[float, float] = ()  # type: ignore[assignment]
    workers: int = 1

    @property
    def folder(self) -> Path:
        """Of the competition."""
        return self.into / self.name

    @property
    def input(self) -> Path:
        """Where its data are found later."""
        return self.data_dir / "input" / self.name


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
    return plan


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
    longer = float(files[["height", "width"]].max(axis=1).median())
    return arranged(wish, source, found, rows, tests_of(wish, source, rest, sample, asked, files, match), sample, longer,
                    [*told(source, found, rows, files, lost), f"groups      {how}"])


def check_place(wish: Wish, taken: tuple[str, ...]) -> None:
    """Refuse a name that cannot be one or is taken, and data that are not there."""
    if not NAME.fullmatch(wish.name):
        raise UserError(f"{wish.name!r} cannot name a competition; take small letters, digits and _, such as my_hands")
    if wish.name in taken:
        raise UserError(f"there is a competition {wish.name}; take another name")
    for place in (wish.folder, wish.input):
        if place.exists() or place.is_symlink():
            raise UserError(f"{place} is there already, and nothing is overwritten; take another name, or delete it")
    for flag, folder in (("--pictures", wish.pictures), ("--test", wish.test)):
        if folder is not None and not folder.is_dir():
            what = "is no folder: unpack it, and name the folder" if folder.is_file() else "is not there"
            raise UserError(f"{flag} {folder} {what}")
    for flag, file in (("--labels", wish.labels), ("--sample-submission", wish.sample)):
        if file is not None and not file.is_file():
            raise UserError(f"{flag} {file} is not there; name a CSV file")


def check_columns(wish: Wish, table: pd.DataFrame) -> None:
    """Refuse an empty table, and columns that it does not have."""
    if table.empty:
        raise UserError(f"{wish.labels} has no row below its header")
    named = {"--id": (wish.id,), "--file": (wish.file,), "--target": wish.target, "--order": (wish.order,),
             "--group": (wish.group if wish.group != "none" else "",), "--columns": wish.columns, "--weight": (wish.weight,)}
    for flag, names in named.items():
        for name in filter(None, names):
            if name not in table:
                raise UserError(f"{flag} {name}: {wish.labels} has no such column; it has {', '.join(table.columns[:12])}")


def usable_files(folder: Path, workers: int) -> pd.DataFrame:
    """The pictures below a folder that can be read, by their headers; a UserError where there are none."""
    files = scan(folder, workers, None)
    usable = files[files["reason"] == ""].reset_index(drop=True)
    if usable.empty:
        first = files.head(1).itertuples()
        told = next((f"; {row.path}: {row.reason}" for row in first), "; PNG, JPEG, TIFF, DICOM, NIfTI and NRRD are read")
        raise UserError(f"{folder} holds no picture that can be read{told}")
    return usable.assign(unread=len(files) - len(usable))


def match_of(wish: Wish, table: pd.DataFrame, sample: pd.DataFrame | None, files: pd.DataFrame) -> Match:
    """Which column names the pictures."""
    spoken = {wish.group, wish.order, wish.weight, *wish.columns, *wish.target}
    found = matches(table, [name for name in table if name not in spoken or name in (wish.id, wish.file)],
                    files["path"].tolist(), wish.pictures.resolve().name)
    first = sample.columns[0] if sample is not None and len(sample.columns) else ""
    shared = first if any(match.column == first for match in found) else ""
    return choose(table, found, wish.id or shared, wish.file)


def targets_of(wish: Wish, table: pd.DataFrame, sample: pd.DataFrame | None, named: set[str]) -> list[str]:
    """The columns to be predicted: those named, or those of the sample, or the only one that is left."""
    spoken = {*named, wish.group, wish.order, wish.weight, *wish.columns}
    left = [name for name in table if name not in spoken and not PATIENT.fullmatch(name)]
    asked = [name for name in left if sample is not None and name in sample]
    if wish.target or asked or len(left) == 1:
        return list(wish.target) or asked or left
    if not left:
        raise UserError(f"{wish.labels} has no column to predict beside {', '.join(sorted(named))}; name it with --target")
    raise UserError(f"which column is to be predicted? type --target {left[0]}, or others of {', '.join(left[:12])}")


def asked_ids(sample: pd.DataFrame | None, id_column: str, targets: list[str]) -> set[str]:
    """What the sample submission asks for, as ids; the target at the end of an id of the long form is taken off."""
    if sample is None:
        return set()
    ids = set(sample[id_column if id_column in sample else sample.columns[0]])
    ends = tuple(f"_{name}" for name in targets)
    whole = ids and all(one.endswith(ends) for one in ids)
    return {one.removesuffix(next(end for end in ends if one.endswith(end))) for one in ids} if whole else ids


def parted(table: pd.DataFrame, targets: list[str], asked: set[str], id_column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with a label, and the others; a UserError where a row of the sample submission has a label."""
    labeled = ~table[targets].map(is_empty).all(axis=1)
    both = table.loc[labeled & table[id_column].isin(asked), id_column]
    if len(both):
        raise UserError(f"{len(both)} ids of the sample submission have a label, the first is {both.iloc[0]}: take their "
                        f"rows out "
                        "of the table, or empty the label")
    if labeled.sum() < LEAST:
        raise UserError(f"{int(labeled.sum())} rows have a label; at least {LEAST} are needed")
    return table[labeled].reset_index(drop=True), table[~labeled].reset_index(drop=True)


def once(table: pd.DataFrame, id_column: str, file_column: str) -> pd.DataFrame:
    """The rows without exact repeats; a UserError where an id has two rows that differ, and no column tells its files."""
    table = table.drop_duplicates(ignore_index=True)
    twice = table[table.duplicated(id_column, keep=False)]
    if id_column == file_column and len(twice):
        own = twice[twice[id_column] == twice[id_column].iloc[0]]
        unlike = [name for name in table if own[name].nunique() > 1]
        raise UserError(f"{id_column} {own[id_column].iloc[0]} has {len(own)} rows that differ in "
                        f"{', '.join(unlike[:4])}; keep one, "
                        "or type --file with the column of files")
    return table


def grouped(wish: Wish, rows: pd.DataFrame, files: pd.DataFrame, id_column: str) -> tuple[pd.DataFrame, str]:
    """The rows with a column ``group``, and where that comes from."""
    patients = rows[FILE].map(files.set_index("path")["patient"])
    named = [name for name in rows if PATIENT.fullmatch(name)] if not wish.group else [wish.group]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} could both name the patients; type --group {named[0]} or --group {named[1]}")
    if named and named != ["none"]:
        group, how = rows[named[0]].where(rows[named[0]] != "", rows[id_column]), f"column {named[0]}"
    elif wish.group != "none" and (patients != "").all():
        group, how = patients, "the PatientID of the DICOM files"
    else:
        number = clusters(wish.pictures, rows[FILE].tolist(), wish.workers, wish.window or SOFT)
        first = rows[id_column].groupby(number).transform("first")
        group = first.groupby(rows[id_column]).transform("first")
        how = "near duplicates alone: no column says whose a picture is. Folds by patient need --group"
    return rows.assign(**{GROUP: group}), f"{group.nunique():,} by {how}"


def tests_of(wish: Wish, source: Source, rest: pd.DataFrame, sample: pd.DataFrame | None, asked: set[str],
             files: pd.DataFrame, match: Match) -> pd.DataFrame:
    """One row a picture to answer, with the columns of the labeled ones; empty where there is no test set."""
    if sample is None and wish.test is None:
        return pd.DataFrame()
    files = usable_files(wish.test, wish.workers) if wish.test else files
    ids = [key_of(match.key, path) for path in files["path"]]
    folder = TESTS if wish.test else PICTURES
    made = pd.DataFrame({source.id: ids, FILE: f"{folder}/" + files["path"], GROUP: files["patient"]})
    made = made[made[source.id].isin(asked)] if asked else made
    if made.empty:
        raise UserError(f"no picture of {wish.test or wish.pictures} answers to an id of {wish.sample} by {match.key}; "
                        f"the first id is "
                        f"{min(asked)!r}; type --test with their folder")
    if made[source.id].duplicated().any() and not source.several and match.key not in MANY:
        raise UserError(f"several pictures of {wish.test or wish.pictures} are called "
                        f"{made[source.id][made[source.id].duplicated()].iloc[0]}; "
                        "type --several if they belong together")
    known = [name for name in (wish.order, *wish.columns, wish.group) if name]
    for table in (rest, sample):
        if table is None or source.id not in table:
            continue
        if held := [name for name in known if name in table and name not in made]:
            made = made.merge(table.drop_duplicates(source.id)[[source.id, *held]], on=source.id, how="left").fillna("")
    owner = made[wish.group] if wish.group in made else made[FILE].str.rpartition("/")[0] if wish.order else made[source.id]
    made[GROUP] = made[GROUP].where(made[GROUP] != "", owner)
    if wish.order and wish.order not in made:
        made[wish.order] = made[FILE].groupby(made[GROUP]).rank().map("{:g}".format)
    return made.reindex(columns=[source.id, FILE, GROUP, *filter(None, [wish.order]), *wish.columns]).fillna("")


def arranged(wish: Wish, source: Source, found: Found, rows: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame | None,
             longer: float, lines: list[str]) -> Plan:
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
    text, more = text_of(wish, source, layout, train, found, longer)
    return Plan(source, train, test, held, list_of, text, [*lines, *more])


def dummies(train: pd.DataFrame, found: Found) -> pd.DataFrame:
    """0/1 columns that a held-out part shares evenly."""
    if found.kind == NUMBER_KIND:
        values = train[next(iter(found.labels))].map(number)
        return pd.get_dummies(pd.qcut(values, 4, labels=False, duplicates="drop")).astype(int)
    return pd.get_dummies(train[list(found.labels)].apply(lambda cells: cells.map(word))).astype(int)


def text_of(wish: Wish, source: Source, layout: Layout, train: pd.DataFrame, found: Found,
            longer: float) -> tuple[str, list[str]]:
    """The module, and what it decided, in lines; ``longer``: the median of the pictures' longer sides."""
    side = int(np.clip(32 * math.ceil(longer / 32), 32, MOST_SIDE))
    pretrained = lite0_is_here()
    seen = min(side, SEEN_TINY if not pretrained else SEEN_SLICES if source.order else SEEN)
    groups = train[GROUP].nunique()
    rarest = min((train.groupby(train[name].map(word))[GROUP].nunique().min() for name in found.counts), default=groups)
    folds = 5 if min(groups, rarest) >= ENOUGH else 3
    choice = (f"lite0, pretrained: {seen} pixels" if pretrained else
              "no pretrained weights are here, so two small networks from scratch; get_weights.py ich --only "
              "lite0 has one")
    metric = metric_of(source, wish.metric)
    text = written(wish.name, f"{', '.join(source.labels)} from {train[FILE].nunique():,} "
                              f"pictures", str(wish.pictures), source,
                   layout, as_code(metric), side=side, seen=seen, folds=folds, rows=len(train),
                   pretrained=pretrained, choice=choice, window=f", window={wish.window}" if wish.window else "")
    also = metric.also or "mae"
    return text, [f"metric      {also}, {named.direction(also)}; models are trained and stacked by the {metric.name}",
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
