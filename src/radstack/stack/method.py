"""What a stacking method is: settings that can be fitted to rows and then predict other rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from radstack.scoring.task import PROBABILITIES
from radstack.stack.rows import Rows


@dataclass(frozen=True)
class Fitted:
    """A method after fitting."""

    predict: Callable[[Rows], np.ndarray]
    """Rows (whole series) -> probabilities or numbers, float [rows, targets]."""
    notes: dict[str, Any]
    """What was learned or decided, as JSON values for the manifest."""


@dataclass(frozen=True)
class Method:
    """Settings that can be fitted: base of the frozen dataclasses in ``registry.METHODS``."""

    learns: ClassVar[bool] = True
    """Whether ``fit`` looks at labels; then at least two folds are needed."""
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES,)
    """Which predictions it can work on: ``PROBABILITIES``, ``NUMBERS``, ``CLASSES``."""

    def fit(self, rows: Rows) -> Fitted:
        """Learn from ``rows``, which hold whole patients of other folds than those to be scored."""
        raise NotImplementedError
