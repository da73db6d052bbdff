"""What a stage script works with: the competition, its folders, and the settings of this run."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import read_json, write_json
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker


@dataclass(frozen=True)
class Options:
    """Settings of one run. None of them enters an artifact key."""

    edits: tuple[str, ...] = ()
    """``field=value`` edits of the competition itself."""
    data_dir: str = "."
    out_dir: str = "."
    limit: int = 0
    dry_run: bool = False
    force: bool = False
    resume: bool = True
    workers: int = 2
    device: str = ""
    gpus: int = 1
    jobs: int = 1
    ray: str = ""
    weights: str = ""
    offline: bool = False
    only: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    checkpoint_seconds: float = 300.0


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
        """Every recipe whatever ``--only`` says: experiments, those on call, sequence models, stackers, then variants."""
        return [*self.competition.recipes, *make_variants(self.competition, self.paths)]

    def folds_of(self, recipe: Any) -> list[int]:
        """Folds to work on: those of the recipe (all when it names none), cut to ``--folds``."""
        own = getattr(recipe, "folds", ()) or range(self.competition.folds.count)
        return [fold for fold in own if not self.options.folds or fold in self.options.folds]

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

    def plain(self) -> dict[str, Any]:
        """JSON values from which :func:`radstack.running.cli.reopen` makes this context again, on another machine too."""
        return {"name": self.competition.name, **dataclasses.asdict(self.options)}

    def _chosen(self, kind: type, own: Iterable[Any]) -> list[Any]:
        added = (recipe for recipe in make_variants(self.competition, self.paths) if isinstance(recipe, kind))
        everyone = {recipe.name: recipe for recipe in (*own, *added)}
        wanted = self.options.only
        return [recipe for name, recipe in everyone.items() if not wanted or name in wanted]


def variants_file(paths: Paths) -> Path:
    """Where named variants of the command line are kept, so that later stages know them."""
    return paths.weights / "variants.json"


def read_variants(paths: Paths) -> dict[str, dict[str, Any]]:
    """Name -> base and edits."""
    file = variants_file(paths)
    return read_json(file) if file.exists() else {}


def make_variants(competition: Competition, paths: Paths) -> list[Any]:
    """The recipes of all variants."""
    return [variant(competition, name, entry) for name, entry in read_variants(paths).items()]


def add_variant(context: Context, base: str, name: str, edits: dict[str, Any]) -> None:
    """Remember ``name`` = ``base`` with ``edits``.

    Raises:
        UserError: the name is taken by another recipe, the base is unknown, or an edit does not fit.
    """
    known, entry = read_variants(context.paths), {"base": base, "edits": edits}
    taken = {recipe.name for recipe in context.competition.recipes}
    if name in taken or known.get(name, entry) != entry:
        raise UserError(f"--name {name} is taken by another recipe; choose a new name")
    variant(context.competition, name, entry)
    write_json(variants_file(context.paths), {**known, name: entry})


def variant(competition: Competition, name: str, entry: dict[str, Any]) -> Any:
    """Build the recipe of a variant entry."""
    bases = {recipe.name: recipe for recipe in competition.recipes}
    if entry["base"] not in bases:
        raise UserError(f"variant {name} changes '{entry['base']}', which is no recipe any more; remove it from "
                        f"weights/{competition.name}/variants.json, or change one of {', '.join(bases)}")
    return change(change(bases[entry["base"]], **entry["edits"]), name=name)
