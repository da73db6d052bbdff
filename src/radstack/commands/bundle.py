"""A bundle: what applying the final model needs and nothing else, in a folder that works anywhere.

Weights, sources, a lock of the packages, the recipes for people to read, a manifest with hashes, and ``predict.py``.
"""

import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from radstack.commands import predict
from radstack.commands.apply import DRAWING
from radstack.commands.needs import closure, distributions, lock_lines
from radstack.commands.products import size_of
from radstack.core.artifact import Artifact, check_unedited, manifest_of
from radstack.core.errors import Missing, UserError
from radstack.core.files import need_disk, read_json, replacing, sha256, write_json, write_text
from radstack.core.lock import alone
from radstack.core.recipe import as_dict
from radstack.images.own.source import TEST, Source
from radstack.recipes.stacker import Stacker
from radstack.report.known import known_of, write_known
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stack.predictions import fitted_files, fold_file
from radstack.stages import sequence, stack, train
from radstack.stages.apply import needed
from radstack.stages.localize import kind_of
from radstack.stages.submit import PRIOR, prior_of

HALF_LARGEST = 65504.0
"""Largest finite value in float16."""
IDENTITY = ("key", "stage", "version", "recipe", "inputs")
"""What a bundle keeps of the manifest beside a weights file."""


def make_bundle(context: Context, half: bool = False) -> Path:
    """Write ``bundles/<name>/`` anew; with ``half``, the networks' matrices and kernels as float16.

    With ``--dry-run`` it says what would be written.

    Raises:
        UserError: something that is to be bundled is not made, is stale, or was edited, with the command that makes it.
    """
    context = replace(context, options=replace(context.options, only=tuple(needed(context)), folds=()))
    members = members_of(context)
    weights = [file for member, folds in members.items() for fold in folds for file in weights_files(context, member, fold)]
    for file in weights:
        check(file)
    check_fresh(context)
    bundle, size = context.paths.bundle, sum(file.stat().st_size for file in weights)
    if context.options.dry_run:
        print(f"  would make {bundle}: {len(weights)} files of {len(members)} models, {size / 1e6:,.1f} MB")
        return bundle
    need_disk(context.paths.out, 2 * size, "the bundle")
    with alone(bundle):
        _write_bundle(context, members, weights, half)
    print(f"  {bundle}: {len(members)} models, {size_of(bundle) / 1e6:,.1f} MB; "
          f"predict with: python {bundle / 'predict.py'} FOLDER OUT.csv")
    return bundle


def _write_bundle(context: Context, members: dict[str, list[int]], weights: list[Path], half: bool) -> None:
    bundle = context.paths.bundle
    part = bundle.with_name(f".{bundle.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for file in weights:
        copy_weights(context, file, part, half)
    imports = write_sources(context, part)
    names = distributions(imports)
    write_text(part / "apply.txt", "".join(f"{line}\n" for line in lock_lines(names)))
    write_text(part / "report.txt", "".join(f"{line}\n" for line in lock_lines([*names, *DRAWING])))
    write_known(known_of(context), part / "weights" / context.paths.name)
    if prior := prior_of(context):
        write_json(part / "weights" / context.paths.name / PRIOR, prior)
    write_json(part / "recipes.json", recipes_of(context))
    write_json(part / "manifest.json", manifest(context, part, members, names, half))
    shutil.rmtree(bundle, ignore_errors=True)
    part.rename(bundle)


def for_kaggle(context: Context, bundle: Path, user: str, push: bool, test_data: str = "", image: Path | None = None,
               columns: str = "", hours: float = 0.0) -> Path:
    """Make ``bundle`` a data set and an offline notebook of ``user`` at Kaggle, and send them if ``push``.

    ``test_data`` is a data set there that holds the test pictures, ``image`` a list of the packages there (pip freeze),
    ``columns`` the name of a table there of what stands beside the pictures (the organizer's, where a competition needs
    one and none is named), ``hours`` a deadline for the prediction there.

    Returns:
        The folder that holds both.

    Raises:
        UserError: this copy has no ``radstack/submission/kernel.py``, no table is named that networks read, or Kaggle would
            refuse it.
    """
    try:
        kernel = import_module("radstack.submission.kernel")
    except ModuleNotFoundError as error:
        raise UserError("--kaggle needs radstack/submission/kernel.py, which this copy lacks; get it whole") from error
    if hours < 0:
        raise UserError("--hours must be above 0, for example --hours 8.5")
    index, data = read_index(context), context.competition.data
    read = {name for one in context.competition.models.experiments for name in one.head.columns}
    if isinstance(data.recipe, Source) and (beside := data.recipe.columns_of(read)) and not columns:
        raise UserError(f"networks of {context.competition.name} read {', '.join(beside)} beside the pictures; name the "
                        f"table there that has them: --columns {TEST}")
    marker, told = (find(context.paths.input) if find else None for find in (data.sample_file, data.columns_file))
    assert marker is not None
    test = (Path(path).parts for path in index.loc[index["split"] == "test", "path"])
    asked = kernel.Asked(
        competition=test_data or data.kaggle, marker=marker.name,
        pictures=sorted({parts[0] for parts in test if len(parts) > 1}),
        columns=columns or (told.name if told else ""), hours=hours)
    made: Path = kernel.kaggle(bundle, user, asked, push, image=image, dry_run=context.options.dry_run)
    return made


def members_of(context: Context) -> dict[str, list[int]]:
    """Every model that the final one descends from, the localizer's networks too -> the folds that it was fitted for."""
    folds = list(range(context.competition.folds.count))
    members = {network.name: folds for network in context.competition.localizer.networks}
    level_one: list[Any] = [*context.experiments, *context.sequences]
    members |= {recipe.name: context.folds_of(recipe) for recipe in level_one}
    return members | {stacker.name: stack.stack_folds(context, stacker) for stacker in context.stackers}


def weights_files(context: Context, member: str, fold: int) -> tuple[Path, ...]:
    """What one model learned without one fold: a stacker's two files, an experiment's networks, the one file of others."""
    files, known = fitted_files(context.paths.weights / member, fold), {one.name: one for one in context.experiments}
    if member in known:
        return tuple(files[0].with_name(file.name) for file in train.network_files(context, known[member], fold))
    return files if member in {stacker.name for stacker in context.stackers} else files[:1]


def check(file: Path) -> None:
    """Raise Missing unless ``file`` and its manifest are there, a UserError where the file is not as that says."""
    if not file.exists() or not manifest_of(file).exists():
        raise Missing(file)
    check_unedited(file, read_json(manifest_of(file))["files"].get(file.name, {}))


def check_fresh(context: Context) -> None:
    """Refuse what its stage would make again: weights of one recipe and a stacker of another do not belong together.

    What the key is made of may be gone, as on a machine that got weights alone; then there is nothing to compare with.
    """
    for artifact in _fitted(context):
        try:
            why = artifact.why()
        except Missing:
            continue
        if why:
            name = "/".join(artifact.files[0].parts[-2:])
            raise UserError(f"{name} is stale: {why}; run the stages again, from: {context.command(artifact.stage)}")


def _fitted(context: Context) -> Iterator[Artifact]:
    localizer: Any = context.competition.localizer
    if localizer.networks:
        kind = kind_of(localizer)
        yield from (kind.found_artifact(context, localizer, fold) for fold in range(context.competition.folds.count))
    for experiment in context.experiments:
        yield from (artifact for fold in context.folds_of(experiment)
                    for artifact in train.weights_artifacts(context, experiment, fold))
    for recipe in context.sequences:
        yield from (sequence.fitted_artifact(context, recipe, fold) for fold in context.folds_of(recipe))
    yield from (stack.fitted_artifact(context, stacker) for stacker in context.stackers)


def copy_weights(context: Context, file: Path, part: Path, half: bool) -> None:
    """Copy a weights file below ``part``, with a manifest that fits the copy; a stacker's numbers stay as they are."""
    target = part / "weights" / context.paths.name / file.parent.name / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    network = file.parent.name not in {stacker.name for stacker in context.stackers}
    if half and network:
        write_half(file, target)
    else:
        shutil.copy2(file, target)
    known, stat = read_json(manifest_of(file)), target.stat()
    entry = {"sha256": sha256(target), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    more = {"half_of": known["files"][file.name]["sha256"]} if half and network else {}
    table = manifest_of(context.paths.oof / file.parent.name / f"{file.stem}.parquet")
    if network and table.exists():  # by it a page of cases knows the best network
        more["score"] = read_json(table)["score"]
    write_json(manifest_of(target), {name: known[name] for name in IDENTITY} | {"files": {file.name: entry}} | more)


def write_half(file: Path, target: Path) -> None:
    """Copy a safetensors file with its floating-point matrices and kernels as float16.

    Vectors (norms, biases) take no room and stay as they are, and so does a tensor with a value beyond float16.
    """
    import torch
    from safetensors.torch import load_file, save_file

    def smaller(tensor: torch.Tensor) -> torch.Tensor:
        fits = tensor.is_floating_point() and tensor.ndim > 1 and bool(tensor.abs().max() <= HALF_LARGEST)
        return tensor.to(torch.float16) if fits else tensor

    with replacing(target) as part:
        save_file({name: smaller(tensor) for name, tensor in load_file(file).items()}, part)


def write_sources(context: Context, part: Path) -> set[str]:
    """Copy ``predict.py`` and every module below ``src/`` that applying imports; return the names of all other imports."""
    base, _, variant = context.competition.name.partition("-")
    own = [f"competitions.{base}", *([f"competitions.{base}.{variant}"] if variant else [])]
    recipes = (*context.competition.localizer.networks, *context.experiments, *context.sequences)
    losses = {one.loss.objective_in for one in recipes if hasattr(one, "loss")}  # imported by name
    modules, foreign = closure(["apply", *own, *sorted(losses)])
    for name, path in modules.items():
        parts = name.split(".")
        target = part.joinpath("src", *(parts if path.name == "__init__.py" else parts[:-1]), path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        for other in path.parent.iterdir():  # what a module reads from beside itself
            if path.name == "__init__.py" and other.is_file() and other.suffix not in (".py", ".pyc"):
                shutil.copyfile(other, target.with_name(other.name))
    shutil.copyfile(Path(predict.__file__), part / "predict.py")
    return foreign


def recipes_of(context: Context) -> dict[str, Any]:
    """The recipes of all that is in the bundle, for people to read: nothing reads them back."""
    recipes = (*context.competition.localizer.networks, *context.experiments, *context.sequences, *context.stackers)
    return {recipe.name: as_dict(recipe) for recipe in recipes}


def manifest(context: Context, part: Path, members: dict[str, list[int]], names: list[str], half: bool) -> dict[str, Any]:
    """What ``predict.py`` checks: every file with size and hash, the models with their folds, versions; and the scores."""
    files = {path.relative_to(part).as_posix(): {"sha256": sha256(path), "size": path.stat().st_size}
             for path in sorted(part.rglob("*")) if path.is_file()}
    return {"format": predict.FORMAT, "name": context.paths.name, "competition": context.competition.name,
            "edits": list(context.options.edits), "limit": context.options.limit, "final": context.competition.models.final,
            "half": half, "members": members, **scores(context, members), "python": platform.python_version(),
            "packages": {name: metadata.version(name).partition("+")[0] for name in names}, "files": files}


def scores(context: Context, members: dict[str, list[int]]) -> dict[str, Any]:
    """``folds``, the hash of the fold table, and ``scores``: out of fold, a stacker's with its interval, else one a fold."""
    found, folds = {}, ""
    stackers = {stacker.name for stacker in context.stackers if isinstance(stacker, Stacker)}
    for name in needed(context):
        tables = [fold_file(context.paths.oof / name, fold, "train") for fold in members[name]]
        facts = [read_json(manifest_of(table)) for table in tables if manifest_of(table).exists()]
        if facts:
            found[name] = facts[0]["score"] if name in stackers else [one["score"] for one in facts]
            folds = folds or facts[0]["fold_hash"]
    return {"folds": folds, "scores": found}
