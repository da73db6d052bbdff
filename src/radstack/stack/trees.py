"""LightGBM and a random forest on neighbor features, one model a class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from radstack.core.progress import track
from radstack.scoring.metrics import sigmoid
from radstack.stack.adjust import platt
from radstack.stack.binned import SAMPLED, Binned, binned
from radstack.stack.features import class_features, own_features, shared_features
from radstack.stack.forests import CHECKED, Trees, as_arrays
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows

if TYPE_CHECKING:
    import lightgbm as lgb

FEW = 20_000
"""Rows below which one thread grows trees. Threads wait for each other after each leaf, and where other programs hold the
cores such a wait takes longer than the work: 18 s for the 0.1 s of 600 rows (DECISIONS.md)."""
ENOUGH = 5
"""Patients of either label that a class needs before a tree is grown for it; with fewer, the blend stands."""


@dataclass(frozen=True)
class Boosting(Method):
    """Settings of gradient boosting by LightGBM (Ke 2017).

    Boosting starts from the calibrated blend rather than from the prevalence, so that it learns corrections: better with
    good members and few rows, the same otherwise. A start from the raw blend diverges where members are overconfident
    (Newton steps divide by p (1 - p)).
    """

    leaves: int = 30
    depth: int = 5
    lr: float = 0.02
    rounds: int = 3000
    """Most rounds, of a tree a class each."""
    patience: int = 100
    """Stop after this many rounds without a better log loss on the inner patients."""
    leaf_rows: int = 20
    """Fewest rows in a leaf."""
    held_out: float = 0.2
    """Share of the training patients that early stopping watches; they grow no tree."""
    threads: int = 0
    """0 for all cores (OMP_NUM_THREADS where set), and one for fewer rows than ``FEW``; the result does not depend on it."""
    seed: int = 0

    def boost(self, x: np.ndarray, y: np.ndarray, start: np.ndarray, watch: np.ndarray, names: list[str] | None = None,
              **objective: Any) -> "lgb.Booster":
        """Grow trees on the rows outside ``watch``, bool [rows], until those inside gain no more.

        From features ``x`` [rows, features] with ``names`` and labels or class numbers ``y`` [rows], boosting starts at the
        raw scores ``start``, [rows] or [rows, classes]. ``objective`` holds further parameters of LightGBM.
        """
        import lightgbm as lgb  # half a second

        grow = lgb.Dataset(x[~watch], y[~watch], init_score=start[~watch], feature_name=names or "auto")
        stop = grow.create_valid(x[watch], y[watch], init_score=start[watch])
        return self.grow(grow, stop, self.settings(**objective) | {"num_threads": self.threads_for(len(x))})

    def grow(self, grow: "lgb.Dataset", stop: "lgb.Dataset", settings: dict[str, Any]) -> "lgb.Booster":
        """Trees on the table ``grow`` by LightGBM's ``settings``, until the rows of ``stop`` gain no more."""
        import lightgbm as lgb

        return lgb.train(settings, grow, self.rounds, valid_sets=[stop],
                         callbacks=[lgb.early_stopping(self.patience, verbose=False)])

    def threads_for(self, rows: int) -> int:
        """Threads for a table of so many rows; 0 for all cores."""
        return self.threads or int(rows < FEW)

    def settings(self, **objective: Any) -> dict[str, Any]:
        """These settings as LightGBM's parameters, and further ones."""
        return {"num_leaves": self.leaves, "max_depth": self.depth, "learning_rate": self.lr, "seed": self.seed,
                "min_data_in_leaf": self.leaf_rows, "num_threads": self.threads, "verbosity": -1,
                "deterministic": True, "force_col_wise": True, **objective}


@dataclass(frozen=True)
class ByClass(Method):
    """A model for each class that has enough patients, on the features of :mod:`radstack.stack.features`."""

    reach: int = 9
    """Neighbors to either side."""
    columns: tuple[str, ...] = ()
    """Further index columns, e.g. the share of brain in the picture."""

    def fit(self, rows: Rows) -> Fitted:
        """Fit class after class, one's features in memory at a time; ``notes``: the shares of the ten best features, or why
        the blend stands.
        """
        models: dict[int, Any] = {}
        notes: dict[str, Any] = {}
        common = self.common(rows)
        with track(len(rows.task.targets), "trees of the fold, classes", brief=True) as steps:
            for target, name in enumerate(rows.task.targets):
                patients = min(len(np.unique(rows.group[rows.truth[:, target] == label])) for label in (0, 1))
                if patients < ENOUGH:
                    notes[name] = f"blend kept: only {patients} patients of one label, {ENOUGH} are needed"
                else:
                    models[target], notes[name] = self.fit_class(rows, target, common)
                steps.step()
        return Fitted(self, models, notes)

    def predict(self, rows: Rows, state: dict[int, Any]) -> np.ndarray:
        """Probabilities by the models of the targets that have one, of the others the blend's."""
        out = sigmoid(rows.blend)
        for target, model in state.items() if len(rows) else ():
            features, _ = class_features(rows, target, self.reach, self.columns)
            out[:, target] = self.ask(model, features, rows.blend[:, target])
        return out

    def common(self, rows: Rows) -> Any:
        """What is made once for the models of all classes; here nothing."""
        return None

    def fit_class(self, rows: Rows, target: int, common: Any) -> tuple[Any, dict[str, Any]]:
        """The model of one class, with what is :meth:`common` to all, and notes."""
        raise NotImplementedError

    def ask(self, model: Any, x: np.ndarray, blend: np.ndarray) -> np.ndarray:
        """Probabilities [rows] of the features ``x`` and the blend's log odds [rows]."""
        raise NotImplementedError


@dataclass(frozen=True)
class LightGBM(ByClass, Boosting):
    """Boosting per class; the settings are those of the 11th place of RSNA 2019.

    Of many rows, the columns that the classes share are binned once a fold. Few rows are binned anew for each class, without
    those that early stopping watches.
    """

    def common(self, rows: Rows) -> Binned | None:
        """The shared columns of more than ``SAMPLED`` rows, binned."""
        if len(rows) <= SAMPLED:
            return None
        return binned(*shared_features(rows, self.columns), self.settings(objective="binary"))

    def fit_class(self, rows: Rows, target: int, common: Binned | None) -> tuple[Any, dict[str, Any]]:
        """The booster with scale and bias of the blend it starts from; ``notes`` has the number of trees, too."""
        y, watch = rows.truth[:, target], held_out_rows(rows, target, self.held_out, self.seed)
        blend = rows.blend[:, target]
        scale, bias = platt(blend[~watch], y[~watch])
        start = scale * blend + bias
        if common:
            grow, stop = common.split(*own_features(rows, target, self.reach), y, start, watch)
            booster = self.grow(grow, stop, common.settings)
        else:
            x, names = class_features(rows, target, self.reach, self.columns)
            booster = self.boost(x, y, start, watch, names, objective="binary")
        shares = _shares(booster.feature_name(), booster.feature_importance("gain"))
        return (booster, scale, bias), {"trees": booster.best_iteration, "gain": shares}

    def ask(self, model: "tuple[lgb.Booster, float, float]", x: np.ndarray, blend: np.ndarray) -> np.ndarray:
        """The boosted blend."""
        booster, scale, bias = model
        raw = booster.predict(x, raw_score=True, num_threads=self.threads_for(len(x)))
        return sigmoid(np.asarray(raw) + scale * blend + bias)


@dataclass(frozen=True)
class Forest(ByClass):
    """Random forest per class (Breiman 2001) on the same features; missing neighbors stay missing."""

    trees: int = 200
    depth: int = 12
    leaf_rows: int = 20
    """Fewest rows in a leaf; probabilities are leaf means, so small leaves are overconfident."""
    tree_rows: int = 50_000
    """Most rows a tree draws, with replacement; keeps 750k rows within minutes."""
    threads: int = -1
    """-1 for all cores; the result does not depend on it."""
    seed: int = 0

    def fit_class(self, rows: Rows, target: int, common: None) -> tuple[Any, dict[str, Any]]:
        """The forest; its importances are shares of impurity."""
        from sklearn.ensemble import RandomForestClassifier  # slow to import

        x, names = class_features(rows, target, self.reach, self.columns)
        forest = RandomForestClassifier(
            self.trees, max_depth=self.depth, min_samples_leaf=self.leaf_rows, max_features="sqrt",
            max_samples=min(self.tree_rows, len(x)), n_jobs=self.threads, random_state=self.seed)
        forest.fit(x, rows.truth[:, target] > 0.5)
        return as_arrays(forest, x[:CHECKED]), {"gain": _shares(names, forest.feature_importances_)}

    def ask(self, model: Trees, x: np.ndarray, blend: np.ndarray) -> np.ndarray:
        """What the leaves hold, whatever the blend says."""
        return model(x)


def held_out_rows(rows: Rows, target: int, share: float, seed: int) -> np.ndarray:
    """Bool [rows]: ``share`` of the patients with a positive of ``target`` and of those without, at random."""
    positive = np.bincount(rows.group, weights=rows.truth[:, target]) > 0
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(kind))[:max(1, round(share * kind.sum()))] for kind in (positive, ~positive)]
    return np.isin(rows.group, np.concatenate(chosen))


def _shares(names: list[str], importance: np.ndarray, top: int = 10) -> dict[str, float]:
    """The ``top`` features by their share of the whole importance."""
    total = max(float(np.sum(importance)), 1e-12)
    best = np.argsort(importance)[::-1][:top]
    return {names[place]: round(float(importance[place]) / total, 4) for place in best if importance[place] > 0}
