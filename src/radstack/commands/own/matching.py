"""Which column of a table names the pictures, and which files belong to each of its rows."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from radstack.core.errors import UserError
from radstack.images.own.names import KEYS, MANY

LOSS, PART = 0.05, 0.5
"""Share of rows without a picture that is passed over as an accident, and above which they were left out on purpose."""


@dataclass(frozen=True)
class Match:
    """How rows lead to files."""

    column: str
    key: str
    """A name of :data:`KEYS`."""
    files: dict[str, list[str]]
    """Cell of the column -> paths below the folder."""


def by_key(key: str, paths: list[str], root: str) -> dict[str, list[str]]:
    """What paths say -> those that say it; whole paths may start with the name ``root`` of their folder, too."""
    found: dict[str, list[str]] = {}
    for path in paths:
        said = KEYS[key](path)
        for name in {said, f"{root}/{said}"} if key.startswith("path") else {said}:
            found.setdefault(name, []).append(path)
    return found


def matches(table: pd.DataFrame, columns: list[str], paths: list[str], root: str) -> list[Match]:
    """The columns whose cells name files, each by the key that finds most of them."""
    maps = {key: by_key(key, paths, root) for key in KEYS}
    found = []
    for column in columns:
        cells = table[column][table[column] != ""]
        hits = {key: int(cells.isin(files.keys()).sum()) for key, files in maps.items()}
        best = max(hits, key=lambda key: hits[key])
        named = cells[cells.isin(maps[best].keys())].nunique()
        reached = sum(len(maps[best][cell]) for cell in cells.unique() if cell in maps[best])
        if named >= 2 and (2 * hits[best] >= len(cells) or 2 * reached >= len(paths)):
            found.append(Match(column, best, maps[best]))
    return found


def choose(table: pd.DataFrame, found: list[Match], id_column: str, file_column: str) -> Match:
    """The match to go by; a UserError with the option to type where there is none, or several that differ."""
    wanted = file_column or id_column
    chosen = [match for match in found if match.column == wanted] or ([] if file_column else found)
    if not chosen:
        raise UserError(f"no column of the table names the pictures{f', nor does {wanted}' if wanted else ''}: its cells "
                        f"are "
                        f"like {example(table, wanted)}; type --file with the column of paths or names")
    first = chosen[0]
    for other in chosen[1:]:
        pairs = zip(table[first.column], table[other.column])
        if any(first.files.get(one) != other.files.get(two) for one, two in pairs):
            flag = "--file" if id_column else "--id"
            raise UserError(f"{first.column} and {other.column} could both name the pictures; type {flag} {first.column} or "
                            f"{flag} {other.column}")
    return first


def example(table: pd.DataFrame, column: str) -> str:
    """The first row's cell, or its cells."""
    if column in table and len(table):
        return repr(table[column].iloc[0])
    return ", ".join(map(repr, table.iloc[0].tolist()[:4]))


def with_files(table: pd.DataFrame, match: Match, several: bool, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row a file (``file``, below the folder), and the cells that no file answers to.

    A UserError where several files answer to a cell that should have one, or so many cells have none that it is no accident.
    """
    cells = table[match.column]
    paths = cells.map(match.files)
    lost = cells[paths.isna()].tolist()
    if LOSS < len(lost) / max(len(cells), 1) <= PART:
        raise UserError(f"{len(lost)} of {len(cells)} rows have no picture below {folder}, the first is {lost[0]!r} (by "
                        f"{match.key}); "
                        "correct the names, or take those rows out of the table")
    held = table[paths.notna()].assign(file=paths[paths.notna()])
    many = held["file"].map(len) > 1
    if many.any() and not several and match.key not in MANY:
        row = held[many].iloc[0]
        raise UserError(f"{' and '.join(row['file'][:2])} both answer to {row[match.column]!r}; type --file with a column "
                        f"of paths, "
                        "or --several if all pictures of an id belong together")
    return held.explode("file", ignore_index=True), lost
