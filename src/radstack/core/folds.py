"""Folds by patient, rarest label first, checked. Made once and read by every level.

scikit-learn's StratifiedGroupKFold is not used: its issues 32540, 33085 and 34828 leave folds empty or unbalanced.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radstack.core.errors import LeakError, UserError, command

ALL = 1000
"""In place of a fold's number: no fold is held out."""
EVERY = 999
"""In place of the fold of a row: it trains in every fold and is scored in none."""


def fold_name(fold: int) -> str:
    """How a fold's files begin: ``fold0``; ``all`` where none is held out."""
    return "all" if fold == ALL else f"fold{fold}"


def fold_words(fold: int) -> str:
    """A fold for people: ``fold 0``, or ``all rows``."""
    return "all rows" if fold == ALL else f"fold {fold}"


def make_folds(groups: pd.Series, labels: pd.DataFrame, n_folds: int, seed: int) -> pd.DataFrame:
    """Deal groups into folds so that every label's positives and the rows are spread evenly.

    Groups are dealt in order of the rarest label they hold, then of size; each goes to the fold that has the fewest
    positives of that label, then the fewest rows. ``seed`` orders groups that are otherwise equal. ``groups`` are the
    patients of the rows, ``labels`` 0/1 columns of them (soft labels count by their sum).

    Columns ``group`` and ``fold`` (int 0..n_folds-1), one row a group, sorted by group; UserError for too few groups.
    """
    counts = labels.fillna(0).groupby(groups.to_numpy()).sum()
    counts["rows"] = groups.value_counts().reindex(counts.index).to_numpy()
    if len(counts) < 2:
        raise UserError(f"folds need two training patients or more, there are {len(counts)}; see quarantine.csv for the "
                        "files that were set aside, take more data or a larger --limit")
    if len(counts) < n_folds:
        raise UserError(f"{len(counts)} patients cannot fill {n_folds} folds; use --set folds.count={len(counts)}")
    fold = _deal(counts.to_numpy(float), n_folds, np.random.default_rng(seed))
    return pd.DataFrame({"group": counts.index.astype(str), "fold": fold}).sort_values("group", ignore_index=True)


def _deal(counts: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Give each row of ``counts`` [groups, labels + 1] a fold; the last column is the number of rows."""
    total = counts.sum(0)
    rarity = np.where(counts > 0, total, np.inf)
    rarest = rarity.argmin(1)
    order = np.lexsort((rng.random(len(counts)), -counts[:, -1], -counts[np.arange(len(counts)), rarest], rarity.min(1)))
    held = np.zeros((n_folds, counts.shape[1]))
    fold = np.empty(len(counts), int)
    for group in order:
        # Rare labels come first, while there is room to spread them; groups without any then even out the rows.
        emptiest = np.lexsort((held[:, -1], held[:, rarest[group]]))[0]
        fold[group] = emptiest
        held[emptiest] += counts[group]
    return fold


@dataclass(frozen=True)
class HoldOut:
    """A dealer of two folds: 0 is scored, 1 is learned from. So sources do that have no cross-validation."""

    count: int = 0
    """Patients of fold 0, drawn at random; not used where there are ``quotas``."""
    quotas: tuple[tuple[str, int], ...] = ()
    """Label columns and how many rows of each fold 0 holds, as far as there are; patients are drawn until it does."""

    def __call__(self, train: pd.DataFrame, labels: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
        """See :class:`radstack.recipes.competition.Dealer`; a UserError where one of the folds would be empty."""
        groups = train["group"].astype(str).to_numpy()
        order = np.random.default_rng(seed).permutation(np.unique(groups))
        held = self._filled(order, labels, groups) if self.quotas else set(order[:self.count])
        if not 0 < len(held) < len(order) or count != 2:
            raise UserError(f"{len(held)} of {len(order)} patients would be held out in {count} folds; leave --recipes "
                            "heldout away, or take more data")
        return pd.DataFrame({"group": np.sort(order), "fold": [0 if one in held else 1 for one in np.sort(order)]})

    def _filled(self, order: np.ndarray, labels: pd.DataFrame, groups: np.ndarray) -> set[str]:
        """Patients in this order, each taken where some quota that he has rows for is not filled."""
        names, most = [name for name, _ in self.quotas], np.array([rows for _, rows in self.quotas])
        counts = labels[names].groupby(groups).sum().loc[order].to_numpy()
        found, held = set(), np.zeros(len(names))
        for group, own in zip(order, counts):
            if ((own > 0) & (held < most)).any():
                found.add(str(group))
                held += own
        return found


def check_folds(folds: pd.DataFrame, index: pd.DataFrame, targets: list[str]) -> list[str]:
    """One line a problem that is only worth knowing (a class absent from a fold).

    LeakError for a patient in two folds, UserError for an empty fold or a patient without one.
    """
    if len(twice := folds["group"][folds["group"].duplicated()]):
        raise LeakError(f"patient {twice.iloc[0]} is in two folds; type: {command('01_make_folds')} --force")
    train = index[index["split"] == "train"]
    _check_cover(folds, train)
    fold = fold_of(train, folds)
    positives = train[targets].groupby(fold.to_numpy()).sum()
    return [f"fold {number} has no {target}" for number, row in positives.iterrows() for target in targets
            if row[target] == 0]


def _check_cover(folds: pd.DataFrame, train: pd.DataFrame) -> None:
    groups = train["group"].unique()  # of each patient one: names of all rows would be compared for seconds
    if missing := set(groups) - set(folds["group"]):
        raise UserError(f"patient {min(missing)} has no fold: the fold table was made on other data; "
                        f"type: {command('01_make_folds')} --force")
    held = folds[folds["group"].isin(groups)]
    if empty := set(range(folds["fold"].max() + 1)) - set(held["fold"]):
        raise UserError(f"fold {min(empty)} holds no picture: the fold table was made on other data; "
                        f"type: {command('01_make_folds')} --force")


def patients_on_both_sides(index: pd.DataFrame) -> list[str]:
    """Patients that appear in train and in test (allowed by some organizers; reported, and kept in one fold)."""
    test, train = (set(index.loc[index["split"] == split, "group"].unique()) for split in ("test", "train"))
    return sorted(test & train)


def fold_of(index: pd.DataFrame, folds: pd.DataFrame) -> pd.Series:
    """Fold of every row of ``index``: its patient's, or -1 for test rows."""
    code, groups = pd.factorize(index["group"])
    own = pd.Series(groups).map(folds.set_index("group")["fold"]).to_numpy(float)  # patient by patient
    fold = pd.Series(np.append(own, np.nan)[code], index.index, name="group")  # a row without a patient has the code -1
    return fold.where(index["split"] == "train", -1).fillna(-1).astype(int)


def fold_hash(folds: pd.DataFrame) -> str:
    """Sixteen hex digits that two fold tables share only when they deal the same patients alike."""
    ordered = folds.sort_values("group")
    return hashlib.sha256(ordered.to_csv(columns=["group", "fold"], index=False).encode()).hexdigest()[:16]
