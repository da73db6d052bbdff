"""What the folder and the table of a competition of one's own say: columns, files, groups, test pictures; or a refusal."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.commands.own.clusters import clusters, linked
from radstack.commands.own.matching import Match, by_key, choose, matches
from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable
from radstack.images.own.body import empty_share
from radstack.images.own.names import MANY, key_of
from radstack.images.own.pictures import SOFT, gray, planes, scan
from radstack.images.own.source import FILE, GROUP, PICTURES, TESTS, Source
from radstack.images.own.words import is_empty
from radstack.submission.forms import ending_of

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
PATIENT = re.compile(r"(patient|subject|participant|case|person)([_ ]?(id|no|number))?", re.IGNORECASE)
"""Columns that say whose a picture is, by their name."""
LOOKED_AT, MOST, EMPTY = 24, 0.9, 0.4
"""Pictures looked at, how many of them must show it, and the share of empty background that counts. Of 150 real slices of
heads 95 % are emptier than .5, of 150 real radiographs of hands a quarter is below .24."""
LEAST = 12
"""Labeled pictures that folds need."""


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


def on_empty_background(wish: Wish, files: pd.DataFrame) -> bool:
    """Whether most pictures show something on an empty background, as slices of CT and MR do; a few of them are read."""
    shares = []
    for row in files.iloc[np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int))].itertuples():
        path = wish.pictures / str(row.path)
        try:
            shown = planes(path, [int(row.slices) // 2])[0] if row.slices else gray(path, wish.window or SOFT)
        except Unreadable:
            continue
        shares.append(empty_share(shown))
    return bool(shares) and float(np.quantile(shares, 1 - MOST)) > EMPTY


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
    ends = {one: ending_of(one, targets) for one in ids}
    return {one.removesuffix(end) for one, end in ends.items()} if all(ends.values()) else ids


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
        group = rows[id_column].groupby(number).transform("first")
        how = "near duplicates alone: no column says whose a picture is. Folds by patient need --group"
    # An id is answered once, so its pictures are of one group, and groups that share an id are one.
    group = group.groupby(linked(group, rows[id_column])).transform("first")
    return rows.assign(**{GROUP: group}), f"{group.nunique():,} by {how}"


def files_told(rest: pd.DataFrame, id_column: str, column: str, named: dict[str, list[str]]) -> dict[str, list[str]]:
    """Id -> files of the rows without a label, where another column than that of ids names files; cells are as ``named``."""
    if id_column == column:
        return {}
    found: dict[str, list[str]] = {}
    for one, cell in zip(rest[id_column], rest[column]):
        found.setdefault(one, []).extend(path for path in named.get(cell, []) if path not in found[one])
    return found


def tests_of(wish: Wish, source: Source, rest: pd.DataFrame, sample: pd.DataFrame | None, asked: set[str],
             files: pd.DataFrame, match: Match) -> pd.DataFrame:
    """One row a picture to answer, with the columns of the labeled ones; empty where there is no test set."""
    if sample is None and wish.test is None:
        return pd.DataFrame()
    files = usable_files(wish.test, wish.workers) if wish.test else files
    paths, folder = files["path"].tolist(), TESTS if wish.test else PICTURES
    named = by_key(match.key, paths, (wish.test or wish.pictures).resolve().name)
    told = files_told(rest, source.id, match.column, named)
    taken = set[str]().union(*told.values())
    pairs = ([(one, path) for one in sorted(asked) for path in told.get(one) or named.get(one, [])] if asked else
             [(one, path) for one in told for path in told[one]]
             + [(key_of(match.key, path), path) for path in paths if path not in taken])
    made = pd.DataFrame(pairs, columns=[source.id, FILE], dtype="str")
    made[GROUP] = made[FILE].map(files.set_index("path")["patient"])
    made[FILE] = f"{folder}/" + made[FILE]
    if made.empty:
        raise UserError(f"no picture of {wish.test or wish.pictures} answers to an id of {wish.sample} by {match.key}; "
                        f"the first id is "
                        f"{min(asked)!r}; type --test with their folder")
    if source.order and (volumes := sorted({*made[FILE]} & {*(f"{folder}/" + files.loc[files["slices"] > 0, "path"])})):
        raise UserError(f"{volumes[0]} is a volume, and --order {source.order} needs one picture a row; give its slices")
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
    # A picture without a cell of --order has its place by its header or name: see Source.index.
    return made.reindex(columns=[source.id, FILE, GROUP, *filter(None, [wish.order]), *wish.columns]).fillna("")
