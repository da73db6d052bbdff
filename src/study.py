"""A table or figure of a source by one command, in the source's layout, our numbers beside the source's.

reads    folds/ and cache/ of the competition (stages 01 to 03), src/competitions/<competition>/studies.py
writes   what is missing of weights/ and oof/; reports/<competition>/studies/<study>.csv, .md, .png, a section of the page
command  python src/study.py radius_ulna --list
         python src/study.py radius_ulna table4 --demo [--dry-run] [--folds 0] [--ray]
takes    what --dry-run says; a killed one goes on where it was
"""

from competitions import load, studies
from radstack.commands.study import listed, study
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "folds", "dry_run", "force", "workers", "device", "gpus", "jobs", "ray", "gpu_share",
                               "resume", "checkpoint_seconds", "held_out", "weights", "offline")
    arguments.add_argument("study", nargs="*", help="names of studies; without one all of the competition's")
    arguments.add_argument("--list", action="store_true", help="say which there are")
    arguments.add_argument("--no-page", action="store_true", help="leave the page to 09_report.py")
    args = arguments.parse_intermixed_args()  # so that names may stand behind --demo, too
    context = open_context(args, load)
    known = studies(context.competition)
    if args.list:
        print("\n".join(listed(known)))
    else:
        study(context, known, tuple(args.study), page=not args.no_page)


if __name__ == "__main__":
    run(main)
