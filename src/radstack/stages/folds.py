"""Stage 01: index the raw files, deal patients into folds."""

import hashlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part, manifest_of, split_digests
from radstack.core.errors import UserError
from radstack.core.files import as_text, read_json, read_table, walk, write_table
from radstack.core.folds import check_folds, make_folds, patients_on_both_sides
from radstack.core.given_folds import read_given
from radstack.core.passing import check_passing
from radstack.core.progress import track
from radstack.recipes.competition import Competition
from radstack.recipes.localizer import Localizer
from radstack.running.context import Context
from radstack.running.tables import GIVEN, read_folds, read_index

LISTED = 1000
"""Files a step of the listing."""
DEALT = "dealt"
"""As ``--folds-from``: deal by the recipe again."""


def make_index(context: Context) -> None:
    """Read every header; write ``index.parquet`` and ``quarantine.csv``."""
    competition, paths = context.competition, context.paths
    if not paths.input.exists():
        raise UserError(missing_input(context))
    files = (paths.folds / "index.parquet", paths.folds / "quarantine.csv")
    limit = {"limit": context.options.limit, **({"first": "annotated"} if context.options.limit else {})}
    artifact = Artifact("01_make_folds", 5, files, {**limit, **recipe_of(competition, competition.data.index)},
                        competition.data.label_files(paths.input), {"raw files": listing_digest(paths.input)})

    def build() -> dict[str, Any]:
        index, quarantine = competition.data.index(paths.input, context.options.workers, paths.folds / "parts", report=print)
        again = check_passing(index, quarantine, paths.input, print)
        index = first_groups(as_text(index), context.options.limit, competition.localizer)
        write_table(files[0], index)
        write_table(files[1], quarantine)
        print(f"  {len(index):,} pictures, {len(quarantine):,} in quarantine ({files[1]})")
        return {"rows": len(index), "quarantined": len(quarantine), "passing": again,
                "splits": split_digests(index)}

    context.make(artifact, build)


def recipe_of(competition: Competition, reads: Any) -> dict[str, Any]:
    """What beside the files decides the index, as a part of its recipe: what ``reads`` them, and any settings."""
    recipe = competition.data.recipe
    return {"reads": reads, **({} if recipe is None else {"index": recipe})}


def deal_folds(context: Context) -> None:
    """Deal patients into folds, or take those that were given; write ``folds.csv``, print the classes of each fold."""
    paths = context.paths
    path, given = paths.folds / "folds.csv", given_folds(context)
    dealt = {"folds": context.competition.folds, "balance": context.competition.data.balance}
    artifact = Artifact("01_make_folds", 1, (path,), {"given": True} if given else dealt,
                        (Part(paths.folds / "index.parquet", "train"), *([given] if given else [])))

    def build() -> dict[str, Any]:
        folds = _fitting(context, given) if given else _dealt(context)
        write_table(path, folds)
        return {"patients": len(folds), **({"origin": origin_of(given)} if given else {})}

    context.make(artifact, build)
    if path.exists() and not (context.options.dry_run and context.why(artifact)):
        report_folds(context)


def _dealt(context: Context) -> pd.DataFrame:
    """Folds by the recipe."""
    index, recipe = read_index(context), context.competition.folds
    train = index[index["split"] == "train"]
    dealer = recipe.dealer or (lambda rows, labels, count, seed: make_folds(rows["group"], labels, count, seed))
    labels, name = balanced(context.competition, train), getattr(dealer, "__name__", type(dealer).__name__)
    try:
        folds = dealer(train, labels, recipe.count, recipe.seed)
    except (KeyError, AttributeError) as error:  # so ends one that looks for a column which is not there
        raise UserError(f"the dealer {name} ended with {type(error).__name__}: {error}; train has the columns "
                        f"{', '.join(map(str, train))}, and labels {', '.join(map(str, labels))}") from error
    if wrong := _wrong(folds, set(train["group"].unique()), recipe.count):
        raise UserError(f"the dealer {name} {wrong}; it must give each patient (group) one row with a fold from 0 to "
                        f"{recipe.count - 1}")
    return folds


def _wrong(folds: Any, groups: set[str], count: int) -> str:
    """What is wrong with a dealer's table, or ""."""
    if not isinstance(folds, pd.DataFrame):
        return f"gives a {type(folds).__name__} and no table"
    lacking = [name for name in ("group", "fold") if name not in folds]
    if lacking:
        return f"gives no column {lacking[0]}"
    dealt = folds["group"].tolist()
    if missed := sorted(groups - set(dealt)):
        return f"gives patient {missed[0]} no fold"
    if others := sorted(set(dealt) - groups, key=str):
        return f"gives a fold to {others[0]}, who is no patient of the training rows"
    if len(dealt) > len(groups):
        return "gives a patient two folds"
    bad = folds.loc[~folds["fold"].isin(range(count)), "fold"]
    return f"gives fold {bad.iloc[0]}" if len(bad) else ""


def given_folds(context: Context) -> Path | None:
    """The checked copy of the fold table of ``--folds-from``, this run's or an earlier one's; None where folds are dealt.

    It stays beside ``folds.csv``, so that later runs need not name the table again.
    """
    file, wanted = context.paths.folds / GIVEN, context.options.folds_from
    if wanted == DEALT:
        for path in (file, manifest_of(file)) if not context.options.dry_run else ():
            path.unlink(missing_ok=True)
        return None
    if wanted:
        source = Path(wanted)
        artifact = Artifact("01_make_folds", 1, (file,), {"from": source.name, "count": context.competition.folds.count},
                            (source, Part(context.paths.folds / "index.parquet", "train")))
        context.make(artifact, lambda: _take(context, source, file))
    return file if file.exists() else None


def _fitting(context: Context, given: Path) -> pd.DataFrame:
    """The given folds, which must still deal the training patients: others may have come since."""
    folds, index = read_table(given), read_index(context, ("split", "group"))
    groups, first = set(index.loc[index["split"] == "train", "group"].unique()), read_json(manifest_of(given))["from"]
    empty = sorted(set(folds["fold"]) - set(folds.loc[folds["group"].isin(groups), "fold"]))
    missing = sorted(groups - set(folds["group"]))
    if missing or empty:
        wrong = f"gives patient {missing[0]} no fold" if missing else f"has no patient of now in fold {empty[0]}"
        command = context.command("01_make_folds")
        raise UserError(f"{first}, which was given, {wrong}; give a table that fits: {command} --folds-from FILE, or have "
                        f"them dealt: {command} --folds-from {DEALT}")
    return folds


def _take(context: Context, source: Path, file: Path) -> dict[str, Any]:
    index = read_index(context)
    train = index[index["split"] == "train"].reset_index(drop=True)
    given = read_given(source, train, context.competition.folds.count, context.competition.targets)
    write_table(file, given.folds)
    print("\n".join(f"  note: {source.name}: {note}" for note in given.notes), end="\n" if given.notes else "", flush=True)
    return {"from": source.name, "by": given.by, "notes": given.notes}


def origin_of(given: Path) -> dict[str, Any]:
    """Where a fold table came from: file, what it names, SHA-256, and what was passed over."""
    known = read_json(manifest_of(given))
    return {name: known[name] for name in ("from", "by", "notes")} | {"sha256": next(iter(known["inputs"].values()))}


def report_folds(context: Context) -> None:
    """Print rows and positives of every fold, and what is worth knowing; raise on a leak."""
    competition, folds = context.competition, read_folds(context)
    index = read_index(context, None if competition.data.balance else ("split", "group", *competition.targets))
    spread = balanced(competition, index)
    notes = check_folds(folds, index[["split", "group"]].join(spread), list(spread))
    if origin := read_json(manifest_of(context.paths.folds / "folds.csv")).get("origin"):
        notes.insert(0, f"folds as given in {origin['from']}, by {origin['by']}; --folds-from {DEALT} deals them anew")
    train = index.loc[index["split"] == "train", ["group"]].join(spread).merge(folds, on="group")
    counts = train.groupby("fold")[list(spread)].sum().astype(int)
    counts.insert(0, "rows", train.groupby("fold").size())
    counts.insert(0, "patients", train.groupby("fold")["group"].nunique())
    print(counts.to_string())
    both = patients_on_both_sides(index)
    if both:
        notes.append(f"{len(both)} patients are in train and in test, the first is {both[0]}")
    print("\n".join(f"  note: {note}" for note in notes))


def balanced(competition: Competition, rows: pd.DataFrame) -> pd.DataFrame:
    """The 0/1 columns that the folds share evenly."""
    return competition.data.balance(rows) if competition.data.balance else rows[list(competition.targets)]


def first_groups(index: pd.DataFrame, limit: int, localizer: Localizer) -> pd.DataFrame:
    """The first ``limit`` patients of train and of test; all when ``limit`` is 0.

    Annotated patients are taken before others: of the first few of a thousand too few would be annotated for a network to
    learn to find the anatomy, and a smoke run must go through all stages.
    """
    if not limit:
        return index
    known = np.logical_or.reduce([np.zeros(len(index), bool), *localizer.annotated(index).values()])
    later = index.assign(later=~known).groupby(["split", "group"], sort=False)["later"].all().sort_values(kind="stable")
    kept = later.groupby(level="split").head(limit).index
    return index[pd.MultiIndex.from_frame(index[["split", "group"]]).isin(kept)].reset_index(drop=True)


def listing_digest(folder: Path) -> str:
    """Digest of names, sizes and times of all files below ``folder``: 460 GB of raw data are not read to see a change."""
    files, lines = walk(folder), list[str]()
    with track(None, "list raw files", brief=True) as steps:
        for piece in steps.over(iter(lambda: list(islice(files, LISTED)), []), len):  # a step takes longer than a file
            lines += [f"{'/' + name!r} {size} {time}" for name, size, time in piece]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def missing_input(context: Context) -> str:
    """What to type when there is no raw data."""
    competition, get = context.competition, context.command("00_get_data")
    if competition.phantoms:
        return f"{context.paths.input} is missing; draw the phantoms with: {get}"
    return (f"{context.paths.input} is missing; fetch it with: {get} --kaggle "
            f"(needs {competition.data.disk / 1e9:,.0f} GB), or try the phantoms: "
            f"bash run_all.sh {competition.words[0]} --demo")
