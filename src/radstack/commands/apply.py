"""The command ``apply``: pictures in, answers and quarantine out, and on wish a page, scores, pseudonyms and a deadline."""

import shutil
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import read_text_table, write_text
from radstack.core.lock import alone
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stages.apply import PART, answers, apply, write_answers
from radstack.stages.submit import prior_of

if TYPE_CHECKING:
    from radstack.commands.pseudonyms import Pseudonyms

DRAWING = ("jinja2", "matplotlib")
"""Packages that a page needs and an answer does not."""


@dataclass(frozen=True)
class Wish:
    """What is to be answered, and how."""

    folder: Path
    """Pictures, in folders nested at will, or a zip file of such a folder."""
    out: Path
    """CSV to write; what else is written stands beside it, ``<out>_quarantine.csv`` and so on."""
    sample: Path | None = None
    """List of the ids that must have a row."""
    columns: Path | None = None
    """Table of what stands beside the pictures."""
    labels: Path | None = None
    """Labels to score against: ``<out>_scores.csv``."""
    pseudonyms: bool = False
    """Write no id, patient or path but in ``<out>_key.csv``."""
    hours: float = 0.0
    """Deadline; 0 for none."""
    report: bool = False
    """Write a page: ``<out>_report.html``."""
    work: Path | None = None
    """Folder for what is made on the way, kept; None for one beside ``out`` that is removed at the end."""
    part: int = PART
    """Pictures that are worked on together."""


def run_apply(context: Context, wish: Wish) -> None:
    """Answer, and write what is wished.

    Raises:
        UserError: a file of ``wish`` is missing or wrong, another run writes it, no picture is usable, or the competition is
            not trained.
    """
    _check(wish)
    work = wish.work or wish.out.with_name(f"{wish.out.stem}_work")
    with alone(wish.out), alone(work):
        _answer(context, wish, work)


def _answer(context: Context, wish: Wish, work: Path) -> None:
    new = not work.exists()
    there = apply(context, wish.folder, work, read_text_table(wish.columns, ()) if wish.columns else None, wish.hours,
                  wish.part, _keep(wish), wish.sample is not None and prior_of(context) is not None)
    if not context.options.dry_run:
        _write(context, there, wish, work)
    if not wish.work and (new or not context.options.dry_run):
        shutil.rmtree(work)


def _check(wish: Wish) -> None:
    if not wish.folder.is_dir() and wish.folder.suffix.lower() != ".zip":
        raise UserError(f"{wish.folder} is no folder and no zip file; name one that holds the pictures")
    if wish.out.suffix != ".csv":
        raise UserError(f"{wish.out} does not end in .csv; name the table to write, for example answers.csv")
    if wish.hours < 0:
        raise UserError("--hours must be above 0, for example --hours 8.5")
    if wish.report and (lacking := [name for name in DRAWING if find_spec(name) is None]):
        raise UserError(f"--report draws with {' and '.join(lacking)}, which this Python lacks; pip install -r report.txt, "
                        "a file of the bundle (in the repository: requirements.txt)")
    for file in (wish.folder, wish.sample, wish.columns, wish.labels):
        if file and not file.exists():
            raise UserError(f"{file} is missing; check the path")


def _keep(wish: Wish) -> dict[str, Any]:
    if not wish.report:
        return {}
    from radstack.report.applied_set import KEEP

    return dict(KEEP)


def _write(context: Context, there: Context, wish: Wish, work: Path) -> None:
    from radstack.commands.external import external_scores
    from radstack.commands.pseudonyms import under_pseudonyms

    competition, out, names = there.competition, wish.out, None
    table = work / "answers.csv" if wish.pseudonyms else out
    quarantine = write_answers(there, table, wish.sample)
    scored = external_scores(there, wish.labels, out.with_name(f"{out.stem}_scores.csv")) if wish.labels else None
    if wish.pseudonyms:
        names = under_pseudonyms(table, out, read_index(there), competition.targets, competition.submission)
        print(f"  pseudonyms: their key is {out.stem}_key.csv, for you alone"
              + (f"; {work} is not under pseudonyms" if wish.work else ""))
    print(f"  {out}: answers; {len(quarantine):,} rows in quarantine ({out.stem}_quarantine.csv)", flush=True)
    if wish.report:
        _write_page(context, there, out, scored, names)


def _write_page(context: Context, there: Context, out: Path, scored: tuple[pd.DataFrame, pd.DataFrame] | None,
                names: "Pseudonyms | None") -> None:
    """Write ``<out>_report.html``; the answers are written before, so that a deadline is theirs alone."""
    from radstack.commands.pseudonyms import shown_as
    from radstack.report.applied import applied_page
    from radstack.report.applied_set import Applied
    from radstack.report.known import known_of

    quarantine = pd.read_csv(out.with_name(f"{out.stem}_quarantine.csv"), dtype="str", keep_default_na=False)
    applied = Applied(there, answers(there), quarantine, known_of(context), *(scored or (None, None)))
    if names is not None:
        applied = replace(applied, renamed=partial(shown_as, names, there.competition.submission), pseudonyms=True)
    text = applied_page(applied)
    if names is not None:
        names.write()  # first, as for the tables: a page may name what they do not
    file = out.with_name(f"{out.stem}_report.html")
    write_text(file, text)
    print(f"  {file}: open it in any browser")
