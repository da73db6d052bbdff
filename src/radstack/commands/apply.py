"""The command ``apply``: pictures in, answers and quarantine out, and on wish scores, pseudonyms and a deadline."""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from radstack.core.errors import UserError
from radstack.core.files import read_text_table
from radstack.core.lock import working_on
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stages.apply import PART, apply, write_answers


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
    work: Path | None = None
    """Folder for what is made on the way, kept; None for one beside ``out`` that is removed at the end."""
    part: int = PART
    """Pictures that are worked on together."""


def run_apply(context: Context, wish: Wish) -> None:
    """Answer, and write what is wished.

    Raises:
        UserError: a file of ``wish`` is missing or wrong, no picture is usable, or the competition is not trained.
    """
    _check(wish)
    work = wish.work or wish.out.with_name(f"{wish.out.stem}_work")
    with nullcontext() if context.options.dry_run else working_on(work):
        new = not work.exists()
        there = apply(context, wish.folder, work, read_text_table(wish.columns, ()) if wish.columns else None, wish.hours,
                      wish.part)
        if not context.options.dry_run:
            _write(there, wish, work)
        if not wish.work and (new or not context.options.dry_run):
            shutil.rmtree(work)


def _check(wish: Wish) -> None:
    if not wish.folder.is_dir() and wish.folder.suffix.lower() != ".zip":
        raise UserError(f"{wish.folder} is no folder and no zip file; name one that holds the pictures")
    if wish.out.suffix != ".csv":
        raise UserError(f"{wish.out} does not end in .csv; name the table to write, for example answers.csv")
    if wish.hours < 0:
        raise UserError("--hours must be above 0, for example --hours 8.5")
    for file in (wish.folder, wish.sample, wish.columns, wish.labels):
        if file and not file.exists():
            raise UserError(f"{file} is missing; check the path")


def _write(there: Context, wish: Wish, work: Path) -> None:
    from radstack.commands.external import external_scores
    from radstack.commands.pseudonyms import under_pseudonyms

    competition, out = there.competition, wish.out
    answers = work / "answers.csv" if wish.pseudonyms else out
    quarantine = write_answers(there, answers, wish.sample)
    if wish.labels:
        external_scores(there, wish.labels, out.with_name(f"{out.stem}_scores.csv"))
    if wish.pseudonyms:
        under_pseudonyms(answers, out, read_index(there), competition.targets, competition.submission)
        print(f"  pseudonyms: their key is {out.stem}_key.csv, for you alone"
              + (f"; {work} is not under pseudonyms" if wish.work else ""))
    print(f"  {out}: answers; {len(quarantine):,} rows in quarantine ({out.stem}_quarantine.csv)")
