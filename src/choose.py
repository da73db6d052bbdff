"""The best members under a budget: networks against seconds, chosen and scored with the choice inside the nesting.

reads    oof/<competition>/ of networks and sequence models, with the seconds that stages 05 and 06 took on this machine
writes   reports/<competition>/choose.csv, choose.svg
command  python src/choose.py ich --demo --hours 9
         python src/choose.py ich --hours 9 --gpu H100       (seconds on that card, as plan.py has them)
takes    seconds for the demo; minutes for RSNA 2019
"""

from competitions import load
from radstack.commands.choose import choose_members
from radstack.running.cli import command_parser, open_context, run
from radstack.running.context import above_zero


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__)
    arguments.add_argument("--hours", type=above_zero, default=9.0, help="for the organizer's test set (default: "
                           "Kaggle's 9)")
    arguments.add_argument("--gpu", default="", metavar="NAME", help="seconds on this card instead of those that "
                           "stages 05 and 06 took here")
    args = arguments.parse_args()
    choose_members(open_context(args, load), args.hours, args.gpu)


if __name__ == "__main__":
    run(main)
