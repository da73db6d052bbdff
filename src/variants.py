"""Named variants of recipes, as --set and --name of a stage make them: listed, renamed, removed.

reads    weights/<competition>/variants.json
writes   nothing; with --rename or --remove that file, and the folders below weights/ and oof/ of the variant
command  python src/variants.py ich --demo [--rename OLD NEW] [--remove NAME]
takes    a second
"""

from competitions import load
from radstack.commands.variants import listed, remove, rename
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__)
    arguments.add_argument("--rename", nargs=2, metavar=("OLD", "NEW"), help="give one another name; its results stay valid")
    arguments.add_argument("--remove", action="append", default=[], metavar="NAME",
                           help="forget one and delete its results")
    args = arguments.parse_args()
    context = open_context(args, load)
    for name in args.remove:
        remove(context, name)
    if args.rename:
        rename(context, *args.rename)
    print("\n".join(listed(context)))


if __name__ == "__main__":
    run(main)
