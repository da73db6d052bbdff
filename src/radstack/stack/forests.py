"""A forest of scikit-learn as arrays: stored without pickle, and answering alike wherever it is read.

scikit-learn adds up trees in the order in which its threads end (scikit-learn#22303), so that its own last bits vary.
LightGBM goes down the same trees in their order, on the machine that grew them as on any other: it compares in float64,
sends NaN where the node says, and divides the sum by the number of trees.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import lightgbm as lgb

HEAD = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx={last}
average_output
feature_names={names}
feature_infos={infos}
"""
MISSING_RIGHT, MISSING_LEFT = 8, 10
"""LightGBM's ``decision_type`` of a numerical split that NaN passes to either side."""


CHECKED = 1000
"""Rows on which both forms of a forest are compared when it is grown."""


@dataclass(frozen=True)
class Trees:
    """All nodes of all trees, one tree after another; arrays of [nodes] unless said otherwise."""

    roots: np.ndarray
    """int64 [trees], the first node of each."""
    left: np.ndarray
    """int32, counted from the tree's root: the node of rows whose feature is at most the threshold; -1 in a leaf."""
    right: np.ndarray
    """int32, the node of the others."""
    feature: np.ndarray
    """int32"""
    threshold: np.ndarray
    """float64"""
    missing_left: np.ndarray
    """bool, whether NaN goes left."""
    value: np.ndarray
    """float64, a leaf's probability of the second class, or its number."""
    features: int
    """How many there are."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Mean over the trees of ``x`` [rows, features], float64 [rows]."""
        return np.asarray(self.booster.predict(np.asarray(x, np.float32))) if len(x) else np.empty(0)

    def __getstate__(self) -> dict[str, Any]:
        """The arrays: another process makes its own booster."""
        return {name: value for name, value in self.__dict__.items() if name != "booster"}

    @cached_property
    def booster(self) -> "lgb.Booster":
        """The trees as LightGBM reads them."""
        import lightgbm as lgb  # half a second

        names = [f"x{place}" for place in range(self.features)]
        head = HEAD.format(last=self.features - 1, names=" ".join(names), infos=" ".join(["none"] * len(names)))
        stops = [*self.roots[1:], len(self.left)]
        trees = [f"Tree={number}\n{self._tree(slice(int(start), int(stop)))}\n"
                 for number, (start, stop) in enumerate(zip(self.roots, stops))]
        return lgb.Booster(model_str="\n".join([head, *trees, "end of trees\n"]))

    def _tree(self, nodes: slice) -> str:
        """One tree in LightGBM's text form, in which splits and leaves are numbered apart and leaf n is ``-n - 1``."""
        leaf = self.left[nodes] < 0
        number = np.where(leaf, -1 * np.cumsum(leaf), np.cumsum(~leaf) - 1)
        fields: dict[str, Any] = {"num_leaves": [leaf.sum()], "num_cat": [0]}
        if not leaf.all():
            kind = np.where(self.missing_left[nodes], MISSING_LEFT, MISSING_RIGHT)
            fields |= {"split_feature": self.feature[nodes][~leaf], "threshold": self.threshold[nodes][~leaf],
                       "decision_type": kind[~leaf], "left_child": number[self.left[nodes][~leaf]],
                       "right_child": number[self.right[nodes][~leaf]]}
        fields |= {"leaf_value": self.value[nodes][leaf], "shrinkage": [1]}
        return "".join(f"{name}={' '.join(map(repr, np.asarray(values).tolist()))}\n" for name, values in fields.items())


def as_arrays(forest: Any, x: np.ndarray) -> Trees:
    """The arrays of a fitted scikit-learn forest: a classifier of two classes, or a regressor of one number.

    Args:
        forest: with ``estimators_``.
        x: some rows [rows, features], NaN among them where there are any: both must answer them alike.

    Raises:
        AssertionError: they do not; scikit-learn's trees then mean something else than when this was written.
    """
    trees = [one.tree_ for one in forest.estimators_]

    def joined(name: str, kind: type) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees]).astype(kind)

    found = Trees(np.cumsum([0, *(tree.node_count for tree in trees[:-1])]), joined("children_left", np.int32),
                   joined("children_right", np.int32), joined("feature", np.int32), joined("threshold", np.float64),
                   joined("missing_go_to_left", bool), np.concatenate([tree.value[:, 0, -1] for tree in trees]), x.shape[1])
    jobs, forest.n_jobs = forest.n_jobs, 1
    expected = forest.predict_proba(x)[:, 1] if hasattr(forest, "predict_proba") else forest.predict(x)
    forest.n_jobs = jobs
    assert np.array_equal(found(x), expected), "a stored forest answers otherwise than scikit-learn's"
    return found
