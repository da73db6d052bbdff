"""Expected against reached, stage by stage, for a demo: the first stage that diverges is named.

reads    what a demo leaves below input/ folds/ cache/ weights/ oof/ submissions/, reports/<competition>/localization.csv;
         expected values: src/competitions/<competition>/expected.json
writes   that file, with --record or --widen; the exit status is 1 on divergence
command  python src/verify.py ich --demo [--record]
         python src/verify.py ich --demo --widen # on another processor: both results are expected from now on
         python src/verify.py ich --contents     # no values: is every file still what it was made as? Stages look at size
                                                 # and time alone
takes    some seconds; contents as long as all files take to be read
"""

from pathlib import Path

from competitions import load
from radstack.commands.verify import check_contents, record, verify
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__)
    new = arguments.add_mutually_exclusive_group()
    new.add_argument("--record", action="store_true", help="take what is there as what is expected")
    new.add_argument("--widen", action="store_true", help="expect what is there, too, as another processor reached it")
    arguments.add_argument("--contents", action="store_true", help="read every file and hold it against its manifest")
    args = arguments.parse_args()
    context = open_context(args, load)
    if args.contents:
        check_contents(context)
        return
    file = Path(__file__).parent / "competitions" / args.competition.partition("-")[0] / "expected.json"
    if args.record or args.widen:
        record(context, file, widen=args.widen)
    else:
        verify(context, file)


if __name__ == "__main__":
    run(main)
