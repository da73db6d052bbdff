"""The form of a submission file."""

from dataclasses import dataclass

from radstack.scoring.metrics import CLIP, ClassGroup


@dataclass(frozen=True)
class Layout:
    """Columns and range of a submission CSV."""

    id_column: str = "ID"
    """Column that names the row; several, with commas between, name it together, joined by ``_``. Only the first of these
    may hold a ``_`` itself."""
    values: tuple[str, ...] = ("Label",)
    """Columns of numbers."""
    low: float = CLIP
    """Least value; probabilities are clipped, since one confident miss at 0 costs 34.5."""
    high: float = 1 - CLIP
    """Greatest value."""
    sample_ids: tuple[str, ...] = ()
    """What the organizer's sample file calls that column, where not ``id_column``; the first that it has counts."""
    form: str = "long"
    """A name of ``radstack.submission.forms.FILLS``: one row a picture and target, or one a picture."""
    row: str = "id"
    """Column of the index that the rows' names are of: ``id``, or ``series`` for one row a volume."""
    calls: tuple[ClassGroup, ...] = ()
    """Columns of words between the name and the values: the likeliest class of each group of ``values``, in their order."""
    words_only: bool = False
    """Whether only these words are handed in, and the values are not."""

    @property
    def id_columns(self) -> list[str]:
        """The columns of the row's name."""
        return self.id_column.split(",")

    @property
    def header(self) -> list[str]:
        """All columns in order."""
        return [*self.id_columns, *(group.name for group in self.calls), *self.numbers]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers that are handed in."""
        return () if self.words_only else self.values


LONG = Layout()
"""RSNA 2019: one row a picture and target."""
