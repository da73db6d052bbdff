"""Variants that --set and --name made: what there is, another name for one, or none of it any more."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radstack.core.artifact import Artifact, manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json, write_json
from radstack.core.folds import ALL, fold_name
from radstack.core.lock import working_on
from radstack.core.recipe import as_dict, change
from radstack.core.registry import check_name
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.running.context import Context, add_variant, read_variants, stale_variants, variant, variants_file
from radstack.stack.predictions import fold_file
from radstack.stages import predict, sequence, stack, train


def listed(context: Context) -> list[str]:
    """A line a variant: its name, what it changes in which recipe, its folds that are predicted; what it lacks if stale."""
    known, stale = read_variants(context.paths), stale_variants(context.competition, context.paths)
    lines = []
    for name, entry in known.items():
        edits = ", ".join(f"{path.replace('__', '.')}={value}" for path, value in entry["edits"].items())
        folds = sum(manifest_of(fold_file(context.paths.oof / name, fold, "train")).exists()
                    for fold in range(context.competition.folds.count))
        lines.append(f"{name}: {entry['base']} with {edits or 'no change'}; "
                     + (f"stale: {stale[name]}" if name in stale else f"{folds} folds predicted"))
    return lines or ["no variants; --set and --name of a stage make one of the recipe of its --only"]


def remove(context: Context, name: str) -> None:
    """Forget a variant and delete what was learned and answered by it.

    Raises:
        UserError: there is none of that name, or another variant has it as a member.
    """
    _check(context, name)
    with working_on(variants_file(context.paths)):
        write_json(variants_file(context.paths),
                   {one: entry for one, entry in read_variants(context.paths).items() if one != name})
    for folder in _folders(context, name):
        shutil.rmtree(folder)
        print(f"  deleted {folder}")
    print(f"  removed the variant {name}")


def rename(context: Context, old: str, new: str) -> None:
    """Give a variant another name. What was made by it stays valid: its manifests are written anew.

    Raises:
        UserError: there is no ``old``, another variant has it as a member, or ``new`` is taken or cannot name a folder.
    """
    _check(context, old)
    entry = read_variants(context.paths)[old]
    before = variant(context.competition, old, entry)
    add_variant(context, entry["base"], new, entry["edits"])
    valid = [not artifact.why() if manifest_of(artifact.files[0]).exists() else False
             for artifact in artifacts_of(context, before)]
    for folder in _folders(context, old):
        folder.rename(folder.with_name(new))
    for artifact, kept in zip(artifacts_of(context, change(before, name=new)), valid, strict=True):
        if kept:
            _write_anew(artifact)
    with working_on(variants_file(context.paths)):
        write_json(variants_file(context.paths),
                   {one: entry for one, entry in read_variants(context.paths).items() if one != old})
    print(f"  {old} is now {new}")


def artifacts_of(context: Context, recipe: Any) -> Iterator[Artifact]:
    """What the stages 04 to 07 make of one recipe, in order; each is asked for when those before it are in place."""
    if isinstance(recipe, Experiment):
        own = context.trained_as(recipe).name == recipe.name
        of_all = [path for folder in _folders(context, recipe.name) for path in folder.glob(f"{fold_name(ALL)}*.json")]
        for fold in (*context.all_folds(recipe), *([ALL] if of_all else [])):
            yield from train.weights_artifacts(context, recipe, fold) if own else []
            for split in ("train", "test"):
                yield predict.predictions_artifact(context, recipe, fold, split)
    elif isinstance(recipe, Sequence):
        for fold in context.all_folds(recipe):
            yield sequence.fitted_artifact(context, recipe, fold)
            yield sequence.applied_artifact(context, recipe, fold)
    else:
        yield stack.fitted_artifact(context, recipe)
        yield stack.applied_artifact(context, recipe)


def _check(context: Context, name: str) -> None:
    known = read_variants(context.paths)
    check_name(known, name, "variant")
    for other, entry in known.items():
        if other != name and name in entry["edits"].get("members", ()):
            raise UserError(f"{name} is a member of the variant {other}; remove that first")


def _folders(context: Context, name: str) -> list[Path]:
    return [folder for folder in (context.paths.weights / name, context.paths.oof / name) if folder.is_dir()]


def _write_anew(artifact: Artifact) -> None:
    """Write the manifests that moved along with the files, with the key and the inputs of their new name."""
    known = read_json(artifact.manifest)
    content = {**known, "key": artifact.key, "recipe": as_dict(artifact.recipe), "inputs": artifact.input_hashes}
    for path in reversed(artifact.files):
        write_json(manifest_of(path), content)
