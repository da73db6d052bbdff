"""A Baseline answers without looking at a picture: what the facts of a row alone are worth, for the score table."""

from dataclasses import dataclass

from radstack.core.errors import UserError

PLACE, SLICES = "relative place", "slices of the series"
"""Columns that every row has beside its own: its rank in its series over the series' length less one (0 to 1), and how
many slices the series has."""


@dataclass(frozen=True)
class Baseline:
    """The best constant of the training rows that are alike in some columns."""

    name: str
    """Row of the score table."""
    columns: tuple[str, ...]
    """Columns of the row table, :data:`PLACE` or :data:`SLICES`. Numbers of many values are cut into parts."""
    parts: int = 10
    """Of a column of numbers, each with about as many training rows."""
    strength: float = 5.0
    """Patients that the constant of all rows weighs as much as, beside those of the rows that are alike."""

    def __post_init__(self) -> None:
        """Refuse what says no more than a constant."""
        if not self.columns or self.parts < 2 or self.strength < 0:
            raise UserError(f"baseline {self.name} needs a column, 2 parts or more, and a strength of 0 or more")
