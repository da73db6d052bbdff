"""The command line that every stage script shares."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radstack.core.errors import UserError
from radstack.core.paths import Paths
from radstack.core.recipe import change, parse_edits
from radstack.core.say import flush, to_stdout
from radstack.recipes.competition import Competition
from radstack.running.context import Context, Options, add_variant, read_variants

Load = Callable[[str, bool], Competition]


def command_parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments of every script: which competition, and where it lies; ``doc``, the script's docstring, is the help text."""
    arguments = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = arguments.add_argument
    add("competition", nargs="?", default="ich", help="ich (default), bone_age, knee_age or radius_ulna")
    add("--demo", action="store_true", help="work on the phantoms with the small recipes")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a field of the competition (folds.count=3, "
        "cache.size=[512,512]) for all scripts of a run; in a stage with --name, one of a recipe")
    add("--limit", type=int, default=0, help="smoke run: only the first N patients of train and test, kept apart from "
        "the full run")
    add("--data-dir", default=".", help="folder that holds input/")
    add("--out-dir", default=".", help="folder that receives folds/ cache/ weights/ oof/ submissions/ reports/")
    arguments.set_defaults(only="", folds="", name="")
    return arguments


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments of every stage; see :func:`command_parser`."""
    arguments = command_parser(doc)
    add = arguments.add_argument
    add("--only", default="", help="comma-separated recipe names instead of all")
    add("--folds", default="", help="comma-separated folds instead of all")
    add("--name", default="", help="name of the new variant made by --set from the one recipe of --only")
    add("--dry-run", action="store_true", help="say what would be made and why, make nothing")
    add("--force", action="store_true", help="make again what is there")
    return with_workers(arguments)


def with_workers(arguments: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the number of processes that read pictures."""
    arguments.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8),
                           help="processes that read and decode")
    return arguments


def training_arguments(arguments: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what only the stages with networks need."""
    add = arguments.add_argument
    add("--device", default="", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    add("--gpus", type=int, default=1, help="processes of one job, started by torchrun, one a GPU")
    add("--jobs", type=int, default=1, help="jobs at a time on this machine, each in a process of its own")
    add("--ray", nargs="?", const="local", default="", metavar="ADDRESS", help="run the jobs on Ray: this machine, or a "
        "cluster's address")
    add("--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from the checkpoint of a killed run")
    add("--checkpoint-seconds", type=float, default=300.0, help="time between two checkpoints within an epoch")
    add("--weights", default="", help="folder with pretrained weights (see README)")
    add("--offline", action="store_true", help="never download weights")
    return arguments


def open_context(args: argparse.Namespace, load: Load) -> Context:
    """Turn parsed arguments into a Context; makes the variant of ``--set --name``."""
    known: dict[str, Any] = {name: value for name, value in vars(args).items() if name in Options.__dataclass_fields__}
    known |= {"only": _words(args.only), "folds": tuple(int(fold) for fold in _words(args.folds))}
    known |= {} if args.name else {"edits": tuple(args.set)}
    context = make_context(load(args.competition, args.demo), Options(**known))
    if args.name:
        context = _with_variant(context, args.name, parse_edits(args.set))
    _check_names(context)
    return context


def reopen(plain: dict[str, Any], load: Load) -> Context:
    """The context that :meth:`Context.plain` described, on this machine."""
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                               for key, value in plain.items() if key != "name"}
    return make_context(load(plain["name"], False), Options(**options))


def make_context(competition: Competition, options: Options) -> Context:
    """Edit a competition and bind it to folders; ``--limit N`` keeps its results under their own name."""
    competition = change(competition, **parse_edits(list(options.edits)))
    name = f"{competition.name}-limit{options.limit}" if options.limit else competition.name
    return Context(competition, Paths(Path(options.data_dir), Path(options.out_dir), competition.name, name), options)


def run(main: Callable[[], None]) -> None:
    """Run a script's ``main``; a UserError becomes one line and exit status 1, a closed pipe (``| head``) a quiet end."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to go on")
    except BrokenPipeError:
        to_stdout("")  # ends the script, if it is standard output that is closed
        raise
    finally:
        flush()


def _with_variant(context: Context, name: str, edits: dict[str, object]) -> Context:
    if len(context.options.only) != 1:
        raise UserError("--name needs --only with the one recipe that --set changes")
    add_variant(context, context.options.only[0], name, edits)
    return Context(context.competition, context.paths, change(context.options, only=(name,)))


def _check_names(context: Context) -> None:
    known = [recipe.name for recipe in context.competition.recipes] + list(read_variants(context.paths))
    for name in context.options.only:
        if name not in known:
            raise UserError(f"--only {name}: no such recipe; known: {', '.join(known)}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)
