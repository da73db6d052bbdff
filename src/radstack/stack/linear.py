"""Numbers combined by a column of the index and by linear fits: routing, non-negative least squares, least deviations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.registry import pick
from radstack.scoring.task import CLASSES, NUMBERS, PROBABILITIES
from radstack.stack.adjust import pays
from radstack.stack.features import index_column
from radstack.stack.method import Fitted, Method
from radstack.stack.rows import Rows

Solver = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]
"""(x [rows, columns], y [rows], where a coefficient is free [columns], the most that another may be) -> coefficients
[columns]"""
MOST = 2.0
"""A weight, at most. A network that never learned says about the same of everyone; to make ages of that takes a weight of
three or more, which throws the answers of a network that did learn far off."""


@dataclass(frozen=True)
class Route(Method):
    """Each row takes the prediction of the one member whose value its column holds, e.g. that of its sex's network."""

    learns: ClassVar[bool] = False
    guarded: ClassVar[bool] = False
    screened: ClassVar[bool] = False
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES, NUMBERS, CLASSES)
    column: str = ""
    """Column of the index."""
    values: tuple[Any, ...] = ()
    """One a member, in their order."""

    def fit(self, rows: Rows) -> Fitted:
        """Nothing to fit. UserError when there are not as many values as members, or one stands twice."""
        if len(self.values) != len(rows.predicted) or len(set(self.values)) != len(self.values):
            raise UserError(f"route has the values {self.values} for {len(rows.predicted)} members; name one for each")
        return Fitted(self, None, {"values": list(self.values)})

    def predict(self, rows: Rows, state: None) -> np.ndarray:
        """The prediction of each row's member; UserError where a row holds none of the values."""
        member = pd.Index(self.values).get_indexer(index_column(rows, self.column))
        if (member < 0).any():
            row = rows.table.iloc[int((member < 0).argmax())]
            raise UserError(f"{row['id']} has {self.column} = {row[self.column]}, but members are named for "
                            f"{', '.join(map(str, self.values))} alone; correct the index or the recipe's values")
        return rows.predicted[member, np.arange(len(rows))]


@dataclass(frozen=True)
class Linear(Method):
    """Non-negative weights of the members and a constant, fitted for each value of a column.

    Weights are at most ``most`` and need not sum to 1: with one member this is the linear bias correction of Deeplasia
    (Rassmann 2024). A fit is kept only where cross-fitting by the folds of the training patients says that it pays over
    equal weights, by more than ``margin`` standard errors over patients (the one-standard-error rule of Breiman 1984):
    weights of members that are alike are mostly noise, and equal ones are hard to beat (the forecast combination puzzle,
    Stock & Watson 2004).
    """

    handles: ClassVar[tuple[str, ...]] = (NUMBERS,)
    falls_back: ClassVar[bool] = True
    kind: str = "nnls"
    """A name of ``SOLVERS``: ``nnls`` minimizes squares, ``lad`` absolute deviations, for labels with outliers."""
    by: str = ""
    """Column of the index with a fit for each of its values; '' for one fit."""
    intercept: bool = True
    """Add a constant of either sign."""
    enough: int = 5
    """Rows that a fit needs for each of its coefficients; with fewer, members count equally."""
    margin: float = 1.0
    """Standard errors that the cross-fitted gain must exceed."""
    most: float = MOST
    """Largest weight."""

    def fit(self, rows: Rows) -> Fitted:
        """Fit and decide; ``notes``: part -> rows and, by target, what was fitted, its gain and whether it is kept."""
        lines: dict[str, np.ndarray] = {}
        notes: dict[str, Any] = {}
        for name, chosen in self._parts(rows):
            part = rows.take(chosen)
            needed = self.enough * (len(rows.predicted) + self.intercept)
            notes[name] = {"rows": len(part)}
            if len(part) < needed:
                notes[name]["equal weights"] = f"a fit needs {needed} rows"
                continue
            found = [self._fit_target(part, place) for place in range(len(rows.task.targets))]
            lines[name] = np.stack([line for line, _ in found])
            notes[name] |= dict(zip(rows.task.targets, (note for _, note in found), strict=True))
        return Fitted(self, lines, notes)

    def _fit_target(self, part: Rows, target: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Weights of the members and the constant, float64 [members + 1], and the notes."""
        solve = partial(_line, pick(SOLVERS, self.kind, "kind of linear fit"), self.intercept, self.most)
        x, y = part.predicted[:, :, target].T.astype(np.float64), part.truth[:, target].astype(np.float64)
        line = solve(x, y)

        def predict(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
            *weights, constant = solve(x, y)
            return new @ weights + constant

        losses = partial(part.task.metric.number_losses, y)
        paid = pays(self.margin, predict, x, y, part.group, losses, x.mean(axis=1), part.fold)
        notes = {**paid, "weights": np.round(line[:-1], 6).tolist(), "intercept": round(float(line[-1]), 6)}
        equal = np.append(np.full(x.shape[1], 1 / x.shape[1]), 0.0)
        return line if paid["kept"] else equal, notes

    def predict(self, rows: Rows, state: dict[str, np.ndarray]) -> np.ndarray:
        """Numbers by each part's weights and constant, [targets, members + 1]; the mean where a part has none."""
        out = rows.predicted.mean(axis=0)
        for name, chosen in self._parts(rows):
            if name in state:
                weights, constant = state[name][:, :-1], state[name][:, -1]
                out[chosen] = np.einsum("tm,mrt->rt", weights, rows.predicted[:, chosen]) + constant
        return out

    def _parts(self, rows: Rows) -> Iterator[tuple[str, np.ndarray]]:
        """Each part's name and its rows, bool [rows]."""
        if not self.by:
            yield "all", np.ones(len(rows), bool)
            return
        values = index_column(rows, self.by).astype(str).to_numpy()
        for value in np.unique(values):
            yield f"{self.by}={value}", values == value


def _line(solve: Solver, intercept: bool, most: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of the members (columns of ``x``) and the constant, 0 without ``intercept``; float64 [columns + 1]."""
    columns = np.column_stack([x, np.ones(len(x))]) if intercept else x
    found = solve(columns, y, np.arange(columns.shape[1]) >= x.shape[1], most)
    return found if intercept else np.append(found, 0.0)


def least_squares(x: np.ndarray, y: np.ndarray, free: np.ndarray, most: float = MOST) -> np.ndarray:
    """Coefficients [columns] with the least sum of squares of ``y - x @ c``; see :func:`least_deviations`."""
    from scipy.optimize import lsq_linear  # slow to import

    return lsq_linear(x, y, bounds=(np.where(free, -np.inf, 0.0), np.where(free, np.inf, most))).x


def least_deviations(x: np.ndarray, y: np.ndarray, free: np.ndarray, most: float = MOST) -> np.ndarray:
    """Coefficients [columns] with the least sum of absolute deviations of ``y - x @ c`` (median regression, Koenker 1978).

    ``free``, bool [columns], says which coefficients may be any number; the others lie between 0 and ``most``. A UserError
    where the solver does not end. Solved as the dual linear program, which has one bounded variable a row, and one
    constraint and at most one variable a column: a seventeenth of the primal's time at 5,000 rows. The coefficients are its
    multipliers.
    """
    from scipy.optimize import linprog  # slow to import

    rows, bound = len(y), int((~free).sum())
    found = linprog(np.r_[-y, np.full(bound, most)], A_ub=np.hstack([x[:, ~free].T, -np.eye(bound)]), b_ub=np.zeros(bound),
                    A_eq=np.hstack([x[:, free].T, np.zeros((int(free.sum()), bound))]), b_eq=np.zeros(free.sum()),
                    bounds=[(-1, 1)] * rows + [(0, None)] * bound, method="highs")
    if not found.success:
        raise UserError(f"the fit of least absolute deviations failed ({found.message}); use the kind nnls")
    coefficients = np.empty(x.shape[1])
    coefficients[~free], coefficients[free] = -found.ineqlin.marginals, -found.eqlin.marginals
    return coefficients


SOLVERS: dict[str, Solver] = {"nnls": least_squares, "lad": least_deviations}
