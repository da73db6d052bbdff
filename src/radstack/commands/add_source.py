"""Pictures of another source: what the user says of them is read, checked and written down, then they are made ready."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from radstack.commands.external import labels_in
from radstack.commands.own.looking import PATIENT
from radstack.core.errors import UserError
from radstack.core.files import read_text_table
from radstack.core.lock import alone
from radstack.images.own.source import LABELS, Source
from radstack.recipes.submission import Layout
from radstack.running.context import NAME, Context
from radstack.running.tables import read_index
from radstack.stages.elsewhere import index_folder
from radstack.stages.sources import (
    Given,
    check_beside,
    check_source,
    given_columns,
    make_pixels,
    on_source,
    source_of,
    write_given,
)
from radstack.submission.forms import row_names


@dataclass(frozen=True)
class Wish:
    """What is given of a source; nothing for one that was added before."""

    folder: Path | None = None
    """Of its pictures, or a zip file's unpacked ones."""
    labels: Path | None = None
    """Table of its labels; None for pictures without."""
    columns: Path | None = None
    """Table of what stands beside the pictures (``id``, ``male``); None for the table of labels."""
    other: Context | None = None
    """Another competition whose labeled pictures are the source, in place of a folder and a table."""
    names: dict[str, str] = field(default_factory=dict)
    """Column there -> target here."""
    patients: str = ""
    """See :class:`radstack.stages.sources.Given`."""


def add_source(context: Context, name: str, wish: Wish) -> None:
    """Make the pictures of a source ready to train, and say what was kept out.

    Raises:
        LeakError: every picture of it is here already.
        UserError: the name is taken or cannot name a folder, there is no such folder or label, or stage 03 was not run.
    """
    if not NAME.fullmatch(name) or name == "test":
        raise UserError(f"{name!r} cannot name a source; take letters, digits, and . _ + -")
    folder = context.paths.sources / name
    with alone(folder):
        if wish.folder or wish.other:
            given, labels, columns = _of_competition(context, wish) if wish.other else _of_folder(context, wish)
            check_beside(context, name, context.competition.models.experiments, columns)
            if not context.options.dry_run:
                write_given(folder, given, labels, columns)
            elif not folder.exists():
                print(f"  would add {name}: {given.folder}, {'no labels' if labels is None else f'{len(labels):,} labels'}")
                return
        source_of(context, name)
        make_source(context, name)


def make_source(context: Context, name: str) -> None:
    """Index, localize and cache the pictures of a source, then :func:`check_source`, each unless done and unchanged."""
    index_folder(on_source(context, name), given_columns(context, name), must_fit=source_of(context, name).columns)
    if make_pixels(context, name):
        check_source(context, name)


def parse_names(pairs: list[str]) -> dict[str, str]:
    """``["effusion=fluid"]`` as column there -> target here."""
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise UserError(f"--as {wrong[0]} has no '='; write THERE=HERE, such as --as effusion=fluid")
    return dict(pair.split("=", 1) for pair in pairs)


def _of_folder(context: Context, wish: Wish) -> tuple[Given, pd.DataFrame | None, pd.DataFrame]:
    assert wish.folder is not None
    if not wish.folder.is_dir():
        raise UserError(f"{wish.folder} is no folder; name one that holds the pictures")
    folder, beside = str(wish.folder.resolve()), read_text_table(wish.columns, ()) if wish.columns else pd.DataFrame()
    if wish.labels is None:
        return Given(folder, "", wish.patients, bool(wish.columns)), None, beside
    table = read_text_table(wish.labels, ()).rename(columns=wish.names)
    labels = _with_patients(labels_in(table, wish.labels, context.competition), table, context.competition.submission)
    if labels.empty:
        raise UserError(f"{wish.labels} has no row with all of {','.join(context.competition.targets)}")
    beside = table.drop(columns=list(context.competition.targets), errors="ignore") if beside.empty else beside
    return Given(folder, "id", wish.patients, bool(wish.columns)), labels, beside


def _with_patients(labels: pd.DataFrame, table: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """The labels with the column ``group`` where one column of the user's table names patients."""
    patients = [name for name in table if name == "group" or PATIENT.fullmatch(name)]
    key = next((name for name in ("id", layout.id_column, *layout.sample_ids) if set(name.split(",")) <= set(table)), "")
    if len(patients) != 1 or not key or patients[0] in key.split(","):
        return labels
    return labels.assign(group=labels["id"].map(dict(zip(row_names(table, key), table[patients[0]]))))


def _of_competition(context: Context, wish: Wish) -> tuple[Given, pd.DataFrame, pd.DataFrame]:
    """The labeled pictures of another competition, by their paths."""
    assert wish.other is not None
    other, targets = wish.other, list(context.competition.targets)
    if other.paths.input.resolve() == context.paths.input.resolve():
        raise UserError(f"{other.competition.name} has the pictures of {context.competition.name}; name another competition")
    index = read_index(other).rename(columns=wish.names)
    if missing := [name for name in targets if name not in index]:
        raise UserError(f"{other.competition.name} has no column {', '.join(missing)}; say which of its columns it is: --as "
                        f"{other.competition.targets[0]}={missing[0]}")
    train, recipe = index[index["split"] == "train"].dropna(subset=targets), other.competition.data.recipe
    labels = train[["path", "group", *targets]].drop_duplicates()
    if len(torn := labels[labels["path"].duplicated()]):
        raise UserError(f"{torn['path'].iloc[0]} of {other.competition.name} has several labels; it cannot be a source")
    beside = train.drop(columns=["split", "path", "group", "series", *targets], errors="ignore").astype("str")
    if isinstance(recipe, Source):  # its index has what networks get, not the words of its table
        table = read_text_table(other.paths.input / LABELS, (recipe.id,)).rename(columns={recipe.id: "id"} | wish.names)
        beside = table.drop(columns=targets, errors="ignore")
    return Given(str(other.paths.input.resolve()), "path", wish.patients), labels, beside.drop_duplicates("id")
