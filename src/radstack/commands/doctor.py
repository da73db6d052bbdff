"""What is there, what is missing for the next stage, and what to type: one line a check."""

import os
import sys
from itertools import groupby
from pathlib import Path

from radstack.commands.environment import MISSING, OK, TODO, WARN, Check, environment
from radstack.commands.prerequisites import annotations, disk, sign_in, weights
from radstack.commands.products import STAGES, Product, input_there, next_stage, products, remedy
from radstack.core.artifact import manifest_of
from radstack.core.errors import UserError
from radstack.core.files import read_json
from radstack.running.context import Context


def doctor(context: Context) -> None:
    """Print every check.

    Raises:
        UserError: something that the next stage needs is missing; it names all of that.
    """
    checks = [*environment(bool(context.competition.phantoms)), *disk(context), *sign_in(context, os.environ, Path.home()),
              *annotations(context), *weights(context), *stages(context)]
    show(checks)
    lacking = [check.name for check in checks if check.state == MISSING]
    if lacking:
        raise UserError(f"stage {next_stage(context)} lacks {', '.join(lacking)}; see the lines marked {MISSING}")


def show(checks: list[Check]) -> None:
    """A table on a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty():
        print("\n".join(f"{check.state:8}{check.name}: {check.words}" for check in checks))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table, colors = Table(show_header=False, box=None), {OK: "green", WARN: "yellow", MISSING: "bold red", TODO: "cyan"}
    for check in checks:
        table.add_row(Text(check.state, colors[check.state]), Text(check.name), Text(check.words))
    Console().print(table)


def stages(context: Context) -> list[Check]:
    """For each stage what is there, and the command that makes the rest."""
    paths, competition, how = context.paths, context.competition, context.command(STAGES[0])
    if input_there(context):
        drawn = f", {read_json(manifest_of(paths.input))['series']} series" if competition.phantoms else ""
        first = Check(OK, "stage 00", f"{paths.input}{drawn}")
    elif competition.phantoms or competition.data.kaggle:
        first = Check(TODO, "stage 00", how if competition.phantoms else f"{how} --kaggle")
    else:
        first = Check(MISSING, "data", f"they are not public: put your own into {paths.input} (docs/add_your_own.md)")
    return [first, *(_stage(context, script, list(made))
                     for script, made in groupby(products(context), lambda product: product.script))]


def _stage(context: Context, script: str, made: list[Product]) -> Check:
    lacking = [product for product in made if not product.made]
    if not lacking:
        folder = made[0].files[0].parent
        return Check(OK, f"stage {script[:2]}", f"{folder.parent if made[0].recipe and len(made) > 1 else folder}"
                     f"{f', {len(made)} of {len(made)}' if len(made) > 1 else ''}")
    names = {one.recipe: [str(other.fold) for other in lacking if other.recipe == one.recipe and other.fold >= 0]
             for one in lacking}
    what = "; ".join(f"{name} fold {', '.join(folds)}" if folds else name for name, folds in names.items())
    count = f"{len(made) - len(lacking)} of {len(made)} there" + (f", not {what}" if 0 < len(lacking) < len(made) else "")
    return Check(TODO, f"stage {script[:2]}", f"{count}: {remedy(context, lacking)}")
