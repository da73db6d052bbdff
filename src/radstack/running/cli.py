"""The command line that every stage script shares."""

import argparse
import dataclasses
import fnmatch
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from radstack.core.disk import disk_error
from radstack.core.errors import UsageError, UserError, advise, command
from radstack.core.folds import ALL
from radstack.core.lifetime import INTERRUPTED, STARTED_BY, answering, die_with_parent
from radstack.core.limits import share_threads
from radstack.core.paths import Paths
from radstack.core.recipe import change, parse_edits
from radstack.core.registry import check_name, pick
from radstack.core.say import flush, lost_to, spell_out, steady_output
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker
from radstack.running.context import Context, Options, add_variant, read_variants, stale_variants, variant

Load = Callable[[str, bool], Competition]


COMMON = ("edits", "limit", "data_dir", "out_dir")
"""Options that every script reads."""


FIT_ALL = ("04", "05")
"""Beginnings of the scripts that make fits on all rows."""


class OneLine(argparse.ArgumentParser):
    """An argument parser whose refusal is one line, as every other error's."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"error: {message}; see: python {sys.argv[0]} --help\n")


def command_parser(doc: str | None, *reads: str) -> argparse.ArgumentParser:
    """Arguments of a script: which competition, :data:`COMMON`, and the :class:`Options` that it names in ``reads``.

    ``doc``, the script's docstring, is the help text. What is not given on the command line is absent from the result.
    """
    arguments = OneLine(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("competition", nargs="?", default="", help="its name; without one the script lists them")
    arguments.add_argument("--demo", action="store_true", help="work on the phantoms with their own recipes")
    arguments.add_argument("--recipes", default="", metavar="SET", help="another set of recipes on the real data: small, "
                           "which two cores can train")
    for option in dataclasses.fields(Options):
        if option.name in (*COMMON, *reads):
            _add(arguments, option)
    return arguments


def parser(doc: str | None, *reads: str) -> argparse.ArgumentParser:
    """Arguments of a stage; see :func:`command_parser`.

    What only other stages read is parsed, too, so that :func:`open_context` can refuse it by name or pass over it.
    """
    reads = ("all_stages", *reads)
    arguments = command_parser(doc, *reads)
    for option in dataclasses.fields(Options):
        if option.name not in (*COMMON, *reads):
            _add(arguments, option, hidden=True)
    arguments.set_defaults(reads=(*COMMON, *reads))
    return arguments


def _add(arguments: argparse.ArgumentParser, option: "dataclasses.Field[Any]", hidden: bool = False) -> None:
    how = dict(option.metadata)
    flag = how.pop("flag", flag_of(option.name))
    if isinstance(option.default, bool):
        how["action"] = argparse.BooleanOptionalAction if option.default else "store_true"
    else:
        how = {"type": type(option.default), **how}
    how |= {"help": argparse.SUPPRESS} if hidden else {}
    arguments.add_argument(flag, dest=option.name, default=argparse.SUPPRESS, **how)


def flag_of(name: str) -> str:
    """``--dry-run`` for ``dry_run``."""
    return "--" + name.replace("_", "-")


def open_context(args: argparse.Namespace, load: Load) -> Context:
    """Turn parsed arguments into a Context; makes the variant of ``--set --name``.

    Raises:
        UsageError: no competition is named, or an option is given that the script does not read.
        UserError: a value does not fit.
    """
    share_threads()
    competition = load(_name(args), args.demo)
    given = {name: tuple(value) if isinstance(value, list) else value
             for name, value in vars(args).items() if name in Options.__dataclass_fields__}
    if given.get("all_stages") and args.demo:
        # The demos' networks are so small that jobs of one core each outrun one on two cores; they have three folds.
        given = {"jobs": 3, **given}
    of_recipe = given.get("name") or given.get("pseudo")
    edits = given.pop("edits", ()) if of_recipe else ()
    options = Options(**_read(given, getattr(args, "reads", tuple(given))))
    context = make_context(competition, options)
    if options.all_stages:  # SIGTERM, so that whatever this stage started ends as well
        die_with_parent(STARTED_BY, signal.SIGTERM)
    if hasattr(args, "reads") and not options.dry_run:  # a stage; what only lists things ends where nobody reads
        lost_to(context.paths.weights / "lost_output.log")
    if ALL in options.folds and (options.all_stages or not Path(sys.argv[0]).name.startswith(FIT_ALL)):
        raise UsageError(f"--folds all is by hand: {command('04_train')} --folds all, then {command('05_predict')} --folds "
                         f"all and {command('08_submit')} --all-rows")
    if options.pseudo and options.all_stages:
        raise UsageError(f"--pseudo is by hand, when all stages are done: {command('04_train')} --pseudo {options.pseudo}, "
                         f"then {command('05_predict', '@variants')}")
    known = (*range(count := context.competition.folds.count), ALL)
    if strange := [fold for fold in options.folds if fold not in known]:
        raise UsageError(f"--folds {strange[0]}: {competition.name} has the folds 0 to {count - 1}")
    for name, error in stale_variants(context.competition, context.paths).items():
        if name in options.only:
            raise error
        print(f"  passed over the variant {name}: {error}", flush=True)
    context = change(context, options__only=chosen(context, given.get("only", ())))
    if options.name or options.pseudo:
        context = _with_variants(context, parse_edits(list(edits)))
    return change(context, options__gpu_share=_shares(context)) if options.gpu_share else context


def _shares(context: Context) -> tuple[tuple[str, float], ...]:
    """``--gpu-share`` by the names of recipes; a UsageError where nothing would read it, a UserError for an unknown one."""
    options = context.options
    if not options.ray:
        raise UsageError("--gpu-share is for jobs on Ray; add --ray, or leave it away")
    if options.gpus > 1:
        raise UsageError("--gpu-share lets jobs share a GPU, and --gpus gives several to one job; leave one of them away")
    return tuple((name, share) for word, share in options.gpu_share
                 for name in (chosen(context, (word,), "--gpu-share") if word else [""]))


def _name(args: argparse.Namespace) -> str:
    """The competition's name, with the set of recipes where one is chosen; the demo has its own."""
    recipes = getattr(args, "recipes", "")
    if recipes and args.demo:
        raise UsageError(f"--recipes {recipes} works on real data and --demo on phantoms; leave one of them away")
    return f"{args.competition}-{recipes}" if recipes and args.competition else args.competition


def _read(given: dict[str, Any], reads: tuple[str, ...]) -> dict[str, Any]:
    """The options that a stage reads; another one is refused, or passed over with ``--all-stages``."""
    for name in given:
        if name not in reads and not given.get("all_stages"):
            script, others = Path(sys.argv[0]).name, ", ".join(readers(name))
            raise UsageError(f"{script} does not read {flag_of(name)}; {others} {'do' if ',' in others else 'does'}")
    return {name: value for name, value in given.items() if name in reads}


def readers(name: str) -> list[str]:
    """The stage scripts that read an option, as each declares in its call of :func:`parser`."""
    scripts = sorted(Path(__file__).parents[2].glob("[0-9]*.py"))
    return [script.name for script in scripts if re.search(rf'parser\(__doc__,[^)]*"{name}"', script.read_text())]


def make_context(competition: Competition, options: Options) -> Context:
    """Edit a competition and bind it to folders; ``--limit N`` keeps its results under their own name.

    From now on each error that names a missing file says what to type for this competition in these folders.
    """
    edits = parse_edits(list(options.edits))
    if "localizer__detector" in edits and competition.localizer.detectors:
        edits["localizer__detector"] = pick(competition.localizer.detectors, str(edits["localizer__detector"]), "detector")
    for name in edits:
        head = name.partition("__")[0]
        recipes = [one.__name__ for one in (Experiment, Sequence, Stacker) if head in one.__dataclass_fields__]
        if recipes and not hasattr(competition, head):
            raise UserError(f"the competition has no field '{head}', {recipes[0]} has: with --only RECIPE and --name NAME "
                            "--set makes a variant of that recipe")
    competition = change(as_annotated(competition, options), **edits)
    context = Context(competition, paths_of(competition, options), options)
    advise(context.make_with, context.command)
    return context


def sibling(context: Context, competition: Competition) -> Context:
    """Another competition in the folders of this run."""
    options = change(context.options, edits=(), only=())
    return Context(competition, paths_of(competition, options), options)


def paths_of(competition: Competition, options: Options) -> Paths:
    """The folders of a competition; results of ``--limit N`` lie under their own name."""
    name = f"{competition.name}-limit{options.limit}" if options.limit else competition.name
    return Paths(Path(options.data_dir), Path(options.out_dir), competition.source or competition.name, name)


def as_annotated(competition: Competition, options: Options) -> Competition:
    """The competition, or its plain form where nobody annotated its pictures.

    The folders say so and not an option, so that one command does for all. Where weights came alone, as in a bundle, it is
    they that say whether there was a network that finds the anatomy.
    """
    plain, paths = competition.plain, paths_of(competition, options)
    if plain is None:
        return competition
    travelled = paths.weights.exists() and not (paths.folds / "index.parquet").exists()
    finders = any((paths.weights / network.name).exists() for network in competition.localizer.networks)
    here = finders if travelled else not paths.input.exists() or plain.annotated(paths.input)
    return competition if here else change(competition, **plain.edits)


def run(main: Callable[[], None]) -> None:
    """Run a script's ``main`` so that it ends in one line.

    The status is 1 after a UserError or a failure of disk or rights, 2 after a wrong command line, 130 after Ctrl-C. A pipe
    that closes (``| head``) ends it quietly; a stage that makes something goes on, see :func:`radstack.core.say.lost_to`.
    """
    spell_out()
    with steady_output(), answering():
        try:
            main()
        except UsageError as error:
            _end(2, f"error: {error}")
        except UserError as error:
            _end(1, f"error: {error}")
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it at once
            _end(130, INTERRUPTED)
        except OSError as error:
            told = disk_error(error)
            if told is None:
                raise
            _end(1, f"error: {told}")
        finally:
            flush()


def _end(status: int, line: str) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(status)


def _with_variants(context: Context, edits: dict[str, object]) -> Context:
    """The context whose recipes are new variants: the one of ``--name``, or with ``--pseudo`` one of each network."""
    options, competition, names = context.options, context.competition, list[str]()
    edits |= {"pseudo__model": options.pseudo} if options.pseudo else {}
    if options.name and len(options.only) != 1:
        raise UserError("--name needs --only with the one recipe that --set changes")
    bases = options.only or [one.name for one in competition.models.experiments if not one.pseudo.model]
    for base in bases:
        name = options.name or f"{base}_pseudo"
        if name not in read_variants(context.paths):
            _try(context, variant(competition, name, {"base": base, "edits": edits}))
        recipe = add_variant(context, base, name, edits, keep=not options.dry_run)
        names.append(name)
        if options.dry_run:  # which leaves no trace, so the recipe is known to this run alone
            field = {Experiment: "experiments", Sequence: "sequences", Stacker: "stackers"}[type(recipe)]
            competition = change(competition, **{f"models__{field}": (*getattr(competition.models, field), recipe)})
    return Context(competition, context.paths, change(options, only=tuple(names)))


def _try(context: Context, recipe: Any) -> None:
    """A UserError where the new ``recipe`` cannot work, before it is recorded and anything is trained."""
    if isinstance(recipe, Stacker):
        from radstack.stack.registry import method_of  # slow to import

        method_of(recipe)
    if isinstance(recipe, (Stacker, Sequence)):
        known = [one.name for one in context.recipes]
        for member in recipe.members:
            check_name(known, member, f"member for {recipe.name},")
        return
    from radstack.training.tryout import try_out

    if recipe.pseudo.model:
        check_name([one.name for one in context.recipes], recipe.pseudo.model, f"model for the labels of {recipe.name},")
    for name in (*recipe.sources, *([recipe.pseudo.rows] if recipe.pseudo.rows != "test" else [])):
        if not (context.paths.sources / name).is_dir():
            raise UserError(f"{recipe.name}: there is no source {name}; add it with: {context.command('add_source')} {name} "
                            "FOLDER LABELS.csv")
    file = context.paths.cache / "rows.parquet"
    try_out(recipe, context.competition.targets_of(recipe), pd.read_parquet(file) if file.exists() else None)


def chosen(context: Context, only: tuple[str, ...], flag: str = "--only") -> tuple[str, ...]:
    """Names of recipes that the words of ``flag`` mean: names, patterns such as ``radius_*``, groups such as ``@networks``.

    UserError where one means no recipe.
    """
    kinds = {"networks": Experiment, "sequences": Sequence, "stackers": Stacker}
    names = {one.name: type(one) for one in context.recipes}
    called = {one.name for one in context.competition.models.on_call}
    groups = {group: [name for name, own in names.items() if own is kind and name not in called]
              for group, kind in kinds.items()}
    groups |= {"on_call": sorted(called), "variants": list(read_variants(context.paths))}
    found: list[str] = []
    for word in only:
        own = groups.get(word[1:], []) if word.startswith("@") else fnmatch.filter(names, word)
        if not own:
            raise UserError(f"{flag} {word}: no such recipe; known: {', '.join(names)}, "
                            f"and the groups {', '.join(f'@{group}' for group, held in groups.items() if held)}")
        found += own
    return tuple(dict.fromkeys(found))
