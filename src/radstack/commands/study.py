"""A study: train what it lacks through the stages, then its table or figure in the layout of its source."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from radstack.commands.past import SECONDS
from radstack.commands.plan import make_plan
from radstack.commands.rates import short_run
from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import replacing, write_json, write_table, write_text
from radstack.core.recipe import change
from radstack.core.registry import pick
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker
from radstack.recipes.study import MaskNetworks, Study
from radstack.report.stage import report
from radstack.report.studies import ABSENT, INKS, counted, drawing, markdown, measured, rows_of, traced, without_curves
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.stages import predict, sequence, stack, train
from radstack.stages.mask_networks import folds_of, pictures_an_epoch, score_masks, scores_artifact

Studies = tuple[Study, ...]
Share = tuple[int, float]
"""Runs that a network needs yet, and their hours."""
KINDS: dict[type, str] = {Experiment: "on_call", Sequence: "sequences", Stacker: "stackers"}
"""Kind of a recipe -> where a study's own stand in a competition's models: they run when a study names them."""


def listed(studies: Studies) -> list[str]:
    """A line a study: name, title, source, how many models."""
    return [f"{one.name:<16} {one.title} ({one.source}); {len(one.models)} models" for one in studies]


def study(context: Context, studies: Studies, names: tuple[str, ...], page: bool = True) -> None:
    """Make the studies called ``names`` (all when none is named), each with what it lacks, and with ``page`` the page anew.

    Raises:
        UserError: no study has that name, a stage before training was not run, or a job failed.
    """
    known = {one.name: one for one in studies}
    chosen = [pick(known, name, "study") for name in names] or list(studies)
    if any(one.curves for one in studies):  # another study may draw what this one trains
        context = replace(context, options=change(context.options, held_out=True))
    planned = dict[str, Share]()
    for one in chosen:
        own = context_of(context, one)
        rows_of(own, one)  # a UserError that says what to run first
        print(f"{one.name}: {one.title}", flush=True)
        if context.options.dry_run:
            planned |= _plan(own, one)
            continue
        own = at_hand(own)
        run(own)
        if one.masks:
            score_masks(own, one.masks)
        if unseen := without_curves(own, one):  # trained before, and not by a study
            train.train(replace(own, options=change(own.options, only=unseen, force=True)))
        _write(own, one)
    if context.options.dry_run and len(chosen) > 1:
        print(f"{context.competition.name}, {len(chosen)} studies: {_summed(planned)}", flush=True)
    if page and not context.options.dry_run and (context.paths.reports / "index.html").exists():
        report(replace(context, options=change(context.options, only=(), force=False)))


def context_of(context: Context, one: Study) -> Context:
    """The context in which the recipes of a study are known, and those that its models descend from are chosen."""
    recipes = on_folds(context.competition, one.recipes, context.options.folds)
    competition = with_recipes(context.competition, recipes)
    known, wanted = {item.name: item for item in competition.recipes}, dict[str, None]()
    of_masks = {network.name for network in one.masks.networks} if one.masks else set()
    left = [name for name in one.models if name not in of_masks]
    while left:
        name = left.pop(0)
        if name not in known:
            raise UserError(f"study {one.name}: there is no recipe {name}")
        wanted[name] = None
        left += [parent for parent in parents(known[name]) if parent in known and parent not in wanted]
    # Without a name --only would mean all; a study of a table alone has none.
    options = replace(context.options, only=tuple(wanted) or ("",), held_out=bool(one.curves) or context.options.held_out)
    return replace(context, competition=competition, options=options)


def parents(recipe: Any) -> tuple[str, ...]:
    """Names of what a recipe reads: the members of a stack or a sequence model, what a network starts from."""
    return (recipe.backbone.start,) if isinstance(recipe, Experiment) else tuple(recipe.members)


def with_recipes(competition: Competition, recipes: tuple[Any, ...]) -> Competition:
    """The competition with recipes of a study beside its own; one that it has already, to the letter, is that one.

    A UserError where another recipe has the name.
    """
    known, models = {item.name: item for item in competition.recipes}, competition.models
    for recipe in recipes:
        if recipe.name in known:
            if known[recipe.name] != recipe:
                raise UserError(f"a study's recipe {recipe.name} differs from the one of that name; give it another name")
            continue
        field = KINDS[type(recipe)]
        models = change(models, **{field: (*getattr(models, field), recipe)})
        known[recipe.name] = recipe
    return replace(competition, models=models)


def on_folds(competition: Competition, recipes: tuple[Any, ...], folds: tuple[int, ...]) -> tuple[Any, ...]:
    """The ``recipes`` of a study, its own networks on ``folds`` alone, if any are named; their stacks ask for no other.

    The competition's own stay as they are, and so do stacks of them that are there.
    """
    known, count = {one.name for one in competition.recipes}, competition.folds.count

    def cut(one: Any) -> Any:
        if not isinstance(one, Experiment) or one.name in known:
            return one
        own = tuple(fold for fold in one.folds or range(count) if fold in folds)
        return change(one, folds=own) if own else one

    return tuple(map(cut, recipes))


def at_hand(context: Context) -> Context:
    """``context`` without the networks whose published weights cannot be had, and what is built on these; says why.

    Only networks that must be trained yet are asked: others have what they started from behind them.
    """
    lacks = lacking(replace(context, options=change(context.options, dry_run=True)))
    absent = dict[str, str]()
    for one in context.experiments:
        if lacks[one.name] and (why := _absent(context, one)):
            absent[one.name] = why
            print(f"  {one.name}: {ABSENT}: {why}", flush=True)
    for one in chain.from_iterable(train.in_turn(list(context.experiments))):
        if lacks[one.name] and one.backbone.start in absent:
            absent[one.name] = ""
    built: list[Any] = [*context.sequences, *context.stackers]
    for other in built:  # in order: members come before what is built on them
        if set(other.members) & set(absent):
            absent[other.name] = ""
    kept = tuple(name for name in context.options.only if name not in absent)
    return replace(context, options=change(context.options, only=kept or ("",)))


def _absent(context: Context, one: Experiment) -> str:
    """Why the weights that a network starts from cannot be had; "" where they can, or it needs none."""
    if not one.backbone.pretrained or one.backbone.start:
        return ""
    from radstack.nets.backbones import weights_of  # slow to import

    options = context.options
    try:
        weights_of(one.backbone, Path(options.weights) if options.weights else None, options.offline)
    except UserError as error:
        return str(error)
    return ""


def run(context: Context) -> None:
    """Stages 04 to 07 of the chosen recipes; what is made is kept."""
    if context.experiments:
        train.train(context)
        predict.predict(context)
    if context.sequences:
        sequence.sequence(context)
    if context.stackers:
        stack.stack_all(context)


def lacking(context: Context) -> dict[str, int]:
    """Recipe -> runs, one a fold and seed, that must be trained or fitted yet."""
    makers: tuple[tuple[list[Any], Callable[..., list[Artifact]]], ...] = (
        (context.experiments, train.weights_artifacts),
        (context.sequences, lambda *of: [sequence.fitted_artifact(*of)]))
    return {one.name: sum(bool(_why(context, artifact)) for fold in context.folds_of(one)
                          for artifact in artifacts_of(context, one, fold))
            for recipes, artifacts_of in makers for one in recipes}


def _why(context: Context, artifact: Artifact) -> str:
    try:
        return context.why(artifact)
    except UserError as error:  # a member is not there yet
        return str(error)


def _plan(context: Context, one: Study) -> dict[str, Share]:
    """Print the runs that a study needs yet, and their hours here; network -> these."""
    missing = lacking(context)
    hours = {line.name: line.amount for line in make_plan(context).recipes} if any(missing.values()) else {}
    made = dict[str, Share]()
    for name, folds in missing.items():
        recipe = context.competition.recipe(name)
        runs = len(context.folds_of(recipe)) * (recipe.train.seeds if isinstance(recipe, Experiment) else 1)
        made[name] = folds, hours.get(name, math.nan) * folds / max(runs, 1)
    made |= _mask_hours(context, one.masks) if one.masks else {}
    for name, (folds, share) in made.items():
        print(f"  {name}: {f'{folds} runs, {share:.2f} hours' if folds else 'made'}")
    print(f"  {_summed(made)}", flush=True)
    return made


def _summed(made: dict[str, Share]) -> str:
    total = sum(share for _, share in made.values() if not math.isnan(share))
    return f"{sum(folds for folds, _ in made.values())} runs, {total:.2f} hours on this machine"


def _mask_hours(context: Context, masks: MaskNetworks) -> dict[str, Share]:
    """Network of masks -> runs that it needs yet, and their hours here, of the training alone, by a short run."""
    device, folds = torch.device(device_of(context.options.device)), folds_of(context, masks)
    made = {}
    for one in masks.networks:
        left = [fold for fold in folds if _why(context, scores_artifact(context, masks, one, fold))]
        # What is trained, such as by stage 02, is only scored, in seconds.
        untrained = sum(not (context.paths.weights / one.name / f"fold{fold}.safetensors").exists() for fold in left)
        visits = pictures_an_epoch(context, masks, one) * one.train.epochs * untrained
        made[one.name] = len(left), visits / short_run(one, (), device).train / SECONDS if untrained else 0.0
    return made


def _write(context: Context, one: Study) -> None:
    """Write ``<name>.csv``, ``_curves.csv``, ``.md``, ``.png``, and ``.json`` with the words that the page needs."""
    folder = context.paths.reports / "studies"
    table, curves = measured(context, one), traced(context, one)
    write_table(folder / f"{one.name}.csv", table)
    if len(curves):
        write_table(folder / f"{one.name}_curves.csv", curves)
    text = markdown(one, table, counted(context, one), context.competition.name)
    write_text(folder / f"{one.name}.md", text)
    if len(table) or len(curves):
        with replacing(folder / f"{one.name}.png") as part:
            drawing(one, table, curves, INKS).savefig(part, format="png", dpi=130, facecolor="white")
    about = {"name": one.name, "title": one.title, "source": one.source, "unit": one.unit, "note": one.note,
             "recipes": [recipe.name for recipe in (*one.recipes, *(one.masks.networks if one.masks else ()))]}
    write_json(folder / f"{one.name}.json", about)
    print(f"{text}  {folder / one.name}.md, .csv, .png", flush=True)
