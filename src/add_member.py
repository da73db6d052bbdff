"""Predictions of a teammate as a member: his out-of-fold table and his test table, checked and brought into our form.

reads    two tables (CSV; long or wide, any order, with or without .png, shares, percent or log odds), and his folds
writes   oof/<competition>/NAME/
command  python src/add_member.py ich NAME OOF.csv TEST.csv [--folds THEIR_FOLDS.csv]
         python src/add_member.py bone_age NAME OOF.csv TEST.csv --held-out --column densenet
takes    seconds; two minutes for RSNA 2019
"""

from pathlib import Path

from competitions import load
from radstack.commands.add_member import Tables, add_member
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "dry_run", "force")
    arguments.add_argument("member", help="of the member, a folder below oof/")
    arguments.add_argument("oof", type=Path, help="table of his out-of-fold predictions of the training rows")
    arguments.add_argument("test", type=Path, help="table of his predictions of the test rows")
    arguments.add_argument("--folds", dest="theirs", type=Path, metavar="FILE", help="his folds, by row, patient or study "
                           "(without it a column fold of OOF); unlike ours, the member may enter plain averages alone")
    arguments.add_argument("--held-out", dest="unmet", action="store_true", help="no model of his met any of our training "
                           "rows")
    arguments.add_argument("--column", default="", help="the predictions, where several columns could be them")
    args = arguments.parse_intermixed_args()  # --demo may stand between the names
    add_member(open_context(args, load), args.member, Tables(args.oof, args.test, args.theirs, args.unmet, args.column))


if __name__ == "__main__":
    run(main)
