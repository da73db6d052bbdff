"""The budget before the spending: disk, memory, hours a stage and in all, and the hidden test set against nine hours.

reads    the recipes, benchmarks/*.json, folds/ if stage 01 is done, manifests of earlier runs, those with --limit too
writes   nothing
command  python src/plan.py ich [--gpus N] [--only NAMES]
         python src/plan.py ich --machine H100 --gpus 4      (a card that was measured, or by its data sheet; not this one)
takes    seconds where this kind of machine was measured, else at most 30 a recipe
"""

from competitions import load
from radstack.running.cli import command_parser, open_context, run
from radstack.running.context import at_least, numbers


def main() -> None:
    """Run the command."""
    from radstack.commands.plan import plan

    arguments = command_parser(__doc__, "only", "gpus", "device", "workers")
    arguments.add_argument("--machine", default="", metavar="NAME", help="plan for this one: as benchmarks/*.json name "
                           "it, or a card such as H100 or T4")
    arguments.add_argument("--rows", type=numbers, default=(), metavar="TRAIN,TEST", help="pictures, where stage 01 has not "
                           "counted them")
    arguments.add_argument("--hidden", type=at_least(0), default=0, metavar="N", help="pictures of the hidden test set "
                           "(default: as many as test)")
    args = arguments.parse_args()
    plan(open_context(args, load), args.machine, args.rows, args.hidden)


if __name__ == "__main__":
    run(main)
