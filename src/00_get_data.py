"""Stage 00: get the raw data: phantoms for --demo, or the organizer's archive through the kaggle client.

writes   input/<competition>-demo/ (phantoms in the organizer's layout) or input/<competition>/
command  python src/00_get_data.py ich --demo [--demo-size 320]
         python src/00_get_data.py ich --kaggle          (needs credentials and accepted rules; checks disk; resumable)
takes    a minute for the demo on two cores; hours for the 180 GB archive of RSNA 2019
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.get_data import get_demo, get_kaggle


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "kaggle", "demo_size", "dry_run", "workers")
    context = open_context(arguments.parse_args(), load)
    if context.options.kaggle:
        get_kaggle(context)
    else:
        get_demo(context, context.options.demo_size)


if __name__ == "__main__":
    run(main)
