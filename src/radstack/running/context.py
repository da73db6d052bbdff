"""What a stage script works with: the competition, its folders, and the settings of this run."""

import re
import shlex
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import read_json, write_json
from radstack.core.folds import ALL
from radstack.core.limits import cores
from radstack.core.lock import working_on
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Outside, Stacker


def option(default: Any, text: str, **how: Any) -> Any:
    """A field of :class:`Options`: its default, its help text, and what argparse cannot tell from the default."""
    return field(default=default, metadata={"help": text, **how})


def words(text: str) -> tuple[str, ...]:
    """``a,b`` as a tuple."""
    found = tuple(word for word in text.split(",") if word)
    if text and not found:
        raise ArgumentTypeError(f"'{text}' names nothing; give names with commas between")
    return found


def numbers(text: str) -> tuple[int, ...]:
    """``0,1`` as a tuple."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' is not allowed; give numbers with commas between, such as 0,1") from error


def fold_numbers(text: str) -> tuple[int, ...]:
    """``0,1`` as a tuple; ``all`` for a fit on all rows."""
    return (ALL,) if text == "all" else numbers(text)


def at_least(least: int) -> Callable[[str], int]:
    """What reads a whole number of ``least`` or more."""
    def read(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"{text} is not allowed; give a whole number, {least} or more")
        return int(text)

    return read


def shares(text: str) -> tuple[tuple[str, float], ...]:
    """``0.5,lite*=0.25`` as pairs; the name of a number alone is ""."""
    found = [word.rpartition("=")[::2] for word in words(text)]
    for _, share in found:
        if not share.replace(".", "", 1).isdecimal() or not 0 < float(share) <= 1:
            raise ArgumentTypeError(f"{share} is not allowed; give parts of a GPU above 0 and up to 1, as 0.5,lite*=0.25")
    return tuple((name, float(share)) for name, share in found)


def above_zero(text: str) -> float:
    """A number above 0."""
    try:
        if (value := float(text)) > 0:
            return value
    except ValueError:
        pass
    raise ArgumentTypeError(f"{text} is not allowed; give a number above 0")


@dataclass(frozen=True)
class Options:
    """Settings of one run, each an option of the command line. Changing these never causes a rebuild.

    :mod:`radstack.running.cli` makes ``--checkpoint-seconds`` of ``checkpoint_seconds``; a script declares which it reads.
    """

    edits: tuple[str, ...] = option((), "change a field of the competition (folds.count=3, cache.size=[512,512]) for all "
                                    "scripts of a run; in a stage with --name, one of a recipe", flag="--set",
                                    action="append", type=str, metavar="KEY=VALUE")
    limit: int = option(0, "smoke run: only the first N patients of train and test, annotated ones before others, kept "
                           "apart from the full run", metavar="N", type=at_least(0))
    data_dir: str = option(".", "folder that holds input/")
    out_dir: str = option(".", "folder that receives folds/ cache/ weights/ oof/ submissions/ reports/")
    all_stages: bool = option(False, "as run_all.sh calls a stage: pass over the options that only other stages read")
    only: tuple[str, ...] = option((), "comma-separated recipe names instead of all; patterns such as 'radius_*' and "
                                      "@networks, @on_call, @sequences, @stackers, @variants count, too", type=words)
    folds: tuple[int, ...] = option((), "comma-separated folds instead of all of them; all: one more fit, without a "
                                        "held-out part (04, 05)", type=fold_numbers)
    name: str = option("", "name of the new variant made by --set from the one recipe of --only")
    dry_run: bool = option(False, "say what would be made and why, make nothing")
    force: bool = option(False, "make again what is there")
    workers: int = option(min(cores(), 8), "processes that read and decode", type=at_least(1))
    device: str = option("", "cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    gpus: int = option(1, "processes of one job, started by torchrun, one a GPU", type=at_least(1))
    jobs: int = option(1, "jobs at a time on this machine, each in a process of its own", type=at_least(1))
    ray: str = option("", "run the jobs on Ray: this machine, or a cluster's address", nargs="?", const="local",
                      metavar="ADDRESS")
    gpu_share: tuple[tuple[str, float], ...] = option((), "part of a GPU that a job holds on Ray, so that jobs of small "
                                                          "networks share one: 0.5, or 0.5,lite*=0.25 with names, patterns "
                                                          "and groups as for --only", type=shares, metavar="SHARE")
    resume: bool = option(True, "go on from the checkpoint of a killed run")
    held_out: bool = option(False, "after each epoch note loss and error of the fold that is held out, in held_out.csv of "
                                   "its log folder; no result changes")
    checkpoint_seconds: float = option(300.0, "time between two checkpoints within an epoch", type=above_zero)
    weights: str = option("", "folder with pretrained weights (see docs/add_your_own.md)")
    offline: bool = option(False, "never download weights")
    kaggle: bool = option(False, "download the competition's archive")
    demo_size: int = option(0, "number of phantom series", type=at_least(0))
    folds_from: str = option("", "take the folds of this table, by row, patient or study (CSV with a column fold), now and "
                                 "in later runs; dealt: deal them by the recipe again", metavar="FILE")
    pseudo: str = option("", "train new variants NETWORK_pseudo (or --name) that learn from test, too, as the finished "
                             "model MODEL labels it, each fold by models of this fold alone; --set pseudo.above=0.9 takes "
                             "what it is sure of, --set pseudo.rows=SOURCE other rows", metavar="MODEL")
    show: int = option(0, "draw the steps of N pictures of each split", metavar="N", type=at_least(0))
    all_rows: bool = option(False, "also a submission in which fits on all rows (--folds all of 04 and 05) have a part")
    push: str = option("", "upload the file through the kaggle client", metavar="MESSAGE")
    scores: bool = option(False, "only fill the ledger of pushed files with the leaderboard's scores")
    check: str = option("", "only check a submission file", metavar="FILE")


MAKERS = {"index.parquet": "01_make_folds", "folds/*/*.csv": "01_make_folds", "boxes.parquet": "02_localize",
          "prepared/rows.parquet": "02_localize", "found/*": "02_localize", "cache/*/quarantine.csv": "02_localize",
          "pseudo/*/*": "04_train", "quarantine-03.csv": "03_cache", "rows.parquet": "03_cache",
          "submissions/*/*.csv": "08_submit", "reports/*/*": "09_report"}
"""End of a path -> the stage that makes it; weights and prediction tables are made by the stage of their recipe."""


@dataclass(frozen=True)
class Context:
    """One competition, its folders, one run's options."""

    competition: Competition
    paths: Paths
    options: Options

    @property
    def experiments(self) -> list[Experiment]:
        """Level-one recipes chosen by ``--only``, variants included."""
        called = (experiment for experiment in self.competition.models.on_call if experiment.name in self.options.only)
        return self._chosen(Experiment, (*self.competition.models.experiments, *called))

    @property
    def sequences(self) -> list[Sequence]:
        """Sequence recipes chosen by ``--only``, variants included."""
        return self._chosen(Sequence, self.competition.models.sequences)

    @property
    def stackers(self) -> list[Stacker]:
        """Level-two recipes chosen by ``--only``, variants included."""
        return self._chosen(Stacker, self.competition.models.stackers)

    @property
    def recipes(self) -> list[Any]:
        """Every recipe whatever ``--only`` says: experiments, those on call, sequence models, stackers, then variants, and
        what came as tables.
        """
        return [*self.competition.recipes, *make_variants(self.competition, self.paths), *outsiders(self.paths)]

    def folds_of(self, recipe: Any) -> list[int]:
        """Folds to work on: those that the recipe has, cut to ``--folds``; of a network also the fit on all rows."""
        if ALL in self.options.folds:
            return [ALL] if isinstance(recipe, Experiment) else []
        return [fold for fold in self.all_folds(recipe) if not self.options.folds or fold in self.options.folds]

    def all_folds(self, which: Any) -> list[int]:
        """Folds of a recipe or the one called so: those that it names, else all; of a level above those of all members."""
        known = {recipe.name: recipe for recipe in self.recipes}
        return _folds(self.competition.folds.count, known, known.get(which) if isinstance(which, str) else which)

    def trained_as(self, experiment: Experiment) -> Experiment:
        """The recipe whose weights serve ``experiment``: the first that differs in name and test-time settings alone."""
        models, wanted = self.competition.models, _as_trained(experiment)
        return next((one for one in (*models.experiments, *models.on_call) if _as_trained(one) == wanted), experiment)

    def make(self, artifact: Artifact, build: Callable[[], dict[str, Any] | None]) -> bool:
        """Make ``artifact`` unless it is there and unchanged; say which and why. Return whether it was made."""
        why = self.why(artifact)
        name = "/".join(artifact.files[0].parts[-2:])
        if not why or self.options.dry_run:
            print(f"  {'would make ' + name + ': ' + why if why else 'kept ' + name}", flush=True)
            return False
        print(f"  making {name}: {why}", flush=True)
        artifact.make(build)
        return True

    def why(self, artifact: Artifact) -> str:
        """Why ``artifact`` must be made, '' when it need not be; ``--force`` always has a reason."""
        try:
            return "--force" if self.options.force else artifact.why()
        except UserError as error:
            if self.options.dry_run:
                return f"({error})"
            raise

    def command(self, script: str, only: str = "") -> str:
        """The command line of a stage for this competition in these folders, for messages that say what to type."""
        options, words = self.options, ["python", f"src/{script}.py", *self.competition.words]
        words += ["--only", only] if only else []
        for flag, value in (("--limit", options.limit), ("--data-dir", options.data_dir), ("--out-dir", options.out_dir)):
            words += [flag, str(value)] if value not in (0, ".") else []
        return shlex.join([*words, *(word for edit in options.edits for word in ("--set", edit))])

    def make_with(self, path: Path) -> str:
        """What to type where ``path`` is missing."""
        if self.paths.input in (path, *path.parents):
            return f"get the data with: {self.command('00_get_data')}"
        if self.paths.sources in path.parents:
            name = path.relative_to(self.paths.sources).parts[0]
            return f"add it again with: {self.command('add_source')} {name} FOLDER LABELS.csv"
        script = next((script for name, script in MAKERS.items() if path.match(name)), "")
        if script:
            return f"make it with: {self.command(script)}"
        recipe = next((one for one in self.recipes if one.name == path.parent.name), None)
        if isinstance(recipe, Outside):
            return f"give its tables again with: {self.command('add_member')} {recipe.name} OOF.csv TEST.csv"
        if recipe is None and self.paths.oof in path.parents:
            known = ", ".join(one.name for one in self.recipes)
            return f"no recipe is called '{path.parent.name}'; mend the members of the stack that reads it; known: {known}"
        first = "04_train" if self.paths.weights in path.parents else "05_predict"
        script = {Experiment: first, Sequence: "06_sequence", Stacker: "07_stack"}.get(type(recipe), "02_localize")
        if recipe is None and self.paths.weights not in path.parents:
            return "check the path"
        return f"make it with: {self.command(script, recipe.name if recipe else '')}"

    def _chosen(self, kind: type, own: Iterable[Any]) -> list[Any]:
        added = (recipe for recipe in make_variants(self.competition, self.paths) if isinstance(recipe, kind))
        everyone = {recipe.name: recipe for recipe in (*own, *added)}
        wanted = self.options.only
        return [recipe for name, recipe in everyone.items() if not wanted or name in wanted]


def _folds(count: int, known: dict[str, Any], recipe: Any) -> list[int]:
    members = getattr(recipe, "members", ())
    common = [set(_folds(count, known, known.get(member))) for member in members]
    return sorted(set.intersection(*common)) if common else sorted(getattr(recipe, "folds", ()) or range(count))


def _as_trained(experiment: Experiment) -> Experiment:
    return replace(experiment, name="", tta=(), folds=(), note="")


NAME = re.compile(r"\w[\w.+-]{0,79}")
"""Of a variant: it is a folder below ``weights/`` and ``oof/``."""
TAKEN = ("constant", "floor")
"""Rows of the score table that are no models."""

OUTSIDE = "given.json"
"""In a folder below ``oof/``: what is known of predictions that came as tables."""


def outsiders(paths: Paths) -> list[Outside]:
    """Members whose predictions came as tables."""
    told = [read_json(file) for file in sorted(paths.oof.glob(f"*/{OUTSIDE}"))]
    return [Outside(one["name"], tuple(one["tables"]), one["mark"], tuple(one["suspected"])) for one in told]


def variants_file(paths: Paths) -> Path:
    """Where named variants of the command line are kept, so that later stages know them."""
    return paths.weights / "variants.json"


def read_variants(paths: Paths) -> dict[str, dict[str, Any]]:
    """Name -> base and edits."""
    file = variants_file(paths)
    return read_json(file) if file.exists() else {}


def make_variants(competition: Competition, paths: Paths) -> list[Any]:
    """The recipes of all variants, those of :func:`stale_variants` left out."""
    return [made for name, entry in read_variants(paths).items() if not isinstance(
        made := _tried(competition, name, entry), UserError)]


def stale_variants(competition: Competition, paths: Paths) -> dict[str, UserError]:
    """Name -> why it cannot be made any more, since the recipes have changed. It holds up no other recipe."""
    tried = {name: _tried(competition, name, entry) for name, entry in read_variants(paths).items()}
    return {name: made for name, made in tried.items() if isinstance(made, UserError)}


def _tried(competition: Competition, name: str, entry: dict[str, Any]) -> Any:
    try:
        return variant(competition, name, entry)
    except UserError as error:
        return error


def add_variant(context: Context, base: str, name: str, edits: dict[str, Any], keep: bool = True) -> Any:
    """The recipe ``name`` = ``base`` with ``edits``; with ``keep`` later runs know it, too.

    Raises:
        UserError: the name is taken by another recipe, the base is unknown, or an edit does not fit.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"--name {name!r} cannot name a folder; take up to 80 letters, digits, and . _ + - behind the first")
    entry = {"base": base, "edits": edits}
    recipe = variant(context.competition, name, entry)
    _refuse_taken(context, name, entry)
    if keep:
        with working_on(variants_file(context.paths)):  # what others add is read before it is written again
            known = _refuse_taken(context, name, entry)
            if name not in known:
                write_json(variants_file(context.paths), {**known, name: entry})
    return recipe


def _refuse_taken(context: Context, name: str, entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variants that there are; a UserError where ``name`` is that of another recipe than ``entry`` says."""
    known = read_variants(context.paths)
    taken = {*TAKEN, *(recipe.name for recipe in (*context.competition.recipes, *outsiders(context.paths)))}
    if name in taken or known.get(name, entry) != entry:
        raise UserError(f"--name {name} is taken by another recipe; choose a new name")
    return known


def variant(competition: Competition, name: str, entry: dict[str, Any]) -> Any:
    """Build the recipe of a variant entry."""
    bases = {recipe.name: recipe for recipe in competition.recipes}
    if entry["base"] not in bases:
        raise UserError(f"variant {name} changes '{entry['base']}', which is no recipe any more; remove it with: "
                        f"{shlex.join(['python', 'src/variants.py', *competition.words, '--remove', name])}")
    return change(change(bases[entry["base"]], **entry["edits"]), name=name)
