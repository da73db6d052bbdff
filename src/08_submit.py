"""Stage 08: write checked submission files, first of all a constant one to try the upload with.

reads    oof/<competition>/<name>/, the organizer's sample submission
writes   submissions/<competition>/constant.csv, <name>.csv, <name>_filled.csv (rows that had no prediction), ledger.csv
command  python src/08_submit.py ich --demo [--only lightgbm]
         python src/08_submit.py ich --push "five folds, four nets"
         python src/08_submit.py ich --scores            (writes the leaderboard's scores of what was pushed into the ledger)
         python src/08_submit.py ich --all-rows          (also final_all_rows.csv: with the fits on all rows of 04 and 05)
         python src/08_submit.py ich --check any.csv     (names the first wrong row)
takes    seconds
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.all_rows import submit_with_all_rows
from radstack.stages.submit import check, fetch_scores, push, submit, submit_constant


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "only", "name", "dry_run", "force", "push", "scores", "check", "all_rows")
    context = open_context(arguments.parse_args(), load)
    if context.options.check:
        check(context, context.options.check)
        return
    if context.options.scores:
        fetch_scores(context)
        return
    submit_constant(context)
    for name in context.options.only or (context.competition.models.final,):
        path = submit(context, name)
        if context.options.push:
            push(context, path, context.options.push)
    if context.options.all_rows:
        submit_with_all_rows(context)


if __name__ == "__main__":
    run(main)
