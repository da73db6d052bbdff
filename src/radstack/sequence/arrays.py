"""What a sequence model reads, as arrays in index order, and the checks that nothing leaks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radstack.core.errors import LeakError, UserError, command

ByFold = Mapping[int, np.ndarray]
"""An array for each fold's network."""


@dataclass(frozen=True)
class Arrays:
    """Rows are pictures in index order: a series' rows are adjacent and follow the slice normal."""

    embeddings: Mapping[str, ByFold]
    """Member -> fold -> float16 [rows, width] of that fold's network, usually memory-mapped."""
    probs: Mapping[str, ByFold]
    """Member -> fold -> float32 [rows, targets]: what fold's network predicts for the rows it held out and for test
    rows, anything (NaN) elsewhere."""
    labels: np.ndarray  # float32 [rows, targets], 0 or 1; NaN in test
    fold: np.ndarray  # int [rows]; -1 in test
    group: np.ndarray  # [rows], the patient
    z: np.ndarray  # float32 [rows], millimeters along the slice normal; without them the position in the series
    start: np.ndarray  # int64 [series], first row of each
    stop: np.ndarray  # int64 [series], one past the last row of each
    targets: tuple[str, ...] = ()
    """Names of the labels' columns, where a loss asks for one."""

    @property
    def is_test(self) -> np.ndarray:
        """Mask of test rows, bool [rows]."""
        return self.fold < 0

    def nets(self, fold: int) -> np.ndarray:
        """The fold whose network held the row out, int [rows]; ``fold`` itself for test rows."""
        return np.where(self.is_test, fold, self.fold)


def arrays_of(index: pd.DataFrame, folds: pd.DataFrame, targets: tuple[str, ...], embeddings: Mapping[str, ByFold],
              tables: Mapping[str, Mapping[int, pd.DataFrame]]) -> Arrays:
    """Arrays of an index table (sorted by split, series, position) and a fold table.

    ``targets`` are the label columns. By member and fold, ``embeddings`` are float16 [rows of index, width], and ``tables``
    the predictions of that fold's network, scored and test rows together.
    """
    table = index.merge(folds, on="group", how="left", validate="many_to_one")
    columns = list(targets)
    probs = {member: {fold: predicted.set_index("id").reindex(table["id"])[columns].to_numpy(np.float32)
                      for fold, predicted in by_fold.items()} for member, by_fold in tables.items()}
    fold = np.where(table["split"] == "test", -1, table["fold"])
    if pd.isna(fold).any():
        patient = table["group"][pd.isna(fold)].iloc[0]
        raise UserError(f"patient {patient} is in no fold; run {command('01_make_folds')} --force")
    start, stop = series_bounds(table["series"].to_numpy())
    place = table["z" if "z" in table else "position"].to_numpy(np.float32)
    return Arrays(embeddings, probs, table[columns].to_numpy(np.float32), fold.astype(np.int64),
                  table["group"].to_numpy(), place, start, stop, targets)


def series_bounds(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row and one past the last row (int64 [series]) of each run of equal keys in ``series`` [rows].

    UserError where a key comes back after another one, so that the rows are not sorted by series.
    """
    start = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])
    if len(pd.unique(series)) != len(start):
        raise UserError(f"the index is not sorted by series; run {command('01_make_folds')} --force")
    return start, np.r_[start[1:], len(series)]


def check_arrays(arrays: Arrays, members: tuple[str, ...], fold: int) -> None:
    """Refuse arrays that leak or lack something fold ``fold`` needs.

    Raises:
        LeakError: a series or a patient is both in fold ``fold`` and in another one.
        UserError: no row to train on or to score, a training row without a label, a member without this fold's
            network, or one made on another index.
    """
    scored, train = arrays.fold == fold, (arrays.fold != fold) & ~arrays.is_test
    _check_sides(arrays, scored, train)
    if not scored.any() or not train.any():
        raise UserError(f"fold {fold} has {scored.sum()} rows to score and {train.sum()} to train on; "
                        "take fewer folds, such as --set folds.count=2, in all stages")
    if not np.isfinite(arrays.labels[train]).all():
        raise UserError(f"a training row has no label; run {command('01_make_folds')} --force")
    for member in members:
        if fold not in arrays.embeddings.get(member, {}):
            raise UserError(f"{member} has no embeddings of fold {fold}; predict it first: {command('05_predict', member)}")
        if any(len(table) != len(arrays.fold) for table in arrays.embeddings[member].values()):
            raise UserError(f"{member}'s embeddings are of another index; predict it again: "
                            f"{command('05_predict', member)} --force")


def held_out_probs(arrays: Arrays, members: tuple[str, ...], fold: int) -> np.ndarray:
    """float32 [rows, members, targets]: each row's prediction by the network that held it out (test: fold ``fold``'s).

    A test row is read from one network, not from the folds' mean, so that it looks like what was trained on. UserError where
    a network made no prediction of what it held out (a fold was not trained or not predicted).
    """
    nets, probs = arrays.nets(fold), np.empty((len(arrays.fold), len(members), arrays.labels.shape[1]), np.float32)
    for place, member in enumerate(members):
        for net in np.unique(nets):
            rows = nets == net
            table = arrays.probs.get(member, {}).get(int(net))
            if table is None or not np.isfinite(table[rows]).all():
                raise UserError(f"{member} has no predictions of fold {net}; train and predict it: "
                                f"{command('04_train', member)} --folds {net}, then "
                                f"{command('05_predict', member)} --folds {net}")
            probs[rows, place] = table[rows]
    return probs


def _check_sides(arrays: Arrays, scored: np.ndarray, train: np.ndarray) -> None:
    if (arrays.fold != np.repeat(arrays.fold[arrays.start], arrays.stop - arrays.start)).any():
        raise LeakError(f"the slices of one series lie in different folds; run {command('01_make_folds')} --force")
    both = np.intersect1d(arrays.group[scored].astype(str), arrays.group[train].astype(str))
    if len(both):
        raise LeakError(f"patient {both[0]} is both trained on and scored; run {command('01_make_folds')} --force")
