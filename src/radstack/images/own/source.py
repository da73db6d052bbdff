"""What the table of one's own competition says: which columns are ids, labels, groups; and the index made from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.errors import UnfitTable, UserError
from radstack.core.files import read_text_table
from radstack.core.say import Report
from radstack.images.own.names import key_of, natural
from radstack.images.own.pictures import central, scan
from radstack.images.own.words import code, number
from radstack.images.quarantine import QUARANTINE_COLUMNS, judge, nothing_usable, set_aside, tell_reasons

LABELS, TEST, SAMPLE, PICTURES, TESTS = "labels.csv", "test.csv", "sample_submission.csv", "pictures", "test"
"""Below ``input/<name>``: the labeled pictures, those to be answered, the form of the answer, and two folders."""
FILE, GROUP = "file", "group"
"""Columns of these tables that are always there: where a picture lies below ``input/<name>``, and whose it is."""
GROUP_SIZE = "group_size"
"""Column of the index: how many ids a group has."""
LABELS_KIND, CLASSES_KIND, ORDINAL_KIND, NUMBER_KIND = "labels", "classes", "ordinal", "number"
KINDS = (LABELS_KIND, CLASSES_KIND, ORDINAL_KIND, NUMBER_KIND)
"""Labels that may be true together (one alone is the binary case), one class of several, classes in order, numbers."""


@dataclass(frozen=True)
class Source:
    """The table: one row a picture, and what its columns mean."""

    kind: str
    """One of ``KINDS``."""
    labels: Mapping[str, tuple[str, ...]]
    """Column that is predicted -> its words in order, as (no, yes) or all classes; () for a number."""
    id: str = "id"
    """Column that names what a row of the submission answers; several pictures of one id are answered together."""
    order: str = ""
    """Column that orders the pictures of a group, for models of sequences; "" for none."""
    weight: str = ""
    """Column of how often a picture counts in training; "" for once."""
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Column that networks get beside the picture -> its words, or the mean and deviation of a number."""
    several: bool = False
    """Whether several pictures may have one id."""
    match: str = "stem"
    """How the name of a file says its id, where no table does: a name of ``radstack.images.own.names.KEYS``."""
    slices: int = 9
    """Central slices taken of a volume."""

    def __post_init__(self) -> None:
        """Refuse a kind that there is not."""
        if self.kind not in KINDS:
            raise UserError(f"the kind of task is {self.kind!r}; take one of {', '.join(KINDS)}")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what networks predict: the columns, or one for each class."""
        if self.kind in (LABELS_KIND, NUMBER_KIND):
            return tuple(self.labels)
        return tuple(f"{name}_{one}" for name, words in self.labels.items() for one in words)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the numbers that stand beside a picture: one for a number or two words, else one a further word."""
        return tuple(name for column, words in self.columns.items() for name in _input_names(column, words))

    def columns_of(self, inputs: Iterable[str]) -> tuple[str, ...]:
        """Columns of the table from which these :attr:`inputs` are made."""
        asked = set(inputs)
        return tuple(column for column, words in self.columns.items() if asked & set(_input_names(column, words)))

    def label_files(self, folder: Path) -> tuple[Path, ...]:
        """The tables whose content decides what is learned."""
        return folder / LABELS, folder / TEST

    def sample_file(self, folder: Path) -> Path:
        """The table that says which rows are to be answered."""
        return folder / SAMPLE

    def index(self, folder: Path, workers: int, parts: Path, report: Report = print) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See :class:`radstack.recipes.competition.Index`; pictures of no row of the tables are passed over.

        Reasons of the quarantine are those of :class:`radstack.images.dicom.Unreadable`, ``no-file`` and ``no-label``.
        """
        tables = [self._read(folder / LABELS, *self.labels, *filter(None, (self.weight,))).assign(split="train")]
        if (folder / TEST).exists():
            tables.append(self._read(folder / TEST).assign(split="test"))
        rows = self._labeled(pd.concat(tables, ignore_index=True).fillna(""))
        return self._arranged(rows, scan(folder, workers, parts), folder, report)

    def index_new(self, folder: Path, workers: int, parts: Path, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See :class:`radstack.recipes.competition.IndexNew`; ids come from the names of files, as :attr:`match` says."""
        found = scan(folder, workers, parts)
        rows = pd.DataFrame({self.id: [key_of(self.match, path) for path in found["path"]], FILE: found["path"]})
        if len(given) and (self.order or self.columns):
            rows = rows.merge(self._beside(given), on=self.id, how="left")
        rows = rows.reindex(columns=[self.id, FILE, *filter(None, (self.order,)), *self.columns]).fillna("")
        rows[GROUP] = found["patient"].where(found["patient"] != "", rows[FILE].str.rpartition("/")[0] if self.order
                                             else rows[self.id]).to_numpy()
        return self._arranged(self._labeled(rows.assign(split="test")), found, folder, lambda line: None)

    def _beside(self, given: pd.DataFrame) -> pd.DataFrame:
        """Of a table of what stands beside the pictures, by its column ``id`` or that of the labels: what is read of it."""
        key = self.id if self.id in given else "id"
        asked = list(filter(None, (self.order, *self.columns)))
        wanted = [name for name in asked if name in given]
        if not (key in given and wanted):
            raise UnfitTable(f"the table of --columns has no {' or '.join(asked) if key in given else self.id + ' or id'}; "
                            f"give one with {','.join([self.id, *asked])}")
        return given.drop_duplicates(key)[[key, *wanted]].rename(columns={key: self.id})

    def _read(self, path: Path, *more: str) -> pd.DataFrame:
        names = [self.id, FILE, GROUP, *more, *filter(None, (self.order,)), *self.columns]
        table = read_text_table(path, tuple(dict.fromkeys(names)))
        return table.reindex(columns=list(dict.fromkeys([*names, *filter(None, (self.weight,))]))).fillna("")

    def _labeled(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows with targets, inputs, position and weight as numbers."""
        made = rows[[self.id, FILE, GROUP, "split"]].set_axis(["id", "path", "group", "split"], axis=1)
        train = (made["split"] == "train").to_numpy()
        for name, words in self.labels.items():
            cells = rows[name] if name in rows else pd.Series("", rows.index)
            for target, values in self._values(name, words, cells).items():
                made[target] = np.where(train, values, np.nan)
        for column, words in self.columns.items():
            for name, values in zip(_input_names(column, words), _inputs(words, rows[column])):
                made[name] = values
        made["position"] = rows[self.order].map(number) if self.order else 0.0
        made["weight"] = rows[self.weight].map(number).fillna(1.0) if self.weight in rows else 1.0
        return made

    def _values(self, name: str, words: tuple[str, ...], cells: pd.Series) -> dict[str, np.ndarray]:
        if self.kind == NUMBER_KIND:
            return {name: cells.map(number).to_numpy(float)}
        codes = np.array([code(cell, words) for cell in cells])
        if self.kind == LABELS_KIND:
            return {name: np.where(codes < 0, np.nan, codes)}
        return {f"{name}_{one}": np.where(codes < 0, np.nan, codes == place) for place, one in enumerate(words)}

    def _arranged(self, rows: pd.DataFrame, found: pd.DataFrame, folder: Path,
                  report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Index and quarantine of ``rows`` with what was ``found`` of their files."""
        rows = rows.merge(found, on="path", how="left").fillna({"reason": "", "detail": ""})
        lost, missing = rows["height"].isna(), self._unlabeled(rows)
        seen = rows.drop(columns=["reason", "detail"]).join(judge(rows[[]], {
            "no-file": (lost, "it is listed, but not there"),
            "no-label": (missing, "its label is missing")})[["reason", "detail"]])
        unread = (rows["reason"] != "") & (seen["reason"] == "")
        for name in ("reason", "detail"):
            seen[name] = seen[name].where(~unread, rows[name])
        quarantine = set_aside(seen)[QUARANTINE_COLUMNS]
        usable = seen[seen["reason"] == ""].drop(columns=["reason", "detail"]).reset_index(drop=True)
        if usable.empty:
            raise nothing_usable("picture", folder, quarantine)
        tell_reasons(quarantine, report)
        return self._numbered(usable), quarantine

    def _unlabeled(self, rows: pd.DataFrame) -> pd.Series:
        return (rows["split"] == "train") & rows[list(self.targets)].isna().any(axis=1)

    def _numbered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """One row a picture or plane, with ``series``, ``position``, ``plane`` and an ``id`` of its own."""
        rows = rows.assign(plane=[central(int(count), self.slices) if count else [-1] for count in rows["slices"]])
        rows = rows.explode("plane", ignore_index=True).astype({"plane": int})
        rows[GROUP_SIZE] = rows.groupby("group")["id"].transform("nunique")
        if self.order:  # where it says nothing, as of pictures elsewhere: the place along the series, then the name
            groups = ["split", "group"]
            rank = rows.sort_values(["place", "path", "plane"], key=_counting).groupby(groups).cumcount()
            given = rows.groupby(groups)["position"].transform("max") + 1  # what is not ordered comes after what is
            rows["position"] = rows["position"].fillna(given.fillna(0) + rank)
            if (planes := rows["plane"] >= 0).any():  # those of a volume lie behind each other at its place
                rows["position"] += (rows["plane"] / rows["slices"]).where(planes, 0.0)
                rows["id"] = rows["id"].where(~planes, rows["id"] + "_" + rows["plane"].map("{:03d}".format))
            return rows.assign(series=rows["group"]).sort_values(["split", "series", "position"], ignore_index=True)
        rows = rows.assign(series=rows["id"])
        rows = rows.sort_values(["split", "series", "place", "path", "plane"], ignore_index=True, key=_counting)
        rows["position"] = rows.groupby(["split", "series"]).cumcount()
        if self.several or (rows["plane"] >= 0).any():
            rows["id"] = rows["series"] + "_" + rows["position"].map("{:03d}".format)
        return rows


def _counting(column: pd.Series) -> pd.Series:
    """What a column sorts by: paths with their digits as numbers, others as they are."""
    return column.map(natural) if column.name == "path" else column


def _input_names(column: str, words: tuple[Any, ...]) -> list[str]:
    numbers = not words or not isinstance(words[0], str)
    return [column] if numbers or len(words) <= 2 else [f"{column}_{one}" for one in words[1:]]


def _inputs(words: tuple[Any, ...], cells: pd.Series) -> list[np.ndarray]:
    """The numbers of one column; 0, which is the mean of numbers, where a cell is empty."""
    if not isinstance(words[0], str):
        mean, deviation = words
        return [np.nan_to_num((cells.map(number).to_numpy(float) - mean) / deviation)]
    codes = np.array([code(cell, words) for cell in cells])
    if len(words) <= 2:
        return [np.where(codes < 0, 0.5, codes).astype(float)]
    return [(codes == place).astype(float) for place in range(1, len(words))]
