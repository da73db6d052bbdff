"""What each stage leaves, for the commands that ask what is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.running.context import Context
from radstack.stack.predictions import fold_files
from radstack.stages.stack import stack_folds
from radstack.stages.train import network_files

STAGES = ("00_get_data", "01_make_folds", "02_localize", "03_cache", "04_train", "05_predict", "06_sequence", "07_stack",
          "08_submit", "09_report")
"""The stage scripts in order."""


@dataclass(frozen=True)
class Product:
    """Files that one stage makes together."""

    script: str
    """One of ``STAGES``."""
    recipe: str
    """Of which recipe; "" where the stage knows none."""
    fold: int
    """-1 where there are no folds."""
    files: tuple[Path, ...]

    @property
    def made(self) -> bool:
        """Whether it is there, whole: the manifest is written last."""
        return all(file.exists() and manifest_of(file).exists() for file in self.files)


def products(context: Context) -> Iterator[Product]:
    """What the stages 01 to 09 of a whole run leave, in order; variants and recipes on call are extras and left out."""
    paths, competition = context.paths, context.competition
    for script, *files in (("01_make_folds", paths.folds / "index.parquet"), ("01_make_folds", paths.folds / "folds.csv"),
                           ("02_localize", paths.cache / "boxes.parquet"), ("03_cache", paths.cache / "rows.parquet")):
        yield Product(script, "", -1, tuple(files))
    for one in competition.models.experiments:
        for fold in context.all_folds(one.name):
            names = [file.name for file in network_files(context, one, fold)]
            yield Product("04_train", one.name, fold, tuple(paths.weights / one.name / name for name in names))
    for script, recipes in (("05_predict", competition.models.experiments), ("06_sequence", competition.models.sequences),
                            ("07_stack", competition.models.stackers)):
        for name in (recipe.name for recipe in recipes):
            yield from (Product(script, name, fold, fold_files(paths.oof / name, fold))
                        for fold in stack_folds(context, name))
    yield Product("08_submit", competition.models.final, -1, (paths.submissions / f"{competition.models.final}.csv",))
    yield Product("09_report", "", -1, (paths.reports / "scores.csv",))


def remedy(context: Context, lacking: list[Product]) -> str:
    """The command that makes ``lacking``, products of one stage, and nothing else."""
    names = list(dict.fromkeys(one.recipe for one in lacking if one.recipe and one.fold >= 0))
    known = {one.recipe for one in products(context) if one.script == lacking[0].script and one.fold >= 0}
    return context.command(lacking[0].script, ",".join(names) if set(names) != known else "")


def input_there(context: Context) -> bool:
    """Whether stage 00 is done: the phantoms are drawn whole, or the organizer's tables lie there."""
    folder = context.paths.input
    if context.competition.phantoms:
        return folder.exists() and manifest_of(folder).exists()
    try:
        return folder.exists() and all(file.exists() for file in context.competition.data.label_files(folder))
    except UserError:  # which tables there are depends on what lies there
        return False


def next_stage(context: Context) -> str:
    """The first stage that is not done, as ``03``; "" when all are."""
    if not input_there(context):
        return STAGES[0][:2]
    return next((product.script[:2] for product in products(context) if not product.made), "")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
