"""Predict any folder of pictures with a trained competition: what it learned, on pictures that it never saw.

reads    FOLDER (nested, mixed, whatever else lies there), weights/<competition>/; no labels, folds, caches or oof
writes   OUT.csv in the columns of the competition, OUT_quarantine.csv (each file without an answer, with its reason)
command  python src/apply.py ich FOLDER OUT.csv [--sample-submission CSV] [--device cuda]
         python src/apply.py bone_age FOLDER OUT.csv --columns sexes.csv      (id, male)
takes    seconds for a series on a CPU; a killed run goes on where it was
"""

import shutil
from pathlib import Path

from competitions import load
from radstack.core.errors import UserError
from radstack.core.files import read_text_table
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "workers", "device", "jobs", "dry_run")
    arguments.add_argument("folder", type=Path, help="pictures, in folders nested at will")
    arguments.add_argument("out", type=Path, help="CSV to write")
    arguments.add_argument("--sample-submission", type=Path, help="list of the ids that must have a row")
    arguments.add_argument("--columns", type=Path, help="table of what stands beside the pictures, e.g. id,male")
    arguments.add_argument("--work", type=Path, help="folder for what is made on the way, kept (default: a removed one)")
    args = arguments.parse_intermixed_args()
    context = open_context(args, load)
    if not args.folder.is_dir():
        raise UserError(f"{args.folder} is no folder; name one that holds the pictures")
    from radstack.stages.apply import apply, write_answers

    work = args.work or args.out.with_name(f"{args.out.stem}_work")
    there = apply(context, args.folder, work, read_text_table(args.columns, ()) if args.columns else None)
    if context.options.dry_run:
        return
    quarantine = write_answers(there, args.out, args.sample_submission)
    print(f"  {args.out}: answers; {len(quarantine):,} rows in quarantine ({args.out.stem}_quarantine.csv)")
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    run(main)
