"""What can be remade, with sizes and the command that remakes it; deleted only with --yes. Real data are never touched.

reads    names and sizes in input/<competition>-demo folds/ cache/ weights/ oof/ submissions/ reports/ bundles/ of one
writes   nothing; with --yes it deletes what it lists
command  python src/clean.py ich --demo [--keep weights,oof] [--yes]
takes    some seconds
"""

from competitions import load
from radstack.commands.clean import FOLDERS, clean
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__)
    arguments.add_argument("--keep", default="", help=f"comma-separated folders to keep, of {', '.join(FOLDERS)}; what no "
                           "stage reads (temporary files, parts and checkpoints of finished work) is listed all the same")
    arguments.add_argument("--yes", action="store_true", help="delete what is listed")
    args = arguments.parse_args()
    clean(open_context(args, load), tuple(filter(None, args.keep.split(","))), args.yes)


if __name__ == "__main__":
    run(main)
