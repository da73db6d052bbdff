"""Pictures of other sources beside the competition's own: external folders, another competition.

They are found, cropped and cached as pictures of test are, by what was learned here. Labeled ones join the training rows of
every fold (``Experiment.sources``) and are never scored. Patients of whom a picture is here already, among the scored rows
or in test, are kept out as a whole: a near duplicate's label would be that of a row that is scored.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Lesson, Part, content_hash, manifest_of
from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_json, read_table, write_json, write_table
from radstack.core.folds import EVERY
from radstack.core.given_folds import places
from radstack.core.recipe import as_dict
from radstack.images.duplicates import DISTANCE, duplicates
from radstack.images.shards import APART, Shards
from radstack.recipes.experiment import Experiment
from radstack.running.context import Context
from radstack.running.tables import read_index, read_rows
from radstack.stages.cache import cache
from radstack.stages.decode import Learned, raw_files, rows_file
from radstack.stages.elsewhere import any_readable, placed
from radstack.stages.localize import apply_localizer, folds_of, kind_of

VERSION = 1
GIVEN, LABELS, COLUMNS, ROWS, KEPT_OUT = "given.json", "labels.csv", "columns.csv", "rows.parquet", "kept_out.csv"
"""Of a source's folder: what was given, labels, what stands beside the pictures, rows, patients that are kept out."""
MADE = {"prepared/rows.parquet": "02_localize", "boxes.parquet": "02_localize", ROWS: "03_cache"}
"""Tables whose recipes say how pictures are found and cached, and the stage of each."""
SHARDS = ("shard", "map_shard")
"""Columns that number shards."""
SAME, OTHER = "same", "other"
"""What a patient's name that is here, too, means: the same patient, or another one."""


@dataclass(frozen=True)
class Given:
    """What the user said of a source."""

    folder: str
    """Of its pictures."""
    by: str = "id"
    """Column of its index that ``labels.csv`` names: ``id`` (or what a submission's row is), ``path``; "" without labels."""
    patients: str = ""
    """``same``, ``other``, or "": the same unless names are plain numbers, which any two hospitals share."""
    columns: bool = False
    """Whether the user gave a table of columns, which then must fit; else that of labels stands in, as far as it can."""


def known_sources(context: Context) -> dict[str, Given]:
    """The sources that were added, by name."""
    return {file.parent.name: Given(**read_json(file)) for file in sorted(context.paths.sources.glob(f"*/{GIVEN}"))}


def source_of(context: Context, name: str) -> Given:
    """What is known of a source; a UserError where there is none of this name."""
    known = known_sources(context)
    if name not in known:
        others = f"; known: {', '.join(known)}" if known else ""
        raise UserError(f"there is no source {name}{others}; add it with: {context.command('add_source')} {name} FOLDER "
                        "LABELS.csv")
    return known[name]


def write_given(folder: Path, given: Given, labels: pd.DataFrame | None, columns: pd.DataFrame) -> None:
    """Write down what the user said; ``labels`` have the column ``given.by`` and the targets, ``columns`` an ``id``."""
    for name, table in ((LABELS, labels), (COLUMNS, columns)):
        (folder / name).unlink(missing_ok=True)  # of a source of this name before
        if table is not None and len(table.columns):
            write_table(folder / name, table)
    write_json(folder / GIVEN, asdict(given))  # last: without it there is no source


def on_source(context: Context, name: str) -> Context:
    """The competition on the pictures of a source, all of them test rows there."""
    return placed(context, Path(source_of(context, name).folder), context.paths.sources / name)


def pixels_of(context: Context, name: str) -> Path:
    """Folder of a source's shards."""
    return context.paths.sources / name / "cache" / context.paths.name


def make_pixels(context: Context, name: str) -> bool:
    """Find the anatomy in a source's pictures and cache them, as those here are; what is done and unchanged is kept.

    Where its pictures are not there, pixels that were made stay as they are; where networks that find the anatomy are not,
    what they found in the same pictures.

    Returns:
        Whether there are pixels; a dry run makes none.

    Raises:
        UserError: pictures here were found or cached otherwise than today's recipe says, none of the source can be read or
            is kept, or what is needed to find and cache them is not there.
    """
    there, pixels, folder = on_source(context, name), pixels_of(context, name) / ROWS, source_of(context, name).folder
    dry = context.options.dry_run
    if dry and not pixels.exists():
        print(f"  would localize and cache the pictures of {name}", flush=True)
        return False
    if dry and (older := _older_networks(context)):
        print(f"  would end: {older}", flush=True)
        return True
    if older := _older_networks(context):
        raise UserError(older)
    lost = not any((there.paths.input / path).exists() for path in read_index(there)["path"])
    absent = next((path for path in _networks(context) if not path.exists()), None)
    if lost and not pixels.exists():
        raise UserError(f"{folder} is not there, and pixels of {name} were never made; {_again(context, name)}")
    if lost:
        print(f"  {folder} is not there: pixels of {name} are as they were made", flush=True)
    else:
        _localize(context, there, name, absent)
        cache(there)
    if not dry:
        if not any_readable(there):
            raise UserError(f"the recipe of the cache keeps no picture of {name}; change it, or leave {name} out of sources")
        _check_alike(context, there, name, folder if lost else "")
    return True


def _localize(context: Context, there: Context, name: str, absent: Path | None) -> None:
    """Find the anatomy, unless a network is ``absent`` and it was found in the pictures as they are."""
    if absent and _is_localized(there):
        print(f"  {absent} is not there: what was found in the pictures of {name} stays as it is", flush=True)
        return
    if absent:
        raise UserError(f"{absent} is not there, and nothing else finds the anatomy in the pictures of {name}; type: "
                        f"{context.command('02_localize')}, then {context.command('03_cache')}")
    apply_localizer(there)
    if not context.options.dry_run and not any_readable(there, cached=False):
        raise UserError(f"no picture of {name} in {source_of(context, name).folder} can be read any more; "
                        f"{_again(context, name)}")


def _is_localized(there: Context) -> bool:
    """Whether the pictures are those in which the anatomy was found last."""
    manifest, index = manifest_of(rows_file(there)), there.paths.folds / "index.parquet"
    known = read_json(manifest)["inputs"] if manifest.exists() else {}
    now = {"/".join(index.parts[-2:]): content_hash(index), **raw_files(there)}
    return (there.paths.cache / "boxes.parquet").exists() and now.items() <= known.items()


def _again(context: Context, name: str) -> str:
    return f"bring them back, or add the source again: {context.command('add_source')} {name} FOLDER LABELS.csv"


def _older_networks(context: Context) -> str:
    """What to do where the networks that find the anatomy here are of another recipe than today's; else empty."""
    for one in _found(context):
        if (made := _recipe_of(one.files[0])) and made != as_dict(one.recipe):
            return ("the networks that find the anatomy are of an older recipe; type: "
                    f"{context.command('02_localize')}, then {context.command('03_cache')}")
    return ""


def _networks(context: Context) -> list[Path]:
    return [path for one in _found(context) for path in one.networks]


def _found(context: Context) -> list[Learned]:
    """What the networks of each fold found here; none where rules find the anatomy."""
    localizer = context.competition.localizer
    return [kind_of(localizer).found_artifact(context, localizer, fold) for fold in folds_of(context)]


def _check_alike(context: Context, there: Context, name: str, lost: str) -> None:
    """A UserError where tables of stages 02 and 03 here are of other recipes than those of a source.

    ``lost`` is the folder of its pictures where these are not there, so that nothing can be made anew.
    """
    localizer = context.competition.localizer
    applied = (kind_of(localizer).applied_artifact(there, localizer, fold) for fold in folds_of(context))
    older = any(_recipe_of(one.files[0]) not in ({}, as_dict(one.recipe)) for one in applied)
    for file, stage in MADE.items():
        here, made = (_recipe_of(one.paths.cache / file) for one in (context, there))
        if lost and (older or (here and here != made)):
            raise UserError(f"pixels of {name} are of another recipe than those here, and {lost} is not there; "
                            f"{_again(context, name)}")
        if here and here != made:
            later = "" if stage == "03_cache" else f", then {context.command('03_cache')}"
            raise UserError(f"the pictures here and those of {name} are found or cached by other recipes; type: "
                            f"{context.command(stage)}{later}")


def _recipe_of(file: Path) -> dict[str, Any]:
    """What a table was made by, as its manifest has it, but for the mark of an index's order; {} where there is none."""
    recipe = read_json(manifest_of(file))["recipe"] if manifest_of(file).exists() else {}
    own = recipe.get("recipe")
    return {**recipe, "recipe": {name: own[name] for name in own if name != "order"}} if isinstance(own, dict) else recipe


def check_source(context: Context, name: str) -> None:
    """Compare a source with the rows that are here and write those that may train; again where either changed.

    A LeakError where no labeled picture is left.
    """
    context.make(checked_artifact(context, name), lambda: _build(context, name))


def checked_artifact(context: Context, name: str) -> Artifact:
    """The rows of a source that may join those here, from its labels and the pictures of both."""
    folder, own, given = context.paths.sources / name, context.paths.cache / ROWS, source_of(context, name)
    bare = Lesson((*context.competition.targets, *context.competition.data.label_columns))  # labels here have no say
    recipe = {"source": name, "by": given.by, "patients": given.patients, "distance": DISTANCE}
    labels = (folder / LABELS,) if given.by else ()
    return Artifact("add_source", VERSION, (folder / ROWS, folder / KEPT_OUT), recipe,
                    (*labels, Part(own, "train", bare), Part(own, "test")),
                    {"pictures of the source": content_hash(pixels_of(context, name) / ROWS)})


def _build(context: Context, name: str) -> dict[str, Any]:
    folder, own = context.paths.sources / name, read_rows(context)[0]
    rows, notes = _labeled(context, name)
    same, rows = _same_patients(rows, own, source_of(context, name), notes), renamed(rows, name)
    out = pd.concat([copies(context, name, own, rows), renamed(same, name)], ignore_index=True)
    out = out.drop_duplicates("group", ignore_index=True)
    kept = rows[~rows["group"].isin(out["group"])].reset_index(drop=True)
    told, left = (table[list(context.competition.targets)].notna().all(axis=1) for table in (rows, kept))
    if not len(kept) or (told.any() and not left.any()):
        raise LeakError(f"every picture of {name} is one that is here already, such as {out['detail'].iloc[0]}: nothing may "
                        "train. Rows of test are labeled by a model: "
                        f"{context.command('04_train')} --pseudo MODEL")
    write_table(folder / ROWS, kept)
    write_table(folder / KEPT_OUT, out)
    facts = {"pictures": len(rows), "patients": int(rows["group"].nunique()), "labeled": int(told.sum()),
             "kept": len(kept), "train": int(left.sum()), "notes": notes,
             "kept out": {str(reason): len(part) for reason, part in out.groupby("reason")}}
    tell(name, facts)
    return facts


def tell(name: str, facts: dict[str, Any]) -> None:
    """Print what a source holds."""
    print(f"  {name}: {facts['pictures']:,} pictures of {facts['patients']:,} patients, {facts['labeled']:,} labeled; "
          f"{facts['train']:,} may train")
    for reason, count in facts["kept out"].items():
        print(f"  {name}: kept out as a whole, {reason}: {count:,} patients")
    print("".join(f"  note: {note}\n" for note in facts["notes"]), end="", flush=True)


def _labeled(context: Context, name: str) -> tuple[pd.DataFrame, list[str]]:
    """The cached rows of a source with their labels, NaN where it has none, and what is worth knowing."""
    rows, given = read_table(pixels_of(context, name) / ROWS), source_of(context, name)
    targets = list(context.competition.targets)
    rows = rows.drop(columns=targets, errors="ignore").assign(**dict.fromkeys(targets, np.nan))
    if not given.by:
        return rows, []
    labels = read_table(context.paths.sources / name / LABELS, text=("id", "path", "group"))
    by = context.competition.submission.row if given.by == "id" else given.by
    own = pd.Series(pd.unique(rows[by]), dtype="str")
    place = (pd.Index(own).get_indexer(labels["path"]) if by == "path" else
             places(labels[given.by], own, context.competition.targets if by == "id" else ()))
    found = labels[place >= 0].assign(place=own[place[place >= 0]].to_numpy()).drop_duplicates("place").set_index("place")
    if found.empty:
        raise UserError(f"the labels of {name} name none of its pictures, such as {own.iloc[0]}; compare them with the "
                        f"{given.by} of {labels[given.by].iloc[0]}")
    joined = found.reindex(rows[by]).reset_index(drop=True)
    rows[targets] = joined[targets].to_numpy(np.float32)
    if "group" in joined:
        rows["group"] = joined["group"].fillna(rows["group"])
    strange = int((place < 0).sum())
    return rows, [f"{strange:,} of {len(labels):,} labels of {name} name no picture that could be read"] if strange else []


def copies(context: Context, name: str, own: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a source, as :func:`renamed`, that are in pictures here: ``id``, ``group``, ``reason``, ``detail``."""
    both, cached = side_by_side(context, own, {name: rows})
    pairs = duplicates(cached, both, np.where(np.arange(len(both)) < len(own), 0, EVERY), DISTANCE,
                       context.options.workers)[0]
    pairs = pd.concat([pairs, swapped(pairs)])[lambda table: table["fold"] == EVERY]
    split = own.set_index("id")["split"]
    where = pairs["other_id"].map(split).map({"train": "a scored row", "test": "a row of test"})
    detail = pairs["other_id"].astype(str) + ", " + where + " (" + pairs["kind"] + ")"
    return pairs[["id", "group"]].assign(reason="near duplicate of " + where, detail=detail).astype("str")


def swapped(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of duplicates with their ends exchanged."""
    names = {name: f"other_{name}" for name in ("id", "group", "fold")}
    return pairs.rename(columns=names | {other: name for name, other in names.items()})


def _same_patients(rows: pd.DataFrame, own: pd.DataFrame, given: Given, notes: list[str]) -> pd.DataFrame:
    """Patients whose name, or a picture's, is one here; plain numbers count only if the user says so."""
    shared = rows["group"].isin(own["group"]) | rows["id"].isin(own["id"])
    plain = rows["group"].where(rows["group"].isin(own["group"]), rows["id"]).str.fullmatch(r"\d{1,9}")
    out = shared if given.patients == SAME else shared & ~plain if not given.patients else shared & False
    if count := rows.loc[shared & ~out, "group"].nunique():
        notes.append(f"{count:,} patients bear names of patients here and are taken for others; --patients {SAME} keeps "
                     "them out")
    found = rows[out].drop_duplicates("group")
    return pd.DataFrame({"id": found["id"], "group": found["group"], "reason": "the name of a patient or picture here",
                         "detail": found["id"] + f" (--patients {OTHER} if names mean nothing)"}, dtype="str")


def renamed(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of a source under names that nobody else has."""
    return rows.assign(**{column: f"{name}/" + rows[column].astype("str") for column in ("id", "group", "series")
                          if column in rows})


def read_source(context: Context, name: str) -> pd.DataFrame:
    """The rows of a source that may join those here, as they were written; an error where they were edited."""
    file = context.paths.sources / name / ROWS
    source_of(context, name)
    content_hash(file)
    return read_table(file)


def side_by_side(context: Context, own: pd.DataFrame, others: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, Shards]:
    """The rows here and those of sources in one table with the columns of ``own``, and what reads the pictures of both."""
    tables = [own]
    for number, rows in enumerate(others.values(), 1):
        moved = {column: rows[column] + APART * number for column in SHARDS if column in rows}
        rows = rows.assign(**moved).reindex(columns=own.columns)
        blank = {column: fill for kind, fill in (("str", ""), ("object", ""), ("bool", False))
                 for column in own.select_dtypes(kind) if rows[column].isna().any()}
        tables.append(rows.fillna(blank).astype({column: own[column].dtype for column in blank}))
    folders = tuple(pixels_of(context, name) for name in others)
    return pd.concat(tables, ignore_index=True), Shards(context.paths.cache, folders)


def given_columns(context: Context, name: str) -> pd.DataFrame:
    """What stands beside the pictures of a source, as text; empty where the user gave nothing."""
    file = context.paths.sources / name / COLUMNS
    return pd.read_csv(file, dtype="str", keep_default_na=False) if file.exists() else pd.DataFrame()


def check_beside(context: Context, name: str, networks: Iterable[Experiment], given: Iterable[str] | None = None) -> None:
    """A UserError where networks of one's own competition would get the mean in place of what stands beside a picture.

    ``given`` are the columns of the table of the source called ``name``; if None, of what was written down of it.
    """
    recipe, known = context.competition.data.recipe, set(given_columns(context, name) if given is None else given)
    for one in networks if hasattr(recipe, "columns_of") else ():  # a Source, whose readers apply does without
        if lacking := [column for column in recipe.columns_of(one.head.columns) if column not in known]:
            raise UserError(f"{one.name} reads {', '.join(lacking)} beside the pictures, and no table of {name} has it; add "
                            "it again with --columns TABLE")


def check_columns(experiment: Experiment, rows: pd.DataFrame, name: str) -> None:
    """A UserError where rows of a source lack a number that a recipe gives to the network, or draws them by."""
    for column in filter(None, (*experiment.head.columns, experiment.sampling.weight)):
        if column in rows and (lacking := int(rows[column].isna().sum())):
            raise UserError(f"{experiment.name} reads {column}, which {lacking:,} pictures of {name} lack; add it again "
                            "with --columns TABLE, or leave it out of sources")


def facts_of(context: Context, name: str) -> dict[str, Any]:
    """What the manifest of a source's rows says; empty as long as it was not compared."""
    manifest = manifest_of(context.paths.sources / name / ROWS)
    return read_json(manifest) if manifest.exists() else {}
