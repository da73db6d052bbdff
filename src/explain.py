"""One row from its pixels to the submitted value: every model, every stacking step, what was learned, what is in the CSV.

reads    folds/ cache/ oof/ submissions/ of the competition
writes   nothing
command  python src/explain.py ich --demo ID_6e9908a72      (where a series is submitted as one row, its name works, too)
takes    seconds
"""

from competitions import load
from radstack.commands.explain import explain
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__)
    arguments.add_argument("id", help="of a picture, or of a row of the submission")
    args = arguments.parse_intermixed_args()  # --demo may stand between the names
    print(explain(open_context(args, load), args.id))


if __name__ == "__main__":
    run(main)
