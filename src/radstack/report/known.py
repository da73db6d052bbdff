"""What is known of training where a solution is applied: how its pictures were taken, and how far off it was on them.

The repository has it in its tables; a bundle holds two small ones, without a name of a patient, a picture or a file.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from radstack.core.errors import Missing, UserError
from radstack.core.files import write_table
from radstack.report.shift import facts_of
from radstack.running.context import Context
from radstack.running.tables import read_index, read_rows
from radstack.stack.predictions import read_member
from radstack.stages.stack import stack_folds
from radstack.stages.submit import by_row

FACTS, ANSWERS = "training_facts.parquet", "training_answers.parquet"
"""Files of a bundle, beside its weights."""
SAID = "said "
"""Before a target: what the final model said of it out of fold."""


@dataclass(frozen=True)
class Known:
    """What is known of the training pictures; None where nothing is."""

    facts: pd.DataFrame | None
    """:func:`radstack.report.shift.facts_of` the training rows."""
    answers: pd.DataFrame | None
    """A row a submission's row of training: the targets, ``said <target>`` out of fold, and the columns ``interval_by``."""


def known_of(context: Context) -> Known:
    """What the tables of a competition's own folders say, or what its bundle holds."""
    folder = context.paths.weights
    if (folder / FACTS).exists() or (folder / ANSWERS).exists():
        return Known(*(pd.read_parquet(folder / name) if (folder / name).exists() else None for name in (FACTS, ANSWERS)))
    return Known(_facts(context), _answers(context))


def write_known(known: Known, folder: Path) -> None:
    """Write what is known into a bundle's folder of weights: rows by their values, patients as numbers."""
    for name, table in ((FACTS, known.facts), (ANSWERS, known.answers)):
        if table is not None:
            mixed = table.sort_values([column for column in table if column != "group"], ignore_index=True, kind="stable")
            if "group" in mixed:
                mixed = mixed.assign(group=pd.factorize(mixed["group"])[0].astype(str))
            write_table(folder / name, mixed)


def _facts(context: Context) -> pd.DataFrame | None:
    boxes = context.paths.cache / "boxes.parquet"
    if not boxes.exists():
        return None
    rows = pd.read_parquet(boxes)
    return facts_of(rows[rows["split"] == "train"], context.competition.pages.acquisition)


def _answers(context: Context) -> pd.DataFrame | None:
    competition, final = context.competition, context.competition.models.final
    targets, row = list(competition.targets), competition.submission.row
    try:
        rows, _ = read_rows(context, "train")
        table = by_row(context, read_member(context.paths.oof / final, stack_folds(context, final), tests=False).oof)
        labels = read_index(context)
    except (Missing, UserError):  # a copy with weights alone
        return None
    own = [name for name in competition.pages.interval_by if name in labels]
    labels = labels[labels["split"] == "train"].drop_duplicates(row).assign(id=lambda known: known[row])
    said = table[["id", *targets]].rename(columns={name: f"{SAID}{name}" for name in targets})
    both = labels[["id", *targets, *own]].merge(said, on="id", validate="one_to_one").drop(columns="id")
    return both if len(rows) else None
