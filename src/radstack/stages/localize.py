"""Stage 02: find the anatomy in every picture, by rules or by networks of every fold."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import read_table
from radstack.core.paths import Paths
from radstack.core.progress import titled
from radstack.recipes.localizer import Chain, Classical, Detection, Localizer
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.tables import check_folds_fit
from radstack.running.tasks import Task, make_all, shared
from radstack.stages.decode import Learned, decode_all, prepared_rows, rows_file, set_aside

if TYPE_CHECKING:  # torch is slow to import, and a stage with nothing to do starts without it
    import torch

VERSION = 2
"""Of rules."""


class Kind(Protocol):
    """How stage 02 works with localizers of one kind that learn: a module with these functions."""

    def prepare(self, context: Context, localizer: Any, /) -> None:
        """Decode every picture; write ``prepared/rows.parquet`` and ``quarantine.csv``."""

    def found_artifact(self, context: Context, localizer: Any, fold: int, /) -> Learned:
        """What the networks of one fold learn, and find in its own pictures, from what."""

    def applied_artifact(self, context: Context, localizer: Any, fold: int, /) -> Artifact:
        """What the networks of one fold find in the test pictures, from what."""

    def learn(self, context: Context, localizer: Any, fold: int, device: "torch.device", /) -> dict[str, Any]:
        """Train the networks of one fold, let them look at its pictures; return facts for the manifest."""

    def look(self, context: Context, localizer: Any, fold: int, device: "torch.device", /) -> dict[str, Any]:
        """Let the trained networks of one fold look at the test pictures; facts alike."""

    def write_boxes(self, context: Context, localizer: Any, /) -> None:
        """Join what the folds found: ``boxes.parquet``."""

    def draw(self, paths: Paths, localizer: Any, row: Any, file: Path, /) -> None:
        """Draw what was found for one row of ``boxes.parquet`` into a PNG file."""


def kind_of(localizer: Localizer) -> Kind:
    """How localizers with networks are worked with; rules, which have none, need no more than one look at each picture."""
    from radstack.stages import chain, detect  # slow to import, and rules do without

    kinds: dict[type[Localizer], Kind] = {Chain: chain, Detection: detect}
    return kinds[type(localizer)]


def localize(context: Context) -> None:
    """Write ``cache/<comp>/boxes.parquet`` and ``quarantine.csv``, the pictures that cannot be decoded.

    Networks leave ``prepared/``, what each fold's found in ``found/``, and a chain its ``maps/``, too.
    """
    localizer: Any = context.competition.localizer
    if isinstance(localizer, Classical):
        _by_rules(context, localizer)
        return
    check_folds_fit(context)
    kind, folds = kind_of(localizer), folds_of(context)
    kind.prepare(context, localizer)
    found = [kind.found_artifact(context, localizer, fold) for fold in folds]
    make_all(context, [(found[fold], Task(f"localize fold {fold}", localize_fold, (context, fold))) for fold in folds])
    inputs = [rows_file(context), *(path for one in found for path in (*one.files, *one.networks))]
    if context.options.dry_run and not all(path.exists() for path in inputs):
        print("  would make boxes.parquet: its inputs are not made yet")
        return
    apply_networks(context)
    if getattr(localizer, "advice", ""):
        print(f"  {localizer.advice}")


def folds_of(context: Context) -> range:
    """The folds that have networks of their own; none where no network finds the anatomy."""
    return range(context.competition.folds.count if context.competition.localizer.networks else 0)


def localize_fold(context: Context, fold: int) -> None:
    """Train the networks of one fold and let them find, here or in ``--gpus`` processes started by torchrun."""
    if shared(context, localize_fold, context, fold):
        return
    from radstack.training.distributed import joined, together

    localizer = context.competition.localizer
    kind, device_kind = kind_of(localizer), device_of(context.options.device)
    with joined(context.options.gpus, device_kind) as device, titled(f"localize fold {fold}"):
        together(kind.found_artifact(context, localizer, fold), lambda: kind.learn(context, localizer, fold, device),
                 context.options.force)


def apply_localizer(there: Context) -> None:
    """Stage 02 on pictures that nobody annotated, by what was learned where ``there.paths.home`` says."""
    localizer: Any = there.competition.localizer
    if isinstance(localizer, Classical):
        _by_rules(there, localizer)
        return
    kind_of(localizer).prepare(there, localizer)
    if there.options.dry_run or len(prepared_rows(there, "test")[0]):
        apply_networks(there)


def apply_networks(context: Context) -> None:
    """Let the networks of every fold look at the test pictures, and join what all found."""
    localizer: Any = context.competition.localizer
    kind, folds = kind_of(localizer), folds_of(context)
    found = [kind.applied_artifact(context, localizer, fold) for fold in folds]
    make_all(context, [(found[fold], Task(f"look fold {fold}", look_fold, (context, fold))) for fold in folds])
    kind.write_boxes(context, localizer)


def look_fold(context: Context, fold: int) -> None:
    """Let the trained networks of one fold look at the test pictures."""
    import torch

    localizer = context.competition.localizer
    kind, device = kind_of(localizer), torch.device(device_of(context.options.device))
    with titled(f"look fold {fold}"):
        kind.applied_artifact(context, localizer, fold).make(lambda: kind.look(context, localizer, fold, device),
                                                             context.options.force)


def show(context: Context, count: int) -> None:
    """Draw what was found in ``count`` pictures of each split, flagged ones first, below ``reports/<comp>/localize``.

    Raises:
        UserError: no network did it.
    """
    localizer, paths = context.competition.localizer, context.paths
    if not localizer.networks:
        raise UserError(f"--show: {context.competition.name} finds its anatomy without networks and draws no steps")
    boxes = read_table(paths.cache / "boxes.parquet", context.command("02_localize"))
    chosen = boxes.sort_values("flag", ascending=False, kind="stable").groupby("split").head(count)
    for row in chosen.itertuples():
        kind_of(localizer).draw(paths, localizer, row, paths.reports / "localize" / f"{row.id}.png")
    print(f"  what was found in {len(chosen)} pictures: {paths.reports / 'localize'}")


def _by_rules(context: Context, localizer: Classical) -> None:
    facts = partial(decode_all, context, localizer.read, look=localizer.look)
    recipe = {"read": localizer.read, "look": localizer.look}
    set_aside(context, VERSION, context.paths.cache / "boxes.parquet", facts, recipe, then=localizer.write_boxes)
