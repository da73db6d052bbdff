"""What the next stage needs and no stage makes: disk, credentials, annotations, pretrained weights."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from radstack.commands.environment import GIGA, MISSING, OK, WARN, Check
from radstack.commands.products import input_there, next_stage, products, size_of
from radstack.core.errors import UserError
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Backbone
from radstack.running.context import Context
from radstack.running.tables import read_index


def disk(context: Context) -> Iterator[Check]:
    """Free disk against what the data and the pictures of the cache still need."""
    competition, paths, stage = context.competition, context.paths, next_stage(context)
    data, out = existing(paths.data), existing(paths.out)
    raw = 0 if input_there(context) else max(competition.data.disk - size_of(paths.input), 0)
    yield _space("disk for input", data, raw, stage == "00")
    cache = cache_bytes(context)
    if cache is None:
        yield Check(OK, "disk for cache", f"{shutil.disk_usage(out).free / GIGA:,.1f} GB free below {out}; the need is "
                    "known after stage 01")
        return
    shared = data.stat().st_dev == out.stat().st_dev
    yield _space("disk for cache", out, cache + (raw if shared and cache else 0), stage in ("02", "03"))


def _space(name: str, folder: Path, needed: int, now: bool) -> Check:
    free = shutil.disk_usage(folder).free
    words = f"{free / GIGA:,.1f} GB free below {folder}, {needed / GIGA:,.2f} GB still needed"
    if free >= needed:
        return Check(OK, name, words)
    option = "--data-dir" if name.endswith("input") else "--out-dir"
    return Check(MISSING if now else WARN, name, f"{words}; free some (src/clean.py), or point {option} at a larger disk")


def existing(folder: Path) -> Path:
    """``folder``, or the nearest folder above it that exists."""
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if place.exists())


def cache_bytes(context: Context) -> int | None:
    """Bytes that stages 02 and 03 will still write as pictures; None before stage 01 has counted them.

    A cached picture has the recipe's size and type; what a localizer keeps is its ``bytes_a_row``.
    """
    competition, folder = context.competition, context.paths.cache
    if (folder / "rows.parquet").exists():
        return 0
    if not (context.paths.folds / "index.parquet").exists():
        return None
    pixels, small = cache_of(competition, len(read_index(context)))
    return pixels + (0 if (folder / "boxes.parquet").exists() else small)


def cache_of(competition: Competition, rows: int) -> tuple[int, int]:
    """Bytes of the cached pictures of ``rows`` index rows, and of what the localizer keeps of them."""
    recipe = competition.cache
    pixels = rows * int(np.prod(recipe.size)) * np.dtype(recipe.dtype).itemsize
    return pixels, rows * competition.localizer.bytes_a_row


def sign_in(context: Context, variables: Mapping[str, str], home: Path) -> list[Check]:
    """Whether the kaggle package will find credentials (places and names only, nothing is read or shown).

    Places as in kaggle 2 and kagglesdk: a token in ``KAGGLE_API_TOKEN`` or ``~/.kaggle/access_token``, else name and key in
    ``KAGGLE_USERNAME`` and ``KAGGLE_KEY`` or ``kaggle.json``.
    """
    from radstack.submission.kaggle import HOW_TO_SIGN_IN

    if context.competition.phantoms or not context.competition.data.kaggle:
        return [Check(OK, "Kaggle", "not needed: " + (
            "phantoms are drawn" if context.competition.phantoms else "the data are your own"))]
    pair = ("KAGGLE_USERNAME", "KAGGLE_KEY")
    folder = Path(variables.get("KAGGLE_CONFIG_DIR") or home / ".kaggle")
    files = (home / ".kaggle" / "access_token", folder / "kaggle.json",
             Path(variables.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle" / "kaggle.json")
    if variables.get("KAGGLE_API_TOKEN") or all(variables.get(name) for name in pair):
        return [Check(OK, "Kaggle", "credentials in the environment")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        state = MISSING if next_stage(context) == "00" else WARN
        half = next((name for name in pair if variables.get(name)), "")
        lacks = f"{half} is set alone" if half else f"no {files[0].name} and no kaggle.json"
        return [Check(state, "Kaggle", f"{lacks}; {HOW_TO_SIGN_IN}")]
    open_to_all = found.stat().st_mode & 0o077
    return [Check(WARN if open_to_all else OK, "Kaggle", str(found) + (
        f" can be read by others; chmod 600 {found}" if open_to_all else ""))]


def annotations(context: Context) -> Iterator[Check]:
    """Whether there are hand-made masks, points or boxes to learn from, before stage 02 trains on them."""
    if next_stage(context) != "02":
        return
    train = read_index(context).query("split == 'train'")
    for name, known in context.competition.localizer.annotated(train).items():
        yield (Check(OK, f"annotations of {name}", f"{known.sum():,} pictures") if known.any() else
               Check(MISSING, f"annotations of {name}", f"none below {context.paths.input}; see docs/add_your_own.md, then "
                     f"{context.command('01_make_folds')}"))


def weights(context: Context) -> Iterator[Check]:
    """Pretrained weights that stages 02 and 04 will ask for: where they are, or where to put them."""
    lacking = {product.recipe for product in products(context) if product.script == "04_train" and not product.made}
    localized = (context.paths.cache / "boxes.parquet").exists()
    wanted = [("02", one.backbone) for one in context.competition.localizer.networks if not localized]
    wanted += [("04", one.backbone) for one in context.competition.models.experiments if one.name in lacking]
    pretrained = ((stage, one) for stage, one in wanted if one.pretrained and not one.start)
    for stage, backbone in {(one.name, one.weights): (stage, one) for stage, one in pretrained}.values():
        yield _found(context, backbone, stage)


def _found(context: Context, backbone: Backbone, stage: str) -> Check:
    from radstack.nets.pretrained import find
    from radstack.nets.sources import SOURCES

    name, folder = f"weights of {backbone.name}", Path(context.options.weights) if context.options.weights else None
    source, _, model = backbone.name.partition("/")
    origin = SOURCES[source].make(model, 3, backbone.args).origin
    try:
        return Check(OK, name, str(find(backbone, origin, folder, offline=True)))
    except UserError as error:
        if backbone.weights:
            return Check(MISSING if next_stage(context) == stage else WARN, name, str(error))
        return Check(WARN, name, f"stage {stage} will download {origin.url}; offline, put it as {origin.file} into a folder "
                     "and name that with --weights")
