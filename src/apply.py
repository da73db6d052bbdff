"""Predict any folder of pictures with a trained competition: what it learned, on pictures that it never saw.

reads    FOLDER (nested, mixed, whatever else lies there) or a zip file, weights/<competition>/; no labels, folds, caches
writes   OUT.csv in the columns of the competition, OUT_quarantine.csv (each file without an answer, with its reason)
         --report: OUT_report.html   --labels: OUT_scores.csv    --pseudonyms: OUT_key.csv
command  python src/apply.py ich FOLDER OUT.csv [--sample-submission CSV] [--device cuda]
         python src/apply.py bone_age FOLDER OUT.csv --columns sexes.csv      (id, male)
takes    seconds for a series on a CPU; a killed run goes on where it was
"""

from pathlib import Path

from competitions import load
from radstack.commands.apply import Wish, run_apply
from radstack.running.cli import command_parser, open_context, run
from radstack.running.context import above_zero


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "workers", "device", "jobs", "dry_run")
    arguments.add_argument("folder", type=Path, help="pictures, in folders nested at will, or a zip file of them")
    arguments.add_argument("out", type=Path, help="CSV to write")
    arguments.add_argument("--sample-submission", type=Path, help="list of the ids that must have a row")
    arguments.add_argument("--columns", type=Path, help="table of what stands beside the pictures, e.g. id,male")
    arguments.add_argument("--labels", type=Path, help="table of labels: print and write the score on these pictures")
    arguments.add_argument("--report", action="store_true", help="a page: what was found, how sure, shift, cases with "
                           "pictures")
    arguments.add_argument("--pseudonyms", action="store_true", help="tables and page without ids, patients and paths; "
                           "OUT_key.csv has them, for you alone")
    arguments.add_argument("--hours", type=above_zero, default=0.0, help="deadline: leave out test-time views, then folds")
    arguments.add_argument("--work", type=Path, help="folder for what is made on the way, kept (default: a removed one)")
    args = arguments.parse_intermixed_args()
    wish = Wish(args.folder, args.out, args.sample_submission, args.columns, args.labels, args.pseudonyms, args.hours,
                args.report, args.work)
    run_apply(open_context(args, load), wish)


if __name__ == "__main__":
    run(main)
