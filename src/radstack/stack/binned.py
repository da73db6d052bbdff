"""Tables that LightGBM has binned: columns that classes share are binned once, and parts of the rows are cut out of them."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import lightgbm as lgb

SAMPLED = 200_000
"""Rows from which LightGBM draws a sample for the edges of its bins (``bin_construct_sample_cnt``)."""


@dataclass(frozen=True)
class Binned:
    """The columns that all classes see, binned; a byte a value."""

    table: "lgb.Dataset"
    settings: dict[str, Any]
    """Parameters of LightGBM with which the table was binned, and with which trees must be grown on it."""

    def split(self, x: np.ndarray, names: list[str], y: np.ndarray, start: np.ndarray,
              watch: np.ndarray) -> "tuple[lgb.Dataset, lgb.Dataset]":
        """Tables of the rows outside ``watch``, bool [rows], and of those inside, for one class.

        They have the shared columns and then the class's own ``x``, float32 [rows, features], called ``names``, with labels
        ``y`` [rows] and the raw scores ``start`` [rows].
        """
        whole = _cut(self.table, np.arange(len(y)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that the values are gone, which only the bins were made from
            whole.add_features_from(_construct(x, names, self.settings))
        whole.set_label(y).set_init_score(start)
        return _cut(whole, np.flatnonzero(~watch)), _cut(whole, np.flatnonzero(watch))


def binned(x: np.ndarray, names: list[str], settings: dict[str, Any]) -> Binned:
    """Bin the shared columns ``x``, float32 [rows, features], called ``names``, by LightGBM's parameters ``settings``."""
    return Binned(_construct(x, names, settings), settings)


def _cut(table: "lgb.Dataset", rows: np.ndarray) -> "lgb.Dataset":
    """A copy of the numbered rows of a binned table."""
    return table.subset(cast("list[int]", rows)).construct()  # LightGBM takes an array, too; a list is twenty times as large


def _construct(x: np.ndarray, names: list[str], settings: dict[str, Any]) -> "lgb.Dataset":
    import lightgbm as lgb  # half a second

    # Parts are cut only from a table that has labels; each class puts its own over these.
    return lgb.Dataset(x, np.zeros(len(x), np.float32), feature_name=names, params=settings).construct()
