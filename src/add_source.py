"""Pictures of another source, to train beside the competition's own: a folder with its labels, or another competition.

reads    FOLDER of pictures in any form that the competition reads, LABELS.csv (id and a column a target, or as a submission)
writes   sources/<competition>/NAME/: its labels, pixels, rows.parquet, kept_out.csv (patients of whom a picture is here)
command  python src/add_source.py ich cq500 FOLDER LABELS.csv      # then in a recipe: --set 'sources=["cq500"]'
         python src/add_source.py lungs clinic --competition others --as effusion=fluid
         python src/add_source.py ich more FOLDER                  # no labels: for --pseudo MODEL --set pseudo.rows=more
takes    as long as stages 02 and 03 of as many pictures, then a second for a thousand pictures of both
"""

from pathlib import Path

from competitions import load
from radstack.commands.add_source import Wish, add_source, parse_names
from radstack.running.cli import command_parser, open_context, run, sibling


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "workers", "device", "jobs", "dry_run", "force")
    arguments.add_argument("source", help="its name, a folder below sources/; alone: make it again where anything changed")
    arguments.add_argument("folder", type=Path, nargs="?", help="its pictures, in folders nested at will")
    arguments.add_argument("labels", type=Path, nargs="?", help="table of its labels")
    arguments.add_argument("--columns", type=Path, help="table of what stands beside the pictures, e.g. id,male (without it "
                           "that of the labels)")
    arguments.add_argument("--competition", dest="other", default="", metavar="NAME", help="its labeled training pictures")
    arguments.add_argument("--as", dest="names", action="append", default=[], metavar="THERE=HERE", help="a column there is "
                           "this target here")
    arguments.add_argument("--patients", default="", choices=["same", "other"], help="what names mean that are here, too "
                           "(default: the same patient, unless they are plain numbers)")
    args = arguments.parse_intermixed_args()  # --demo may stand between the names
    context = open_context(args, load)
    other = sibling(context, load(args.other, args.demo)) if args.other else None
    add_source(context, args.source, Wish(args.folder, args.labels, args.columns, other, parse_names(args.names),
                                          args.patients))


if __name__ == "__main__":
    run(main)
