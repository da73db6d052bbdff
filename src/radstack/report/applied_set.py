"""A set that is answered: what was found in each of its pictures, what was said of it, and how names are shown."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from radstack.report.cases import disagreement
from radstack.report.known import SAID, Known
from radstack.report.shift import facts_of
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.scoring.intervals import conformal
from radstack.stack.predictions import read_tests
from radstack.stack.rows import mean_over_folds
from radstack.stages.apply import answers
from radstack.stages.deadline import cut_in
from radstack.stages.elsewhere import any_readable
from radstack.stages.stack import stack_folds

COVERAGE = 0.9
"""Of intervals around numbers."""
Rename = Callable[[str, str], str]
"""Column and value -> what the page calls it."""


@dataclass(frozen=True)
class Applied:
    """A set that is answered, and what its page says of it."""

    there: Context
    """The competition on these pictures, of :func:`radstack.stages.apply.apply` with :data:`KEEP`."""
    answers: pd.DataFrame
    """``id`` and targets of the submission's rows."""
    quarantine: pd.DataFrame
    """As written beside the answers."""
    known: Known
    scores: pd.DataFrame | None = None
    """Of ``commands/external``, where there are labels."""
    labeled: pd.DataFrame | None = None
    """The labeled rows that were answered: ``id`` (of the submission), columns of the index, targets."""
    renamed: Rename = lambda column, value: value
    pseudonyms: bool = False
    """Whether ``renamed`` hides the names."""

    @property
    def targets(self) -> list[str]:
        """All label columns."""
        return list(self.there.competition.targets)

    @property
    def kind(self) -> str:
        """What is predicted, as of :class:`radstack.scoring.task.Kind`."""
        return self.there.competition.metric.kind.predicts


def found(one: Context) -> pd.DataFrame:
    """A row a picture: ``id``, ``series``, ``group``, ``flag``; the final answer, and ``disagreement`` of the networks.

    The last two are NaN where nothing was answered.
    """
    targets, rows, readable = list(one.competition.targets), localized(one), any_readable(one)
    final = answers(one, by_picture=True).set_index("id")
    networks = (test_means(one, name).reindex(final.index)[targets].to_numpy() for name in voices(one) if readable)
    doubt = disagreement(networks, (len(final), len(targets)))
    flags = [name for name in rows if name == "flag" or str(name).endswith("_flag")]
    words = rows[flags].fillna("").agg(lambda own: ", ".join(filter(None, own)), axis=1) if flags else ""
    row = one.competition.submission.row
    names = rows[list(dict.fromkeys(("id", "series", "group", row)))].assign(flag=words)
    return names.merge(final.assign(disagreement=doubt).reset_index(), on="id", how="left")


def voices(one: Context) -> list[str]:
    """The models whose disagreement counts: the networks; where there is only one, all that the final model is made of."""
    networks = [network.name for network in one.experiments]
    final = one.competition.models.final
    return networks if len(networks) > 1 else [name for name in one.options.only if name != final] or [final]


def test_means(one: Context, name: str) -> pd.DataFrame:
    """What a model says of the pictures, mean over folds: the targets by ``id``."""
    tests = read_tests(one.paths.oof / name, stack_folds(one, name))
    return mean_over_folds(tests, one.competition.targets).set_index("id")


def acquired(one: Context) -> pd.DataFrame:
    """:func:`radstack.report.shift.facts_of` the pictures."""
    return facts_of(localized(one), one.competition.pages.acquisition)


def localized(one: Context) -> pd.DataFrame:
    """The localization table, or the index where no picture could be read."""
    file = one.paths.cache / "boxes.parquet"
    return pd.read_parquet(file) if file.exists() else read_index(one)


def shortened(one: Context) -> pd.DataFrame:
    """``words``: what a deadline left out, one row, or none."""
    words = cut_in(one)
    return pd.DataFrame({"words": [words] if words else []}, dtype="str")


KEEP = {"found": found, "facts": acquired, "shortened": shortened}
"""What the page needs of each part of a large folder."""


def half_widths(applied: Applied) -> pd.DataFrame:
    """``target``, the columns ``interval_by``, ``half width``, ``training rows``."""
    training, own = applied.known.answers, list(applied.there.competition.pages.interval_by)
    if training is None:
        return pd.DataFrame(columns=["target", "half width", "training rows"])
    own = [name for name in own if name in training]
    parts = training.groupby(own) if own else [((), training)]
    return pd.DataFrame([{"target": target, **dict(zip(own, key)), "half width": conformal(
        (part[target] - part[f"{SAID}{target}"]).dropna().to_numpy(), COVERAGE), "training rows": len(part)}
        for key, part in parts for target in applied.targets])


def joined(words: pd.Series) -> str:
    """Each of the words that are not empty once, with commas."""
    return ", ".join(dict.fromkeys(word for word in words if word))
