"""What a stacking method is: settings that can be fitted to rows and then predict other rows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from radstack.core.errors import UserError
from radstack.scoring.task import PROBABILITIES
from radstack.stack.rows import Rows
from radstack.stack.screen import Screen

MEAN, CONSTANT = "the plain mean of its members", "the constant predictor"
"""What may stand in for a stack."""
TAKEN = "members"
"""Entry of a fit's notes: the members that it took, where some were left out."""


@dataclass(frozen=True)
class Method:
    """Settings that can be fitted: base of the frozen dataclasses in ``registry.METHODS``."""

    learns: ClassVar[bool] = True
    """Whether ``fit`` looks at labels; then at least two folds are needed."""
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES,)
    """Which predictions it can work on: ``PROBABILITIES``, ``NUMBERS``, ``CLASSES``."""

    guarded: ClassVar[bool] = True
    """Whether something simpler stands in where it is worse; not for what only picks or measures."""
    falls_back: ClassVar[bool] = False
    """Whether it is a mean wherever nothing better is sure; then the plain mean stands in for an earlier stack, too."""
    screened: ClassVar[bool] = True
    """Whether it works without some of its members."""

    rivals: ClassVar[tuple[str, ...]] = ()
    """What stands in for it wherever it is worse out of fold, also where it is not what is submitted: MEAN, CONSTANT."""
    members_stand_in: ClassVar[bool] = False
    """Whether each of its members may stand in likewise."""

    def plain(self, rows: Rows) -> np.ndarray:
        """What the method must not be worse than: the members' plain mean, float [rows, targets]."""
        return rows.task.metric.unlink(rows.blend)

    def fit(self, rows: Rows) -> "Fitted":
        """Learn from ``rows``, which hold whole patients of other folds than those to be scored; here nothing."""
        return Fitted(self, None, {})

    def predict(self, rows: Rows, state: Any) -> np.ndarray:
        """Probabilities or numbers, float [rows, targets], of whole series, by the ``state`` that ``fit`` found."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fitted:
    """A method after fitting."""

    method: Method
    state: Any
    """What was learned: numbers, arrays and trees, which the method's ``predict`` gets."""
    notes: dict[str, Any]
    """What was learned or decided, as JSON values for the manifest."""

    screen: Screen | None = None
    """What is taken of the members; None for all as they are."""
    instead: str = ""
    """What stands in for the method: ``MEAN`` of the members, ``CONSTANT``, or a member's number; empty for nothing."""
    constant: np.ndarray | None = None
    """The prior of the rows that were fitted, float64 [targets], where it stands in."""

    def predict(self, rows: Rows) -> np.ndarray:
        """Predictions of ``rows`` (whole series), float [rows, targets]; a UserError where the shape is another."""
        if self.instead == CONSTANT:
            return np.broadcast_to(self.constant, (len(rows), len(rows.task.targets)))  # type: ignore[arg-type]
        if self.instead.isdigit():
            return rows.predicted[int(self.instead)]
        rows = self.screen(rows) if self.screen else rows
        if self.instead == MEAN:
            return self.method.plain(rows)
        answers, expected = self.method.predict(rows, self.state), (len(rows), len(rows.task.targets))
        if np.shape(answers) != expected:
            raise UserError(f"predict of the stacking method {type(self.method).__name__} gives {np.shape(answers)}; it "
                            f"must give {expected}, a number for each row and target")
        return answers
