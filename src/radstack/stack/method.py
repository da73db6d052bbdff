"""What a stacking method is: settings that can be fitted to rows and then predict other rows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from radstack.scoring.task import PROBABILITIES
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class Method:
    """Settings that can be fitted: base of the frozen dataclasses in ``registry.METHODS``."""

    learns: ClassVar[bool] = True
    """Whether ``fit`` looks at labels; then at least two folds are needed."""
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES,)
    """Which predictions it can work on: ``PROBABILITIES``, ``NUMBERS``, ``CLASSES``."""

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

    def predict(self, rows: Rows) -> np.ndarray:
        """Predictions of ``rows`` (whole series), float [rows, targets]."""
        return self.method.predict(rows, self.state)
