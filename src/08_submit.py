"""Stage 08: write checked submission files, first of all a constant one to try the upload with.

reads    oof/<competition>/<name>/, the organizer's sample submission
writes   submissions/<competition>/constant.csv, <name>.csv, <name>_filled.csv (rows that had no prediction)
command  python src/08_submit.py ich --demo [--only lightgbm]
         python src/08_submit.py ich --push "five folds, four nets"
         python src/08_submit.py ich --check any.csv     (names the first wrong row)
takes    seconds
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.submit import check, push, submit, submit_constant


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__)
    arguments.add_argument("--push", default="", metavar="MESSAGE", help="upload the file through the kaggle client")
    arguments.add_argument("--check", default="", metavar="FILE", help="only check a submission file")
    args = arguments.parse_args()
    context = open_context(args, load)
    if args.check:
        check(context, args.check)
        return
    submit_constant(context)
    for name in context.options.only or (context.competition.models.final,):
        path = submit(context, name)
        if args.push:
            push(context, path, args.push)


if __name__ == "__main__":
    run(main)
